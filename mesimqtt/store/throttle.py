"""Failed logins, so that a restart lets nobody guess anew: at most a row per name and address, written lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.store.store import Store

_LOAD = 'SELECT "user", address, free_at FROM failed_login WHERE until > ? ORDER BY until LIMIT ?'
_SAVE = 'INSERT OR REPLACE INTO failed_login ("user", address, free_at, until) VALUES (?,?,?,?)'
_FORGET = 'DELETE FROM failed_login WHERE "user" = ? AND address = ?'
_PRUNE = "DELETE FROM failed_login WHERE until <= ?"


class FailedLogins:
    """Reads and writes the rows in the broker's own time, which does not jump; the rows hold the clock's."""

    def __init__(self, store: Store) -> None:
        """Keep the rows in `store`; every write joins the next commit."""
        self._store = store

    def load(self, limit: int) -> Iterator[tuple[str, str, list[float]]]:
        """Return (name, address, free_at) of what still counts."""
        now_ms = self._store.now_ms()
        for user, address, free_at in self._store.read.execute(_LOAD, (now_ms, limit)).fetchall():
            times = [int(at) for at in str(free_at).split(",") if at.isdecimal()]  # the rest is damaged
            if times:
                yield user, address, [self._store.now() + (at - now_ms) / 1000 for at in times]

    def save(self, user: str, address: str, free_at: list[float]) -> None:
        """Keep or replace one row."""
        now, now_ms = self._store.now(), self._store.now_ms()
        times = [now_ms + round((at - now) * 1000) for at in free_at]
        self._store.committer.row(_SAVE, user, address, ",".join(map(str, times)), max(times))
        self._store.committer.lazily(now)

    def forget(self, user: str, address: str) -> None:
        """Delete one row."""
        self._store.committer.row(_FORGET, user, address)
        self._store.committer.lazily(self._store.now())

    def prune(self) -> None:
        """Delete the rows that mean nothing any more."""
        self._store.committer.row(_PRUNE, self._store.now_ms())
        self._store.committer.lazily(self._store.now())
