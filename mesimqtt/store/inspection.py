"""Whether a database holds what it promises: the file, the schema, what belongs together, checksums (`mesimqtt check`).

Every look is a reading statement or a few in one snapshot: a server that writes meanwhile is neither held up nor seen
half-way. The looks at conversations stand in inspection_lanes.py and inspection_steps.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.domain.findings import Finding, Findings, Level
from mesimqtt.domain.ids import format_mid, made_at_ms
from mesimqtt.store import (
    ends,
    inspection_lanes,
    inspection_steps,
    integrity,
    messages,
    migrations,
    quarantine,
    seals,
    wills,
)
from mesimqtt.store.inspection_base import REPORT, RESTORE, SHOWN_MAX, Look, View
from mesimqtt.store.parties import CONVERSATION_COLUMNS, LANE_COLUMNS, strays, without_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FUTURE_MS = 60_000


def inspect(connection: sqlite3.Connection, view: View, *, quick: bool = False) -> Iterator[Finding]:
    """Look at everything (`quick`: at what costs little); yield what was found, and one OK where nothing was.

    Each look has a snapshot of its own, so that the log of a running server is not held for longer than one takes.
    """
    found = list(form(connection, quick=quick))
    yield from found
    if is_ours(found):  # of another version, or not ours: what follows would ask for what is not there
        yield from consistency(connection, view, quick=quick)


def form(connection: sqlite3.Connection, *, quick: bool = False) -> Findings:
    """Look at the file and the schema alone."""
    yield from structure(connection, quick=quick)
    try:
        yield from list(schema(connection))
    except sqlite3.Error as error:
        yield Finding("schema", Level.FAILURE, f"cannot be read: {error}", RESTORE, "no command can read the data")


def is_ours(found: Iterable[Finding]) -> bool:
    """Tell from what `form` found whether there is a schema of this version, so that one can look at what is in it."""
    return all(each.level is Level.OK for each in found if each.check == "schema")


def consistency(connection: sqlite3.Connection, view: View, *, quick: bool = False) -> Findings:
    """Look at what is in the tables alone, which must be those of this version."""
    for look in looks():
        if look.is_quick or not quick:
            yield from _looked(connection, view, look)


def looks() -> tuple[Look, ...]:
    """Return all looks at the data, in the order in which they are made."""
    return (
        Look("sequences", sequences, "every conversation is dense, from its first seq to its last", is_quick=True),
        Look("sessions", sessions, "every kept session is ahead of what waits for it", is_quick=True),
        Look("clock", clock, "no message is from the future", is_quick=True),
        Look("references", references, "whatever belongs to something else has it"),
        *inspection_lanes.LOOKS,
        *inspection_steps.LOOKS,
        Look(
            "checksums",
            checksums,
            "every message, place in a conversation, user, token, right and will is as it was stored",
        ),
    )


def _looked(connection: sqlite3.Connection, view: View, look: Look) -> Findings:
    try:
        connection.execute("BEGIN")
        found = list(look.find(connection, view))
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        # A damaged page can turn a number into text: what cannot be read is a finding like any other.
        found = [Finding(look.name, Level.FAILURE, f"cannot be looked at: {error}", RESTORE, "the data is damaged")]
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("COMMIT")
    yield from found or [Finding(look.name, Level.OK, look.passed)]


def structure(connection: sqlite3.Connection, *, quick: bool) -> Findings:
    """Have SQLite look whether the file's pages, tables and indexes fit together (`quick`: not the indexes)."""
    pragma = "quick_check" if quick else "integrity_check"
    try:
        said = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}({SHOWN_MAX})")]
    except sqlite3.Error as error:
        said = [str(error)]
    if said == ["ok"]:
        yield Finding("file", Level.OK, f"SQLite's {pragma} finds nothing wrong")
        return
    for each in said:
        text = " ".join(each.split())
        yield Finding("file", Level.FAILURE, text, RESTORE, "the database file is damaged: messages may be unreadable")


