"""Stores that hold commits back or fail: runners and connections in the place of the real ones."""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.store.database import Database


class HeldRunner:
    """Runs work at once, or holds it until `release`: `hold()` before it is written, `hold_answers()` after."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Callable[[], None] | None, Callable[[], None]]] = deque()
        self._mode = "run"

    def submit(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Run both, or keep what is held."""
        if self._mode == "hold":
            self.jobs.append((work, done))
            return
        work()
        if self._mode == "answers":
            self.jobs.append((None, done))
        else:
            done()

    def abandon(self) -> None:
        """Nothing waits here."""

    def close(self, last: Callable[[], None]) -> None:
        """Run `last` now."""
        last()

    def hold(self) -> None:
        """Keep work that comes from now on."""
        self._mode = "hold"

    def hold_answers(self) -> None:
        """Do work that comes from now on, and keep its answer."""
        self._mode = "answers"

    def release(self) -> None:
        """Go on, with what was held first."""
        self._mode = "run"
        self.step(len(self.jobs))

    def step(self, count: int = 1) -> None:
        """Run the oldest held jobs."""
        for _ in range(min(count, len(self.jobs))):
            work, done = self.jobs.popleft()
            if work is not None:
                work()
            done()


class FaultyDatabase:
    """A database whose COMMIT, or what else begins with `at`, fails while `code` is set (an SQLite error code)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.code = 0
        self.at = "COMMIT"
        self.failures = 0

    def connection(self) -> _FaultyConnection:
        """Return this thread's connection."""
        return _FaultyConnection(self, self._database.connection())

    def close_thread(self) -> None:
        """Close this thread's connection."""
        self._database.close_thread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def error(self) -> sqlite3.OperationalError:
        """Return the error of the fault in force."""
        error = sqlite3.OperationalError(
            "database or disk is full" if self.code == sqlite3.SQLITE_FULL else "disk I/O error"
        )
        error.sqlite_errorcode = self.code
        self.failures += 1
        return error


class _FaultyConnection:
    """A connection that passes everything on but what must fail."""

    def __init__(self, database: FaultyDatabase, connection: sqlite3.Connection) -> None:
        self._faults = database
        self._connection = connection

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if self._faults.code and sql.startswith(self._faults.at):
            raise self._faults.error()
        return self._connection.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
