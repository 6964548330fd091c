"""Stores that hold commits back or fail: runners and connections in the place of the real ones."""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Any


class HeldRunner:
    """Runs work at once, or holds it until `release`: `hold()` before it is written, `hold_answers()` after."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Any, Any]] = deque()
        self._mode = "run"

    def submit(self, work, done):
        if self._mode == "hold":
            self.jobs.append((work, done))
            return
        work()
        if self._mode == "answers":
            self.jobs.append((None, done))
        else:
            done()

    def close(self, last):
        last()

    def hold(self):
        self._mode = "hold"

    def hold_answers(self):
        self._mode = "answers"

    def release(self):
        """Go on, with what was held first."""
        self._mode = "run"
        self.step(len(self.jobs))

    def step(self, count=1):
        """Run the oldest held jobs."""
        for _ in range(min(count, len(self.jobs))):
            work, done = self.jobs.popleft()
            if work is not None:
                work()
            done()


class FaultyDatabase:
    """A database whose COMMIT fails while `code` is set (an SQLite error code)."""

    def __init__(self, database):
        self._database = database
        self.code = 0
        self.failures = 0

    def connection(self):
        return _FaultyConnection(self, self._database.connection())

    def close_thread(self):
        self._database.close_thread()

    def __getattr__(self, name):
        return getattr(self._database, name)

    def error(self):
        """Return the error of the fault in force."""
        error = sqlite3.OperationalError(
            "database or disk is full" if self.code == sqlite3.SQLITE_FULL else "disk I/O error"
        )
        error.sqlite_errorcode = self.code
        self.failures += 1
        return error


class _FaultyConnection:
    """A connection that passes everything on but a COMMIT that must fail."""

    def __init__(self, database, connection):
        self._faults = database
        self._connection = connection

    def execute(self, sql, *args):
        if sql == "COMMIT" and self._faults.code:
            raise self._faults.error()
        return self._connection.execute(sql, *args)

    def __getattr__(self, name):
        return getattr(self._connection, name)
