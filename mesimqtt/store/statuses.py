"""Statuses: what one message had, and what a sender who comes back is told, since his own number."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.status import Status
from mesimqtt.store import parties
from mesimqtt.store.messages import RUN_MAX, name_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from mesimqtt.domain.messages import Message

CHUNK = 256  # steps that are looked at together
_STEPS = """SELECT change, conversation_id, recipient_id, first_seq, last_seq, status, ts, device, reason FROM step
    WHERE sender_id = ? AND change > ? AND ts >= ? AND conversation_id > 0 ORDER BY change LIMIT ?"""
# By this index: by the primary key it would read all that the sender has waiting, for each of them.
_NEWER = """SELECT recipient_id, first_seq, last_seq, change FROM step INDEXED BY step_conversation_id_last_seq
    WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? AND first_seq <= ? AND sender_id = ? AND change > ?"""
_MESSAGES = """SELECT id, seq, ts FROM message WHERE conversation_id = ? AND seq BETWEEN ? AND ? AND sender_id = ?
    ORDER BY seq"""
_PLACE = f"SELECT {parties.CONVERSATION_COLUMNS} FROM conversation c WHERE c.id = ?"


class StatusRow(NamedTuple):
    """One status of one message for one recipient, as a returning sender is told it."""

    change: int
    conversation_id: int
    kind: int
    a: int
    b: int
    recipient_id: int
    status: int
    ts: int
    device: str
    reason: str
    mid: int
    cid: str


class _Place(NamedTuple):
    """A conversation. `is_whole` False: to whom something in it was, nobody knows."""

    kind: int
    a: int
    b: int
    is_whole: bool


class _Step(NamedTuple):
    """A row of the table."""

    change: int
    conversation: int
    recipient: int
    first: int
    last: int
    status: int
    ts: int
    device: str
    reason: str


def statuses_since(
    connection: sqlite3.Connection, sender: int, change: int, since_ms: int, limit: int
) -> list[StatusRow]:
    """Return the newest status of each (mid, recipient) of `sender` that changed after `change`, in that order.

    A row whose cid is empty is not to be told: whose it is, its damaged message or conversation does not say.
    A change is never cut in two: rows of a change that did not fit are left to the next call.
    """
    found: list[StatusRow] = []
    places: dict[int, _Place | None] = {}
    while True:
        steps = _some_steps(connection, sender, change, since_ms, limit)
        newest = _newest(connection, sender, steps)
        for step in steps:
            if step.conversation not in places:
                places[step.conversation] = _place(connection, step.conversation)
            place = places[step.conversation]
            if place is None:
                continue
            rows = list(_rows(connection, sender, step, place, newest))
            if found and len(found) + len(rows) > limit:
                return found
            found += rows
        if not steps:
            return found
        change = steps[-1].change


def _some_steps(connection: sqlite3.Connection, sender: int, change: int, since_ms: int, limit: int) -> list[_Step]:
    """Return steps behind a change, of `limit` messages and a little: what does not fit is looked through in vain.

    A page of 320 statuses of steps of 64: 17 instead of 33 µs a status.
    """
    steps: list[_Step] = []
    seqs = 0
    for row in connection.execute(_STEPS, (sender, change, since_ms, CHUNK)):
        step = _step(row)
        steps.append(step)
        seqs += step.last + 1 - step.first
        if seqs >= limit:
            break
    return steps


def steps_of(connection: sqlite3.Connection, message: Message) -> list[StatusRow]:
    """Return every status that one message ever had, in the order of the sender's changes."""
    conversation = message.conversation
    rows = connection.execute(
        f"""SELECT change, conversation_id, recipient_id, status,
        CASE WHEN status = 1 AND first_seq < last_seq THEN ? ELSE ts END, device, reason
        FROM step INDEXED BY step_conversation_id_last_seq
        WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? + {RUN_MAX} AND first_seq <= ? AND sender_id = ?
        ORDER BY change""",
        (message.ts, conversation.id, message.seq, message.seq, message.seq, message.sender_id),
    )  # a run of SENT keeps one time; each of its messages was told its own
    return [
        StatusRow(
            row[0],
            row[1],
            conversation.kind,
            conversation.a,
            conversation.b,
            row[2],
            row[3],
            row[4],
            row[5],
            row[6],
            message.mid,
            message.cid,
        )
        for row in rows
    ]


def statuses_of(connection: sqlite3.Connection, message: Message) -> list[StatusRow]:
    """Return the newest status of one message for each recipient (recipient 0: the message in a group)."""
    return sorted({row.recipient_id: row for row in steps_of(connection, message)}.values())


def _place(connection: sqlite3.Connection, conversation: int) -> _Place | None:
    row = connection.execute(_PLACE, (conversation,)).fetchone()
    if row is None:
        return None
    _, _, kind, a, b = row
    return _Place(kind, a, b, parties.is_between(connection, *row))


def _step(row: tuple[int, int, int, int, int, int, int, str, str]) -> _Step:
    """Return a row; where damage gave it more seqs than a step covers, it covers no more."""
    step = _Step._make(row)
    return step if step.last - step.first < RUN_MAX else step._replace(last=step.first + RUN_MAX - 1)


def _rows(
    connection: sqlite3.Connection,
    sender: int,
    step: _Step,
    place: _Place,
    newest: dict[tuple[int, int, int], int],
) -> Iterator[StatusRow]:
    """Give what a step says of those messages of which it is the newest status."""
    key = step.conversation, step.recipient
    seqs = [seq for seq in range(step.first, step.last + 1) if newest[(*key, seq)] == step.change]
    if not seqs:
        return
    is_run_of_sent = step.status == Status.SENT and step.first < step.last  # it keeps one time; each was told its own
    values = step.conversation, seqs[0], seqs[-1], sender
    for mid, seq, ts in connection.execute(_MESSAGES, values).fetchall():
        if newest[(*key, seq)] == step.change:
            yield StatusRow(
                step.change, step.conversation, *place[:3], step.recipient, step.status,
                ts if is_run_of_sent else step.ts, step.device, step.reason, mid,
                name_of(connection, sender, mid, seq) if place.is_whole else "",
            )  # fmt: skip


def _newest(connection: sqlite3.Connection, sender: int, steps: list[_Step]) -> dict[tuple[int, int, int], int]:
    """Return which change is the newest of each (conversation, recipient, seq) that these steps are about."""
    newest: dict[tuple[int, int, int], int] = {}
    for step in steps:
        for seq in range(step.first, step.last + 1):
            newest[step.conversation, step.recipient, seq] = step.change
    for conversation, first, last in _stretches(steps):
        values = conversation, first, last + RUN_MAX, last, sender, steps[0].change
        for recipient, begin, end, change in connection.execute(_NEWER, values):
            for seq in range(max(begin, first), min(end, last) + 1):
                key = conversation, recipient, seq
                if newest.get(key, change) < change:
                    newest[key] = change
    return newest


def _stretches(steps: list[_Step]) -> list[tuple[int, int, int]]:
    """Return (conversation, first, last) that cover all steps; what lies near is one stretch, which is read once."""
    found: list[tuple[int, int, int]] = []
    for conversation, first, last in sorted((step.conversation, step.first, step.last) for step in steps):
        if found and found[-1][0] == conversation and first <= found[-1][2] + RUN_MAX:
            found[-1] = conversation, found[-1][1], max(found[-1][2], last)
        else:
            found.append((conversation, first, last))
    return found
