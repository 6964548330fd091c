"""The open store: database, committer, reader and ballast in one object."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mesimqtt.domain.errors import StoreError
from mesimqtt.store.committer import Committer, Health
from mesimqtt.store.database import Database, size_of
from mesimqtt.store.layout import BALLAST_NAME
from mesimqtt.store.runner import InlineRunner, ThreadRunner, nothing
from mesimqtt.store.search import SearchIndex
from mesimqtt.store.sifting import is_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.settings import Store as StoreSettings
    from mesimqtt.store.runner import Runner

log = logging.getLogger(__name__)
T = TypeVar("T")
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_BEAT = "INSERT OR REPLACE INTO heartbeat (id, beat_at) VALUES (1, ?)"


class Store:
    """What the layers above hold of the data folder. Open it on the loop's thread.

    Its blocking work has a thread for each kind; `inline`: it is done at once. Whoever has another `database` (one that
    loses power) or other runners (`make_runner`, asked with a thread's name) gives them: the proof does.
    """

    def __init__(
        self,
        folder: Path,
        settings: StoreSettings,
        *,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        now_ms: Callable[[], int],
        on_fatal: Callable[[str], None],
        inline: bool = False,
        database: Database | None = None,
        make_runner: Callable[[str], Runner] | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.now = now
        self.now_ms = now_ms
        self.where = str(folder.absolute())
        self.size: Callable[[], int] = lambda: size_of(folder)  # of the database on disk, in bytes
        self.damaged = 0  # queued and retained messages that were not what was stored
        self._database = database or Database(folder, cuts_log=settings.damaged_log == "cut")
        self.suspects = self._database.suspects  # mids of messages that were read and are not what was stored
        self.odd = self._database.odd  # places in conversations that are not what was stored (parties.py)
        self._database.open()
        self._make_checker = _runners(loop, inline=inline)  # how long a check takes is nothing that is recorded
        self._make_runner = make_runner or self._make_checker
        self._reader = self._make_runner("mesimqtt-reader")
        runner = self._make_runner("mesimqtt-committer")
        self.committer = Committer(
            self._database, runner, schedule=loop.call_soon, on_fatal=on_fatal, batch_max=settings.batch_max, now=now
        )
        self.search = SearchIndex(folder)
        self._indexer: Runner | None = None
        self._computer: Runner | None = None
        self._checker: Runner | None = None
        self._is_closing = False
        self._on_fatal = on_fatal
        self._failed_reads: list[Callable[[], None]] = []  # as many as there were askers: each waits for its one
        self._ballast = folder / BALLAST_NAME
        self._has_ballast = self._make_ballast()

    @property
    def read(self) -> sqlite3.Connection:
        """The loop thread's connection, for point reads by an index (some 10 µs; pages go to `read_later`)."""
        return self._database.connection()

    @property
    def health(self) -> Health:
        """What the store can do at the moment; without its ballast the disk is as good as full."""
        health = self.committer.health
        return health if health is not Health.OK or self.has_room() else Health.FULL

    def read_later(self, read: Callable[[sqlite3.Connection], T], done: Callable[[T], None]) -> None:
        """Run `read` in the reader's thread, then `done` with its result on the loop.

        A read that fails for the disk or a lock is logged and tried again by `retry_reads`, because somebody waits
        for its answer; one that fails for any other reason is a mistake of ours: logged, and never answered.
        """
        answer: list[T] = []
        is_to_retry = False

        def work() -> None:
            nonlocal is_to_retry
            is_to_retry = False
            try:
                answer.append(read(self._database.connection()))
            except sqlite3.Error as error:
                is_to_retry = is_environment(error)
                log.error("store: cannot read: %s", error)  # noqa: TRY400 - the text says all
            except Exception:  # this thread must go on
                log.exception("store: a read failed")

        def finish() -> None:
            if answer:
                done(answer[0])
            elif is_to_retry:
                self._failed_reads.append(submit)

        def submit() -> None:
            self._reader.submit(work, finish)

        submit()

    async def index(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on the search index in its own thread, in one snapshot of the data, and return its result.

        Raises:
            StoreError: the store or the index cannot be used now.

        """
        return await self._ask(self._index_runner(), work)

    def index_later(self, work: Callable[[sqlite3.Connection], T], done: Callable[[T | None], None]) -> None:
        """Run work on the search index in its own thread, then `done` with its result, None if it failed."""
        answer: list[T] = []

        def run() -> None:
            try:
                answer.append(work(self._database.connection()))
            except sqlite3.Error as error:  # it is done again
                log.warning("store: the search index cannot go on now: %s", error)
                self.search.close()
            except Exception:
                log.exception("store: the search index cannot go on now")
                self.search.close()

        self._index_runner().submit(run, lambda: done(answer[0] if answer else None))

    def _index_runner(self) -> Runner:
        if self._indexer is None:
            self._indexer = self._make_runner("mesimqtt-search")
        return self._indexer

    async def ask(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` in the reader's thread, in one snapshot of the data, and return its result.

        Raises:
            StoreError: the store cannot be read now. Whatever else `read` raises is raised here, too.

        """
        return await self._ask(self._reader, read)

    async def _ask(self, runner: Runner, read: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        found: list[T] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                connection = self._database.connection()
                connection.execute("BEGIN")
                try:
                    found.append(read(connection))
                finally:
                    connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001 - told to whoever asked
                failed.append(error)

        def finish() -> None:
            if future.done():
                return
            if not failed:
                future.set_result(found[0])
            elif isinstance(failed[0], sqlite3.Error) and is_environment(failed[0]):
                future.set_exception(StoreError(f"the store cannot be read now ({failed[0]}); try again"))
            else:
                future.set_exception(failed[0])

        runner.submit(work, finish)
        return await future

    async def compute(self, work: Callable[[], T]) -> T:
        """Run what needs a while and no data (a hash that is slow on purpose) beside the loop and beside all reads."""
        if self._computer is None:
            self._computer = self._make_runner("mesimqtt-computer")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        found: list[T] = []
        self._computer.submit(
            lambda: found.append(work()), lambda: None if future.done() else future.set_result(found[0])
        )
        return await future

    def retry_reads(self) -> None:
        """Try again the reads that failed since the last call; to be called about once a second."""
        failed, self._failed_reads = self._failed_reads, []
        for submit in failed:
            submit()

    def check(self, now: Callable[[], float]) -> None:
        """Check the structure of the whole database: at once for `check_s`, and if that is too short beside the work.

        `now` is the machine's own time, which no recording stands in for.

        Raises:
            StoreError: it is damaged. Found later it stops the server, as a failing disk does.

        """
        deadline = now() + self.settings.check_s
        if not self.settings.check_s:
            return
        try:  # who has a place where comes after the structure: nothing is written into a damaged one
            if self._database.check(lambda: now() > deadline) and self._database.put_right(lambda: now() > deadline):
                return
        except sqlite3.Error as error:
            log.warning("store: who has a place in which conversation cannot be looked at now: %s", error)
        log.info("store: the database is large; its structure is checked beside the work")
        self._checker = self._make_checker("mesimqtt-checker")
        failed: list[str] = []

        def work() -> None:
            try:
                # Table by table: as long as one is read the log cannot be emptied.
                for (table,) in self._database.connection().execute(_TABLES).fetchall():
                    if not self._database.check(lambda: self._is_closing, table=table):
                        return
                over, conversations, rows = self._database.survey(lambda: self._is_closing) or ((), (), ())
                self.odd.ends.extend(over)
                self.odd.strays.extend(conversations)
                self.odd.rows.extend(rows)
            except StoreError as error:
                failed.append(str(error))
            except sqlite3.Error as error:
                log.warning("store: the structure could not be checked: %s", error)

        def done() -> None:
            if failed:
                self._on_fatal(f"store: {failed[0]}")

        self._checker.submit(work, done)

    async def beat(self) -> float:
        """Commit a row, as a message would be; return how long that took in milliseconds.

        Raises:
            StoreError: it could not be committed.

        """
        began, now_ms = self.now(), self.now_ms()
        await self.committer.run(lambda connection: connection.execute(_BEAT, (now_ms,)).rowcount)
        return (self.now() - began) * 1000

    def has_room(self) -> bool:
        """Tell whether new messages may be accepted: after a full disk only once there is room for the ballast too."""
        if self._has_ballast or not self.settings.ballast_bytes:
            return True
        if shutil.disk_usage(self.folder).free < 2 * self.settings.ballast_bytes:
            return False
        self._has_ballast = self._make_ballast()
        return self._has_ballast

    def drop_ballast(self) -> None:
        """Give the reserve to the states (acknowledgements) that must still be written on a full disk."""
        if self._has_ballast:
            self._ballast.unlink(missing_ok=True)
            self._has_ballast = False

    def tick(self) -> None:
        """While the disk is full, give back the room that logs take: the messages' and the index'."""
        if not self.has_room():
            self.committer.shrink_log()
            self._index_runner().submit(self.search.shrink, nothing)

    async def close(self) -> None:
        """Commit what is left, checkpoint, close."""
        self._is_closing = True
        await self.committer.drain()
        self.committer.close()
        self._reader.close(self._database.close_thread)
        if self._indexer is not None:
            self._indexer.close(partial(self.close_thread, has_index=True))
        if self._computer is not None:
            self._computer.abandon()
        if self._checker is not None:
            self._checker.close(self._database.close_thread)
        try:
            self.read.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("store: no checkpoint at the end: %s", error)
        self._database.close(in_order=True)

    def close_thread(self, *, has_index: bool = False) -> None:
        """Close what the calling thread has opened here, for whoever made its runner; the index has one of its own."""
        if has_index:
            self.search.close()
        self._database.close_thread()

    def abandon(self) -> None:
        """Let go of the folder at once and commit nothing more, as a killed process does: for tests."""
        self.search.close()
        self._database.close()

    def _make_ballast(self) -> bool:
        size = self.settings.ballast_bytes
        noise = os.urandom(65_536)  # what no file system can make smaller
        try:
            if not size or (self._ballast.exists() and self._ballast.stat().st_size != size):
                self._ballast.unlink(missing_ok=True)  # of other settings
            if not size:
                return False
            if self._ballast.exists():
                return True
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                for left in range(size, 0, -len(noise)):
                    os.write(descriptor, noise[:left])
            finally:
                os.close(descriptor)
        except OSError as error:
            self._ballast.unlink(missing_ok=True)
            log.warning("store: no room for the ballast file of %d bytes: %s", size, error.strerror)
            return False
        return True


def _runners(loop: asyncio.AbstractEventLoop, *, inline: bool) -> Callable[[str], Runner]:
    return lambda name: InlineRunner() if inline else ThreadRunner(name, loop)
