"""Inbox caps of a group's members: judged beside the loop, in pages, so that thousands of absent ones cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.status import Status
from mesimqtt.messaging.devices import is_in_flight
from mesimqtt.store import inboxes as rows
from mesimqtt.store import messages as message_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, Thread, User
    from mesimqtt.messaging.receipts import Receipts

_PAGE = 200
_FULL_TOLD_S = 60.0
_STATES_MAX = 10_000


class _State:
    """What is known of a group's members who are not counted one by one.

    `messages` and `bytes` are where the counters of `Inboxes` may go before one of them can be full; `judged` is the
    last seq of which everybody's inbox was judged. `unknown` are members of whom nothing is known yet. `log` has mid
    and size of each message that came while the store was asked.
    """

    __slots__ = ("bytes", "evictions", "is_running", "judged", "log", "messages", "unknown")

    def __init__(self, judged: int, unknown: Iterable[int], evictions: int) -> None:
        self.judged = judged
        self.unknown = list(unknown)
        self.evictions = evictions
        self.is_running = False
        self.log: list[tuple[int, int]] = []
        self.messages = self.bytes = float("inf")


class Inboxes:
    """Gives 0x82 to the senders of group messages that find a full inbox.

    Who is in memory and counted is judged at once. For everybody else it is known how many messages of any group can
    still come before one of them can be full, since nothing but group messages reaches a user who is not counted:
    who is sent to directly is counted then. Until that many have come there is nothing to do; then they are measured
    again, and who is nearly full is counted one by one from then on.
    """

    def __init__(self, hub: Hub, receipts: Receipts) -> None:
        self._hub = hub
        self._receipts = receipts
        self._states: dict[int, _State] = {}
        self._messages = 0  # of all groups, since the start
        self._bytes = 0

    def tell_full(self, user: User) -> None:
        """Tell somebody on `in/session`, at most once a minute, that his inbox refuses messages."""
        now = self._hub.now()
        if now - user.full_told_at >= _FULL_TOLD_S:
            user.full_told_at = now
            self._hub.news(user, {"event": "inbox-full", "messages": user.inbox_messages, "bytes": user.inbox_bytes})
            if self._hub.on_full is not None:
                self._hub.on_full(user)

    def refuse(self, user: User, thread: Thread, message: Message) -> bool:
        """Give a message the verdict that somebody's inbox is full."""
        lane = self._hub.directory.lane(thread, user)
        if lane is None or not lane.covers(message.seq) or is_in_flight(user, message):
            return False
        self.tell_full(user)
        return self._receipts.fail(user, lane, message, Status.INBOX_FULL)

    def handed(self, group: Group, message: Message) -> None:
        """Count a message of a group; measure its members if one might be full now."""
        self._messages += 1
        self._bytes += len(message.payload)
        directory = self._hub.directory
        state = self._states.get(group.id)
        if state is None:
            if len(self._states) >= _STATES_MAX:
                self._states.pop(next(iter(self._states)))
            state = self._states[group.id] = _State(message.seq - 1, group.members, directory.evictions)
        if state.is_running:
            state.log.append((message.mid, len(message.payload)))
            return
        if self._messages > state.messages or self._bytes > state.bytes or state.evictions != directory.evictions:
            state.unknown, state.evictions = list(group.members), directory.evictions
            state.messages = state.bytes = float("inf")
        if state.unknown:
            state.is_running = True
            self._measure(group, state)
        else:
            state.judged = message.seq

    def joined(self, group: Group, users: Iterable[int]) -> None:
        """Take note of new members: they are measured at the next message."""
        state = self._states.get(group.id)
        if state is not None:
            state.unknown.extend(users)

    def forget(self, group: Group) -> None:
        """Forget a group that is no more."""
        self._states.pop(group.id, None)

    def _measure(self, group: Group, state: _State) -> None:
        """Measure the next page of members, then judge what came meanwhile."""
        hub, settings = self._hub, self._hub.settings
        page = state.unknown[:_PAGE]
        messages_max, bytes_max = settings.messaging.inbox_messages_max, settings.messaging.inbox_bytes_max
        before = (self._messages, self._bytes)

        def read(connection: sqlite3.Connection) -> tuple[list[rows.Filling], int]:
            return rows.measure(
                connection, page, messages_enough=messages_max // 2, bytes_enough=bytes_max // 2,
                payload_max=settings.limits.payload_max,
            )  # fmt: skip

        def done(answer: tuple[list[rows.Filling], int]) -> None:
            found, newest = answer
            for filling in found:
                self._weigh(group, state, filling, before, newest)
            del state.unknown[: len(found)]
            if state.unknown:
                self._measure(group, state)
                return
            state.is_running, state.log = False, []
            if self._messages <= state.messages and self._bytes <= state.bytes:
                state.judged = group.thread.last_seq

        hub.store.read_later(read, done)

    def _weigh(self, group: Group, state: _State, filling: rows.Filling, before: tuple[int, int], newest: int) -> None:
        """Take note of the room in one inbox, or count it from now on."""
        settings = self._hub.settings.messaging
        count, size = filling.messages, filling.bytes
        known = self._hub.directory.known_user(filling.user_id)
        if known is not None and known.inbox_messages >= 0:
            return  # counted meanwhile
        is_near = count > settings.inbox_messages_max * 9 // 10 or size > settings.inbox_bytes_max * 9 // 10
        if not is_near:
            state.messages = min(state.messages, before[0] + settings.inbox_messages_max - count)
            state.bytes = min(state.bytes, before[1] + settings.inbox_bytes_max - size)
            return
        user = self._hub.directory.user_by_id(filling.user_id)
        if user is None or user.id not in group.members:
            return
        later = [size for mid, size in state.log if mid > newest]
        user.inbox_messages, user.inbox_bytes = count + len(later), size + sum(later)
        after = state.judged
        found = message_rows.page(self._hub.store.read, group.thread, after, group.thread.last_seq - after)
        for message in reversed(found):
            if user.inbox_messages <= settings.inbox_messages_max and user.inbox_bytes <= settings.inbox_bytes_max:
                return
            if not message.kind and message.sender_id != user.id:
                self.refuse(user, group.thread, message)
