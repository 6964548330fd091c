"""The store's threads, in an order that can be had again: each job runs alone, and what ran when is written down."""

from __future__ import annotations

import concurrent.futures
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Protocol

from mesimqtt.store.runner import ThreadRunner

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    import threading
    from collections.abc import Callable

    from mesimqtt.record.recorder import Recorder
    from mesimqtt.store.runner import Work

COMMITTER = "mesimqtt-committer"
COMPUTER = "mesimqtt-computer"
SEARCH = "mesimqtt-search"
NAMES = (COMMITTER, "mesimqtt-reader", SEARCH, COMPUTER)


def number_of(name: str) -> int:
    """Return the number of a thread's name in a recording. Raises ValueError for one that nobody writes down."""
    return NAMES.index(name)


class Pin:
    """Holds what the loop's own reads see while a commit runs: the moment at which it becomes visible is nobody's."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self._is_held = False

    def hold(self, name: str) -> None:
        """From now on see what there is now."""
        if name == COMMITTER and self.connection is not None and not self.connection.in_transaction:
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            self._is_held = True

    def release(self, name: str) -> None:
        """See what was committed."""
        if name == COMMITTER and self.connection is not None and self._is_held:
            self._is_held = False
            self.connection.execute("COMMIT")


class RecordedRunner:
    """A thread of the store whose jobs are written down."""

    def __init__(self, recorder: Recorder, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._recorder = recorder
        self._name = name
        self._number = number_of(name)
        self._jobs = 0
        self._thread = ThreadRunner(name, loop)

    def submit(self, work: Work, done: Work) -> None:
        """Queue `work`; `done` is called in the core after it."""
        recorder = self._recorder
        recorder.pin.hold(self._name)
        self._jobs += 1
        job, at = self._jobs, recorder.core.now_us
        self._thread.submit(partial(self._run, work, job, at), partial(recorder.done, self._name, job, done))

    def _run(self, work: Work, job: int, at: int) -> None:
        recorder = self._recorder
        recorder.job.at = at
        drawn: list[bytes] = []
        recorder.job.drawn = drawn
        # The computer touches no data, and takes its time.
        with recorder.lock if self._name != COMPUTER else contextlib.nullcontext():
            work()
            recorder.ran.append((self._number, job, drawn))

    def abandon(self) -> None:
        """Let the thread end after what was submitted, without waiting for it."""
        self._thread.abandon()

    def close(self, last: Work) -> None:
        """Run `last` as the last job and join the thread."""
        self._recorder.pin.release(self._name)
        self._thread.close(last)


class Clocked(Protocol):
    """Whose time stands still for a job."""

    job: threading.local
    pin: Pin

    @property
    def job_us(self) -> int:
        """Return what time it is for what is submitted now."""


class ReplayedRunner:
    """A thread that works when it is told: at the point at which the recorded one had done it."""

    def __init__(self, clock: Clocked, name: str) -> None:
        self._clock = clock
        self.name = name
        self._jobs = 0
        self._waiting: dict[int, tuple[Work, Work, int]] = {}
        self._done: dict[int, Work] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(1, name)

    def submit(self, work: Work, done: Work) -> None:
        """Keep `work` until `run`, and `done` until `answer`."""
        self._clock.pin.hold(self.name)
        self._jobs += 1
        self._waiting[self._jobs] = work, done, self._clock.job_us

    def run(self, job: int, drawn: list[bytes]) -> bool:
        """Do a job, in its thread, on what it has drawn; False if there is none of that number."""
        found = self._waiting.pop(job, None)
        if found is None:
            return False
        work, done, at = found
        self._done[job] = done
        self._pool.submit(self._at, work, at, drawn).result()
        return True

    def answer(self, job: int) -> Callable[[], None] | None:
        """Return what is to be called after a job that was done; None if there is none."""
        return self._done.pop(job, None)

    def _at(self, work: Work, at: int, drawn: list[bytes]) -> None:
        self._clock.job.at = at
        self._clock.job.drawn = iter(drawn)
        work()

    def abandon(self) -> None:
        """End after what was done, without waiting."""
        self._pool.shutdown(wait=False)

    def close(self, last: Work) -> None:
        """Run `last` and end the thread; what waits is never done."""
        self._clock.pin.release(self.name)
        self._waiting.clear()
        self._pool.submit(last).result()
        self._pool.shutdown()
