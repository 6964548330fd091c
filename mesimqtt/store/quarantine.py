"""A message that is not what was stored is set apart: kept for who looks into it, and given to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import MessageKind
from mesimqtt.store import messages, work
from mesimqtt.store.integrity import CORRUPT

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message

_STATE = "SELECT state FROM message WHERE id = ?"
_CID = "SELECT cid FROM cid WHERE sender_id = ? AND message_id = ?"


def isolate(connection: sqlite3.Connection, mid: int) -> Message | None:
    """Set a message apart for good if it is damaged, so that no read looks at it again; None if it is not, or was.

    Its row keeps its bytes and its checksum, that `mesimqtt check` goes on telling of it. The sender's id of it is
    mended where the store has it twice: by that name he is told.
    """
    message = messages.by_mid(connection, mid)
    state = connection.execute(_STATE, (mid,)).fetchone()
    if message is None or message.state != CORRUPT or state[0] == CORRUPT:
        return None
    connection.execute("UPDATE message SET state = ?, deadline = NULL WHERE id = ?", (CORRUPT, mid))
    known = connection.execute(_CID, (message.sender_id, mid)).fetchone()
    if known is not None and known[0] != message.cid:
        message.cid = known[0]
        connection.execute("UPDATE message SET cid = ? WHERE id = ?", (message.cid, mid))
    if message.kind == MessageKind.WORK:
        connection.execute(work.DELETE, (message.conversation.id, message.seq))
    return message


def is_told(connection: sqlite3.Connection, message: Message) -> bool:
    """Tell whether its sender was told SENT for it: else its row does not say who that is."""
    return any(row.status == 1 for row in messages.steps_of(connection, message))
