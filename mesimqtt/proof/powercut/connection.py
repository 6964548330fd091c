"""apsw's connection in the shape of sqlite3's, as far as the store uses it: the same SQL, the same errors."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import apsw

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Iterator, Sequence

# As CPython's sqlite3 translates SQLite's primary result codes (Modules/_sqlite/util.c).
_OPERATIONAL = {
    apsw.SQLITE_ERROR, apsw.SQLITE_PERM, apsw.SQLITE_ABORT, apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED, apsw.SQLITE_READONLY,
    apsw.SQLITE_INTERRUPT, apsw.SQLITE_IOERR, apsw.SQLITE_FULL, apsw.SQLITE_CANTOPEN, apsw.SQLITE_PROTOCOL,
    apsw.SQLITE_EMPTY, apsw.SQLITE_SCHEMA,
}  # fmt: skip
_CLASSES: dict[int, type[sqlite3.Error]] = {
    **dict.fromkeys(_OPERATIONAL, sqlite3.OperationalError),
    apsw.SQLITE_INTERNAL: sqlite3.InternalError,
    apsw.SQLITE_NOTFOUND: sqlite3.InternalError,
    apsw.SQLITE_TOOBIG: sqlite3.DataError,
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_MISUSE: sqlite3.InterfaceError,
    apsw.SQLITE_RANGE: sqlite3.InterfaceError,
}
_AUTOCHECKPOINT = "PRAGMA wal_autocheckpoint = "
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")


def translated(error: Exception) -> Exception:
    """Return sqlite3's error for one of apsw's."""
    if not isinstance(error, apsw.Error):
        if isinstance(error, UnicodeDecodeError):
            return sqlite3.OperationalError("Could not decode to UTF-8")
        return sqlite3.ProgrammingError(str(error)) if isinstance(error, TypeError | ValueError) else error
    if isinstance(error, apsw.BindingsError):
        return sqlite3.ProgrammingError(str(error))
    code = getattr(error, "extendedresult", 0) or getattr(error, "result", apsw.SQLITE_ERROR)
    if code & 0xFF == apsw.SQLITE_NOMEM:
        return MemoryError()
    found = _CLASSES.get(code & 0xFF, sqlite3.DatabaseError)(str(error) or "disk I/O error")
    found.sqlite_errorcode = code
    found.sqlite_errorname = str(apsw.mapping_result_codes.get(code & 0xFF, "SQLITE_ERROR"))
    return found


class ApswCursor:
    """What `execute` returns."""

    def __init__(self, cursor: apsw.Cursor, check: Callable[[], None], rowcount: int, lastrowid: int) -> None:
        self._cursor = cursor
        self._check = check
        self.rowcount = rowcount
        self.lastrowid = lastrowid

    def fetchone(self) -> Any:  # noqa: ANN401 - a row
        """Return the next row, None after the last."""
        with _speaking_sqlite3(self._check):
            return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        with _speaking_sqlite3(self._check):
            return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        with _speaking_sqlite3(self._check):
            yield from self._cursor


class _speaking_sqlite3:  # noqa: N801 - used as a verb; a class, because every statement goes through it
    """Raise sqlite3's errors for apsw's, and PowerCut for whatever SQLite makes of a disk without power."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._check()
        if isinstance(error, Exception):
            raise translated(error) from error


class ApswConnection:
    """A connection whose files are those of a VFS of ours. One per file, without shared memory.

    `check` raises PowerCut when the power is gone: SQLite may have taken that for another error, or for none.
    """

    def __init__(self, path: str, vfs: str, check: Callable[[], None]) -> None:
        self.suspects: deque[int]
        self.text_factory: Any = str
        self._check = check
        with _speaking_sqlite3(check):
            self._connection = apsw.Connection(path, vfs=vfs)
            # A VFS in Python has no shared memory: the WAL's index is in this process, and the file ours alone.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._checkpoint_pages = 1000
        self._connection.set_wal_hook(self._committed)

    def _committed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """Move the log into the database, as SQLite does after a COMMIT; that this fails is no failure of the COMMIT.

        It is done here because apsw raises what a VFS raises, also where SQLite itself goes on.
        """
        if pages >= self._checkpoint_pages > 0:
            with contextlib.suppress(apsw.Error):
                connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    @property
    def in_transaction(self) -> bool:
        """Tell whether BEGIN was, and COMMIT or ROLLBACK not yet."""
        return bool(self._connection.in_transaction)

    @property
    def total_changes(self) -> int:
        """Return how many rows were changed since it was opened."""
        return self._connection.total_changes()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> ApswCursor:
        """Run one statement."""
        connection = self._connection
        if sql.startswith(_AUTOCHECKPOINT):
            self._checkpoint_pages = int(sql.removeprefix(_AUTOCHECKPOINT))
            sql = "SELECT 1"
        cursor = connection.cursor()
        with _speaking_sqlite3(self._check):
            cursor.execute(sql, values)
        rowcount = connection.changes() if sql.lstrip()[:7].upper().startswith(_WRITES) else -1
        return ApswCursor(cursor, self._check, rowcount, connection.last_insert_rowid())

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> ApswCursor:
        """Run one statement for each row; `rowcount` is of all of them."""
        connection, count = self._connection, 0
        cursor = connection.cursor()
        with _speaking_sqlite3(self._check):
            for row in rows:
                cursor.execute(sql, row)
                count += connection.changes()
        return ApswCursor(cursor, self._check, count, connection.last_insert_rowid())

    def create_function(
        self, name: str, count: int, function: Callable[..., Any], *, deterministic: bool = False
    ) -> None:
        """Give SQL a function."""
        self._connection.create_scalar_function(name, function, count, deterministic=deterministic)

    def close(self) -> None:
        """Close, whatever the disk says."""
        with contextlib.suppress(apsw.Error):  # of a disk that is gone: nothing is asked of it any more
            self._connection.close(True)
