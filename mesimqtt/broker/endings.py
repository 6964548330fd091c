"""Connections that must end at a time: whoever let a client in said until when, and messaging need not know him."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mesimqtt.engine.codes import NOT_AUTHORIZED

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection


class Endings:
    """Closes connections whose identity has expired. Durations are of a clock that never jumps."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        """Begin with none."""
        self._clock = clock
        self._wall = wall
        self._ends: dict[Connection, float] = {}  # on our clock
        self._next = float("inf")

    def connected(self, connection: Connection) -> None:
        """Take note of a connection that was let in, or authenticated anew, until some time."""
        self._ends.pop(connection, None)
        expires_at = connection.identity.expires_at if connection.identity is not None else 0.0
        if expires_at:
            end = self._clock() + expires_at - self._wall()
            self._ends[connection] = end
            self._next = min(self._next, end)

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self._ends.pop(connection, None)

    def tick(self, now: float) -> None:
        """Close what is due."""
        if now < self._next:
            return
        self._next = float("inf")
        for connection, end in list(self._ends.items()):
            if end <= now:
                del self._ends[connection]
                connection.close("token expired", NOT_AUTHORIZED)
            else:
                self._next = min(self._next, end)
