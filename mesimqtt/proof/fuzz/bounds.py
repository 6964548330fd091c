"""One input, tried: what it raised, how long it took and what memory it cost are all part of the result."""

from __future__ import annotations

import resource
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesimqtt.proof.fuzz.target import INPUT_MAX, FindingError

if TYPE_CHECKING:
    from types import FrameType

    from mesimqtt.proof.fuzz.target import Target


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one input may cost: seconds of the processor, after how many nobody waits any longer, and bytes."""

    seconds: float = 3.0  # the slowest honest input takes a tenth of that
    hang_s: float = 20.0
    memory: int = 64 * 1024 * 1024  # by which it may make the process larger than it ever was


USUAL = Bounds()


def try_input(target: Target, data: bytes, bounds: Bounds = USUAL) -> str:
    """Run a target on one input; return what is wrong, '' if nothing is."""
    memory, began = largest(), time.process_time()
    try:
        with _Alarm(bounds.hang_s):
            target.check(data[:INPUT_MAX])
    except FindingError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever is not allowed is the finding
        if type(error) not in target.allowed:
            return f"{type(error).__name__}: {error!s:.300}"
    seconds = time.process_time() - began
    if seconds > bounds.seconds:
        return f"it took {seconds:.1f} s"
    grown = largest() - memory
    return f"it took {grown // 1024} KB" if grown > bounds.memory else ""


def largest() -> int:
    """Return how many bytes this process had when it was largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Alarm:
    """Interrupts what never ends, where that can be done: in the main thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_set = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> None:
        if self._is_set:
            self._before = signal.signal(signal.SIGVTALRM, self._too_long)
            signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._is_set:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(signal.SIGVTALRM, self._before)

    def _too_long(self, _signal: int, _frame: FrameType | None) -> None:
        raise FindingError(f"it goes on after {self._seconds:g} s")
