"""What is too old: rules of how long messages are kept, finding what is over, and removing it in small transactions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.ids import first_mid_at
from mesimqtt.domain.keeping import EVERY_GROUP, Rule
from mesimqtt.domain.messages import GROUP, PAIR, MessageKind
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.domain.status import Status
from mesimqtt.store import work

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.keeping import Rules

SET_PROGRESS = "INSERT OR REPLACE INTO progress (name, value) VALUES (?,?)"
_TYPE = re.compile(r"(?:^|&)type=(\d+)")
_OLD = """SELECT m.id, m.conversation_id, m.seq, m.sender_id, m.kind, m.params, m.ts, m.expires_at, length(m.payload),
    c.kind, c.a, c.b, m.edits FROM message m JOIN conversation c ON c.id = m.conversation_id
    WHERE m.id > ? AND m.id < ? ORDER BY m.id LIMIT ?"""
_CIDS = """SELECT sender_id, cid, message_id < ?
    AND NOT EXISTS (SELECT 1 FROM scheduled WHERE id = cid.message_id)
    AND NOT EXISTS (SELECT 1 FROM message WHERE id = cid.message_id AND ts >= ?)
    FROM cid WHERE (sender_id, cid) > (?, ?) ORDER BY sender_id, cid LIMIT ?"""


class Old(NamedTuple):
    """A message that is to be removed."""

    mid: int
    conversation_id: int
    seq: int
    size: int


class Look(NamedTuple):
    """What a slice of looking found: what is to go, how many must stay because they wait, and where to go on."""

    old: list[Old]
    waiting: int
    after: int | None


def rules(connection: sqlite3.Connection) -> list[Rule]:
    """Return the rules that operations have set."""
    return [Rule(*row) for row in connection.execute("SELECT group_id, type, keep_s FROM retention ORDER BY 1, 2")]


def set_rule(connection: sqlite3.Connection, rule: Rule) -> None:
    """Set a rule, in the place of one for the same."""
    connection.execute("INSERT OR REPLACE INTO retention (group_id, type, keep_s) VALUES (?,?,?)", rule)


def drop_rule(connection: sqlite3.Connection, group_id: int, message_type: int) -> bool:
    """Remove a rule; tell whether there was one."""
    cursor = connection.execute("DELETE FROM retention WHERE group_id = ? AND type = ?", (group_id, message_type))
    return cursor.rowcount == 1


def progress(connection: sqlite3.Connection, name: str) -> int:
    """Return how far a work has come; 0 if it has not begun."""
    row = connection.execute("SELECT value FROM progress WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


# ---- messages ------------------------------------------------------------------------------------------------------


def look(connection: sqlite3.Connection, kept: Rules, after: int, now_ms: int, limit: int) -> Look:
    """Look at up to `limit` messages behind the mid `after`; `now_ms` is the time that they are judged by."""
    last = first_mid_at(now_ms - kept.shortest_s * 1000) if kept.shortest_s else 0
    rows = connection.execute(_OLD, (after, last, limit)).fetchall()
    old, waiting = [], 0
    lanes = _Lanes(connection)
    for mid, conversation, seq, sender, kind, params, ts, expires_at, size, is_group, a, b, edits in rows:
        keep_s = kept.keep_s(a if is_group == GROUP else EVERY_GROUP, _type_of(params))
        if not keep_s or ts + keep_s * 1000 > now_ms:
            continue
        if edits is not None and connection.execute("SELECT 1 FROM message WHERE id = ?", (edits,)).fetchone():
            continue  # it holds the text of a message that is still there
        recipient = 0 if is_group == GROUP else a if b == sender else b
        is_owed = kind != MessageKind.EVENT and expires_at > now_ms
        if is_owed and kind == MessageKind.WORK:
            is_owed = work.is_open(connection, conversation, seq)
            waiting += is_owed
            old += [] if is_owed else [Old(mid, conversation, seq, size)]
        elif is_owed and not lanes.have(conversation, PAIR if recipient else GROUP, recipient, seq):
            waiting += 1
        else:
            old.append(Old(mid, conversation, seq, size))
    return Look(old, waiting, rows[-1][0] if len(rows) == limit else None)


class _Lanes:
    """What the recipients of conversations have, read once per slice."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._acked: dict[tuple[int, int], SeqSet] = {}

    def have(self, conversation: int, kind: int, user: int, seq: int) -> bool:
        """Tell whether the recipient, or every member of a group, has acknowledged a message."""
        key = (conversation, user)
        acked = self._acked.get(key)
        if acked is None:
            if kind == GROUP:  # what stands above a member's watermark waits until that has passed it
                row = self._connection.execute(
                    "SELECT min(acked), '' FROM lane WHERE conversation_id = ? AND until IS NULL", (conversation,)
                ).fetchone()
                row = row if row[0] is not None else (2**62, "")
            else:
                row = self._connection.execute(
                    "SELECT acked, acked_above FROM lane WHERE conversation_id = ? AND user_id = ?", key
                ).fetchone() or (0, "")
            acked = self._acked[key] = SeqSet(*row)
        return seq in acked


