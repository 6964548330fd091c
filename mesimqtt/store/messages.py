"""Messages: the reading statements (writing is in batch.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.messages import Conversation, Message
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.store import integrity, parties
from mesimqtt.store.ends import END
from mesimqtt.store.integrity import CORRUPT, MESSAGE_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

MID_FLOOR = "mid"  # the counter of that name
RUN_MAX = 256  # a step covers at most so many seqs, so that looking one up reads a bounded part of the index
COLUMNS = f"{MESSAGE_COLUMNS}, deadline, checksum"
_PAYLOAD = COLUMNS.split(", ").index("payload")
SET_DEADLINE = "UPDATE message SET deadline = ? WHERE id = ?"
CLEAR_DEADLINE = "UPDATE message SET deadline = NULL WHERE id = ?"
_CID = "SELECT cid FROM cid WHERE sender_id = ? AND message_id = ?"


def message_of(connection: sqlite3.Connection, row: tuple[Any, ...], conversation: Conversation) -> Message:
    """Return the message of a row of COLUMNS; one that is not what was stored is CORRUPT, without its bytes."""
    (mid, number, seq, kind, sender, device, cid, ts, expires_at, flags, params, payload, state, _, _, _, _, deadline,
     checksum) = row  # fmt: skip
    if state == CORRUPT or number != conversation.id or not integrity.holds(row[:17], checksum):
        if state != CORRUPT:
            integrity.suspect(connection, mid)
        return _corrupt(row, conversation)
    message = Message(
        mid, conversation, sender, device, cid, ts, expires_at, deadline, flags, params, payload, None, kind, seq
    )
    if state:
        message.state = state
    return message


def _corrupt(row: tuple[Any, ...], conversation: Conversation) -> Message:
    """Return what is left of a damaged message: numbers and names that may be wrong, and none of its bytes."""
    seq, kind, sender, ts, expires_at, flags = (
        value if isinstance(value, int) else 0 for value in (*row[2:5], *row[7:10])
    )
    device, cid = (value if isinstance(value, str) else "" for value in row[5:7])
    message = Message(row[0], conversation, sender, device, cid, ts, expires_at, None, flags, "", b"", None, kind, seq)
    message.state = CORRUPT
    return message


def _until(cursor: sqlite3.Cursor, bytes_max: int) -> list[tuple[Any, ...]]:
    """Return rows of COLUMNS, no more than until their payloads are `bytes_max` together; 0: all."""
    if not bytes_max:
        return cursor.fetchall()
    rows = []
    for row in cursor:
        rows.append(row)
        payload = row[_PAYLOAD]
        bytes_max -= len(payload) if isinstance(payload, bytes | str) else 0  # who knows, of a damaged row
        if bytes_max <= 0:
            break
    return rows


def page(
    connection: sqlite3.Connection, conversation: Conversation, after: int, limit: int, *, bytes_max: int = 0
) -> list[Message]:
    """Return the messages of a conversation with seq > `after`, in order; a damaged one is left out, as a gap.

    At most `limit`, and no more than until they are `bytes_max` together, if that is given: less is not the end.
    """
    skipped = 0
    while True:
        cursor = connection.execute(
            f"SELECT {COLUMNS} FROM message WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ? OFFSET ?",
            (conversation.id, after, limit, skipped),
        )
        rows = _until(cursor, bytes_max)
        found = [message_of(connection, row, conversation) for row in rows]
        whole = [message for message in found if message.state != CORRUPT]
        if whole or not rows:
            return whole
        skipped += len(rows)


def everything(connection: sqlite3.Connection) -> Iterator[Message]:
    """Yield every message and event there is, in the order of acceptance: for who checks a whole store."""
    conversations = {
        row[0]: Conversation(*row)
        for row in connection.execute("SELECT id, kind, a, b, last_seq FROM conversation").fetchall()
    }
    for row in connection.execute(f"SELECT {COLUMNS} FROM message ORDER BY id").fetchall():
        yield message_of(connection, row, conversations[row[1]])


def by_mid(connection: sqlite3.Connection, mid: int) -> Message | None:
    """Return one message."""
    if mid >> 63:  # more than SQLite's integers hold, so more than any mid of ours
        return None
    rows = connection.execute(
        f"""SELECT {COLUMNS}, (SELECT checksum || ' ' || id || ' ' || kind || ' ' || a || ' ' || b || ' '
        || last_seq FROM conversation c WHERE c.id = conversation_id) FROM message WHERE id = ?""",
        (mid,),
    ).fetchall()
    if not rows:
        return None
    *row, place = rows[0]
    checksum, number, kind, a, b, last = (int(part) for part in (place or "0 0 0 0 0 0").split())
    if number and not parties.is_between(connection, checksum, number, kind, a, b):
        kind = a = b = 0  # nobody's
    return message_of(connection, tuple(row), Conversation(row[1], kind, a, b, last))


def claimed(connection: sqlite3.Connection, sender: int, cid: str) -> tuple[int, bytes] | None:
    """Return (mid, digest) of the message that a sender's cid stands for."""
    row: tuple[int, bytes] | None = connection.execute(
        "SELECT message_id, digest FROM cid WHERE sender_id = ? AND cid = ?", (sender, cid)
    ).fetchone()
    return row


