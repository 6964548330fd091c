"""The event loop of a server that is recorded or replayed: it has no sockets, no threads and no clock of its own.

Somebody else says what time it is, calls in, and lets it turn. What it does follows from that alone, so whoever does
the same again in the same order gets the same again, to the byte.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_RESOLUTION_S = 5e-7  # of a time in whole microseconds


class Core(asyncio.BaseEventLoop):
    """asyncio's own loop, turned from outside: `enter` calls in, `turn` runs what is ready and what is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0
        self.is_entered = False
        self._selector = self  # what BaseEventLoop waits with: here nobody waits
        self._clock_resolution = _RESOLUTION_S
        self._thread = threading.get_ident()

    def time(self) -> float:
        """Return monotonic seconds, as they are told from outside."""
        return self.now_us / 1_000_000

    @property
    def has_ready(self) -> bool:
        """Tell whether a turn would run something now."""
        return bool(self._ready)  # type: ignore[attr-defined] # BaseEventLoop's queue

    @property
    def due_s(self) -> float | None:
        """Return when the next timer is due, on our clock; None: none waits."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined] # BaseEventLoop's heap
        return timers[0].when() if timers else None

    def enter(self, now_us: int, call: Callable[..., Any], *about: Any) -> Any:  # noqa: ANN401 - whatever is called
        """Call something of the server at a time; it finds this loop as the running one."""
        before = asyncio._get_running_loop()  # noqa: SLF001 - asyncio's own word for who implements a loop
        self.now_us, self.is_entered = now_us, True
        asyncio._set_running_loop(self)  # noqa: SLF001 - likewise
        try:
            return call(*about)
        finally:
            asyncio._set_running_loop(before)  # noqa: SLF001 - likewise
            self.is_entered = False

    def turn(self) -> None:
        """Run what is ready now, and timers that are due; what they make ready waits for the next turn."""
        self._run_once()  # type: ignore[attr-defined] # BaseEventLoop's turn

    def select(self, _timeout: float | None) -> list[object]:
        """Return nothing: what comes from outside is called in."""
        return []

    def _process_events(self, _events: list[object]) -> None:
        """Do nothing, for there are none."""

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override] # noqa: ANN401 - its types are too new for 3.11
        """Run something soon, from this thread; another thread's moment would be nobody's to repeat."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("a recorded server takes nothing from a thread that nobody writes down")
        return self.call_soon(callback, *args, context=context)
