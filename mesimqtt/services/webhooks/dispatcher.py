"""Sends what waits in the outbox: each endpoint in order, one request at a time, until it is taken or given up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.chance import SYSTEM
from mesimqtt.domain.errors import StoreError
from mesimqtt.domain.events import MESIBO, MESIBO_OK, TEST, envelope
from mesimqtt.services.webhooks.ports import AskedPoster
from mesimqtt.services.webhooks.queue import Composed, Queue, iso, key_of
from mesimqtt.services.webhooks.sign import signed
from mesimqtt.store import outbox

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from mesimqtt.messaging.webhooks import Endpoint, Webhooks
    from mesimqtt.services.webhooks.ports import Ask, Post, Reply

log = logging.getLogger(__name__)
_GONE = 410
_JITTER = 0.2
_WAIT_MAX_S = 86_400.0
_AGAIN_MS = 1_000  # after a failure of the store
_HOUR_MS = 3_600_000


class Dispatcher:
    """Looks at each queue when something came, something was answered, and on every tick; it never sleeps."""

    def __init__(
        self,
        webhooks: Webhooks,
        *,
        make_poster: Callable[[], Post] | None = None,
        chance: Callable[[], float] = SYSTEM.fraction,
        ask: Ask | None = None,
    ) -> None:
        hub = webhooks.hub
        self._webhooks = webhooks
        self._settings = hub.settings.webhooks
        self._store = hub.store
        self._spawn = hub.spawn
        self._now_ms = hub.now_ms
        self._count = hub.count
        self._make_poster = make_poster or self._poster
        self._ask = ask
        self._chance = chance
        self._queues: dict[int, Queue] = {}
        self._sending = 0
        self._is_closing = False
        self._forget_at = 0
        self._idle: asyncio.Event | None = None

    def _poster(self) -> Post:
        from mesimqtt.services.webhooks.post import Poster  # noqa: PLC0415 - 0.15 s that a server without webhooks saves

        poster = Poster(answer_s=self._settings.answer_s)
        return poster if self._ask is None else AskedPoster(poster, self._ask)

    # ---- what messaging tells ------------------------------------------------------------------------------------

    def recorded(self, found: Sequence[tuple[int, int, int]]) -> None:
        """Take note of what was written for whom, and send it."""
        for number, events, size in found:
            queue = self._queues.get(number)
            if queue is not None:
                queue.events += events
                queue.size += size
                self._look(queue)

    def changed(self) -> None:
        """Take the endpoints as they are now."""
        known, read = self._queues, self._store.read
        rows = {row.id: row for row in outbox.webhooks(read)}
        waiting: dict[int, tuple[int, int]] | None = None
        self._queues = {}
        for endpoint in self._webhooks.endpoints.values():
            queue = known.pop(endpoint.id, None)
            if queue is None:
                waiting = outbox.waiting(read) if waiting is None else waiting
                row = rows[endpoint.id]
                queue = Queue(endpoint, self._make_poster(), *waiting.get(endpoint.id, (0, 0)))
                queue.sealed, queue.attempts, queue.next_at = row.batch_last, row.attempts, row.next_at
            elif endpoint.is_active and not queue.endpoint.is_active:
                queue.attempts = queue.next_at = 0
            queue.endpoint = endpoint
            self._queues[endpoint.id] = queue
        for queue in known.values():
            self._spawn(queue.poster.close())
        self._look_at_all()

    def waiting(self, number: int) -> tuple[int, int] | None:
        """Return (events, bytes) that wait for an endpoint; None if it is not known."""
        queue = self._queues.get(number)
        return (queue.events, queue.size) if queue is not None else None

    def retried(self, endpoint: Endpoint) -> None:
        """Try again now."""
        queue = self._queues.get(endpoint.id)
        if queue is not None:
            queue.next_at = 0
            self._look(queue)

    def tick(self) -> None:
        """Send what is due."""
        now_ms = self._now_ms()
        if self._queues and now_ms >= self._forget_at:
            self._forget_at = now_ms + _HOUR_MS
            self._spawn(self._forget(now_ms - self._settings.dead_kept_s * 1000))
        self._look_at_all()

    async def test(self, endpoint: Endpoint) -> dict[str, Any]:
        """Send one event `webhook.test` now, beside what waits; return what was answered."""
        now_ms = self._now_ms()
        text = json.dumps({"type": TEST, "ts": now_ms}, separators=(",", ":")).encode()
        key = f"msg_{endpoint.id}_test{now_ms:x}"
        body = envelope(endpoint.format, now_ms, iso(now_ms), now_ms, text)
        poster = self._make_poster()
        try:
            headers = signed(key, body, endpoint.secrets, now_ms)
            reply = await poster.post(endpoint.url, body, headers, is_private=self._is_private(endpoint))
        finally:
            await poster.close()
        is_taken = _is_taken(endpoint, reply)
        if is_taken:
            self.retried(endpoint)
        return {"delivered": is_taken, "status": reply.status or None, "error": _reason(endpoint, reply) or None}

    async def close(self) -> None:
        """Begin nothing new; wait for what is on its way, whose end is then kept."""
        self._is_closing = True
        if self._sending:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):  # a store that cannot write keeps nobody
                await asyncio.wait_for(self._idle.wait(), self._settings.answer_s + 1)
        for queue in self._queues.values():
            await queue.poster.close()

    # ---- one batch after the other -----------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        # Who has waited longest comes first: with more endpoints than requests at once, none starves.
        for queue in sorted(self._queues.values(), key=lambda queue: queue.began_at):
            self._look(queue)

    def _look(self, queue: Queue) -> None:
        endpoint, now_ms = queue.endpoint, self._now_ms()
        if queue.is_busy or not queue.events or self._is_closing:
            return
        if queue.events > self._settings.outbox_events_max or queue.size > self._settings.outbox_bytes_max:
            queue.is_busy = True
            self._spawn(self._bury(queue, "the outbox is full"))
            return
        if not endpoint.is_active or now_ms < queue.next_at or self._sending >= self._settings.concurrency:
            return
        is_early = now_ms - queue.began_at < endpoint.batch_age_ms
        if is_early and not queue.attempts and queue.events < endpoint.batch_max:
            return
        queue.is_busy = True
        queue.began_at = now_ms
        self._sending += 1
        looked = (queue.events, queue.size)
        self._store.read_later(
            lambda connection: self._compose(queue, connection, now_ms),
            lambda found: self._composed(queue, found, looked),
        )

    def _compose(self, queue: Queue, connection: sqlite3.Connection, now_ms: int) -> Composed | Exception | None:
        try:
            return queue.compose(connection, self._settings.batch_bytes_max, now_ms)
        except (ValueError, TypeError) as error:  # a body or a secret that cannot be signed
            return error

    def _composed(self, queue: Queue, found: Composed | Exception | None, looked: tuple[int, int]) -> None:
        if found is None:  # what was counted is not there; what has come since is
            queue.events -= looked[0]
            queue.size -= looked[1]
            self._freed(queue)
            return
        if isinstance(found, Exception):
            log.error("webhooks: %s: a batch cannot be composed: %s", queue.endpoint.name, found)
            queue.next_at = self._now_ms() + _HOUR_MS
            self._freed(queue)
            return
        is_new = found.last > queue.sealed
        if is_new and found.first != found.last:
            # What it is made of must be known before it leaves: after a crash it is the same batch again.
            self._store.committer.row(outbox.SEAL, found.last, queue.endpoint.id)
            queue.is_settled = False
        queue.sealed = max(queue.sealed, found.last)
        self._when_settled(queue, found)

    def _when_settled(self, queue: Queue, batch: Composed) -> None:
        """Send once it is committed that the one before is done, and what this one is made of."""
        if queue.is_settled:
            self._spawn(self._send(queue, batch))
            return
        committer = self._store.committer

        def committed(ok: bool) -> None:
            queue.is_settled = ok
            self._when_settled(queue, batch)

        committer.batch.after.append(committed)
        if committer.health == "ok":  # if not, the next tick tries
            committer.wake()

    async def _send(self, queue: Queue, batch: Composed) -> None:
        endpoint = queue.endpoint
        try:
            if self._is_closing or self._queues.get(endpoint.id) is not queue:
                return
            reply = await queue.poster.post(
                endpoint.url, batch.body, batch.headers, is_private=self._is_private(endpoint)
            )
            if self._queues.get(endpoint.id) is queue:
                await self._answered(queue, batch, reply)
        except asyncio.CancelledError:  # the server ends at once: nothing may begin any more
            self._is_closing = True
            raise
        except Exception:  # the queue must go on, whatever that was
            log.exception("webhooks: %s: a batch is tried again", endpoint.name)
            queue.next_at = self._now_ms() + round(self._settings.retries_s[0] * 1000)
        finally:
            self._freed(queue)

    async def _answered(self, queue: Queue, batch: Composed, reply: Reply) -> None:
        endpoint, committer, now_ms = queue.endpoint, self._store.committer, self._now_ms()
        if _is_taken(endpoint, reply):
            self._done(queue, batch)
            return
        reason = _reason(endpoint, reply)
        self._count("webhooks.failed")
        if reply.status == _GONE:
            again = f"mesimqtt webhook set {endpoint.name} --on"
            log.warning("webhooks: %s answers 410 and is switched off; to switch it on: %s", endpoint.name, again)
            await self._switch_off(queue, "it answered 410, gone")
            return
        queue.attempts += 1
        if queue.attempts > len(self._settings.retries_s):
            await self._bury(queue, reason, is_freed=False)
            return
        if queue.attempts == 1:
            log.warning("webhooks: %s: %s; it is tried again", endpoint.name, reason)
        wait_s = self._settings.retries_s[queue.attempts - 1] * (1 + _JITTER * (2 * self._chance() - 1))
        queue.next_at = now_ms + round(1000 * max(wait_s, min(reply.retry_after_s, _WAIT_MAX_S)))
        committer.row(outbox.TRIED, queue.attempts, queue.next_at, reason, endpoint.id)
        committer.lazily(self._store.now())

    def _done(self, queue: Queue, batch: Composed) -> None:
        committer, number = self._store.committer, queue.endpoint.id
        queue.after, queue.is_first = batch.last, False
        queue.events -= batch.events
        queue.size -= batch.size
        queue.attempts = queue.next_at = 0
        queue.is_settled = False
        committer.row(outbox.DELETE_UPTO, number, batch.last)
        committer.row(outbox.SUCCEEDED, self._now_ms(), batch.events, batch.last, number)
        self._count("webhooks.sent", batch.events)

        def committed(ok: bool) -> None:
            if ok:
                queue.is_settled = True
            else:
                committer.batch.after.append(committed)

        committer.batch.after.append(committed)
        committer.lazily(self._store.now())

    async def _switch_off(self, queue: Queue, reason: str) -> None:
        number = queue.endpoint.id
        try:
            await self._store.committer.run(
                lambda connection: connection.execute(outbox.SET_ACTIVE, (0, reason, number)).rowcount
            )
        except StoreError:
            queue.next_at = self._now_ms() + _AGAIN_MS
            return
        self._webhooks.refresh()

    async def _bury(self, queue: Queue, reason: str, *, is_freed: bool = True) -> None:
        """Make a dead letter of the batch whose turn it is."""
        endpoint, most, now_ms = queue.endpoint, self._settings.dead_letters_max, self._now_ms()

        def bury(connection: sqlite3.Connection) -> tuple[int, int, int, int]:
            rows = queue.next_batch(connection, self._settings.batch_bytes_max)
            if not rows:
                return queue.after, queue.events, queue.size, 0
            key = rows[0].letter_key or key_of(endpoint.id, rows[0].id)
            dropped = outbox.bury(connection, endpoint.id, rows, key, queue.attempts, reason, now_ms, most)
            return rows[-1].id, sum(row.events for row in rows), sum(len(row.body) for row in rows), dropped

        try:
            queue.after, events, size, dropped = await self._store.committer.run(bury)
        except StoreError:
            queue.next_at = self._now_ms() + _AGAIN_MS
            queue.attempts = max(0, queue.attempts - 1)
        else:
            queue.events -= events
            queue.size -= size
            queue.attempts, queue.is_first = 0, False
            self._count("webhooks.dead", events)
            self._dropped(dropped)
            log.error("webhooks: %s: %d events are a dead letter: %s", endpoint.name, events, reason)
        if is_freed:
            queue.is_busy = False
            self._look(queue)

    async def _forget(self, before_ms: int) -> None:
        try:
            dropped = await self._store.committer.run(lambda connection: outbox.forget_letters(connection, before_ms))
        except StoreError:
            return
        self._dropped(dropped)

    def _dropped(self, events: int) -> None:
        if events:
            self._count("webhooks.dropped", events)
            log.error("webhooks: %d events of old dead letters are dropped for ever", events)

    def _freed(self, queue: Queue) -> None:
        queue.is_busy = False
        self._sending -= 1
        if self._idle is not None and not self._sending:
            self._idle.set()
        self._look_at_all()

    def _is_private(self, endpoint: Endpoint) -> bool:
        return self._webhooks.is_private_url(endpoint)


def _is_taken(endpoint: Endpoint, reply: Reply) -> bool:
    is_good = 200 <= reply.status < 300
    return is_good and (endpoint.format != MESIBO or reply.body.strip() == MESIBO_OK)


def _reason(endpoint: Endpoint, reply: Reply) -> str:
    if _is_taken(endpoint, reply):
        return ""
    if 200 <= reply.status < 300:
        return f"it answered {reply.status}, but not {MESIBO_OK.decode()}"
    return reply.error or f"it answered {reply.status}"
