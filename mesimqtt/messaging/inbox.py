"""The inbox: a user's conversations with their last message, what is unread and what waits (contract section 3).

The counts come from watermarks, not from messages: seqs are dense, so what a lane has not is what its runs leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.messaging.entries import Entries, Item, Seen, items, shown
from mesimqtt.messaging.paging import bad_cursor, number_of, pack, unpack
from mesimqtt.store import history
from mesimqtt.store import messages as message_rows

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User

_LOOKED_AT = 50  # messages that are looked at for the last one which a user may see


class _Line(NamedTuple):
    lane: history.LaneRow
    ts: int
    waiting: int
    unread: int

    @property
    def place(self) -> tuple[int, int]:
        return self.ts, self.lane.id


class _Page(NamedTuple):
    lines: list[_Line]
    last: list[Item | None]
    waiting: int
    unread: int
    size: tuple[int, int]
    has_more: bool


class Inbox:
    """Reads one user's conversations, the last active first."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._entries = Entries(hub.directory)

    async def size(self, user_id: int) -> dict[str, int]:
        """Return how many messages, and bytes, wait for a user."""
        await self._hub.committer.settle()
        messages, size = await self._hub.store.ask(lambda connection: message_rows.inbox_size(connection, user_id))
        return {"messages": messages, "bytes": size}

    async def page(self, user: User, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return a page of a user's conversations, with what is unread and what waits in all of them.

        Raises:
            OperationError: the cursor is none.

        """
        hub = self._hub
        before = _place(cursor)
        await hub.committer.settle()
        now_ms, members_max = hub.now_ms(), hub.settings.messaging.group_status_max
        counted = (user.inbox_messages, user.inbox_bytes) if user.inbox_messages >= 0 else None

        def read(connection: sqlite3.Connection) -> _Page:
            lines = _lines(connection, user.id)
            later = [line for line in lines if before is None or line.place < before]
            shown_now = later[:limit]
            last = [_last(connection, line.lane, user.id, now_ms, members_max) for line in shown_now]
            waiting, unread = sum(line.waiting for line in lines), sum(line.unread for line in lines)
            size = counted or (message_rows.inbox_size(connection, user.id) if waiting else (0, 0))
            return _Page(shown_now, last, waiting, unread, size, len(later) > limit)

        page = await hub.store.ask(read)
        return {
            "user": user.address,
            "messages": page.waiting,
            "bytes": page.size[1] if page.waiting else 0,
            "unread": page.unread,
            "conversations": [
                self._line(line, item, user.id) for line, item in zip(page.lines, page.last, strict=True)
            ],
            "next": pack({"t": page.lines[-1].ts, "c": page.lines[-1].lane.id}) if page.has_more else None,
        }

    def _line(self, line: _Line, item: Item | None, user_id: int) -> dict[str, Any]:
        return self._entries.place(line.lane.conversation(), user_id) | {
            "messages": line.waiting,
            "unread": line.unread,
            "last_seq": line.lane.end,
            "ts": line.ts,
            "last": self._entries.entry(item, user_id, is_preview=True) if item is not None else None,
        }


def _lines(connection: sqlite3.Connection, user_id: int) -> list[_Line]:
    asides = history.asides(connection, user_id)
    none: list[history.Aside] = []
    lines = [
        _Line(
            lane,
            lane.last_at if lane.until is None else history.activity(connection, lane),
            history.count_waiting(lane, asides.get(lane.id, none)),
            history.count_unread(lane, asides.get(lane.id, none)),
        )
        for lane in history.lanes(connection, user_id)
        if lane.end > lane.floor
    ]
    lines.sort(key=lambda line: line.place, reverse=True)
    return lines


def _last(
    connection: sqlite3.Connection, lane: history.LaneRow, user_id: int, now_ms: int, members_max: int
) -> Item | None:
    """Return the newest message that a user may see in one of his conversations."""
    seen = Seen.of(user_id, lane)
    found = shown(connection, history.last_of(connection, lane, user_id, 1), seen, now_ms)
    if not found:  # the very last is not for him: look at some before it
        found = shown(connection, history.last_of(connection, lane, user_id, _LOOKED_AT), seen, now_ms)[:1]
    return items(connection, lane.id, found, seen, members_max)[0] if found else None


def _place(cursor: str | None) -> tuple[int, int] | None:
    if cursor is None:
        return None
    values = unpack(cursor)
    if set(values) != {"t", "c"}:
        raise bad_cursor()
    return number_of(values, "t"), number_of(values, "c")
