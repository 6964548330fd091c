"""Message ids: 64 bits as 16 hex digits, in the order of acceptance (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z
_COUNTER_BITS = 14
_NODE_BITS = 8


class MidFactory:
    """Draws mids: milliseconds since 2020 (42 bits), node (8), counter (14); never twice, never backwards."""

    def __init__(self, clock_ms: Callable[[], int], *, node: int = 0, after: int = 0) -> None:
        self._clock_ms = clock_ms
        self._node = node << _COUNTER_BITS
        self._last = after >> (_NODE_BITS + _COUNTER_BITS)
        self._counter = (1 << _COUNTER_BITS) - 1 if after else 0

    def draw(self) -> int:
        """Return the next mid as a number."""
        return self.draw_at(self._clock_ms())

    def draw_at(self, now_ms: int) -> int:
        """Return the next mid; `now_ms` is the clock's reading."""
        now = now_ms - EPOCH_MS
        if now > self._last:
            self._last, self._counter = now, 0
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._last, self._counter = self._last + 1, 0
        return self._last << (_NODE_BITS + _COUNTER_BITS) | self._node | self._counter


def format_mid(mid: int) -> str:
    """Return a mid as it stands in topics and JSON."""
    return f"{mid:016x}"


def first_mid_at(time_ms: int) -> int:
    """Return the smallest mid that could be drawn at `time_ms`."""
    return max(time_ms - EPOCH_MS, 0) << (_NODE_BITS + _COUNTER_BITS)


def made_at_ms(mid: int) -> int:
    """Return when a mid was drawn, in milliseconds since 1970."""
    return (mid >> (_NODE_BITS + _COUNTER_BITS)) + EPOCH_MS
