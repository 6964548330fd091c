"""Retention: what is older than it is to be kept goes, every night or by hand, in transactions that hold up nobody.

What still waits for somebody stays until it expires: a message is never removed before its verdict.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.domain.keeping import EVERY_GROUP, EVERY_TYPE, Rule, Rules, parse_keep_types
from mesimqtt.store import retention

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from mesimqtt.messaging.hub import Hub
    from mesimqtt.store.retention import Key

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOOK = 1_000  # rows that one slice of reading looks at
_REMOVE = 100  # rows that one transaction removes
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_GRACE_MS = 2 * _DAY_MS  # a resend may still ask for a SENT that is no longer told to returning senders
_LAST = "purged"
_BEGIN: Key = (0, "")
_FIRST: Key = (0, 0)


class Retention:
    """Removes what is over. One run at a time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._is_running = False
        self._next_look = self._next_hour = 0.0

    def rules(self, connection: sqlite3.Connection) -> Rules:
        """Return the rules in force: those of the configuration, and over them what operations have set."""
        settings = self._hub.settings.history
        configured = [Rule(EVERY_GROUP, EVERY_TYPE, settings.keep_s), *parse_keep_types(settings.keep_types)]
        return Rules([*configured, *retention.rules(connection)])

    def tick(self, now: float) -> None:
        """Begin the nightly run when its hour has come; one that was missed is made up for after two days."""
        if now < self._next_look or self._is_running:
            return
        if now >= self._next_hour:
            self._next_hour = now + _HOUR_MS / 1000
            self._hub.spawn(self._hourly())
        self._next_look = now + 60.0
        hour, now_ms = self._hub.settings.history.purge_hour, self._hub.now_ms()
        last = retention.progress(self._hub.store.read, _LAST)
        is_hour = now_ms // _HOUR_MS % 24 == hour and now_ms - last > _DAY_MS // 2
        if hour < 24 and (is_hour or (last and now_ms - last > 2 * _DAY_MS)):
            self._hub.spawn(self._nightly())

    async def _hourly(self) -> None:
        try:
            await self.forget_cids()
        except MesimqttError as error:
            log.warning("retention: resends are recognised for longer: %s", error)

    async def _nightly(self) -> None:
        try:
            await self.purge(dry_run=False)
        except MesimqttError as error:  # a full disk, or somebody does it by hand at this moment
            log.warning("retention: tonight's purge ended early: %s", error)

    async def purge(self, *, dry_run: bool) -> dict[str, Any]:
        """Remove all that is over, or only count it; return the counts.

        Raises:
            OperationError: a run is under way.
            StoreError: the store cannot write now; what was removed before is gone.

        """
        if self._is_running:
            raise OperationError("busy", "a purge is under way; its counts stand in the log when it is done")
        self._is_running = True
        hub = self._hub
        began = hub.now()
        counts = dict.fromkeys(("messages", "bytes", "waiting", "statuses", "cids", "tokens"), 0)
        try:
            await self._messages(counts, dry_run=dry_run)
            kept_ms = hub.now_ms() - hub.settings.messaging.status_kept_s * 1000
            counts["cids"] += await self.forget_cids(dry_run=dry_run)
            counts["statuses"] += await self._sweep(
                _FIRST,
                lambda after, connection: retention.old_steps(connection, after, kept_ms - _GRACE_MS, _LOOK),
                None if dry_run else lambda keys, connection: retention.forget_steps(connection, keys),
            )
            counts["tokens"] += await self._tokens(dry_run=dry_run)
        finally:
            self._is_running = False
        answer = {"dry_run": dry_run, **counts, "took_ms": int((hub.now() - began) * 1000)}
        if not dry_run:
            hub.committer.row(retention.SET_PROGRESS, _LAST, hub.now_ms())
            hub.committer.wake()
            for name, count in counts.items():
                if count and name not in ("waiting", "bytes"):
                    hub.count(f"purged.{name}", count)
            log.info("retention: removed %s", ", ".join(f"{count} {name}" for name, count in counts.items()))
        return answer

    async def _messages(self, counts: dict[str, int], *, dry_run: bool) -> None:
        hub, now_ms = self._hub, self._hub.now_ms()
        grace_ms = int(hub.settings.messaging.verdict_grace_s * 1000) + 1_000  # an expired one is judged first
        after: int | None = 0
        await hub.committer.settle()
        while after is not None:
            found = await hub.store.ask(partial(self._look, after, now_ms - grace_ms))
            after = found.after
            counts["messages"] += len(found.old)
            counts["bytes"] += sum(each.size for each in found.old)
            counts["waiting"] += found.waiting
            for some in () if dry_run else _portions(found.old):
                counts["statuses"] += await hub.committer.run(partial(_remove, some))

    def _look(self, after: int, now_ms: int, connection: sqlite3.Connection) -> retention.Look:
        return retention.look(connection, self.rules(connection), after, now_ms, _LOOK)

    async def forget_cids(self, *, dry_run: bool = False) -> int:
        """Forget the cids of messages for which no resend is recognised any more; return how many."""
        kept_ms = self._hub.now_ms() - self._hub.settings.messaging.status_kept_s * 1000
        return await self._sweep(
            _BEGIN,
            lambda after, connection: retention.old_cids(connection, after, kept_ms, _LOOK),
            None if dry_run else lambda keys, connection: retention.forget_cids(connection, keys, kept_ms),
        )

    async def _sweep(
        self,
        after: Key | None,
        look: Callable[[Key, sqlite3.Connection], tuple[list[Key], Key | None]],
        forget: Callable[[list[Key], sqlite3.Connection], int] | None,
    ) -> int:
        """Look through a table in slices; forget what is found, or (`forget` None) count it."""
        count = 0
        while after is not None:
            keys, after = await self._hub.store.ask(partial(look, after))
            if forget is None:
                count += len(keys)
                continue
            for some in _portions(keys):
                count += await self._hub.committer.run(partial(forget, some))
        return count

    async def _tokens(self, *, dry_run: bool) -> int:
        before_s = self._hub.now_ms() // 1000 - self._hub.settings.history.tokens_kept_s
        if dry_run:
            return await self._hub.store.ask(lambda connection: retention.count_tokens(connection, before_s))
        count = 0
        while gone := await self._hub.committer.run(lambda c: retention.forget_tokens(c, before_s, _REMOVE)):
            count += gone
        return count


def _remove(old: list[retention.Old], connection: sqlite3.Connection) -> int:
    return retention.remove(connection, old)


def _portions(whole: list[T]) -> Iterator[list[T]]:
    """Give what one transaction removes."""
    for first in range(0, len(whole), _REMOVE):
        yield whole[first : first + _REMOVE]
