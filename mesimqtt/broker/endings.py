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
        self._ends: dict[Connection, tuple[float, float]] = {}  # (expires_at, when that is on our clock)
        self._next = float("inf")

    def connected(self, connection: Connection) -> None:
        """Take note of a connection that was let in until some time."""
        expires_at = connection.identity.expires_at if connection.identity is not None else 0.0
        if expires_at:
            end = self._clock() + expires_at - self._wall()
            self._ends[connection] = expires_at, end
            self._next = min(self._next, end)

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self._ends.pop(connection, None)

    def tick(self, now: float) -> None:
        """Close what is due. Who was authenticated anew meanwhile has another end."""
        if now < self._next:
            return
        self._next = float("inf")
        for connection, (expires_at, end) in list(self._ends.items()):
            if connection.identity is not None and connection.identity.expires_at != expires_at:
                del self._ends[connection]
                self.connected(connection)
            elif end <= now:
                del self._ends[connection]
                connection.close("token expired", NOT_AUTHORIZED)
            else:
                self._next = min(self._next, end)
