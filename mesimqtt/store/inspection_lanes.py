"""Looks at what users and devices have of conversations, and whether each message still has a way to its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.findings import Finding, Findings, Level
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import NO_SEQ, MessageKind
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.domain.status import Status
from mesimqtt.store.inspection_base import REPORT, RESTORE, SHOWN_MAX, Look
from mesimqtt.store.messages import RUN_MAX

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from mesimqtt.store.inspection_base import View

_LATE_MS = 600_000  # a verdict so long overdue is not one that is just being given
_WEEK_MS = 7 * 86_400_000  # how far back the server looks for what expired while it was down (messaging/sweeper.py)
_LANES = """SELECT l.conversation_id, l.user_id, c.last_seq, l.floor, l.until, l.acked, l.acked_above, l.delivered,
    l.delivered_above, l.read, l.read_above, l.failed, l.gaps, coalesce(u.active, -1), c.kind = 0 AND c.a = c.b
    FROM lane l JOIN conversation c ON c.id = l.conversation_id LEFT JOIN user u ON u.id = l.user_id"""


def fault_of(upto: int, above: str, *, last: int) -> str:
    """Return what is wrong with a kept set of seqs, '' if nothing: its runs are in order, apart, and were given."""
    end = upto
    try:
        runs = [(int(first), int(final or first)) for first, _, final in (r.partition("-") for r in _runs(above))]
    except ValueError:
        return f"is no set of seqs: {above[:40]!r}"
    for first, final in runs:
        if first <= end + 1 or final < first:
            return f"is not in order: {upto}, {above[:40]!r}"
        end = final
    return f"goes up to {end}, the conversation to {last}" if end > last else ""


def _runs(above: str) -> list[str]:
    return above.split(",") if above else []


def cursors(connection: sqlite3.Connection, _: View) -> Findings:
    """Look whether what users and devices have acknowledged can be: well formed, and not beyond what was said."""
    faults = [*_lane_faults(connection), *_cursor_faults(connection)]
    if faults:
        more = f" and {len(faults) - SHOWN_MAX} more" if len(faults) > SHOWN_MAX else ""
        what = "; ".join(faults[:SHOWN_MAX]) + more
        means = "messages that come next in these conversations may be taken for delivered"
        yield Finding("cursors", Level.FAILURE, what, RESTORE, means)
    count, example = connection.execute(
        """SELECT count(*), min(d.client_id) FROM device d WHERE d.status_change >
        (SELECT coalesce(max(s.change), 0) FROM step s WHERE s.sender_id = d.user_id)"""
    ).fetchone()
    if count:
        what = f"{count} devices have more statuses than there are, such as {example!r}"
        yield Finding("cursors", Level.FAILURE, what, RESTORE, "they are not told what becomes of the next messages")


def _lane_faults(connection: sqlite3.Connection) -> Iterator[str]:
    for row in connection.execute(_LANES):
        number, user, last, floor, until = row[:5]
        sets = {"acked": row[5:7], "delivered": row[7:9], "read": row[9:11], "failed": (NO_SEQ, row[11])}
        sets["gaps"] = (0, row[12])
        for name, (upto, above) in sets.items():
            fault = fault_of(upto, above, last=last)
            if fault:
                yield f"{name} of user {user} in conversation {number} {fault}"
        if floor > last or (until is not None and not floor <= until <= last):
            yield f"user {user} is in conversation {number} from {floor} to {until}, which ends at {last}"


def _cursor_faults(connection: sqlite3.Connection) -> Iterator[str]:
    rows = connection.execute(
        """SELECT k.device_id, k.conversation_id, k.acked, k.acked_above, coalesce(c.last_seq, 0), d.id FROM cursor k
        LEFT JOIN conversation c ON c.id = k.conversation_id LEFT JOIN device d ON d.id = k.device_id"""
    )
    for device, number, upto, above, last, known in rows:
        fault = fault_of(upto, above, last=last)
        if fault:
            yield f"the cursor of device {device} in conversation {number} {fault}"
        elif known is None:
            yield f"a cursor in conversation {number} is of device {device}, which there is not"


# ---- every accepted message ends in a verdict (contract section 4) -------------------------------------------------

_WAITING = """SELECT count(*), min(id), coalesce(sum(deadline IS NULL AND (expires_at <> ts + ? OR expires_at < ?)), 0),
    coalesce(sum(coalesce(deadline, expires_at) < ?), 0) FROM message
    WHERE conversation_id = ? AND seq BETWEEN ? AND ? AND kind = 0 AND state = 0 AND (sender_id <> ? OR ?)"""


def verdicts(connection: sqlite3.Connection, view: View) -> Findings:
    """Look whether each message without a verdict has a living recipient, and a time at which somebody judges it."""
    dead = unseen = late = 0
    example = 0
    default_ms = view.expiry_default_s * 1000
    for row in connection.execute(_LANES).fetchall():
        for first, final in _undelivered(row):
            number, user, active, is_self = row[0], row[1], row[13], row[14]
            values = (default_ms, view.now_ms - _WEEK_MS, view.now_ms - _LATE_MS, number, first, final, user, is_self)
            count, mid, unjudged, overdue = connection.execute(_WAITING, values).fetchone()
            if active < 0 and count:
                dead, example = dead + count, example or mid
            if unjudged:
                unseen, example = unseen + unjudged, example or mid
            if view.is_live:
                late += overdue
    shown = f", such as {format_mid(example)}" if example else ""
    if dead:
        what = f"{dead} messages wait for users who were deleted{shown}"
        yield Finding("verdicts", Level.FAILURE, what, REPORT, "their senders are never told what became of them")
    if unseen:
        what = f"{unseen} messages wait without a deadline that the server looks at{shown}"
        means = "where nobody acknowledges them, their senders are not told that they expired"
        yield Finding("verdicts", Level.WARNING, what, "start the server once: it gives them a deadline", means)
    if late:
        what = f"{late} messages should have had their verdict for ten minutes and more"
        mend = "look at the server's log; restart it if nothing stands there"
        yield Finding("verdicts", Level.WARNING, what, mend, "their senders wait")
    yield from _work(connection)


def _undelivered(row: tuple[int | str | None, ...]) -> list[tuple[int, int]]:
    """Return the runs of seqs of a lane that nothing is known of: neither delivered, read nor failed.

    A lane that has ended is left out: what it holds is withdrawn by whoever ended it, also after a restart.
    """
    _, _, last, floor, until = row[:5]
    if until is not None or not isinstance(last, int):
        return []
    seqs = SeqSet(int(row[7] or 0), str(row[8]))
    seqs.fill(int(floor or 0))
    for upto, above in ((row[9], row[10]), (NO_SEQ, row[11]), (0, row[12])):
        found = SeqSet(int(upto or 0), str(above))
        if found.upto > 0:
            seqs.fill(found.upto)
        for first, final in found.runs:
            seqs.include(first, final)
    return seqs.missing(last)


def _work(connection: sqlite3.Connection) -> Findings:
    count, example = connection.execute(
        f"""SELECT count(*), min(m.id) FROM message m
        WHERE m.kind = {MessageKind.WORK:d} AND m.state = 0 AND m.flags & 1 AND NOT EXISTS
        (SELECT 1 FROM work w WHERE w.conversation_id = m.conversation_id AND w.seq = m.seq) AND NOT EXISTS
        (SELECT 1 FROM step s WHERE s.conversation_id = m.conversation_id AND s.sender_id = m.sender_id AND s.last_seq
        BETWEEN m.seq AND m.seq + {RUN_MAX} AND s.first_seq <= m.seq AND s.status > {Status.SENT:d})"""
    ).fetchone()
    if count:
        what = f"{count} pieces of work are neither taken nor waiting, such as {format_mid(example)}"
        yield Finding("verdicts", Level.FAILURE, what, REPORT, "nobody gets them, and their senders are not told")


LOOKS = (
    Look("cursors", cursors, "what users and devices have acknowledged is well formed, and was said"),
    Look("verdicts", verdicts, "each message without a verdict has a recipient and a deadline"),
)
