"""Conversations, lanes and steps: their statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import GROUP, NO_SEQ, PAIR, Conversation, Lane
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.store import parties
from mesimqtt.store.integrity import of_lane

if TYPE_CHECKING:
    import sqlite3

_FIND = f"SELECT c.last_seq, {parties.CONVERSATION_COLUMNS} FROM conversation c"
_OWN_LATE_MAX = 10_000  # an own message enters its sender's lane at the commit after its own
_LANE = """SELECT floor, until, acked, acked_above, delivered, delivered_above, read, read_above, failed, read_payload,
    read_change, gaps, checksum FROM lane WHERE conversation_id = ? AND user_id = ?"""


def find(connection: sqlite3.Connection, kind: int, a: int, b: int) -> Conversation | None:
    """Return the conversation of this kind between `a` and `b`, if it has begun."""
    row = connection.execute(f"{_FIND} WHERE c.kind = ? AND c.a = ? AND c.b = ?", (kind, a, b)).fetchone()
    return _whole(connection, row) if row else None


def by_id(connection: sqlite3.Connection, number: int) -> Conversation | None:
    """Return one conversation."""
    row = connection.execute(f"{_FIND} WHERE c.id = ?", (number,)).fetchone()
    return _whole(connection, row) if row else None


def _whole(connection: sqlite3.Connection, row: tuple[int, ...]) -> Conversation | None:
    last_seq, checksum, number, kind, a, b = row
    whole = parties.is_between(connection, checksum, number, kind, a, b)
    return Conversation(number, kind, a, b, last_seq) if whole else None


def of_user(connection: sqlite3.Connection, user: int) -> list[Conversation]:
    """Return the conversations that a user is or was in."""
    rows = connection.execute(
        f"""SELECT {parties.PLACE_COLUMNS}, c.last_seq FROM lane l
        JOIN conversation c ON c.id = l.conversation_id WHERE l.user_id = ?""",
        (user,),
    )
    return [Conversation(*row) for row in parties.whole(connection, rows)]


def create(connection: sqlite3.Connection, conversation: Conversation) -> None:
    """Insert a conversation (and, for a pair, both lanes) and give it its id; it may have begun already."""
    begun = find(connection, conversation.kind, conversation.a, conversation.b)
    if begun is not None:  # by an object of before its user was evicted or renewed
        conversation.id = begun.id
        return
    squatter = connection.execute(
        "SELECT id FROM conversation WHERE kind = ? AND a = ? AND b = ?",
        (conversation.kind, conversation.a, conversation.b),
    ).fetchone()
    if squatter is not None:
        parties.clear_place(connection, squatter[0], conversation.kind, conversation.a, conversation.b)
    cursor = connection.execute(
        "INSERT INTO conversation (kind, a, b, last_seq) VALUES (?,?,?,0)",
        (conversation.kind, conversation.a, conversation.b),
    )
    number = cursor.lastrowid or 0
    parties.seal(connection, number, conversation.kind, conversation.a, conversation.b)
    if conversation.kind == PAIR:
        for user in {conversation.a, conversation.b}:
            create_lane(connection, number, user, 0)
    conversation.id = number  # not before: of a failed transaction the number is another conversation's


def create_lane(connection: sqlite3.Connection, conversation: int, user: int, floor: int) -> None:
    """Insert the lane of a user whose time in the conversation begins after `floor`."""
    connection.execute(
        """INSERT OR REPLACE INTO lane (conversation_id, user_id, floor, acked, acked_above, delivered, delivered_above,
        read, read_above, failed, read_payload, read_change, checksum) VALUES (?,?,?,?,'',?,'',?,'','','',0,?)""",
        (conversation, user, floor, floor, floor, floor, of_lane(conversation, user, floor, None, "")),
    )


def load_lane(connection: sqlite3.Connection, conversation: Conversation, user: int) -> Lane | None:
    """Return the lane of `user`, None if he has none."""
    if not conversation.id:
        return None
    number, kind, a, b = conversation.id, conversation.kind, conversation.a, conversation.b
    row = connection.execute(_LANE, (number, user)).fetchone()
    if row is None and kind == PAIR and user in (a, b):
        stranger = parties.stray_in(connection, number, a, b)
        row = connection.execute(_LANE, (number, stranger)).fetchone() if stranger else None
    if row is None and kind == GROUP and _is_member(connection, a, user):
        parties.tell_without(connection, number, user)
    if row is None or not parties.is_his(connection, kind, a, b, number, user, row[0], row[1], row[11], row[12]):
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


def _is_member(connection: sqlite3.Connection, group: int, user: int) -> bool:
    row = connection.execute("SELECT 1 FROM member WHERE group_id = ? AND user_id = ?", (group, user)).fetchone()
    return row is not None


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
    """Return the highest seq given in a conversation, also where damage has set its row back: none is given twice."""
    row = connection.execute(
        f"SELECT max(c.last_seq, {parties.HIGHEST_SEQ}) FROM conversation c WHERE c.id = ?", (conversation,)
    ).fetchone()
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
