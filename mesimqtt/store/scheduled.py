"""Messages that wait for their time: statements. Their statuses are steps of conversation 0 with the mid as seq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.messages import Conversation, Message, Outcome, Step
from mesimqtt.domain.status import Status
from mesimqtt.store import conversations
from mesimqtt.store.batch import CLAIM_CID, FIND_CID, insert_steps
from mesimqtt.store.integrity import SCHEDULED_COLUMNS, of_scheduled, scheduled_holds
from mesimqtt.store.statuses import StatusRow

if TYPE_CHECKING:
    import sqlite3

NOWHERE = Conversation(0, 0, 0, 0)  # a scheduled message has no seq yet, in no conversation
_COLUMNS = f"{SCHEDULED_COLUMNS}, checksum"
_STATUSES = """SELECT s.change, 0, w.kind, CASE w.kind WHEN 0 THEN w.sender_id ELSE w.target_id END,
    CASE w.kind WHEN 0 THEN w.target_id ELSE 0 END, CASE w.kind WHEN 0 THEN w.target_id ELSE 0 END,
    s.status, s.ts, s.device, s.reason, w.id, w.cid FROM step s JOIN scheduled w ON w.id = s.first_seq"""


FORGET = """DELETE FROM scheduled WHERE due IS NULL AND id < ? AND NOT EXISTS (SELECT 1 FROM step s
    WHERE s.conversation_id = 0 AND s.last_seq = scheduled.id AND s.ts >= ?)"""  # what nobody is told any more


class Row(NamedTuple):
    """One scheduled message. `due` and `ts` (of its acceptance) are milliseconds since 1970."""

    mid: int
    sender_id: int
    kind: int
    target_id: int
    device: str
    cid: str
    ts: int
    due: int | None
    state: int
    change: int
    flags: int
    params: str
    payload: bytes
    amends: int | None
    is_whole: bool = True  # False: it is not what was stored, so that nobody is to get it


class Accepted(NamedTuple):
    """What became of one that was given to the store; `mid` is that of the first one if this is a resend."""

    outcome: Outcome | None  # None: the sender has too many
    mid: int
    change: int = 0


def accept(connection: sqlite3.Connection, row: Row, digest: bytes | None, *, most: int) -> Accepted:
    """Keep a message until it is due, or an edit or recall of one, and its SENT."""
    if digest is not None:
        connection.execute(CLAIM_CID, (row.sender_id, row.cid, row.mid, digest))
        mid, found = connection.execute(FIND_CID, (row.sender_id, row.cid)).fetchone()
        if mid != row.mid:
            return Accepted(Outcome.REPEATED if found == digest else Outcome.REUSED, mid)
    if row.due is not None and waiting_count(connection, row.sender_id) >= most:
        connection.execute("DELETE FROM cid WHERE sender_id = ? AND message_id = ?", (row.sender_id, row.mid))
        return Accepted(None, row.mid)
    change = add_step(connection, row, Status.SENT, row.ts)
    values = row._replace(change=change)[:-1]
    connection.execute(
        f"INSERT INTO scheduled ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", (*values, of_scheduled(values))
    )
    return Accepted(Outcome.STORED, row.mid, change)


def end(connection: sqlite3.Connection, row: Row, code: Status, reason: str, now_ms: int) -> None:
    """Give a message that waits the status in which it ends; one that has ended already keeps its own."""
    cursor = connection.execute(
        "UPDATE scheduled SET due = NULL, state = ?, payload = x'' WHERE id = ? AND due IS NOT NULL",
        (int(code), row.mid),
    )
    if cursor.rowcount:
        add_step(connection, row, code, now_ms, reason)


def replace(connection: sqlite3.Connection, mid: int, payload: bytes) -> None:
    """Give a message that waits another payload."""
    row = find(connection, mid)
    if row is not None and row.due is not None and row.is_whole:
        checksum = of_scheduled(row._replace(payload=payload)[:-1])
        connection.execute("UPDATE scheduled SET payload = ?, checksum = ? WHERE id = ?", (payload, checksum, mid))


def add_step(connection: sqlite3.Connection, row: Row, code: Status, now_ms: int, reason: str = "") -> int:
    """Keep a status; return its number."""
    step = Step(row.sender_id, NOWHERE, 0, row.mid, code, now_ms, "", reason)
    step.change = conversations.last_change(connection, row.sender_id) + 1
    insert_steps(connection, [step])
    return step.change


def sent(connection: sqlite3.Connection, message: Message) -> None:
    """Note that a message that was due is now one of its conversation: its SENT goes with it."""
    connection.execute("DELETE FROM scheduled WHERE id = ?", (message.mid,))
    recipient = conversations.peer_of(message.conversation, message.sender_id)
    connection.execute(
        """UPDATE step SET conversation_id = ?, recipient_id = ?, first_seq = ?, last_seq = ?
        WHERE sender_id = ? AND change = ? AND conversation_id = 0""",
        (message.conversation.id, recipient, message.seq, message.seq, message.sender_id, message.change),
    )


def find(connection: sqlite3.Connection, mid: int) -> Row | None:
    """Return one scheduled message, waiting or ended."""
    if mid >> 63:
        return None
    rows = connection.execute(f"SELECT {_COLUMNS} FROM scheduled WHERE id = ?", (mid,)).fetchall()
    return _row(rows[0]) if rows else None


def _row(row: tuple[Any, ...]) -> Row:
    """Return a row of _COLUMNS; one that waits and is damaged has lost its bytes."""
    found = Row(*row[:-1])
    if found.due is None or scheduled_holds(row[:-1], row[-1]):  # what has ended was emptied
        return found
    return found._replace(params="", payload=b"", is_whole=False)


def due(connection: sqlite3.Connection, now_ms: int, limit: int) -> list[Row]:
    """Return those whose time has come, the longest due first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM scheduled WHERE due <= ? ORDER BY due, id LIMIT ?", (now_ms, limit)
    ).fetchall()
    return [_row(row) for row in rows]


