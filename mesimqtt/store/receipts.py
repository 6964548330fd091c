"""The receipts of one message: for each recipient its state, when delivered, when read (contract section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.messages import GROUP, NO_SEQ, MessageKind
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.domain.status import Status
from mesimqtt.store.conversations import peer_of
from mesimqtt.store.messages import RUN_MAX
from mesimqtt.store.users import addresses

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message

_STEPS = f"""SELECT recipient_id, status, ts, device, reason FROM step INDEXED BY step_conversation_id_last_seq
    WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? + {RUN_MAX} AND first_seq <= ? AND sender_id = ?
    ORDER BY change"""


class Receipt(NamedTuple):
    """The state of a message for one recipient, '' for the message itself. Times are milliseconds since 1970."""

    address: str
    status: int
    ts: int
    device: str = ""
    reason: str = ""
    delivered_at: int = 0
    read_at: int = 0


class Matrix(NamedTuple):
    """A page of receipts, counts over all of them, and the user after whom the next page begins (0: there is none)."""

    rows: list[Receipt]
    counts: dict[str, int]
    next: int


def of_all(message: Message) -> Receipt:
    """Return the state of a group's message itself: it is in the store, so it is sent."""
    return Receipt("", Status.SENT, message.ts)


def matrix(connection: sqlite3.Connection, message: Message, after: int, limit: int) -> Matrix:
    """Return the receipts of up to `limit` recipients behind the user `after`, in the order in which they came."""
    conversation, seq = message.conversation, message.seq
    found: dict[int, Receipt] = {}
    for recipient, status, ts, device, reason in connection.execute(
        _STEPS, (conversation.id, seq, seq, seq, message.sender_id)
    ):
        before = found.get(recipient, Receipt("", 0, 0))
        found[recipient] = Receipt(
            "",
            status,
            message.ts if status == Status.SENT else ts,  # a run of SENT keeps one time; it was told each one's own
            device,
            reason,
            ts if status == Status.DELIVERED else before.delivered_at,
            ts if status == Status.READ else before.read_at,
        )
    if conversation.kind == GROUP:
        found.pop(0, None)
        # Those with a status, too: who joined anew since. Work is only theirs who took it.
        members = [] if message.kind == MessageKind.WORK else _recipients(connection, conversation.id, seq)
        recipients = sorted({*members} - {message.sender_id} | found.keys())
    else:
        recipients = [peer_of(conversation, message.sender_id)]
    codes = [found[user].status for user in recipients if user in found]
    counts = {
        "members": len(recipients),
        "delivered": sum(code in (Status.DELIVERED, Status.READ) for code in codes),
        "read": codes.count(Status.READ),
        "failed": sum(code >= Status.FAILED for code in codes),
    }
    page = [user for user in recipients if user > after][: limit + 1]
    names = addresses(connection, page[:limit])
    sent = of_all(message)
    rows = [found.get(user, sent)._replace(address=names.get(user, "")) for user in page[:limit]]
    return Matrix(rows, counts, page[limit - 1] if len(page) > limit else 0)


def _recipients(connection: sqlite3.Connection, conversation: int, seq: int) -> list[int]:
    """Return the users who were in a group, and might receive, when it came to this seq."""
    rows = connection.execute(
        """SELECT user_id, gaps FROM lane WHERE conversation_id = ? AND floor < ? AND coalesce(until, ?) >= ?
        ORDER BY user_id""",
        (conversation, seq, seq, seq),
    )
    return [user for user, gaps in rows if not gaps or seq not in SeqSet(NO_SEQ, gaps)]
