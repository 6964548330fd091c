"""How much a user may send: who publishes too fast is read more slowly, who storms with requests is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.engine.codes import MESSAGE_RATE_TOO_HIGH

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.counters import Counters
    from mesimqtt.settings import Rates

HELD_MAX_S = 10.0  # then a client has another turn, so that a keep-alive is not the price of a flood


class Traffic:
    """Asked once per read, not per packet: what the engine counted meanwhile is charged to the user who sent it.

    Holding somebody back costs him time and loses nothing: what he sends waits in his own socket.
    """

    __slots__ = ("_asked", "_count", "_counters", "_publishes", "_requests", "_taken")

    def __init__(self, rates: Rates, counters: Counters, count: Callable[[str], None]) -> None:
        """Take the engine's counters; `count` is told of every reading that was held back."""
        self._publishes = RateLimit(parse_windows(rates.publishes))
        self._requests = RateLimit(parse_windows(rates.requests))
        self._counters = counters
        self._count = count
        self._taken = 0
        self._asked = 0

    def __bool__(self) -> bool:
        return bool(self._publishes or self._requests)

    def begin(self) -> None:
        """Take note of the counters before a read."""
        self._taken = self._counters.messages_in
        self._asked = self._counters.requests_in

    def end(self, connection: Connection, now: float) -> float:
        """Charge what the read has brought; return for how long nothing more is to be read of that client."""
        taken = self._counters.messages_in - self._taken
        if not connection.is_open:
            return 0.0
        asked = self._counters.requests_in - self._asked
        if asked and self._requests and self._requests.charge(connection.user, now, asked):
            self._count("requests.flooded")
            connection.close("too many requests", MESSAGE_RATE_TOO_HIGH)
            return 0.0
        if not taken or not self._publishes:
            return 0.0
        wait = min(self._publishes.charge(connection.user, now, taken), HELD_MAX_S)
        if wait:
            self._count("publishes.held")
            connection.seen = now + wait  # it is not silent: nobody listens
        return wait
