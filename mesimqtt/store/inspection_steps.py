"""Looks at every status that was told: it is a step that the contract allows, and the recipient's lane agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.findings import Finding, Findings, Level
from mesimqtt.domain.messages import MessageKind
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.domain.status import Status, may_step
from mesimqtt.store.inspection_base import REPORT, SHOWN_MAX, Look
from mesimqtt.store.messages import RUN_MAX

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from mesimqtt.store.inspection_base import View

_SEQS = 20_000  # of a conversation at once, so that a long one costs no memory
_UNCONFIRMED = "unconfirmed"
_STEPS = """SELECT sender_id, change, recipient_id, first_seq, last_seq, status, reason FROM step
    INDEXED BY step_conversation_id_last_seq
    WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? AND first_seq <= ? ORDER BY sender_id, change"""

_Key = tuple[int, int, int]  # sender, recipient, seq


def statuses(connection: sqlite3.Connection, _: View) -> Findings:
    """Look for a status that does not follow from the one before, or that the recipient's own state contradicts."""
    wrong: list[str] = []
    untrue: list[str] = []
    for number, first, last in _parts(connection):
        told = _follow(connection, number, first, last, wrong)
        if number:
            untrue += _contradicted(connection, number, told)
    if wrong:
        more = f" and {len(wrong) - SHOWN_MAX} more" if len(wrong) > SHOWN_MAX else ""
        what = f"statuses do not follow from those before: {'; '.join(wrong[:SHOWN_MAX])}{more}"
        yield Finding("statuses", Level.FAILURE, what, REPORT, "a sender was told what is not true")
    if untrue:
        what = f"{len(untrue)} messages were told as delivered, and are not: {'; '.join(untrue[:SHOWN_MAX])}"
        yield Finding("statuses", Level.FAILURE, what, REPORT, "they may be delivered once more")


def _parts(connection: sqlite3.Connection) -> Iterator[tuple[int, int, int]]:
    yield 0, 0, 2**62  # scheduled messages: in no conversation yet, their mid stands for a seq
    for number, last in connection.execute("SELECT id, last_seq FROM conversation").fetchall():
        for first in range(1, last + 1, _SEQS):
            yield number, first, min(first + _SEQS - 1, last)


def _follow(
    connection: sqlite3.Connection, number: int, first: int, last: int, wrong: list[str]
) -> dict[_Key, tuple[int, str]]:
    """Go along the statuses of a part of a conversation; return the newest of each (sender, recipient, seq)."""
    newest: dict[_Key, tuple[int, str]] = {}
    upto = min(last + RUN_MAX, 2**62)
    for sender, _, recipient, start, end, status, reason in connection.execute(_STEPS, (number, first, upto, last)):
        for seq in range(max(start, first), min(end, last) + 1):
            key = (sender, recipient, seq)
            before, why = newest.get(key, (0, ""))
            # That a message was sent, its row says: after nine days the status itself is forgotten (retention).
            is_good = may_step(before, status, unconfirmed=why == _UNCONFIRMED) or (
                before == 0 and may_step(Status.SENT, status)
            )
            if not is_good:
                wrong.append(f"{seq} of conversation {number} went from {before} to {status} for user {recipient}")
            newest[key] = (status, reason)
    return newest


def _contradicted(connection: sqlite3.Connection, number: int, told: dict[_Key, tuple[int, str]]) -> Iterator[str]:
    wanted = {recipient for (_, recipient, _), (status, _) in told.items() if status == Status.DELIVERED and recipient}
    if not wanted:
        return
    rows = connection.execute(
        "SELECT user_id, delivered, delivered_above FROM lane WHERE conversation_id = ?", (number,)
    )
    delivered = {user: SeqSet(upto, above) for user, upto, above in rows if user in wanted}
    for (_, recipient, seq), (status, _) in told.items():
        lane = delivered.get(recipient)
        if (
            status == Status.DELIVERED
            and lane is not None
            and seq not in lane
            and not _is_work(connection, number, seq)
        ):
            yield f"{seq} of conversation {number} to user {recipient}"


def _is_work(connection: sqlite3.Connection, number: int, seq: int) -> bool:
    """Tell whether a message is no lane's: work of a round-robin group, or removed."""
    row = connection.execute("SELECT kind FROM message WHERE conversation_id = ? AND seq = ?", (number, seq)).fetchone()
    return row is None or row[0] == MessageKind.WORK


LOOKS = (Look("statuses", statuses, "every status follows from the one before"),)
