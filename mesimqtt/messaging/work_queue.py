"""The work of one round-robin group that is in memory: a window of what the store holds, and whose turn it is."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.model import Group, User

WAITING_MAX = 256  # pieces of one group's work in memory that wait for a member who has room
WAITING_BYTES = 1024 * 1024  # of them together; one more may pass it


class Job:
    """A piece of work. It is the token of every PUBLISH of it: whose PUBACK comes first has taken it."""

    __slots__ = ("devices", "grace_until", "holder", "is_repeat", "message", "queue", "since", "tried")

    def __init__(self, queue: Queue, message: Message, *, is_repeat: bool) -> None:
        self.queue = queue
        self.message = message
        self.is_repeat = is_repeat
        self.holder: User | None = None
        self.devices: list[Device] = []
        self.tried: set[int] = set()
        self.since = 0.0
        self.grace_until = 0.0


class Queue:
    """The work of one group. `waiting` is in memory up to seq `after`, `is_behind`: the store has more.

    `ready` are the members who could take some, None to be found again; `load` and `last` make it fair. `settling`
    counts what was taken and is not committed yet. While nobody is ready, nothing is in memory.
    """

    __slots__ = (
        "after",
        "group",
        "held",
        "is_behind",
        "is_loading",
        "last",
        "load",
        "open",
        "ready",
        "settling",
        "turn",
        "waiting",
    )

    def __init__(self, group: Group, count: int) -> None:
        self.group = group
        self.open = count
        self.waiting: deque[Job] = deque()
        self.held: dict[int, Job] = {}
        self.after = 0
        self.is_behind = count > 0
        self.is_loading = False
        self.ready: list[User] | None = None
        self.load: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.turn = self.settling = 0

    def has_room(self, share: int = 1) -> bool:
        """Tell whether more may wait in memory, up to one part in `share` of the bounds."""
        size = sum(len(job.message.payload) for job in self.waiting)
        return len(self.waiting) < WAITING_MAX // share and size < WAITING_BYTES // share

    def let_go(self, user: int) -> None:
        """Count that somebody holds one piece less."""
        left = self.load.pop(user, 0) - 1
        if left > 0:
            self.load[user] = left