def remove(connection: sqlite3.Connection, old: list[Old]) -> int:
    """Remove messages with what belongs to them, and note the gaps; return how many statuses went with them."""
    mids = [(each.mid,) for each in old]
    for table in ("hidden", "vanishing"):
        connection.executemany(f"DELETE FROM {table} WHERE message_id = ?", mids)
    connection.executemany("DELETE FROM message WHERE id = ?", mids)
    by_conversation: dict[int, SeqSet] = {}
    for each in old:
        by_conversation.setdefault(each.conversation_id, SeqSet(-1)).include(each.seq, each.seq)
    steps = 0
    for conversation, seqs in by_conversation.items():
        for first, last in seqs.runs:
            steps += _forget_steps(connection, conversation, *_widen(connection, conversation, first, last))
    return steps


def _widen(connection: sqlite3.Connection, conversation: int, first: int, last: int) -> tuple[int, int]:
    """Note a gap, one with those that it touches; return the whole."""
    touching = connection.execute(
        "SELECT first_seq, last_seq FROM gap WHERE conversation_id = ? AND first_seq <= ? AND last_seq >= ?",
        (conversation, last + 1, first - 1),
    ).fetchall()
    for start, end in touching:
        connection.execute("DELETE FROM gap WHERE conversation_id = ? AND first_seq = ?", (conversation, start))
        first, last = min(first, start), max(last, end)
    connection.execute(
        "INSERT INTO gap (conversation_id, first_seq, last_seq) VALUES (?,?,?)", (conversation, first, last)
    )
    return first, last


def _forget_steps(connection: sqlite3.Connection, conversation: int, first: int, last: int) -> int:
    """Forget the statuses of messages that are gone; a sender's newest stays, because his next number follows it."""
    return connection.execute(
        """DELETE FROM step WHERE conversation_id = ? AND last_seq BETWEEN ? AND ? AND first_seq >= ?
        AND change < (SELECT max(change) FROM step n WHERE n.sender_id = step.sender_id)""",
        (conversation, first, last, first),
    ).rowcount


# ---- what else grows old -------------------------------------------------------------------------------------------

Key = tuple[int, int | str]


def old_cids(connection: sqlite3.Connection, after: Key, before_ms: int, limit: int) -> tuple[list[Key], Key | None]:
    """Return those of up to `limit` cids behind `after` whose message was sent before a time, and where to go on.

    A scheduled message has the mid of its acceptance, but is sent when it is due.
    """
    rows = connection.execute(_CIDS, (first_mid_at(before_ms), before_ms, *after, limit)).fetchall()
    found = [(row[0], row[1]) for row in rows if row[2]]
    return found, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None


def forget_cids(connection: sqlite3.Connection, cids: list[Key], before_ms: int) -> int:
    """Forget cids, unless one stands for a newer message by now; return how many."""
    before_mid = first_mid_at(before_ms)
    return sum(
        connection.execute(
            "DELETE FROM cid WHERE sender_id = ? AND cid = ? AND message_id < ?", (*key, before_mid)
        ).rowcount
        for key in cids
    )


def old_steps(connection: sqlite3.Connection, after: Key, before_ms: int, limit: int) -> tuple[list[Key], Key | None]:
    """Return those of up to `limit` statuses behind `after` that say SENT and are older, and where to go on.

    That a message is sent, its row says as long as it is there. A sender's newest status stays.
    """
    rows = connection.execute(
        """SELECT sender_id, change, status, ts, conversation_id FROM step
        WHERE (sender_id, change) > (?, ?) ORDER BY sender_id, change LIMIT ?""",
        (*after, limit),
    ).fetchall()
    found: list[Key] = []
    for row, following in zip(rows, [*rows[1:], None], strict=False):
        is_newest = following is None or following[0] != row[0]
        if row[2] == Status.SENT and row[3] < before_ms and row[4] and not is_newest:
            found.append((row[0], row[1]))
    return found, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None


def forget_steps(connection: sqlite3.Connection, steps: list[Key]) -> int:
    """Forget statuses; return how many."""
    return sum(connection.execute("DELETE FROM step WHERE sender_id = ? AND change = ?", key).rowcount for key in steps)


def forget_tokens(connection: sqlite3.Connection, before_s: int, limit: int) -> int:
    """Forget up to `limit` tokens that expired before a time: they let nobody in, with a row or without."""
    return connection.execute(
        "DELETE FROM token WHERE jti IN (SELECT jti FROM token WHERE expires_at < ? LIMIT ?)", (before_s, limit)
    ).rowcount


def count_tokens(connection: sqlite3.Connection, before_s: int) -> int:
    """Return how many tokens expired before a time."""
    row = connection.execute("SELECT count(*) FROM token WHERE expires_at < ?", (before_s,)).fetchone()
    return int(row[0])


def _type_of(params: str) -> int:
    found = _TYPE.search(params)
    return int(found[1]) if found else 0
