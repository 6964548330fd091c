"""Deadlines of connections and of sessions in buckets of a quarter second: no timer handle for each."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

_PER_SECOND = 4


class _Due(Protocol):
    due: int  # the wheel's own


_Item = TypeVar("_Item", bound=_Due)


class Wheel(Generic[_Item]):
    """Connections, or sessions, by the quarter second in which they are next to be looked at."""

    __slots__ = ("_buckets", "_turned")

    def __init__(self, now: float) -> None:
        # In the order in which they came: that of a set is that of addresses in memory, which no run has again.
        self._buckets: dict[int, dict[_Item, None]] = {}
        self._turned = int(now * _PER_SECOND)

    def put(self, item: _Item, at: float) -> None:
        """Look at `item` not before `at`; an earlier appointment is forgotten."""
        if item.due:
            self.remove(item)
        due = max(int(at * _PER_SECOND) + 1, self._turned + 1)
        bucket = self._buckets.get(due)
        if bucket is None:
            bucket = self._buckets[due] = {}
        bucket[item] = None
        item.due = due

    def remove(self, item: _Item) -> None:
        """Forget `item`."""
        bucket = self._buckets.get(item.due)
        if bucket is not None:
            bucket.pop(item, None)
            if not bucket:
                del self._buckets[item.due]
        item.due = 0

    def turn(self, now: float) -> list[_Item]:
        """Return, and forget, those whose time has come."""
        current = int(now * _PER_SECOND)
        if current <= self._turned:
            return []
        steps = range(self._turned + 1, current + 1)
        keys = list(steps) if len(steps) < len(self._buckets) else sorted(k for k in self._buckets if k <= current)
        self._turned = current
        due: list[_Item] = []
        for key in keys:
            for item in self._buckets.pop(key, ()):
                item.due = 0
                due.append(item)
        return due
