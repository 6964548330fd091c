"""What every part of messaging shares: the store, the directory, the clocks, the settings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.chance import SYSTEM
from mesimqtt.messaging.devices import NO_ROOM, PLAIN, QUEUED, WRITTEN, Device, Extra
from mesimqtt.messaging.observers import Observers
from mesimqtt.topics import has_param

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesimqtt.domain.chance import Chance
    from mesimqtt.domain.ids import MidFactory
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.directory import Directory
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.settings import Settings
    from mesimqtt.store.committer import Committer
    from mesimqtt.store.store import Store


def _nobody(_device: Device, _tokens: list[object]) -> None:
    """Take no note: the hub before messaging is wired."""


def _nothing(_device: Device) -> None:
    """Reserve nothing: the hub before messaging is wired."""


def _silent(_user: User, _news: dict[str, object]) -> None:
    """Tell nothing: the hub before messaging is wired."""


def _never(_user: User, *_what: object) -> bool:
    """Hide and hold nothing: the hub before messaging is wired."""
    return False


_spawned: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected before its end


def _spawn(coroutine: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(coroutine)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)


@dataclass(slots=True)
class Hub:
    """The shared parts. `acked` is where acknowledged (or, at QoS 0, written) tokens go.

    `reserve` is called when a device waits for packet ids, `news` tells a user's devices something on `in/session`.
    `on_full` is told that an inbox refuses messages; None: nobody asks.
    `hides` and `is_held` are asked of a discreet recipient: which receipt he does not give, what is not for him.
    `mended` has by table what takes the columns of rows that were damaged and are whole again (store/mending.py).
    `spawn` runs a coroutine beside everything else; `asking` counts the questions that wait for their answer.
    """

    settings: Settings
    store: Store
    committer: Committer
    directory: Directory
    mids: MidFactory
    now: Callable[[], float]
    now_ms: Callable[[], int]
    acked: Callable[[Device, list[object]], None] = _nobody
    reserve: Callable[[Device], None] = _nothing
    news: Callable[[User, dict[str, object]], None] = _silent
    hides: Callable[[User, Message, int], bool] = _never
    is_held: Callable[[User, Thread, Message], bool] = _never
    mended: dict[str, Callable[[list[tuple[Any, ...]]], None]] = field(default_factory=dict)
    spawn: Callable[[Coroutine[Any, Any, None]], object] = _spawn
    on_full: Callable[[User], None] | None = None
    counters: dict[str, int] = field(default_factory=dict)
    asking: int = 0
    observers: Observers = field(default_factory=Observers)
    chance: Chance = SYSTEM
    started_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.started_ms = self.now_ms()

    def may_be_repeated(self, device: Device, message: Message) -> bool:
        """Tell whether a device may have had, in this session, what is older than the server's start.

        A scheduled message that was sent since then is not, though its mid is; a time still to come is of a clock that
        was ahead before.
        """
        is_new = has_param(message.params, "when") and self.started_ms < message.ts <= self.now_ms()
        return device.connection.session_present and not is_new

    def count(self, what: str, number: int = 1) -> None:
        """Count an event for `stats`."""
        self.counters[what] = self.counters.get(what, 0) + number

    def hand_over(
        self, device: Device, topic: bytes, payload: bytes, qos: int, token: object, extra: Extra = PLAIN
    ) -> bool:
        """Give one PUBLISH to a device; False when it has no room. Written at QoS 0 counts as acknowledged."""
        result = device.push(topic, payload, qos, token, extra)
        if result == WRITTEN and not qos and token is not None:
            self.acked(device, [token])
        elif result == QUEUED and device.session.packet_counter >= device.ceiling:
            self.reserve(device)
        return result != NO_ROOM

    def tell(self, device: Device, place: str, payload: bytes, token: object = None, *, more: bytes = b"") -> bool:
        """Give a device what is no message, if it selects that class and takes it: `place` is the topic after `in/`.

        `more` are encoded properties for a client of 5.0. False: it has no room now.
        """
        cls = place.partition("/")[0]
        qos = device.qos_of(cls)
        if qos < 0:
            return True
        topic = device.user.in_prefix + place.encode()
        extra = Extra(device.marks_of(cls) + more) if device.is_five else PLAIN
        return not device.fits(topic, payload, extra) or self.hand_over(device, topic, payload, qos, token, extra)
