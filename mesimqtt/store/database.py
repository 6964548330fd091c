"""One SQLite file, opened by one process: lock, pragmas, version check (contract section 7)."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import quote

from peewee import PeeweeException, SqliteDatabase

from mesimqtt.domain.errors import InUseError, StoreError
from mesimqtt.domain.ids import made_at_ms
from mesimqtt.files import irregular, kind_of
from mesimqtt.store import damage, ends, integrity, mending, migrations, model_base, parties
from mesimqtt.store.integrity import readable
from mesimqtt.store.layout import DATABASE_FILES, DATABASE_NAME, LOCK_NAME, MOVE_AWAY, RESTORING_NAME, irregular_files
from mesimqtt.store.transaction import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Surveyed = tuple[list[tuple[str, str]], list[int], list[mending.Found]]

log = logging.getLogger(__name__)
FILE_NAME = DATABASE_NAME
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_CHECK_STEPS = 100_000  # of SQLite, between two looks at the clock
_SUSPECTS_MAX = 100_000  # damaged messages that were read and not looked into yet
APPLICATION_ID = 0x4D65_7369  # "Mesi"
# synchronous=FULL: NORMAL loses acknowledged commits at power loss (589 of 7 240 in a simulation, FULL none).
_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "wal_autocheckpoint": 2000,
    "cache_size": -32_000,
    "busy_timeout": 1000,
    "temp_store": 2,
    "journal_size_limit": 64 * 1024 * 1024,  # the log grows while somebody reads for long (a backup), and shrinks again
}


class Connection(sqlite3.Connection):
    """A connection that takes note of damaged messages: `suspects` is the store's list of them (integrity.py).

    `odd` is what was told of conversations and lanes (parties.py).
    """

    suspects: deque[int]
    odd: parties.Odd


def connect(path: Path) -> Connection:
    """Open a connection to the file, without pragmas. Raises sqlite3.Error."""
    return sqlite3.connect(path, timeout=1, isolation_level=None, factory=Connection)


class _Connections(SqliteDatabase):
    """peewee's database on connections that somebody else makes."""

    def __init__(self, path: Path, make: Callable[[Path], Connection], suspects: deque[int], odd: parties.Odd) -> None:
        super().__init__(str(path))
        self._path, self._make, self._suspects, self._odd = path, make, suspects, odd

    def _connect(self) -> Connection:
        connection = self._make(self._path)
        connection.suspects, connection.odd = self._suspects, self._odd
        connection.text_factory = readable
        integrity.prepare(connection)
        try:
            for name, value in _PRAGMAS.items():
                connection.execute(f"PRAGMA {name} = {value}")
        except BaseException:
            connection.close()
            raise
        return connection


