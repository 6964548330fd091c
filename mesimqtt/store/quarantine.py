"""A message that is not what was stored is set apart: kept for who looks into it, and given to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.messages import MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.store import messages, statuses, work
from mesimqtt.store.integrity import CORRUPT

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message

_STATE = "SELECT state FROM message WHERE id = ?"
_APART = f"UPDATE message SET state = {CORRUPT}, deadline = NULL WHERE id = ?"
_NAME = "UPDATE message SET cid = ? WHERE id = ?"


class Suspect(NamedTuple):
    """A message that is damaged, and what is written of it in the commit of its verdict, so that both are or neither.

    `is_told` says whether its sender was told SENT for it: else its row does not say who that is.
    """

    message: Message
    rows: list[tuple[str, tuple[Any, ...]]]
    is_told: bool


def look(connection: sqlite3.Connection, mid: int) -> Suspect | None:
    """Return a message that is to be set apart for good, so that no read looks at it again; None if it is whole, or is.

    Its row keeps its bytes and its checksum, that `mesimqtt check` goes on telling of it. The sender's id of it is
    mended where the store has it twice: by that name he is told.
    """
    message = messages.by_mid(connection, mid)
    state = connection.execute(_STATE, (mid,)).fetchone()
    if message is None or message.state != CORRUPT or state[0] == CORRUPT:
        return None
    rows: list[tuple[str, tuple[Any, ...]]] = [(_APART, (mid,))]
    known = messages.cid_of(connection, message.sender_id, mid)
    if known and known != message.cid:
        message.cid = known
        rows.append((_NAME, (known, mid)))
    if message.kind == MessageKind.WORK:
        rows.append((work.DELETE, (message.conversation.id, message.seq)))
    is_told = any(row.status == Status.SENT for row in statuses.steps_of(connection, message))
    return Suspect(message, rows, is_told)


def has_end(connection: sqlite3.Connection, mid: int) -> bool:
    """Tell whether the sender of a message that is set apart has a status of it after SENT; of an event none is due."""
    message = messages.by_mid(connection, mid)
    if message is None or message.kind == MessageKind.EVENT:
        return True
    return any(row.status > Status.SENT for row in statuses.steps_of(connection, message))
