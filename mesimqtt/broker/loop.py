"""The event loop: uvloop where it is installed, asyncio elsewhere."""

from __future__ import annotations

import asyncio
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
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
