"""Work of round-robin groups that no member has taken yet: the queue is a table, memory holds a window of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.store.integrity import CORRUPT
from mesimqtt.store.messages import by_mid

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message

DELETE = "DELETE FROM work WHERE conversation_id = ? AND seq = ?"
_UNREAD = """SELECT m.id FROM step s JOIN message m ON m.conversation_id = s.conversation_id AND m.kind = 2
    AND m.seq BETWEEN s.first_seq AND s.last_seq AND m.sender_id = s.sender_id
    WHERE s.conversation_id = ? AND s.recipient_id = ? AND s.status = 2 AND m.seq <= ?
    AND NOT EXISTS (SELECT 1 FROM step n WHERE n.conversation_id = s.conversation_id AND n.recipient_id = s.recipient_id
        AND n.status = 3 AND m.seq BETWEEN n.first_seq AND n.last_seq AND n.sender_id = m.sender_id)
    ORDER BY m.seq DESC LIMIT ?"""


def page(connection: sqlite3.Connection, conversation: int, after: int, limit: int) -> list[Message]:
    """Return work of a group with seq > `after`, in order; a damaged piece is left out."""
    found: list[Message] = []
    while len(found) < limit:
        wanted = limit - len(found)
        rows = connection.execute(
            "SELECT seq, message_id FROM work WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (conversation, after, wanted),
        ).fetchall()
        messages = [by_mid(connection, mid) for _, mid in rows]
        found += [message for message in messages if message is not None and message.state != CORRUPT]
        if len(rows) < wanted:
            break
        after = rows[-1][0]
    return found


def count(connection: sqlite3.Connection, conversation: int) -> int:
    """Return how much work of a group waits."""
    return int(connection.execute("SELECT count(*) FROM work WHERE conversation_id = ?", (conversation,)).fetchone()[0])


def is_open(connection: sqlite3.Connection, conversation: int, seq: int) -> bool:
    """Tell whether nobody has taken this piece of work yet."""
    row = connection.execute("SELECT 1 FROM work WHERE conversation_id = ? AND seq = ?", (conversation, seq)).fetchone()
    return row is not None


def conversations(connection: sqlite3.Connection) -> list[int]:
    """Return the conversations in which work waits."""
    return [row[0] for row in connection.execute("SELECT DISTINCT conversation_id FROM work")]


def taken_unread(connection: sqlite3.Connection, conversation: int, user: int, seq: int, limit: int) -> list[Message]:
    """Return the newest `limit` pieces of work up to `seq` that a user has taken and not read, oldest first."""
    rows = connection.execute(_UNREAD, (conversation, user, seq, limit)).fetchall()
    found = [by_mid(connection, mid) for (mid,) in reversed(rows)]
    return [message for message in found if message is not None]