def next_due(connection: sqlite3.Connection, after_ms: int = 0) -> int | None:
    """Return when the next one is due, of those due later than `after_ms`."""
    row = connection.execute("SELECT min(due) FROM scheduled WHERE due > ?", (after_ms,)).fetchone()
    return int(row[0]) if row[0] is not None else None


def waiting(connection: sqlite3.Connection, sender: int, after: tuple[int, int], limit: int) -> list[Row]:
    """Return what a sender has scheduled after (due, mid), the next due first."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM scheduled WHERE sender_id = ? AND due IS NOT NULL AND (due, id) > (?, ?)
        ORDER BY due, id LIMIT ?""",
        (sender, *after, limit),
    ).fetchall()
    return [_row(row) for row in rows]


def waiting_count(connection: sqlite3.Connection, sender: int) -> int:
    """Return how many messages of a sender wait for their time."""
    row = connection.execute(
        "SELECT count(*) FROM scheduled WHERE sender_id = ? AND due IS NOT NULL", (sender,)
    ).fetchone()
    return int(row[0])


def statuses_of(connection: sqlite3.Connection, row: Row) -> list[StatusRow]:
    """Return the newest status of a scheduled message."""
    found = connection.execute(
        f"{_STATUSES} WHERE s.conversation_id = 0 AND s.last_seq = ? AND s.sender_id = ?"
        " ORDER BY s.change DESC LIMIT 1",
        (row.mid, row.sender_id),
    )
    return [StatusRow(*each) for each in found]


def steps_of(connection: sqlite3.Connection, row: Row) -> list[StatusRow]:
    """Return every status that a scheduled message has had, in their order."""
    found = connection.execute(
        f"{_STATUSES} WHERE s.conversation_id = 0 AND s.last_seq = ? AND s.sender_id = ? ORDER BY s.change",
        (row.mid, row.sender_id),
    )
    return [StatusRow(*each) for each in found]


def statuses_since(
    connection: sqlite3.Connection, sender: int, change: int, since_ms: int, upto: int, limit: int
) -> list[StatusRow]:
    """Return the newest status of each scheduled message that changed after `change`, up to `upto`, in that order."""
    rows = connection.execute(
        f"""{_STATUSES} WHERE s.sender_id = ? AND s.change > ? AND s.change <= ? AND s.conversation_id = 0
        AND s.ts >= ? AND NOT EXISTS (SELECT 1 FROM step n WHERE n.conversation_id = 0 AND n.last_seq = s.last_seq
            AND n.sender_id = s.sender_id AND n.change > s.change)
        ORDER BY s.change LIMIT ?""",
        (sender, change, upto, since_ms, limit),
    )
    return [StatusRow(*row) for row in rows]
