"""Conversations, lanes and steps: their statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import GROUP, NO_SEQ, PAIR, Conversation, Lane
from mesimqtt.domain.seqset import SeqSet

if TYPE_CHECKING:
    import sqlite3

_OWN_LATE_MAX = 10_000  # an own message enters its sender's lane at the commit after its own
_LANE = """SELECT floor, until, acked, acked_above, delivered, delivered_above, read, read_above, failed, read_payload,
    read_change, gaps FROM lane WHERE conversation_id = ? AND user_id = ?"""


def find(connection: sqlite3.Connection, kind: int, a: int, b: int) -> Conversation | None:
    """Return the conversation of this kind between `a` and `b`, if it has begun."""
    row = connection.execute(
        "SELECT id, last_seq FROM conversation WHERE kind = ? AND a = ? AND b = ?", (kind, a, b)
    ).fetchone()
    return Conversation(row[0], kind, a, b, row[1]) if row else None


def by_id(connection: sqlite3.Connection, number: int) -> Conversation | None:
    """Return one conversation."""
    row = connection.execute("SELECT kind, a, b, last_seq FROM conversation WHERE id = ?", (number,)).fetchone()
    return Conversation(number, *row) if row else None


def of_user(connection: sqlite3.Connection, user: int) -> list[Conversation]:
    """Return the conversations that a user is or was in."""
    rows = connection.execute(
        """SELECT c.id, c.kind, c.a, c.b, c.last_seq FROM lane l JOIN conversation c ON c.id = l.conversation_id
        WHERE l.user_id = ?""",
        (user,),
    )
    return [Conversation(*row) for row in rows]


def create(connection: sqlite3.Connection, conversation: Conversation) -> None:
    """Insert a conversation (and, for a pair, both lanes) and give it its id; it may have begun already."""
    begun = find(connection, conversation.kind, conversation.a, conversation.b)
    if begun is not None:  # by an object of before its user was evicted or renewed
        conversation.id = begun.id
        return
    cursor = connection.execute(
        "INSERT INTO conversation (kind, a, b, last_seq) VALUES (?,?,?,0)",
        (conversation.kind, conversation.a, conversation.b),
    )
    number = cursor.lastrowid or 0
    if conversation.kind == PAIR:
        for user in {conversation.a, conversation.b}:
            create_lane(connection, number, user, 0)
    conversation.id = number  # not before: of a failed transaction the number is another conversation's


def create_lane(connection: sqlite3.Connection, conversation: int, user: int, floor: int) -> None:
    """Insert the lane of a user whose time in the conversation begins after `floor`."""
    connection.execute(
        """INSERT OR REPLACE INTO lane (conversation_id, user_id, floor, acked, acked_above, delivered, delivered_above,
        read, read_above, failed, read_payload, read_change) VALUES (?,?,?,?,'',?,'',?,'','','',0)""",
        (conversation, user, floor, floor, floor, floor),
    )


def load_lane(connection: sqlite3.Connection, conversation: Conversation, user: int) -> Lane | None:
    """Return the lane of `user`, None if he has none."""
    row = connection.execute(_LANE, (conversation.id, user)).fetchone() if conversation.id else None
    if row is None:
        return None
    lane = Lane(conversation, user, row[0], row[1])
    lane.acked = SeqSet(row[2], row[3])
    lane.delivered = SeqSet(row[4], row[5])
    lane.read = SeqSet(row[6], row[7])
    lane.failed = SeqSet(NO_SEQ, row[8])
    _add_own(connection, lane)
    lane.read_payload = row[9]
    lane.read_change = row[10]
    if row[11]:
        lane.gaps = SeqSet(0, row[11])
        lane.pass_gaps()
    return lane


def _add_own(connection: sqlite3.Connection, lane: Lane) -> None:
    """Add what the user sent himself just before a crash, after the last state of his lane was kept."""
    number = lane.conversation.id
    after = max(lane.acked.highest, last_seq(connection, number) - _OWN_LATE_MAX)
    rows = connection.execute(
        "SELECT seq FROM message WHERE conversation_id = ? AND seq > ? AND sender_id = ? ORDER BY seq",
        (number, after, lane.user_id),
    )
    if lane.conversation.a == lane.conversation.b and lane.conversation.kind == PAIR:
        return  # to himself: his other devices acknowledge it
    for (seq,) in rows.fetchall():
        for seqs in (lane.acked, lane.delivered, lane.read):
            seqs.add(seq)


def former(connection: sqlite3.Connection, conversation: int, seq: int) -> list[int]:
    """Return the users who left a conversation, and were in it at `seq`."""
    rows = connection.execute(
        "SELECT user_id FROM lane WHERE conversation_id = ? AND floor < ? AND until >= ?", (conversation, seq, seq)
    )
    return [row[0] for row in rows]


def last_seq(connection: sqlite3.Connection, conversation: int) -> int:
    """Return the highest seq given in a conversation."""
    row = connection.execute("SELECT last_seq FROM conversation WHERE id = ?", (conversation,)).fetchone()
    return int(row[0]) if row else 0


def last_change(connection: sqlite3.Connection, sender: int) -> int:
    """Return the highest change number of a sender's statuses."""
    row = connection.execute("SELECT max(change) FROM step WHERE sender_id = ?", (sender,)).fetchone()
    return int(row[0] or 0)


def peer_of(conversation: Conversation, user: int) -> int:
    """Return the other user of a pair; 0 for a group."""
    if conversation.kind == GROUP:
        return 0
    return conversation.b if conversation.a == user else conversation.a
