"""How long commits take, as a histogram that costs one addition per commit."""

from __future__ import annotations

BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Durations:
    """Counts durations by the bound that they do not pass; the last count has those above all bounds."""

    __slots__ = ("counts", "last_ms", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0
        self.last_ms = 0.0

    def add(self, milliseconds: float) -> None:
        """Count one."""
        self.last_ms = milliseconds
        self.sum_ms += milliseconds
        for place, bound in enumerate(BOUNDS_MS):
            if milliseconds <= bound:
                self.counts[place] += 1
                return
        self.counts[-1] += 1