def unread_among(
    connection: sqlite3.Connection,
    conversation: Conversation,
    reader: int,
    runs: Sequence[tuple[int, int]],
    limit: int,
) -> list[Message]:
    """Return the newest `limit` messages to `reader` in these runs of seqs, oldest first; a damaged one is CORRUPT.

    Costs 4 us each, 20 us with 16 KiB, half of it and more to be verified.
    """
    rows: list[tuple[Any, ...]] = []
    for first, last in reversed(runs):
        if len(rows) < limit:
            rows += connection.execute(
                f"""SELECT {COLUMNS} FROM message
                WHERE conversation_id = ? AND seq >= ? AND seq <= ? AND kind = 0 AND sender_id <> ? AND state = 0
                ORDER BY seq DESC LIMIT ?""",
                (conversation.id, first, last, reader, limit - len(rows)),
            )
    return [message_of(connection, row, conversation) for row in reversed(rows)]


def due(connection: sqlite3.Connection, now_ms: int, limit: int) -> list[int]:
    """Return the mids whose deadline has passed."""
    rows = connection.execute("SELECT id FROM message WHERE deadline <= ? ORDER BY deadline LIMIT ?", (now_ms, limit))
    return [row[0] for row in rows]


def expired_between(
    connection: sqlite3.Connection, first_mid: int, last_mid: int, now_ms: int, limit: int
) -> list[int]:
    """Return the mids of that range that have expired without a deadline of their own."""
    rows = connection.execute(
        "SELECT id FROM message WHERE id >= ? AND id < ? AND expires_at <= ? AND deadline IS NULL AND kind = 0"
        " ORDER BY id LIMIT ?",
        (first_mid, last_mid, now_ms, limit),
    )
    return [row[0] for row in rows]


def name_of(connection: sqlite3.Connection, sender: int, mid: int, seq: int) -> str:
    """Return by which cid a sender knows a message; empty if its row is not what was stored and nothing else says it.

    Only what was verified is told; of a damaged message, what the store has a second time.
    """
    rows = connection.execute(f"SELECT {MESSAGE_COLUMNS}, checksum FROM message WHERE id = ?", (mid,)).fetchall()
    if not rows:
        return ""
    *row, checksum = rows[0]
    if row[12] != CORRUPT:
        if integrity.holds(row, checksum):
            return str(row[6]) if (row[2], row[4]) == (seq, sender) else ""
        integrity.suspect(connection, mid)
    return cid_of(connection, sender, mid)


def cid_of(connection: sqlite3.Connection, sender: int, mid: int) -> str:
    """Return by which cid a sender knows a message, from where the store has it a second time; empty if it has not."""
    row = connection.execute(_CID, (sender, mid)).fetchone()
    return row[0] if row is not None else ""


def inbox_size(connection: sqlite3.Connection, user: int) -> tuple[int, int]:
    """Return how many messages and bytes no device of `user` has acknowledged."""
    row = connection.execute(
        """SELECT count(*), coalesce(sum(length(m.payload)), 0) FROM lane l JOIN message m
        ON m.conversation_id = l.conversation_id AND m.seq > l.acked AND m.seq <= coalesce(l.until, m.seq)
        WHERE l.user_id = ? AND m.sender_id <> l.user_id AND m.kind = 0 AND m.state = 0""",
        (user,),
    ).fetchone()
    count, size = int(row[0]), int(row[1])
    lanes = connection.execute(
        "SELECT conversation_id, acked_above FROM lane WHERE user_id = ? AND acked_above <> ''", (user,)
    )
    for conversation, above in lanes.fetchall():
        for first, last in SeqSet(0, above).runs:  # acknowledged above a gap: these do not wait
            row = connection.execute(
                """SELECT count(*), coalesce(sum(length(payload)), 0) FROM message
                WHERE conversation_id = ? AND seq BETWEEN ? AND ? AND sender_id <> ? AND kind = 0 AND state = 0""",
                (conversation, first, last, user),
            ).fetchone()
            count, size = count - row[0], size - row[1]
    return count, size


def last_mid(connection: sqlite3.Connection) -> int:
    """Return the highest mid in the store, or what all new ones must be above (store/restored.py)."""
    row = connection.execute(
        f"""SELECT max(coalesce((SELECT max(id) FROM message WHERE id < {END}), 0),
        coalesce((SELECT max(id) FROM scheduled WHERE id < {END}), 0),
        coalesce((SELECT value FROM counter WHERE name = ? AND value < {END}), 0))""",
        (MID_FLOOR,),
    ).fetchone()
    return int(row[0])


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many users and messages there are."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM user WHERE active >= 0), (SELECT count(*) FROM message)"
    ).fetchone()
    return int(row[0]), int(row[1])
