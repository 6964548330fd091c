"""The search index: an SQLite file of its own with FTS5, filled from the messages after they were committed.

It holds nothing that the messages do not: lost or damaged, it is made again. How far it has come stands in the same
transaction as what it took, so a crash loses nothing. It lives in a thread of its own and never touches the committer.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.messages import GROUP, Conversation
from mesimqtt.store.committer import cut_log
from mesimqtt.store.history import EDITED, edited_of
from mesimqtt.store.integrity import CORRUPT
from mesimqtt.store.layout import INDEX_NAME
from mesimqtt.store.sifting import is_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)
TEXT_MAX = 64 * 1024  # bytes of a payload that are searched
TAKE_BYTES_MAX = 512 * 1024  # of texts in one transaction of the index, which SQLite holds in memory meanwhile
_VERSION = 1
_PRAGMAS = "journal_mode = WAL; synchronous = NORMAL; cache_size = -2000; journal_size_limit = 16777216; temp_store = 2"
_TABLES = (
    "CREATE TABLE mark (conversation_id INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL)",
    """CREATE VIRTUAL TABLE found USING fts5 (text, marks, columnsize = 0,
    tokenize = "unicode61 remove_diacritics 2")""",
    f"PRAGMA user_version = {_VERSION}",
)
_TYPE = re.compile(r"(?:^|&)type=(\d+)")
# Scripts that are written without spaces: each character is a word, and a searched word is a phrase of them.
_SPACELESS = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_TEXTS = f"""SELECT {EDITED}, c.id, c.kind, c.a, c.b, m.seq,
    m.kind = 0 AND m.state = 0 AND m.edits IS NULL AND m.recalls IS NULL FROM message m
    JOIN conversation c ON c.id = m.conversation_id
    LEFT JOIN message e ON e.id = m.edited_by AND e.state IN (0, {CORRUPT}) WHERE m.id = ?"""


class SearchIndex:
    """The index of one data folder. To be used in one thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / INDEX_NAME
        self._connection: sqlite3.Connection | None = None

    # ---- filling -------------------------------------------------------------------------------------------------

    def behind(self, main: sqlite3.Connection, after: int, limit: int) -> tuple[list[int], int]:
        """Return the conversations behind `after` that hold something new, and where to go on; -1: that were all."""
        marks = self._open()
        rows = main.execute("SELECT id, last_seq FROM conversation WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        looked_at = rows.fetchall()
        found = []
        for number, last_seq in looked_at:
            mark = _mark(marks, number)
            if mark > last_seq:  # of other data, such as before a backup was restored
                log.warning("search: %s belongs to other data; it is made again", self._path)
                self.remove()
                return [], 0
            if mark < last_seq:
                found.append(number)
        return found, looked_at[-1][0] if len(looked_at) == limit else -1

    def take(self, main: sqlite3.Connection, conversation: int, limit: int) -> tuple[int, bool]:
        """Take up to `limit` new messages of a conversation; return how many, and whether that was all."""
        connection = self._open()
        mark = _mark(connection, conversation)
        rows, size = [], 0
        mids = main.execute(
            "SELECT id FROM message WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (conversation, mark, limit),
        ).fetchall()
        for row in _texts(main, [mid for (mid,) in mids]):
            rows.append(row)
            size += len(row.text)
            if size > TAKE_BYTES_MAX:
                break
        last_seq = main.execute("SELECT last_seq FROM conversation WHERE id = ?", (conversation,)).fetchone()
        is_all = len(rows) < limit and size <= TAKE_BYTES_MAX
        upto = (last_seq[0] if last_seq else mark) if is_all and not rows else rows[-1].seq if rows else mark
        connection.execute("BEGIN")
        try:
            self._write(connection, rows)
            connection.execute("INSERT OR REPLACE INTO mark (conversation_id, seq) VALUES (?,?)", (conversation, upto))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return len(rows), is_all

    def follow(self, main: sqlite3.Connection, limit: int) -> tuple[int, int]:
        """Follow what was rewritten or removed; return how many changes, and the number of the last."""
        changes = main.execute("SELECT id, message_id FROM search_change ORDER BY id LIMIT ?", (limit,)).fetchall()
        if not changes:
            return 0, 0
        connection = self._open()
        connection.execute("BEGIN")
        try:
            for mid in dict.fromkeys(mid for _, mid in changes):
                connection.execute("DELETE FROM found WHERE rowid = ?", (mid,))
                # One that is not taken yet comes in its turn.
                rows = _texts(main, [mid])
                self._write(connection, [row for row in rows if row.seq <= _mark(connection, row.conversation)])
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return len(changes), int(changes[-1][0])

    @staticmethod
    def _write(connection: sqlite3.Connection, rows: Iterable[_Text]) -> None:
        texts = [(row.mid, row.text, row.marks) for row in rows if row.text]
        connection.executemany("INSERT INTO found (rowid, text, marks) VALUES (?,?,?)", texts)

    # ---- asking --------------------------------------------------------------------------------------------------

    def find(
        self, words: list[str], marks: list[list[str]], before: int, limit: int, *, is_beginning: bool
    ) -> list[int]:
        """Return the newest mids below `before` whose text has all words; `is_beginning`: the last as a beginning.

        Of each list of `marks` a message has one at least. Words are literal: they stand in quotes. A whole word is
        followed from the newest message on; a beginning costs as much as there are messages with such words.
        """
        quoted = [f'"{_spaced(word).replace(chr(34), chr(34) * 2)}"' for word in words]
        terms = [f"text : ({' AND '.join(quoted)}{' *' if is_beginning else ''})"]
        terms += [f"marks : ({' OR '.join(each)})" for each in marks]
        rows = self._open().execute(
            "SELECT rowid FROM found WHERE found MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
            (" AND ".join(terms), before, limit),
        )
        return [row[0] for row in rows]

    # ---- the file ------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        try:
            self._connection = self._connected()
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError and is_environment(error):  # a full disk is no damage
                raise
            log.warning("search: cannot use %s (%s); it is made again", self._path, error)
            self.remove()
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            for pragma in _PRAGMAS.split("; "):
                connection.execute(f"PRAGMA {pragma}")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != _VERSION:
                connection.execute("BEGIN")
                for statement in _TABLES:  # of another version: "already exists", and it is made again
                    connection.execute(statement)
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def shrink(self) -> None:
        """Move the log into the file and cut it, as far as the disk lets it."""
        with contextlib.suppress(sqlite3.Error):  # it is tried again
            if self._path.exists():
                cut_log(self._open())

    def remove(self) -> None:
        """Close and remove the file; the next use makes it again."""
        self.close()
        for name in (INDEX_NAME, f"{INDEX_NAME}-wal", f"{INDEX_NAME}-shm"):
            self._path.with_name(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def conversation_mark(conversation: object) -> str:
    """Return the mark of all messages of a conversation."""
    return f"c{conversation}"


def pair_mark(user: object) -> str:
    """Return the mark of all messages that a user sent to one, or got from one."""
    return f"u{user}"


class _Text(NamedTuple):
    """What the index takes of a message; `text` is '' where there is nothing to find."""

    mid: int
    conversation: int
    seq: int
    text: str
    marks: str


def _texts(main: sqlite3.Connection, mids: Iterable[int]) -> Iterator[_Text]:
    """Yield what messages say now; what is damaged says nothing."""
    for row in (row for mid in mids for row in main.execute(_TEXTS, (mid,)).fetchall()):
        number, kind, a, b, seq, is_text = row[-6:]
        message, edit = edited_of(main, row, Conversation(number, kind, a, b))
        marks = [conversation_mark(number), f"f{message.sender_id}", f"t{_type_of(message.params)}"]
        marks += [] if kind == GROUP else [pair_mark(a), pair_mark(b)]
        text = text_of((edit or message).payload) if is_text and not message.state else ""
        yield _Text(message.mid, number, seq, text, " ".join(marks))


def text_of(payload: bytes) -> str:
    """Return the text of a payload as it is searched; '' if it is none."""
    try:
        return _spaced(payload[:TEXT_MAX].decode("utf-8", "strict" if len(payload) <= TEXT_MAX else "ignore"))
    except UnicodeDecodeError:
        return ""


def words_of(text: str) -> list[str]:
    """Return the words of what somebody searches: what stands between spaces and holds a letter or a digit."""
    return [word for word in text.split() if any(map(str.isalnum, word))]


def last_change(main: sqlite3.Connection) -> int:
    """Return the number of the last change that the index has not followed; 0 if there is none."""
    row = main.execute("SELECT max(id) FROM search_change").fetchone()
    return int(row[0] or 0)


FORGET_CHANGES = "DELETE FROM search_change WHERE id <= ?"


def _mark(connection: sqlite3.Connection, conversation: int) -> int:
    row = connection.execute("SELECT seq FROM mark WHERE conversation_id = ?", (conversation,)).fetchone()
    return int(row[0]) if row else 0


def _spaced(text: str) -> str:
    return _SPACELESS.sub(r" \1 ", text.replace("\0", " "))


def _type_of(params: str) -> str:
    found = _TYPE.search(params)
    return found[1] if found else "0"
