"""How long to wait before connecting again: exponential, bounded, with full jitter."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

STABLE_S: Final = 10.0
_EXPONENT_MAX: Final = 30


class Backoff:
    """Full jitter (random between 0 and the bound) keeps 10 000 clients of a restarted server from coming in waves.

    The count starts anew only after a connection that lasted: two devices of one name, which take each other's session
    over, or a message over which the server hangs up, would otherwise spin.
    """

    def __init__(self, *, base_s: float, max_s: float, draw: Callable[[], float] = random.random) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._draw = draw
        self._attempt = 0

    def next_delay(self, online_s: float, asked_s: float = 0.0) -> float:
        """Return the seconds to wait after a connection that was online for `online_s` (0: never).

        `asked_s` is what the server asked for when it took leave (0: nothing): it has drawn for each of its clients.
        """
        if online_s >= STABLE_S:
            self._attempt = 0
        bound: float = min(self._max_s, self._base_s * 2 ** min(self._attempt, _EXPONENT_MAX))
        self._attempt += 1
        if asked_s:
            return min(asked_s, self._max_s)
        return self._draw() * bound
