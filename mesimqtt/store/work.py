"""Work of round-robin groups that no member has taken yet: the queue is a table, memory holds a window of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import GROUP, MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.store.integrity import CORRUPT
from mesimqtt.store.messages import RUN_MAX, by_mid

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message

DELETE = "DELETE FROM work WHERE conversation_id = ? AND seq = ?"
_LOOK = 256  # seqs that are looked at together
_STEPS = f"""SELECT first_seq, last_seq, sender_id, status FROM step INDEXED BY step_conversation_id_last_seq
    WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? + {RUN_MAX} AND first_seq <= ? AND recipient_id = ?
    AND status IN ({Status.DELIVERED:d}, {Status.READ:d})"""
_WORK = f"""SELECT id, seq, sender_id FROM message WHERE conversation_id = ? AND kind = {MessageKind.WORK:d}
    AND seq BETWEEN ? AND ? ORDER BY seq DESC"""
_OLDEST = "SELECT min(last_seq) FROM step WHERE conversation_id = ?"
_GROUPS = f"""SELECT m.group_id FROM member m JOIN conversation c ON c.kind = {GROUP} AND c.a = m.group_id AND c.b = 0
    WHERE m.user_id = ? AND EXISTS (SELECT 1 FROM work w WHERE w.conversation_id = c.id)"""


def page(
    connection: sqlite3.Connection, conversation: int, after: int, limit: int, size_max: int
) -> tuple[list[Message], bool]:
    """Return work of a group with seq > `after`, in order, and whether there may be more; a damaged piece is left out.

    It ends with the piece with which the payloads reach `size_max` bytes together.
    """
    found: list[Message] = []
    size = 0
    for _seq, mid in connection.execute(
        "SELECT seq, message_id FROM work WHERE conversation_id = ? AND seq > ? ORDER BY seq", (conversation, after)
    ):
        if len(found) == limit or size >= size_max:
            return found, True
        message = by_mid(connection, mid)
        if message is not None and message.state != CORRUPT:
            found.append(message)
            size += len(message.payload)
    return found, False


def count(connection: sqlite3.Connection, conversation: int) -> int:
    """Return how much work of a group waits."""
    return int(connection.execute("SELECT count(*) FROM work WHERE conversation_id = ?", (conversation,)).fetchone()[0])


def is_open(connection: sqlite3.Connection, conversation: int, seq: int) -> bool:
    """Tell whether nobody has taken this piece of work yet."""
    row = connection.execute("SELECT 1 FROM work WHERE conversation_id = ? AND seq = ?", (conversation, seq)).fetchone()
    return row is not None


def is_any(connection: sqlite3.Connection) -> bool:
    """Tell whether work of any group waits."""
    return connection.execute("SELECT 1 FROM work LIMIT 1").fetchone() is not None


def groups_of(connection: sqlite3.Connection, user: int) -> list[int]:
    """Return the groups of a user in which work waits."""
    return [row[0] for row in connection.execute(_GROUPS, (user,))]


def taken_unread(connection: sqlite3.Connection, conversation: int, user: int, seq: int, limit: int) -> list[Message]:
    """Return the newest `limit` pieces of work up to `seq` that a user has taken and not read, oldest first."""
    oldest = connection.execute(_OLDEST, (conversation,)).fetchone()[0]
    mids: list[int] = []
    while oldest is not None and seq > oldest - RUN_MAX and len(mids) < limit:
        mids += _unread_between(connection, conversation, user, seq - _LOOK + 1, seq)
        seq -= _LOOK
    found = [by_mid(connection, mid) for mid in reversed(mids[:limit])]
    return [message for message in found if message is not None]


def _unread_between(connection: sqlite3.Connection, conversation: int, user: int, first: int, last: int) -> list[int]:
    """Return the mids of work that a user has taken and not read between two seqs, the newest first."""
    taken: set[tuple[int, int]] = set()
    read: set[tuple[int, int]] = set()
    for begin, end, sender, status in connection.execute(_STEPS, (conversation, first, last, last, user)):
        marked = taken if status == Status.DELIVERED else read
        marked.update((seq, sender) for seq in range(max(begin, first), min(end, last) + 1))
    if taken <= read:
        return []
    rows = connection.execute(_WORK, (conversation, first, last))
    return [mid for mid, seq, sender in rows if (seq, sender) in taken and (seq, sender) not in read]