def schema(connection: sqlite3.Connection) -> Findings:
    """Compare the schema with the one that this program makes."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > migrations.VERSION:
        what = f"the data has version {version}, this program knows {migrations.VERSION}"
        yield Finding("schema", Level.FAILURE, what, "install the newer mesimqtt again", "no command can read it")
        return
    if version < migrations.VERSION:
        what = f"the data has version {version}; the next start of the server brings it to {migrations.VERSION}"
        mend = "make a backup, then start the server, and check again"
        yield Finding("schema", Level.WARNING, what, mend, "the file alone was looked at, not what is in it")
        return
    wanted, found = _objects(_fresh()), _objects(connection)
    for name in sorted(wanted.keys() - found.keys()):
        yield Finding("schema", Level.FAILURE, f"{name} is missing", RESTORE, "somebody else has changed the file")
    for name in sorted(found.keys() - wanted.keys()):
        yield Finding("schema", Level.FAILURE, f"{name} is not ours", RESTORE, "somebody else has changed the file")
    if wanted.keys() == found.keys():
        yield Finding("schema", Level.OK, f"version {version}, complete")


def _fresh() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection, Path(":memory:"))
    return connection


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT type || ' ' || name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return dict(rows.fetchall())


# ---- what belongs together ---------------------------------------------------------------------------------------

# table, column -> table whose id it names, and which values name nothing
_REFERENCES = (
    ("message", "conversation_id", "conversation", ""),
    ("message", "sender_id", "user", "0"),
    ("lane", "conversation_id", "conversation", ""),
    ("lane", "user_id", "user", ""),
    ("cursor", "conversation_id", "conversation", ""),
    ("device", "user_id", "user", ""),
    ("token", "user_id", "user", ""),
    ("member", "user_id", "user", ""),
    ("member", "group_id", '"group"', ""),
    ("pin", "group_id", '"group"', ""),
    ("step", "sender_id", "user", "0"),
    ("step", "conversation_id", "conversation", "0"),
    ("step", "recipient_id", "user", "0"),
    ("hidden", "user_id", "user", ""),
    ("given_up", "user_id", "user", ""),
    ("hidden", "message_id", "message", ""),
    ("vanishing", "message_id", "message", ""),
    ("work", "message_id", "message", ""),
    ("scheduled", "sender_id", "user", ""),
    ("tie", "user_id", "user", ""),
    ("subscription", "session_id", "session", ""),
    ("queued", "session_id", "session", ""),
    ("incoming", "session_id", "session", ""),
    ("outbox", "webhook_id", "webhook", ""),
    ("dead_letter", "webhook_id", "webhook", ""),
)


def references(connection: sqlite3.Connection, _: View) -> Findings:
    """Look for rows that belong to something which is not there."""
    for table, column, parent, nothing in _REFERENCES:
        but = f"AND t.{column} <> {nothing}" if nothing else ""
        count, example = connection.execute(
            f"SELECT count(*), min(t.{column}) FROM {table} t"
            f" WHERE NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.id = t.{column}) {but}"
        ).fetchone()
        if count:
            name = parent.strip('"')
            what = f"{count} rows of {table} belong to a {name} that there is not, such as {example}"
            yield Finding("references", Level.FAILURE, what, RESTORE, "rows of that table are missing")
    yield from _pairs(connection)
    for table, column in ends.survey(connection):
        what = f"column {column} of {table} has come to its end, which no server counts to"
        mend = "look at the disk; start the server, which takes the highest bits away again"
        yield Finding("references", Level.FAILURE, what, mend, "what needs the next number is refused")


def _pairs(connection: sqlite3.Connection) -> Findings:
    count, example = connection.execute(
        """SELECT count(*), min(c.id) FROM conversation c WHERE c.kind = 0 AND
        (SELECT count(*) FROM lane l WHERE l.conversation_id = c.id AND l.user_id IN (c.a, c.b)) <> 1 + (c.a <> c.b)"""
    ).fetchone()
    if count:
        what = f"{count} conversations of two lack what one of them has of it, such as {example}"
        yield Finding("references", Level.FAILURE, what, RESTORE, "messages in them reach nobody")


def sequences(connection: sqlite3.Connection, _: View) -> Findings:
    """Look for seqs that are missing without a note of retention, or beyond the last one given."""
    rows = connection.execute(
        """SELECT c.id, c.last_seq, count(m.seq), coalesce(min(m.seq), 1), coalesce(max(m.seq), 0),
        (SELECT coalesce(sum(g.last_seq - g.first_seq + 1), 0) FROM gap g WHERE g.conversation_id = c.id),
        (SELECT coalesce(max(g.last_seq), 0) FROM gap g WHERE g.conversation_id = c.id)
        FROM conversation c LEFT JOIN message m ON m.conversation_id = c.id GROUP BY c.id"""
    )
    holes, both, beyond = [], [], []
    for conversation, last, count, first, highest, removed, removed_last in rows:
        if max(highest, removed_last) > last or first < 1:
            beyond.append(conversation)
        elif count + removed < last:
            holes.append((conversation, last - count - removed))
        elif count + removed > last:
            both.append(conversation)
    if holes:
        some = ", ".join(f"{missing} of conversation {number}" for number, missing in holes[:SHOWN_MAX])
        what = f"messages are missing that nobody has removed: {some}"
        yield Finding("sequences", Level.FAILURE, what, RESTORE, "messages that were acknowledged are lost")
    if both:
        some = ", ".join(map(str, both[:SHOWN_MAX]))
        what = f"messages are noted as removed, and are there, in conversations {some}"
        yield Finding("sequences", Level.FAILURE, what, REPORT, "history says that it is not complete where it is")
    if beyond:
        some = ", ".join(map(str, beyond[:SHOWN_MAX]))
        what = f"conversations hold seqs beyond the last one given: {some}"
        yield Finding("sequences", Level.FAILURE, what, RESTORE, "the next message in them cannot be stored")


def sessions(connection: sqlite3.Connection, _: View) -> Findings:
    """Look for kept sessions that would give a number, and with it a packet id, a second time."""
    count, example = connection.execute(
        """SELECT count(*), min(s.user) FROM session s
        WHERE s.next_n <= (SELECT max(q.n) FROM queued q WHERE q.session_id = s.id)"""
    ).fetchone()
    if count:
        what = f"{count} kept sessions would use numbers of waiting messages again, such as one of {example}"
        yield Finding("sessions", Level.FAILURE, what, RESTORE, "a waiting message would be overwritten")


def clock(connection: sqlite3.Connection, view: View) -> Findings:
    """Look for messages from the future: the clock went back since."""
    newest = messages.last_mid(connection)
    if newest and made_at_ms(newest) > view.now_ms + _FUTURE_MS:
        ahead = (made_at_ms(newest) - view.now_ms) // 1000
        what = f"message {format_mid(newest)} is of {ahead} s from now: the clock went back"
        yield Finding("clock", Level.FAILURE, what, "timedatectl set-ntp true", "expiries and tokens end too late")


# ---- checksums ---------------------------------------------------------------------------------------------------


def checksums(connection: sqlite3.Connection, _: View) -> Findings:
    """Compare what is stored to be read back later with the checksum that it got in its commit."""
    apart = new = 0
    examples: list[str] = []
    untold: list[str] = []
    for mid, is_known in integrity.damaged_messages(connection):
        apart, new = apart + is_known, new + (not is_known)
        if len(examples) < SHOWN_MAX:
            examples.append(format_mid(mid))
        if is_known and not quarantine.has_end(connection, mid):
            untold.append(format_mid(mid))
    if new:
        what = f"{new} messages are not what was stored: {', '.join(examples)}"
        means = "the disk or something on it has altered them; the server sets them apart when they are read"
        yield Finding("checksums", Level.FAILURE, what, f"look at the disk; {RESTORE}", means)
    if apart:
        what = f"{apart} damaged messages are set apart{'' if new else ': ' + ', '.join(examples)}"
        means = "nobody gets them; the sender of each was told so, unless it had been delivered before"
        if untold:
            what += f"; {len(untold)} of them without a status after `sent`: {', '.join(untold[:SHOWN_MAX])}"
            means = "nobody gets them; whose those without a status are, or who got them before, their rows do not say"
        mend = "look at the disk; an older backup may hold them whole: mesimqtt restore DIR --data ANOTHER"
        yield Finding("checksums", Level.WARNING, what, mend, means)
    yield from _places(connection)
    yield from _sealed(connection)
    for what, count in (
        ("messages that wait for their time", _scheduled(connection)),
        ("queued messages of free topics", _letters(connection, *_QUEUED)),
        ("retained messages", _letters(connection, *_RETAINED)),
        ("wills", wills.damaged(connection)),
    ):
        if count:
            means = "the disk or something on it has altered them; the server drops them when it reads them"
            yield Finding(
                "checksums", Level.FAILURE, f"{count} {what} are not what was stored", f"look at the disk; {RESTORE}",
                means,
            )  # fmt: skip


def _places(connection: sqlite3.Connection) -> Findings:
    """Compare who takes part in what, and since when, with what was stored of it."""
    found = connection.execute(f"SELECT {CONVERSATION_COLUMNS} FROM conversation c")
    damaged = [row[1] for row in found if not integrity.conversation_holds(*row)]
    if damaged:
        what = f"between whom {len(damaged)} conversations are is not what was stored: {_some(damaged)}"
        means = "the server gives nobody anything of them"
        yield Finding("checksums", Level.FAILURE, what, f"look at the disk; {RESTORE}", means)
    if thirds := strays(connection):
        what = f"a third one has a place in {len(thirds)} conversations of two: {_some(thirds)}"
        mend = "look at the disk; start the server, which gives them back to whose they are"
        yield Finding("checksums", Level.FAILURE, what, mend, "the server gives him nothing of it")
    if without := without_place(connection):
        some = _some([f"{user} in {number}" for number, user in without])
        what = f"{len(without)} members of groups have no place in the conversation: user {some}"
        mend = f"look at the disk; remove these users from the group and add them again, or {RESTORE}"
        yield Finding("checksums", Level.FAILURE, what, mend, "they get nothing of it")
    rows = connection.execute(
        f"SELECT {LANE_COLUMNS} FROM lane l JOIN conversation c ON c.id = l.conversation_id WHERE c.kind = 1"
    )
    places = [f"{row[1]} in {row[0]}" for row in rows if not integrity.lane_holds(row[5], *row[:5])]
    if places:
        what = f"{len(places)} places of users in groups are not what was stored: user {_some(places)}"
        mend = f"look at the disk; remove these users from the group and add them again, or {RESTORE}"
        yield Finding("checksums", Level.FAILURE, what, mend, "the server gives them nothing of it")


def _sealed(connection: sqlite3.Connection) -> Findings:
    """Compare who everybody is, and what he may do, with what was stored of it."""
    for table in seals.SEALED:
        found = [seals.what_of(table, row) for row in seals.damaged(connection, table)]
        if found:
            what = f"{len(found)} rows of {table} are not what was stored: {_some(found)}"
            mend = f"look at the disk; start the server, which puts one flipped bit right; or {RESTORE}"
            yield Finding("checksums", Level.FAILURE, what, mend, f"the server does without them: {seals.then(table)}")


def _some(found: Sequence[object]) -> str:
    return ", ".join(map(str, found[:SHOWN_MAX])) + (" …" if len(found) > SHOWN_MAX else "")


_QUEUED = ("topic", "session_id, n", "queued WHERE released = 0")
_RETAINED = ("CAST(topic AS BLOB)", "0, 0", "retained")


def _scheduled(connection: sqlite3.Connection) -> int:
    rows = connection.execute(f"SELECT {integrity.SCHEDULED_COLUMNS}, checksum FROM scheduled WHERE due IS NOT NULL")
    return sum(not integrity.scheduled_holds(row[:-1], row[-1]) for row in rows)


def _letters(connection: sqlite3.Connection, topic: str, numbers: str, table: str) -> int:
    rows = connection.execute(f"SELECT checksum, {topic}, payload, properties, qos, expires_at, {numbers} FROM {table}")
    return sum(not integrity.letter_holds(*row) for row in rows)
