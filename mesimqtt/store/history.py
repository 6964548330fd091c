"""What was said, for who reads it later: pages of a conversation, inboxes, gaps. Reading statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.ids import EPOCH_MS, first_mid_at
from mesimqtt.domain.messages import GROUP, NO_SEQ, PAIR, Conversation, Message
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.store.integrity import CORRUPT
from mesimqtt.store.messages import COLUMNS, RUN_MAX, message_of
from mesimqtt.store.parties import PLACE_COLUMNS, whole
from mesimqtt.store.users import FORMER
from mesimqtt.topics import has_param

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

# What was accepted in the last ten seconds before a crash may be missing in the lanes of its senders.
UNKEPT_MIDS = first_mid_at(EPOCH_MS + 10_000)

_HIDDEN_MAX = 2_000  # of the messages that a user has hidden, the newest: older ones are not unread any more
_IS_ASIDE = "m.kind <> 0 OR m.edits IS NOT NULL OR m.recalls IS NOT NULL OR m.state <> 0"

# Each user's lanes with what their conversations hold.
_LANES = f"""SELECT {PLACE_COLUMNS}, c.last_seq, c.last_at, l.floor, l.until, l.acked, l.acked_above,
    l.delivered, l.read, l.read_above, l.failed, l.gaps FROM lane l
    JOIN conversation c ON c.id = l.conversation_id WHERE l.user_id = ?"""
_PEERS = f"""SELECT {PLACE_COLUMNS}, c.last_seq FROM lane l JOIN conversation c ON c.id = l.conversation_id
    JOIN user p ON p.id = CASE c.a WHEN l.user_id THEN c.b ELSE c.a END
    WHERE l.user_id = ? AND c.kind = 0 AND p.address = ? || p.id || ':' || ? ORDER BY c.last_at DESC LIMIT 1"""
_ROOMS = f"""SELECT {PLACE_COLUMNS}, c.last_seq FROM lane l JOIN conversation c ON c.id = l.conversation_id
    JOIN "group" g ON g.id = c.a
    WHERE l.user_id = ? AND c.kind = 1 AND g.address = ? || g.id || ':' || ? ORDER BY c.last_at DESC LIMIT 1"""


class LaneRow(NamedTuple):
    """One user's lane with its conversation, as a line of an inbox needs it."""

    id: int
    kind: int
    a: int
    b: int
    last_seq: int
    last_at: int
    floor: int
    until: int | None
    acked: int
    acked_above: str
    delivered: int
    read: int
    read_above: str
    failed: str
    gaps: str

    @property
    def end(self) -> int:
        """Return the last seq that its user may see."""
        return self.last_seq if self.until is None else min(self.until, self.last_seq)

    def covers(self, seq: int) -> bool:
        """Tell whether `seq` falls into the user's time in the conversation."""
        return self.floor < seq <= self.end

    def conversation(self) -> Conversation:
        """Return the conversation alone."""
        return Conversation(self.id, self.kind, self.a, self.b, self.last_seq)


def lanes(connection: sqlite3.Connection, user: int, conversation: int = 0) -> list[LaneRow]:
    """Return the lanes of a user, or (`conversation`) the one that he has there."""
    if conversation:
        rows = connection.execute(f"{_LANES} AND l.conversation_id = ?", (user, conversation))
    else:
        rows = connection.execute(_LANES, (user,))
    return [LaneRow(*row) for row in whole(connection, rows)]


def former_conversation(connection: sqlite3.Connection, user: int, kind: int, address: str) -> Conversation | None:
    """Return the newest conversation of `user` with somebody, or in a group, that was deleted."""
    sql = _ROOMS if kind == GROUP else _PEERS
    found = whole(connection, connection.execute(sql, (user, FORMER, address)))
    return Conversation(*found[0]) if found else None


class Row(NamedTuple):
    """A message as it reads now: an edited one has the text and parameters of its newest edit.

    `edited_by` and `edited_at` are that edit's mid and time, 0 if there is none. `is_mortal`: its sender gave it an
    expiry.
    """

    message: Message
    edited_by: int = 0
    edited_at: int = 0
    is_mortal: bool = False


# What one user may see at all: no edits and recalls (they show on what they change), nothing taken back without a
# trace, nothing that is hidden from him.
EDITED = ", ".join(f"{table}.{name.strip()}" for table in "me" for name in COLUMNS.split(","))
_ROWS = f"""SELECT {EDITED}, c.id, c.kind, c.a, c.b, c.last_seq
    FROM message m JOIN conversation c ON c.id = m.conversation_id
    LEFT JOIN message e ON e.id = m.edited_by AND e.state IN (0, {CORRUPT})
    WHERE m.edits IS NULL AND m.recalls IS NULL AND (m.state = 0 OR m.traceless = 0)
    AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.user_id = ? AND h.message_id = m.id)"""