class Database:
    """The open database. Each thread that asks has a connection of its own (peewee keeps them apart).

    `make` opens one: SQLite as Python brings it, unless a proof puts another disk below it (proof/powercut).
    `cuts_log`: a damaged log is used up to the damage, and what was committed behind it is lost.
    """

    def __init__(self, folder: Path, make: Callable[[Path], Connection] = connect, *, cuts_log: bool = False) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.suspects: deque[int] = deque(maxlen=_SUSPECTS_MAX)
        self._lock: int | None = None
        self._make = make
        self._cuts_log = cuts_log
        self.odd = parties.Odd()
        self.peewee = _Connections(self.path, make, self.suspects, self.odd)

    def open(self) -> None:
        """Lock the folder, check the version, migrate.

        Raises:
            StoreError: another process has the folder, the data is newer, or it is not ours.

        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the data folder {self.folder}: {error.strerror}; choose another --data"
            ) from None
        self._lock = lock(self.folder)
        try:
            _check_restored(self.folder)
            check_files(self.folder)
            self._look()
            self._create_private()
            is_new = self._is_new()
            model_base.database.initialize(self.peewee)
            connection = self.connection()
            if is_new:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrations.migrate(connection, self.path)
        except (sqlite3.Error, OSError) as error:
            self.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise _damaged(self.path, str(error)) from None
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"cannot open {self.path}: {reason}") from None
        except StoreError:
            self.close()
            raise

    def check(self, stop: Callable[[], bool], *, table: str = "") -> bool:
        """Check the structure of the file (`table`: of one table, and less of it); False: `stop` said so meanwhile.

        Raises:
            StoreError: it is damaged.

        """
        connection = self.connection()
        connection.set_progress_handler(stop, _CHECK_STEPS)
        try:
            how = f'quick_check("{table}")' if table else "integrity_check(1)"
            found = connection.execute(f"PRAGMA {how}").fetchone()[0]
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                return False
            found = str(error)
        finally:
            connection.set_progress_handler(None, 0)
        if found != "ok":
            raise _damaged(self.path, found)
        return True

    def put_right(self, stop: Callable[[], bool]) -> bool:
        """Mend what can be mended of who is who (mending.py), and who has a place in what (parties.py).

        False: `stop` said so before. Raises sqlite3.Error.
        """
        connection = self.connection()
        found = self.survey(stop)
        if found is None:
            return False
        over, conversations, rows = found
        if over or conversations or rows:
            with transaction(connection):
                mending.put_right(connection, rows)  # of a number with a checksum it knows what it was
                ends.put_right(connection, over)
                parties.put_right(connection, conversations)
        return True

    def survey(self, stop: Callable[[], bool]) -> Surveyed | None:
        """Look at numbers at their end, who has a place in what, last seqs, who is who; None: `stop` said so meanwhile.

        What is found is for `put_right` of ends.py, parties.py and mending.py. Raises sqlite3.Error.
        """
        connection = self.connection()
        connection.set_progress_handler(stop, _CHECK_STEPS)
        try:
            return ends.survey(connection), parties.survey(connection), mending.survey(connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                return None
            raise
        finally:
            connection.set_progress_handler(None, 0)

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection. Raises sqlite3.Error if it cannot be opened."""
        try:
            connection: sqlite3.Connection = self.peewee.connection()  # type: ignore[no-untyped-call] # peewee's
        except PeeweeException as error:  # everybody else knows SQLite's own errors
            raise error.__context__ if isinstance(error.__context__, sqlite3.Error) else sqlite3.Error(error) from None
        return connection

    def close_thread(self) -> None:
        """Close this thread's connection; the next call of `connection` opens a new one."""
        self.peewee.close()

    def close(self, *, in_order: bool = False) -> None:
        """Close this thread's connection and give the folder free; `in_order`: everything is in the file itself."""
        self.close_thread()
        if in_order and self._lock is not None and not self._log.exists():
            damage.keep_sum(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{FILE_NAME}-wal")

    def _look(self) -> None:
        """Look at what the last process left, before SQLite does."""
        if became := damage.take_sum(self.path):
            log.warning("store: %s %s. %s", self.path, became, damage.ADVICE[became])
        if not self._log.exists():
            return
        index = self.path.with_name(f"{FILE_NAME}-shm")
        found = damage.in_log(damage.head_of(self._log), damage.head_of(index)[:4096] if index.exists() else b"")
        if found is None:
            return
        if not self._cuts_log:
            raise StoreError(
                f"{self.path} is damaged: {found}. What was committed behind it would be lost: look at the disk, and "
                "restore a backup; or, to go on with what stands before it, set store.damaged_log: cut"
            )
        log.error("store: %s is damaged: %s; what was committed behind it is lost, as configured", self.path, found)

    def _create_private(self) -> None:
        # SQLite gives -wal and -shm the mode of the database file, so this one line keeps all three private.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.close(descriptor)

    def _is_new(self) -> bool:
        # By a connection of its own: our pragmas would already change another program's file.
        with contextlib.closing(self._make(self.path)) as connection:
            found = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and found != APPLICATION_ID:
            raise StoreError(f"{self.path} is an SQLite file of another program; choose another --data")
        return not tables


def _damaged(path: Path, found: str) -> StoreError:
    return StoreError(f"{path} is damaged ({' '.join(found.split())}); look at the disk, and restore a backup")


def check_files(folder: Path) -> None:
    """Raise StoreError if something stands in a data folder for which a server would wait, or read without end."""
    for path, kind in irregular_files(folder):
        raise StoreError(f"cannot open {path}: {irregular(path, kind)}; {MOVE_AWAY}")


def _check_restored(folder: Path) -> None:
    """Raise StoreError if a restore into a folder was interrupted: a new database must not take its place."""
    unfinished = folder / RESTORING_NAME
    if not unfinished.exists():
        return
    try:
        unfinished.rmdir()  # empty: everything was in its place
    except OSError:
        raise StoreError(interrupted(folder)) from None


def interrupted(folder: Path) -> str:
    """Return the sentence that a restore into a folder was interrupted, with what to do."""
    return (
        f"a restore into {folder} was interrupted; do it again: mesimqtt restore DIR --data {folder}, "
        f"or remove {folder / RESTORING_NAME} to begin with no data"
    )


def lock(folder: Path) -> int:
    """Take a data folder for this process; return the descriptor that holds it until it is closed.

    Raises:
        StoreError: another process has it, or nothing can be written there.

    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot write in the data folder {folder}: {error.strerror}; choose another --data") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InUseError(f"{folder} is in use by another mesimqtt server; stop it or choose another --data") from None
    return descriptor


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a database file for reading only, beside a server that has it or on a stopped folder.

    It takes no lock that a server could wait for. Raises sqlite3.Error if there is no such file: SQLite would wait for
    ever for what is a pipe or a device.
    """
    check_regular(path)
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5, isolation_level=None)
    connection.text_factory = readable
    return connection


def check_regular(path: Path) -> None:
    """Raise sqlite3.Error where a database, or what SQLite has beside it, is a pipe, a device or a folder."""
    for each in (path.with_name(path.name + name.removeprefix(FILE_NAME)) for name in DATABASE_FILES):
        if kind := kind_of(each):
            raise sqlite3.OperationalError(irregular(each, kind))


@contextlib.contextmanager
def sentence(path: Path) -> Iterator[None]:
    """Say in a sentence what a database is that cannot be used although it opens: what it holds makes no sense.

    Raises:
        StoreError: it cannot be read.

    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise StoreError(f"{path} cannot be written, for the disk is full; make room, and start again") from error
        raise StoreError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it is damaged, or the disk fails; look at both, "
            "and restore a backup"
        ) from error


def size_of(folder: Path) -> int:
    """Return how many bytes the database has on disk, with what is not yet moved from its log into it."""
    size = 0
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        try:
            size += (folder / name).stat().st_size
        except FileNotFoundError:
            continue
    return size


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds the data folder."""
    path = folder / LOCK_NAME
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def newest_mid(path: Path) -> int:
    """Return when the newest message of a database file was made, in milliseconds since 1970; 0 if there is none.

    Opens the file for reading only, beside a server that has it; what cannot be read holds no message.
    """
    try:
        with contextlib.closing(open_reader(path)) as connection:
            newest = connection.execute("SELECT max(id) FROM message").fetchone()[0]
    except sqlite3.Error:
        return 0
    return made_at_ms(newest) if newest else 0
