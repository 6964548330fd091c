"""History, inbox and sync: what a user finds when he comes back, in pages (contract section 3).

All three read committed state in one snapshot, in the reader's thread, after what is under way has been committed:
who asks after an answer finds what that answer told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.messages import GROUP, PAIR
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.messaging.entries import Entries, Item, Seen, items, shown
from mesimqtt.messaging.paging import LAST, bad_cursor, number_of, pack, unpack
from mesimqtt.store import conversations, devices, history
from mesimqtt.store import messages as message_rows
from mesimqtt.store.integrity import CORRUPT

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Conversation
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User

PAGE_BYTES_MAX = 512 * 1024  # of payloads on one page: an answer must fit into a packet that clients take
_RUNS_MAX = 64  # of what is missing, as sync tells it
_MID_LENGTH = 16


class Wanted(NamedTuple):
    """Which part of a conversation: after < seq < before, a limit, from which end, and where the last page ended."""

    after: str | None
    before: str | None
    limit: int
    newest: bool
    cursor: str | None


class History:
    """Reads for a user. Everything is a dict of JSON types."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._entries = Entries(hub.directory)

    def party(self, address: str) -> User | None:
        """Return a user, None if there is none; for a filter, whose answer is empty then."""
        return self._hub.directory.user(address)

    def conversation(self, user: User, peer: str | None, group: str | None) -> Conversation | None:
        """Return the conversation of `user` with a peer or in a group, also one that was deleted; None if he has none.

        An answer must not depend on anything but his own lanes: whether others exist is not his to know.
        """
        directory, read = self._hub.directory, self._hub.store.read
        found = None
        if peer is not None and (other := directory.user(peer)) is not None:
            found = conversations.find(read, PAIR, *sorted((user.id, other.id)))
        elif group is not None and (room := directory.group(group)) is not None:
            found = conversations.find(read, GROUP, room.id, 0)
        if found is not None and history.lanes(read, user.id, found.id):
            return found
        kind, address = (PAIR, peer) if peer is not None else (GROUP, group)
        return history.former_conversation(read, user.id, kind, address or "")

    async def page(self, user: User, peer: str | None, group: str | None, wanted: Wanted) -> dict[str, Any]:
        """Return a page of a conversation: what the user may see of it, and whether that is all there was.

        Raises:
            OperationError: `before` or `after` is a mid that is not in this conversation, or the cursor is none.

        """
        hub = self._hub
        conversation = self.conversation(user, peer, group)
        answer: dict[str, Any] = {"peer": peer} if peer is not None else {"group": group}
        if conversation is None:
            return answer | {"messages": [], "first_seq": 0, "last_seq": 0, "complete": True, "next": None}
        after, before = self._bounds(conversation, wanted)
        await hub.committer.settle()
        now_ms, members_max = hub.now_ms(), hub.settings.messaging.group_status_max

        def read(connection: sqlite3.Connection) -> tuple[history.LaneRow, list[Item], int | None, bool]:
            (lane,) = history.lanes(connection, user.id, conversation.id)
            low, high = max(after, lane.floor), min(before, lane.end + 1)
            seen = Seen.of(user.id, lane)
            found, more = _fill(connection, lane, seen, (low, high), wanted, now_ms)
            if more is not None:  # the page ends before its range does
                low, high = (more, high) if wanted.newest else (low, more)
            gone = history.gaps(connection, conversation.id, low + 1, high - 1)
            return lane, items(connection, conversation.id, found, seen, members_max), more, not gone

        lane, found, more, is_complete = await hub.store.ask(read)
        return answer | {
            "messages": [self._entries.entry(item, user.id) for item in found],
            "first_seq": lane.floor + 1,
            "last_seq": lane.end,
            "complete": is_complete,
            "next": pack({"s": more, "n": wanted.newest}) if more is not None else None,
        }

    def _bounds(self, conversation: Conversation, wanted: Wanted) -> tuple[int, int]:
        after = self._seq(conversation, wanted.after, 0)
        before = self._seq(conversation, wanted.before, LAST)
        if wanted.cursor is not None:
            values = unpack(wanted.cursor)
            seq = values.get("s")
            if values.get("n") is not wanted.newest or type(seq) is not int or not 0 <= seq <= LAST:
                raise bad_cursor()
            after, before = (after, min(before, seq + 1)) if wanted.newest else (max(after, seq - 1), before)
        return after, before

    def _seq(self, conversation: Conversation, text: str | None, default: int) -> int:
        """Return the seq that a seq or a mid stands for."""
        if text is None:
            return default
        if len(text) < _MID_LENGTH and text.isascii() and text.isdigit():
            return int(text)
        try:
            message = message_rows.by_mid(self._hub.store.read, int(text, 16)) if len(text) == _MID_LENGTH else None
        except ValueError:
            message = None
        if message is None or message.conversation.id != conversation.id or message.state == CORRUPT:
            raise OperationError("no-such-message", f"{text[:40]!r} is neither a seq nor a mid of this conversation")
        return message.seq

    # ---- sync ----------------------------------------------------------------------------------------------------

    async def sync(self, user: User, device: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return, for each conversation of a user, where he stands and what a device of his has still to get.

        Raises:
            OperationError: the cursor is none.

        """
        hub = self._hub
        after = number_of(unpack(cursor), "c") if cursor is not None else 0
        await hub.committer.settle()
        row = devices.find(hub.store.read, user.id, device) if device is not None else None
        live: dict[int, SeqSet] = {}  # what an online device sent itself stands in its row only later
        for each in user.devices:
            if row is not None and each.row_id == row.id:
                live = {feed.thread.id: feed.acked.copy() for feed in each.feeds.values()}

        def read(connection: sqlite3.Connection) -> tuple[list[dict[str, Any]], list[history.LaneRow]]:
            lanes = sorted(lane for lane in history.lanes(connection, user.id) if lane.id > after)[: limit + 1]
            asides = history.asides(connection, user.id)
            found = []
            for lane in lanes[:limit]:
                acked = SeqSet(lane.acked, lane.acked_above)
                if row is not None:
                    acked = live.get(lane.id) or devices.cursor(connection, row.id, lane.id)
                    acked.include(1, lane.floor)
                found.append(_state(connection, lane, acked, asides.get(lane.id, [])))
            return found, lanes

        found, lanes = await hub.store.ask(read)
        is_known = device is None or row is not None
        for state in found:
            state["complete"] = is_known and not state["lost"]
        return {
            "user": user.address,
            "device": device,
            "complete": is_known and all(state["complete"] for state in found),
            "conversations": [
                self._entries.place(lane.conversation(), user.id) | state
                for lane, state in zip(lanes, found, strict=False)
            ],
            "next": pack({"c": lanes[limit - 1].id}) if len(lanes) > limit else None,
        }


def _state(
    connection: sqlite3.Connection, lane: history.LaneRow, acked: SeqSet, asides: list[history.Aside]
) -> dict[str, Any]:
    """Return one conversation as sync tells it; `acked` is what the device (or any device) has."""
    lost = [
        run
        for first, last in acked.missing(lane.end)[:_RUNS_MAX]
        for run in history.gaps(connection, lane.id, first, last)
    ]
    rest = acked.copy()
    for first, last in lost:
        rest.include(first, last)
    gone = history.gaps(connection, lane.id, lane.floor + 1, lane.end)
    first_seq = lane.floor + 1
    for first, last in gone:
        first_seq = last + 1 if first <= first_seq else first_seq
    return {
        "first_seq": first_seq,
        "last_seq": lane.end,
        "acked": acked.upto,
        "delivered": lane.delivered,
        "read": lane.read,
        "unread": history.count_unread(lane, asides),
        "missing": [list(run) for run in rest.missing(lane.end)[:_RUNS_MAX]],
        "lost": [list(run) for run in lost[:_RUNS_MAX]],
    }


def _fill(
    connection: sqlite3.Connection,
    lane: history.LaneRow,
    seen: Seen,
    between: tuple[int, int],
    wanted: Wanted,
    now_ms: int,
) -> tuple[list[history.Row], int | None]:
    """Return a page of visible messages between two seqs, and the seq at which the next one begins, if any."""
    low, high = between
    found: list[history.Row] = []
    size = 0
    while low + 1 < high:
        rows = history.slice_of(connection, lane, seen.user_id, low, high, wanted.limit + 1, newest=wanted.newest)
        for row in shown(connection, rows, seen, now_ms):
            size += len(row.message.payload)
            if len(found) == wanted.limit or (found and size > PAGE_BYTES_MAX):
                return found, row.message.seq
            found.append(row)
        if len(rows) <= wanted.limit:
            break
        last = rows[-1].message.seq
        low, high = (low, last) if wanted.newest else (last, high)
    return found, None
