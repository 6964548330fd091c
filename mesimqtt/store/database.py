"""One SQLite file, opened by one process: lock, pragmas, version check (contract section 7)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import quote

from peewee import PeeweeException, SqliteDatabase

from mesimqtt.domain.errors import InUseError, StoreError
from mesimqtt.domain.ids import made_at_ms
from mesimqtt.store import migrations, model_base

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE_NAME = "mesimqtt.db"
LOCK_NAME = "lock"
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
}


class Connection(sqlite3.Connection):
    """A connection that takes note of damaged messages: `suspects` is the store's list of them (integrity.py)."""

    suspects: deque[int]


def connect(path: Path) -> Connection:
    """Open a connection to the file, without pragmas. Raises sqlite3.Error."""
    return sqlite3.connect(path, timeout=1, isolation_level=None, factory=Connection)


class _Connections(SqliteDatabase):
    """peewee's database on connections that somebody else makes."""

    def __init__(self, path: Path, make: Callable[[Path], Connection], suspects: deque[int]) -> None:
        super().__init__(str(path))
        self._path, self._make, self._suspects = path, make, suspects

    def _connect(self) -> Connection:
        connection = self._make(self._path)
        connection.suspects = self._suspects
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
    """

    def __init__(self, folder: Path, make: Callable[[Path], Connection] = connect) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.suspects: deque[int] = deque(maxlen=_SUSPECTS_MAX)
        self._lock: int | None = None
        self._make = make
        self.peewee = _Connections(self.path, make, self.suspects)

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
        self._lock = self._locked()
        try:
            self._create_private()
            is_new = self._is_new()
            model_base.database.initialize(self.peewee)
            connection = self.connection()
            if is_new:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrations.migrate(connection, self.path)
        except (sqlite3.Error, OSError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"cannot open {self.path}: {reason}") from None
        except StoreError:
            self.close()
            raise

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

    def close(self) -> None:
        """Close this thread's connection and give the folder free."""
        self.close_thread()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _locked(self) -> int:
        path = self.folder / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(
                f"cannot write in the data folder {self.folder}: {error.strerror}; choose another --data"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise InUseError(
                f"{self.folder} is in use by another mesimqtt server; stop it or choose another --data"
            ) from None
        return descriptor

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


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a database file for reading only, beside a server that has it or on a stopped folder.

    It takes no lock that a server could wait for. Raises sqlite3.Error if there is no such file.
    """
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5, isolation_level=None)


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
