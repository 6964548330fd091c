"""Deadlines of all connections in buckets of a quarter second: no timer handle per connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection

_PER_SECOND = 4


class Wheel:
    """Connections by the quarter second in which they are next to be looked at."""

    __slots__ = ("_buckets", "_turned")

    def __init__(self, now: float) -> None:
        self._buckets: dict[int, set[Connection]] = {}
        self._turned = int(now * _PER_SECOND)

    def put(self, connection: Connection, at: float) -> None:
        """Look at `connection` not before `at`; an earlier appointment is forgotten."""
        self.remove(connection)
        due = max(int(at * _PER_SECOND) + 1, self._turned + 1)
        bucket = self._buckets.get(due)
        if bucket is None:
            bucket = self._buckets[due] = set()
        bucket.add(connection)
        connection.due = due

    def remove(self, connection: Connection) -> None:
        """Forget `connection`."""
        bucket = self._buckets.get(connection.due)
        if bucket is not None:
            bucket.discard(connection)
            if not bucket:
                del self._buckets[connection.due]
        connection.due = 0

    def turn(self, now: float) -> list[Connection]:
        """Return, and forget, the connections whose time has come."""
        current = int(now * _PER_SECOND)
        if current <= self._turned:
            return []
        steps = range(self._turned + 1, current + 1)
        keys = list(steps) if len(steps) < len(self._buckets) else sorted(k for k in self._buckets if k <= current)
        self._turned = current
        due: list[Connection] = []
        for key in keys:
            for connection in self._buckets.pop(key, ()):
                connection.due = 0
                due.append(connection)
        return due
