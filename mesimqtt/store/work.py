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
_LOOK = 256  # seqs that are looked at together at first; where all is read, twice as many each time
_MARKED = f"""SELECT m.seq, m.id FROM step s INDEXED BY step_conversation_id_last_seq
    CROSS JOIN message m ON m.conversation_id = s.conversation_id AND m.sender_id = s.sender_id
    AND m.kind = {MessageKind.WORK:d} AND m.seq BETWEEN max(s.first_seq, :first) AND min(s.last_seq, :last)
    WHERE s.conversation_id = :conversation AND s.last_seq BETWEEN :first AND :last + {RUN_MAX}
    AND s.first_seq <= :last AND s.recipient_id = :user AND s.status = """
_UNREAD = f"{_MARKED}{Status.DELIVERED:d} EXCEPT {_MARKED}{Status.READ:d} ORDER BY 1 DESC LIMIT :most"
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


def taken_unread(
    connection: sqlite3.Connection, conversation: int, user: int, seq: int, limit: int, *, after: int = 0
) -> list[Message]:
    """Return the newest `limit` pieces of work up to `seq`, and above `after`, that a user has taken and not read.

    They come in order, oldest first.
    """
    oldest = connection.execute(_OLDEST, (conversation,)).fetchone()[0]
    least, look = (after if oldest is None else max(after, oldest - RUN_MAX)), _LOOK
    mids: list[int] = []
    while oldest is not None and seq > least and len(mids) < limit:
        first = max(seq - look + 1, least + 1)
        place = {"conversation": conversation, "user": user, "first": first, "last": seq, "most": limit - len(mids)}
        found = [mid for _, mid in connection.execute(_UNREAD, place)]
        mids += found
        seq, look = first - 1, _LOOK if found else 2 * look
    messages = [by_mid(connection, mid) for mid in reversed(mids)]
    return [message for message in messages if message is not None]
