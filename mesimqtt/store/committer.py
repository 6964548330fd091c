"""The committer: all that arrived while the last commit ran goes into the next transaction, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from mesimqtt.domain.errors import StoreError
from mesimqtt.store.batch import Batch, Function, Writer
from mesimqtt.store.sifting import is_environment
from mesimqtt.store.timing import Durations

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.store.database import Database
    from mesimqtt.store.recorder import Recorder
    from mesimqtt.store.runner import Runner

log = logging.getLogger(__name__)
T = TypeVar("T")
_IO_ERRORS_MAX = 3


class Health(StrEnum):
    """What the store can do at the moment."""

    OK = "ok"
    FULL = "disk-full"
    LOCKED = "locked"
    IO_ERROR = "io-error"
    FAULT = "fault"  # ours: something in a batch could not be written; it is dropped


class Committer:
    """Gathers one open Batch and writes it as soon as the last one is committed.

    `on_seal(batch)` is called on the loop just before a batch is written, so that states which changed
    often since the last commit are written once. `on_committed(batch)` and `on_failed(batch, health)`
    are called on the loop afterwards, and `on_refused(part)` for each message of a committed batch that can never be
    written, alone in its part. Acknowledgements and deliveries leave in these calls, never before.
    """

    def __init__(
        self,
        database: Database,
        runner: Runner,
        *,
        schedule: Callable[[Callable[[], None]], object],
        on_fatal: Callable[[str], None],
        batch_max: int,
        now: Callable[[], float],
    ) -> None:
        self._batch_max = batch_max
        self._now = now
        self.batch = Batch()
        self.health = Health.OK
        self.commits = 0
        self.durations = Durations()
        self.on_seal: Callable[[Batch], None] = _ignore
        self.on_committed: Callable[[Batch], None] = _ignore
        self.on_failed: Callable[[Batch, Health], None] = _ignore
        self.on_refused: Callable[[Batch], None] = _ignore
        self._database = database
        self._runner = runner
        self._schedule = schedule
        self._on_fatal = on_fatal
        self._writer = Writer()
        self._busy = False
        self._scheduled = False
        self._woken = False  # while a commit ran: what is sealed only at the next start does not show in `batch`
        self._lazy_since: float | None = None
        self._is_log_long = False
        self._io_errors = 0
        self._error: Exception | None = None
        self._idle: list[asyncio.Future[None]] = []

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is being written or waits to be."""
        is_asked = self._busy or self._scheduled or self._woken or self._lazy_since is not None
        return not is_asked and not self.batch

    def tell(self, recorder: Recorder | None) -> None:
        """Record for webhooks what each commit tells, from the next on; None: nothing is recorded, at no cost."""
        self._writer.recorder = recorder

    def wake(self) -> None:
        """Commit what the batch holds, at the end of this loop turn or after the commit that runs."""
        if self._busy:
            self._woken = True
        elif not self._scheduled:
            self._scheduled = True
            self._schedule(self._start)

    def lazily(self, now: float) -> None:
        """Note a change that may wait for the next commit (at most `ack_delay_s`, see `tick`)."""
        if self._lazy_since is None:
            self._lazy_since = now

    def tick(self, now: float, delay_s: float) -> None:
        """Commit what has waited long enough, or what a failure left behind."""
        if (self._lazy_since is not None and now - self._lazy_since >= delay_s) or (self.health is not Health.OK):
            self.wake()

    def row(self, sql: str, *values: Any) -> None:  # noqa: ANN401 - SQLite's own types
        """Add one row change that is tried again until it is committed."""
        self.batch.rows.append((sql, values))

    def run(self, call: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `call` inside the next transaction; the future is done after its COMMIT.

        Raises (from the future):
            StoreError: the transaction could not be committed; nothing of it was kept.

        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: T | BaseException) -> None:
            if future.done():
                return
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.call(call, done)
        return future

    def call(self, call: Callable[[sqlite3.Connection], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `call` inside the next transaction, then `done` on the loop with its result or with why there is none.

        As `run`, without a future: for what is no coroutine.
        """
        function = Function(call)
        self.batch.functions.append(function)

        def after(ok: bool) -> None:
            if function.error is not None:
                done(function.error)
            elif ok:
                done(function.result)
            else:
                done(StoreError(f"the store cannot write now ({self.health}); nothing was changed"))

        self.batch.after.append(after)
        self.wake()

    def shrink_log(self) -> None:
        """Move the write-ahead log into the database before the next commit, and cut it: on a full disk it is room."""
        self._is_log_long = True
        self.call(_ignore, _ignore)

    async def settle(self) -> None:
        """Wait until all that was given so far is committed, so that a reader sees it; at rest it is at once."""
        if self.is_idle:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.batch.after.append(lambda _: None if future.done() else future.set_result(None))
        self.wake()
        await future

    async def drain(self) -> None:
        """Wait until everything given so far is committed (or has failed)."""
        while not self.is_idle:
            future = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            self.wake()
            await future
            if self.health is not Health.OK and not self._busy and not self._scheduled:
                return

    def close(self) -> None:
        """Close the committer's thread and its connection; `drain` first."""
        self._runner.close(self._database.close_thread)

    def _start(self) -> None:
        self._scheduled = False
        if self._busy:
            return
        batch = self.batch
        self._lazy_since = None
        self._woken = False
        _guarded(self.on_seal, batch)
        if not batch:
            self._wake_idle()
            return
        self.batch = batch.split(self._batch_max)
        self._busy = True
        self._runner.submit(lambda: self._write(batch), lambda: self._done(batch))

    def _write(self, batch: Batch) -> None:
        began = self._now()
        try:
            connection = self._database.connection()
            if self._is_log_long:
                self._is_log_long = False
                cut_log(connection)
            self._writer.write(connection, batch)
        except Exception as error:  # noqa: BLE001 - reported on the loop; this thread must go on
            self._error = error
        else:
            self._error = None
            self.durations.add((self._now() - began) * 1000)

    def _done(self, batch: Batch) -> None:
        self._busy = False
        error = self._error
        if error is None:
            self._committed(batch)
        else:
            self._failed(batch, error)
        self._wake_idle()
        if (self.batch or self._woken) and error is None:
            # Not at the end of this turn but now: everything in it has waited for this commit already.
            self._start()

    def _committed(self, batch: Batch) -> None:
        self.commits += 1
        if self.health is not Health.OK:
            log.warning("store: writing again after %s", self.health)
        self.health = Health.OK
        self._io_errors = 0
        _guarded(self.on_committed, batch)
        for part in batch.refused:
            _guarded(self.on_refused, part)
        for call in batch.after:
            _guarded(call, True)

    def _failed(self, batch: Batch, error: Exception) -> None:
        before, self.health = self.health, health_of(error)
        if before is not self.health:
            log.error("store: cannot commit (%s: %s); nothing of it is acknowledged", self.health, error)
        self.batch.take_state(batch)
        _guarded(self.on_failed, batch, self.health)
        for call in batch.after:
            _guarded(call, False)
        if self.health is Health.IO_ERROR:
            self._io_errors += 1
            if self._io_errors == _IO_ERRORS_MAX:
                self._on_fatal(f"store: {error} three times in a row; check the disk, then start the server again")

    def _wake_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def cut_log(connection: sqlite3.Connection) -> None:
    """Move what a write-ahead log holds into its database and cut it to nothing; where that cannot be, it stays."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        log.info("store: the log cannot be cut now: %s", error)


def _guarded(call: Callable[..., None], *values: object) -> None:
    try:
        call(*values)
    except Exception:  # what the others wait for must still come
        log.exception("store: a call around a commit failed")


def health_of(error: Exception) -> Health:
    """Return what a failed write says of the store."""
    if not is_environment(error):
        return Health.FAULT
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE):  # the latter: no room for the WAL's index
        return Health.FULL
    code &= 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Health.LOCKED
    return Health.IO_ERROR


def _ignore(*_: object) -> None:
    """Do nothing: the committer before messaging is wired to it."""
