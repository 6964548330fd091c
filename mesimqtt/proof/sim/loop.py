"""An event loop in virtual time: time jumps to what is due next; what is due at once runs in the seed's order."""

from __future__ import annotations

import asyncio
import heapq
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_EPOCH_S = 1000.0  # what a monotonic clock says at the begin
_TURNS_MAX = 1_000_000  # of the loop in one millisecond: more is a loop that never ends


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop on a clock of whole milliseconds, without sockets and threads.

    `post` is for what comes from outside of it: bytes, and threads that have done their work. All that is posted for
    the same millisecond is one turn of the loop, as what one `epoll` finds is, in an order that the seed draws. While
    `coarse_ms` is more than 1 the loop is as a busy one: what is due is found that much later, and more of it at once.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.ms = 0
        self.coarse_ms = 1
        self.posted = 0
        self.errors: list[str] = []
        self._random = random
        self._posts: list[tuple[int, float, int, Callable[[], None]]] = []
        self._turns = 0
        self._clock_resolution = 1e-6  # a timer is due in its own millisecond
        self._selector = self  # what BaseEventLoop waits with: it is we who know what comes next
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        """Return monotonic seconds."""
        return _EPOCH_S + self.ms / 1000

    def post(self, delay_ms: float, call: Callable[[], None]) -> None:
        """Have `call` run, from outside of the loop, after so many milliseconds."""
        self.posted += 1
        due = self.ms + max(0, ceil(delay_ms))
        if self.coarse_ms > 1:
            due += -due % self.coarse_ms
        heapq.heappush(self._posts, (due, self._random.random(), self.posted, call))

    def select(self, timeout: float | None) -> list[Callable[[], None]]:
        """Return what is posted for the next moment at which anything is due; BaseEventLoop asks once a turn."""
        posts = self._posts
        if timeout == 0:
            self._turns += 1
            if self._turns > _TURNS_MAX:
                raise RuntimeError("the loop goes round and round, and time stands still")
        else:
            self._jump(timeout)
        if not posts or posts[0][0] > self.ms:
            return []
        due = []
        while posts and posts[0][0] <= self.ms:
            due.append(heapq.heappop(posts)[3])
        return due

    def _jump(self, timeout: float | None) -> None:
        """Let time pass up to what is due next."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined] # BaseEventLoop's heap
        times = [self._posts[0][0]] if self._posts else []
        if timers:
            times.append(ceil((timers[0].when() - _EPOCH_S) * 1000 - 1e-3))
        if not times:
            raise RuntimeError(f"nothing will ever happen again (timeout {timeout})")
        self.ms = max(self.ms, min(times))
        self._turns = 0

    def _process_events(self, events: list[Callable[[], None]]) -> None:
        for call in events:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the run is told, and ends as a failure
                self.call_exception_handler({"message": f"{call!r} raised", "exception": error})

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, asyncio.CancelledError):
            return
        where = ""
        trace = error.__traceback__ if error is not None else None
        while trace is not None:
            where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
            trace = trace.tb_next
        self.errors.append(f"{context.get('message')}: {error!r} at {where}")

    def _write_to_self(self) -> None:
        """Wake nobody: there is no other thread."""
