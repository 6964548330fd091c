"""Where the store's blocking work runs: a thread of its own in production, inline in tests and offline commands."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio


Work = Callable[[], None]


class Runner(Protocol):
    """Runs `work`, then calls `done` on the loop."""

    def submit(self, work: Work, done: Work) -> None:
        """Run `work` away from the loop; `work` must not raise. Then call `done` on the loop."""

    def abandon(self) -> None:
        """End after what was submitted, without waiting for it."""

    def close(self, last: Work) -> None:
        """Run `last` after all that was submitted, and wait for it."""


def nothing() -> None:
    """Do no work."""


class InlineRunner:
    """Runs everything at once in the caller's thread: deterministic, for tests and offline commands."""

    def submit(self, work: Work, done: Work) -> None:
        """Run both now."""
        work()
        done()

    def abandon(self) -> None:
        """Nothing waits here."""

    def close(self, last: Work) -> None:
        """Run `last` now."""
        last()


class ThreadRunner:
    """One thread that works in order."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Work, Work | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work, done: Work) -> None:
        """Queue `work`; `done` is called on the loop after it."""
        self._jobs.put((work, done))

    def abandon(self) -> None:
        """Let the thread end after what was submitted, without waiting for it."""
        self._jobs.put((nothing, None))

    def close(self, last: Work) -> None:
        """Run `last` as the last job and join the thread."""
        self._jobs.put((last, None))
        self._thread.join()

    def _work(self) -> None:
        while True:
            work, done = self._jobs.get()
            work()
            if done is None:
                return
            try:
                self._loop.call_soon_threadsafe(done)
            except RuntimeError:  # the loop is closed: nobody waits for the answer any more
                return