_WIDTH = len(COLUMNS.split(","))


def edited_of(
    connection: sqlite3.Connection, row: tuple[Any, ...], conversation: Conversation
) -> tuple[Message, Message | None]:
    """Return a message and its newest edit from a row of EDITED; CORRUPT is what one of the two makes unreadable."""
    message = message_of(connection, row[:_WIDTH], conversation)
    if row[_WIDTH] is None:
        return message, None
    edit = message_of(connection, row[_WIDTH : 2 * _WIDTH], conversation)
    if edit.state:
        message.state, message.payload, message.params = edit.state, b"", ""
    return message, edit


def _row(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Row:
    message, edit = edited_of(connection, row, Conversation(*row[2 * _WIDTH :]))
    is_mortal = has_param(message.params, "expiry")
    if edit is None or message.state:
        return Row(message, is_mortal=is_mortal)
    params = edit.params
    if not has_param(params, "type") and has_param(message.params, "type"):
        params = f"{params}&{next(part for part in message.params.split('&') if part.startswith('type='))}"
    message.payload, message.params = edit.payload, params
    return Row(message, edit.mid, edit.ts, is_mortal)


def slice_of(
    connection: sqlite3.Connection, lane: LaneRow, user: int, after: int, before: int, limit: int, *, newest: bool
) -> list[Row]:
    """Return up to `limit` messages with after < seq < before, the newest or the oldest first."""
    order = "DESC" if newest else "ASC"
    rows = connection.execute(
        f"{_ROWS} AND m.conversation_id = ? AND m.seq > ? AND m.seq < ? ORDER BY m.seq {order} LIMIT ?",
        (user, lane.id, after, before, limit),
    ).fetchall()
    found = [_row(connection, row) for row in rows]
    return [row for row in found if after < row.message.seq < before]  # the seq of a damaged one may be any


def by_mids(connection: sqlite3.Connection, mids: list[int], user: int) -> list[Row]:
    """Return the messages of these mids that are there, in the given order."""
    return [
        _row(connection, row)
        for mid in mids
        for row in connection.execute(f"{_ROWS} AND m.id = ?", (user, mid)).fetchall()
    ]


def last_of(connection: sqlite3.Connection, lane: LaneRow, user: int, limit: int) -> list[Row]:
    """Return the newest messages (no events) that stand in a user's time in a conversation, the newest first."""
    rows = connection.execute(
        f"{_ROWS} AND m.conversation_id = ? AND m.seq > ? AND m.seq <= ? AND m.kind = 0 ORDER BY m.seq DESC LIMIT ?",
        (user, lane.id, lane.floor, lane.end, limit),
    ).fetchall()
    return [_row(connection, row) for row in rows]


def gaps(connection: sqlite3.Connection, conversation: int, first: int, last: int) -> list[tuple[int, int]]:
    """Return the runs of seqs between `first` and `last` that retention has removed."""
    rows = connection.execute(
        """SELECT max(first_seq, ?), min(last_seq, ?) FROM gap
        WHERE conversation_id = ? AND first_seq <= ? AND last_seq >= ? ORDER BY first_seq""",
        (first, last, conversation, last, first),
    )
    return [(row[0], row[1]) for row in rows]


class Aside(NamedTuple):
    """A run of seqs that are nothing to be read: events, edits and recalls, what was recalled, what is gone.

    Edits and recalls wait for the user's devices all the same (`waits`).
    """

    first: int
    last: int
    waits: bool


def asides(connection: sqlite3.Connection, user: int) -> dict[int, list[Aside]]:
    """Return, by conversation of a user, what stands above his watermarks and is nothing to be read."""
    rows = connection.execute(
        f"""SELECT l.conversation_id, m.seq, m.seq, m.kind = 0 AND m.state = 0 FROM lane l
        JOIN message m INDEXED BY message_aside
        ON m.conversation_id = l.conversation_id AND m.seq > min(l.read, l.acked) AND ({_IS_ASIDE}) WHERE l.user_id = ?
        UNION ALL SELECT l.conversation_id, g.first_seq, g.last_seq, 0 FROM lane l JOIN gap g
        ON g.conversation_id = l.conversation_id AND g.last_seq > min(l.read, l.acked) WHERE l.user_id = ?
        UNION ALL SELECT m.conversation_id, m.seq, m.seq, 0
        FROM (SELECT message_id FROM hidden WHERE user_id = ? ORDER BY message_id DESC LIMIT {_HIDDEN_MAX}) h
        JOIN message m ON m.id = h.message_id""",
        (user, user, user),
    )
    found: dict[int, list[Aside]] = {}
    for conversation, first, last, waits in rows:
        found.setdefault(conversation, []).append(Aside(first, last, bool(waits)))
    return found


def count_waiting(lane: LaneRow, asides: Iterable[Aside]) -> int:
    """Return how many messages of a lane no device of its user has acknowledged."""
    return _count(lane, lane.acked, lane.acked_above, [each for each in asides if not each.waits])


def count_unread(lane: LaneRow, asides: Iterable[Aside]) -> int:
    """Return how many messages of a lane its user has not read."""
    return _count(lane, lane.read, lane.read_above, asides)


def _count(lane: LaneRow, upto: int, above: str, others: Iterable[Aside]) -> int:
    end = lane.end
    if upto >= end:
        return 0
    seqs = SeqSet(upto, above)
    if lane.failed:
        for first, last in SeqSet(NO_SEQ, lane.failed).runs:
            seqs.include(first, last)
    for aside in others:
        seqs.include(aside.first, aside.last)
    return sum(last - first + 1 for first, last in seqs.missing(end))


def activity(connection: sqlite3.Connection, lane: LaneRow) -> int:
    """Return when something last happened in a conversation, as far as a former member may know."""
    if lane.until is None or lane.until >= lane.last_seq:
        return lane.last_at
    row = connection.execute(
        "SELECT max(ts) FROM (SELECT ts FROM message WHERE conversation_id = ? AND seq <= ? ORDER BY seq DESC LIMIT 1)",
        (lane.id, lane.until),
    ).fetchone()
    return int(row[0] or 0)


def recover_own(connection: sqlite3.Connection, since_mid: int) -> None:
    """Add to their senders' lanes what was sent just before a crash, after the last state of the lanes was kept."""
    rows = connection.execute(
        """SELECT m.conversation_id, m.sender_id, m.seq FROM message m JOIN conversation c ON c.id = m.conversation_id
        WHERE m.id > ? AND m.kind = 0 AND NOT (c.kind = ? AND c.a = c.b) ORDER BY m.conversation_id, m.seq""",
        (since_mid, PAIR),
    )
    found: dict[tuple[int, int], list[int]] = {}
    for conversation, sender, seq in rows:
        found.setdefault((conversation, sender), []).append(seq)
    for (conversation, sender), seqs in found.items():
        row = connection.execute(
            """SELECT acked, acked_above, delivered, delivered_above, read, read_above FROM lane
            WHERE conversation_id = ? AND user_id = ?""",
            (conversation, sender),
        ).fetchone()
        if row is None:
            continue
        sets = [SeqSet(row[0], row[1]), SeqSet(row[2], row[3]), SeqSet(row[4], row[5])]
        if all(seq in each for each in sets for seq in seqs):
            continue
        for each in sets:
            for seq in seqs:
                each.add(seq)
        values = [value for each in sets for value in (each.upto, each.above)]
        connection.execute(
            """UPDATE lane SET acked = ?, acked_above = ?, delivered = ?, delivered_above = ?, read = ?, read_above = ?
            WHERE conversation_id = ? AND user_id = ?""",
            (*values, conversation, sender),
        )


class Told(NamedTuple):
    """A status of one message for one recipient (0: the message itself) that its sender was told."""

    change: int
    recipient_id: int
    status: int
    ts: int
    device: str
    reason: str


def told(
    connection: sqlite3.Connection, conversation: int, sender: int, first: int, last: int
) -> dict[int, list[Told]]:
    """Return by seq, from `first` to `last`, the newest status for each recipient, in the order of their changes."""
    rows = connection.execute(
        f"""SELECT change, recipient_id, status, ts, device, reason, first_seq, last_seq
        FROM step INDEXED BY step_conversation_id_last_seq
        WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? + {RUN_MAX} AND first_seq <= ? AND sender_id = ?
        ORDER BY change""",
        (conversation, first, last, last, sender),
    )
    newest: dict[tuple[int, int], Told] = {}
    for row in rows:
        step = Told(*row[:6])
        for seq in range(max(row[6], first), min(row[7], last) + 1):
            newest.pop((seq, step.recipient_id), None)
            newest[seq, step.recipient_id] = step
    found: dict[int, list[Told]] = {}
    for (seq, _), step in newest.items():
        found.setdefault(seq, []).append(step)
    return found


def has_more_lanes(connection: sqlite3.Connection, conversation: int, count: int) -> bool:
    """Tell whether a conversation has more than `count` users, former ones among them."""
    rows = connection.execute("SELECT 1 FROM lane WHERE conversation_id = ? LIMIT ?", (conversation, count + 1))
    return len(rows.fetchall()) > count
