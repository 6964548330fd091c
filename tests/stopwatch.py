"""A stopwatch for what a test demands "within a second": it does not count what a busy machine takes away."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PROC = Path("/proc")
_SHARE_MIN = 0.1  # of the time of the clock: threads that wait side by side wait for more than there is


class Stopwatch:
    """Runs from its making.

    On a quiet machine it shows the time of the clock on the wall. Where other processes want the processors too, what
    this process and those that it started had to wait for one does not count: what a test demands of the server is
    the same on a laptop and on a machine that runs three suites at once. Whoever starts one for every message names
    the `threads` that matter (`threads_of`).
    """

    def __init__(self, threads: Sequence[Path] = ()) -> None:
        self._threads = threads
        self._began = time.monotonic()
        self._waited = self._now()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made; a tenth of them at least, so that whatever hangs is late in the end."""
        took = time.monotonic() - self._began
        waited = sum(max(0, each - self._waited.get(name, 0)) for name, each in self._now().items())  # 0 of what ended
        return max(_SHARE_MIN * took, took - waited / 1e9)

    def _now(self) -> dict[str, int]:
        return {each.name: waited_ns(each) for each in self._threads} if self._threads else waited()


def seen_running_s(is_running: Callable[[], bool]) -> float:
    """Wait until a process below this one has ended; return how long it was seen running, as a stopwatch shows it."""
    watch, shown = Stopwatch(), 0.0
    while is_running():  # what has ended has no figures any more
        shown = watch.elapsed_s
        time.sleep(0.005)
    return shown


def threads_of(pid: int) -> list[Path]:
    """Return the threads of a process."""
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def waited_ns(thread: Path) -> int:
    """Return how long a thread has waited for a processor; 0 where it has just ended, or nobody counts."""
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def waited() -> dict[str, int]:
    """Return how long each thread of this process and of those below it has waited for a processor, in nanoseconds."""
    found, pids = {}, [os.getpid()]
    for pid in pids:
        for thread in threads_of(pid):
            found[thread.name] = waited_ns(thread)
            with contextlib.suppress(OSError):
                pids += map(int, (thread / "children").read_text().split())
    return found
