"""Messages that are edited, taken back, wiped or hidden after they were sent: their statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.groups import MemberFlag
from mesimqtt.domain.messages import GROUP, Message, Step
from mesimqtt.domain.status import Status
from mesimqtt.store import conversations, integrity, members, messages, statuses
from mesimqtt.store.batch import insert_steps

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

HIDDEN = 1  # `hidden.state` of what a user deleted for himself; what was wiped for him has 0x22
_REMOVE = "UPDATE message SET state = ?, traceless = ?, payload = x'', params = '', deadline = NULL WHERE id = ?"
_MEMBERS = """SELECT user_id FROM lane
    WHERE conversation_id = ? AND floor < ? AND (until IS NULL OR until >= ?) AND user_id <> ?"""
SET_AGE = "UPDATE message SET age = ? WHERE id = ?"
SET_PRIORITY = "UPDATE message SET priority = ? WHERE id = ?"
VANISH = "INSERT OR IGNORE INTO vanishing (message_id, user_id, due) VALUES (?, ?, ?)"  # for a user, or 0 for all
VANISH_READ = """INSERT OR IGNORE INTO vanishing (message_id, user_id, due) SELECT id, ?, ? + age * 1000 FROM message
    WHERE conversation_id = ? AND seq > ? AND seq <= ? AND age IS NOT NULL AND state = 0 AND sender_id <> ?"""


class Withdrawn(NamedTuple):
    """What was taken back: each message as it was, and the statuses that come of it."""

    messages: list[Message]
    steps: list[Step]


def mark_edit(connection: sqlite3.Connection, mid: int, original: int) -> None:
    """Note that message `mid` replaces `original`, whichever edit did so before."""
    connection.execute("UPDATE message SET edits = ? WHERE id = ?", (original, mid))
    connection.execute("UPDATE message SET edited_by = ? WHERE id = ?", (mid, original))
    integrity.reseal(connection, mid)
    integrity.reseal(connection, original)


def mark_recall(connection: sqlite3.Connection, mid: int, original: int, *, traceless: bool) -> None:
    """Note that message `mid` takes `original` back."""
    connection.execute("UPDATE message SET recalls = ?, traceless = ? WHERE id = ?", (original, int(traceless), mid))
    integrity.reseal(connection, mid)


def edited(connection: sqlite3.Connection, mid: int) -> int | None:
    """Return the message that an edit replaces; None for what is no edit."""
    return _column(connection, "edits", mid)


def recalled(connection: sqlite3.Connection, mid: int) -> int | None:
    """Return the message that a recall takes back; None for what is no recall."""
    return _column(connection, "recalls", mid)


def withdraw(
    connection: sqlite3.Connection, mid: int, code: Status, now_ms: int, *, traceless: bool = False
) -> Withdrawn:
    """Take a message and its edits away from everybody; what can still change has the status `code`."""
    found = _with_edits(connection, mid)
    steps: list[Step] = []
    for message in found:
        steps += [_step(message, recipient, code, now_ms) for recipient in _recipients(connection, message)]
        _remove(connection, message.mid, int(code), traceless=traceless)
        connection.execute("DELETE FROM vanishing WHERE message_id = ?", (message.mid,))
    return Withdrawn(found, steps)


def withdraw_from(connection: sqlite3.Connection, mid: int, user: int, now_ms: int) -> Withdrawn:
    """Wipe a message and its edits for one recipient; once it is wiped for all, for its sender too."""
    found, steps = [], []
    for message in _with_edits(connection, mid):
        left = set(_recipients(connection, message))
        if user in left:
            steps.append(_step(message, user, Status.WIPED, now_ms))
        hide(connection, user, [message.mid], Status.WIPED, now_ms)
        if left <= {user}:
            _remove(connection, message.mid, int(Status.WIPED), traceless=True)
        found.append(message)
    connection.execute("DELETE FROM vanishing WHERE message_id = ? AND user_id = ?", (mid, user))
    return Withdrawn(found, steps)


def number(connection: sqlite3.Connection, steps: list[Step]) -> None:
    """Give statuses their change numbers and keep them; for a piece of work of its own in a transaction."""
    changes: dict[int, int] = {}
    for step in steps:
        sender = step.sender_id
        before = changes[sender] if sender in changes else conversations.last_change(connection, sender)
        changes[sender] = step.change = before + 1
    insert_steps(connection, steps)


def hide(connection: sqlite3.Connection, user: int, mids: Iterable[int], state: int, now_ms: int) -> None:
    """Hide messages from one user; a wiped one stays wiped."""
    connection.executemany(
        """INSERT INTO hidden (user_id, message_id, state, ts) VALUES (?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET state = max(state, excluded.state)""",
        [(user, mid, int(state), now_ms) for mid in mids],
    )


def mark_hidden(connection: sqlite3.Connection, user: int, found: Sequence[Message]) -> None:
    """Mark those of a page, in the order of their seq, that `user` is not to see."""
    if not found:
        return
    mids = [message.mid for message in found]
    rows = connection.execute(
        "SELECT message_id, state FROM hidden WHERE user_id = ? AND message_id BETWEEN ? AND ?",
        (user, min(mids), max(mids)),
    ).fetchall()
    if rows:
        states = dict(rows)
        for message in found:
            message.state = message.state or states.get(message.mid, 0)


def is_hidden(connection: sqlite3.Connection, user: int, mid: int) -> bool:
    """Tell whether a user is not to see a message any more."""
    return (
        connection.execute("SELECT 1 FROM hidden WHERE user_id = ? AND message_id = ?", (user, mid)).fetchone()
        is not None
    )


def is_wiped(connection: sqlite3.Connection, user: int, mid: int) -> bool:
    """Tell whether a message was wiped for one user, whatever his lane says of it."""
    return (
        connection.execute(
            "SELECT 1 FROM hidden WHERE user_id = ? AND message_id = ? AND state > ?", (user, mid, HIDDEN)
        ).fetchone()
        is not None
    )


def forget_vanishing(connection: sqlite3.Connection, mid: int) -> None:
    """Forget that a message is to vanish: it is gone, for whatever reason."""
    connection.execute("DELETE FROM vanishing WHERE message_id = ?", (mid,))


def vanishing(connection: sqlite3.Connection, now_ms: int, limit: int) -> dict[int, list[int]]:
    """Return what is to be wiped by now: mid -> users (0: everybody), the longest due first."""
    found: dict[int, list[int]] = {}
    rows = connection.execute(
        "SELECT message_id, user_id FROM vanishing WHERE due <= ? ORDER BY due LIMIT ?", (now_ms, limit)
    )
    for mid, user in rows:
        found.setdefault(mid, []).append(user)
    return found


def priorities(connection: sqlite3.Connection, after: dict[int, int]) -> dict[int, int]:
    """Return the most urgent priority of what waits in each conversation (`after` which seq) that has any."""
    if connection.execute("SELECT 1 FROM message WHERE priority IS NOT NULL LIMIT 1").fetchone() is None:
        return {}
    found = {}
    for conversation, seq in after.items():
        row = connection.execute(
            "SELECT min(priority) FROM message WHERE conversation_id = ? AND seq > ? AND priority IS NOT NULL",
            (conversation, seq),
        ).fetchone()
        if row[0] is not None:
            found[conversation] = int(row[0])
    return found


def _remove(connection: sqlite3.Connection, mid: int, state: int, *, traceless: bool) -> None:
    connection.execute(_REMOVE, (state, int(traceless), mid))
    integrity.reseal(connection, mid)


def _column(connection: sqlite3.Connection, name: str, mid: int) -> int | None:
    if mid >> 63:  # more than SQLite's integers hold, so more than any mid of ours
        return None
    row = connection.execute(f"SELECT {name} FROM message WHERE id = ?", (mid,)).fetchone()
    return row[0] if row else None


def _with_edits(connection: sqlite3.Connection, mid: int) -> list[Message]:
    mids = [mid, *(row[0] for row in connection.execute("SELECT id FROM message WHERE edits = ?", (mid,)).fetchall())]
    found = [messages.by_mid(connection, each) for each in mids]
    return [message for message in found if message is not None and message.state in (0, integrity.CORRUPT)]


def _recipients(connection: sqlite3.Connection, message: Message) -> list[int]:
    """Return the recipients whose status can still become deleted or wiped: no failure, not gone before."""
    newest = {row.recipient_id: row.status for row in statuses.statuses_of(connection, message)}
    conversation = message.conversation
    if conversation.kind == GROUP:
        rows = connection.execute(_MEMBERS, (conversation.id, message.seq, message.seq, message.sender_id))
        rights = members.rights(connection, conversation.a)
        recipients = [row[0] for row in rows.fetchall() if rights.get(row[0], MemberFlag.RECV) & MemberFlag.RECV]
    else:
        recipients = [conversations.peer_of(conversation, message.sender_id)]
    return [number for number in recipients if newest.get(number, Status.SENT) < Status.DELETED]


def _step(message: Message, recipient: int, code: Status, now_ms: int) -> Step:
    step = Step(message.sender_id, message.conversation, recipient, message.seq, code, now_ms)
    step.messages.append(message)
    return step
