"""The event loop: uvloop where it is installed, asyncio elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# Connections are many and live long, messages are freed by reference counting: looking for cycles at the
# usual pace would only walk over all connections again and again, each time holding up every client.
_GC_THRESHOLDS = (20_000, 20, 20)
# The committer's thread asks for the interpreter several times per commit. At Python's usual 5 ms each, a commit
# took 100 to 300 ms while one client kept the loop busy; at 1 ms 40 to 60 ms (measured).
_SWITCH_S = 0.001
_M_ARENA_MAX = -8  # mallopt(3)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the fastest event loop that this machine has."""
    try:
        import uvloop  # noqa: PLC0415 - absent on some platforms, and only a server needs it
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, int | None]) -> int | None:
    """Run `main` to its end on the fastest event loop and return its result."""
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_S)
    _share_arena()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def _share_arena() -> None:
    """Let all threads have their memory from one arena of glibc's; other libraries have nothing like it.

    One of its own is what a thread gets otherwise, and the committer's grew and shrank in each commit: 13 system calls
    that change pages, every time. Measured: 5 to 12 % of our CPU for a message to a user, committed and told of.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
