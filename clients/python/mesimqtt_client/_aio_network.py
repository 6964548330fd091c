"""The network task of the asyncio client: connect, move bytes, wait, connect again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from mesimqtt_client._backoff import Backoff
from mesimqtt_client._link import Link
from mesimqtt_client._network import LEAVE_S, TICK_S
from mesimqtt_client._status import State

if TYPE_CHECKING:
    from mesimqtt_client._options import Options
    from mesimqtt_client._protocol import Core

_log = logging.getLogger("mesimqtt_client")


class AsyncNetwork:
    """Owns the socket; everything but its opening happens in the event loop."""

    def __init__(self, core: Core, options: Options) -> None:
        self._core = core
        self._options = options
        self._backoff = Backoff(base_s=options.reconnect_base_s, max_s=options.reconnect_max_s)
        self._work = asyncio.Event()  # the task has something to do
        self._news = asyncio.Event()  # a waiter may find its condition true; replaced each time
        self._is_stopping = False
        self._is_reading = False
        self._is_writing = False
        self._leave_by = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start connecting, in the running loop."""
        self._task = asyncio.create_task(self._run(), name=f"mesimqtt-network-{self._options.device}")

    def wake(self) -> None:
        """Have the task look at the core in this turn of the loop."""
        self._work.set()

    def notify(self) -> None:
        """Let everybody in `wait_news` look at the core again."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait_news(self) -> None:
        """Wait until something has changed."""
        await self._news.wait()

    async def stop(self) -> None:
        """Write what is left, disconnect and end the task; takes at most `LEAVE_S`."""
        self._is_stopping = True
        self._leave_by = time.monotonic() + LEAVE_S
        self.wake()
        if self._task is None:
            return
        try:
            await asyncio.wait([self._task], timeout=LEAVE_S + TICK_S)
        finally:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while not self._is_stopping:
            online_s = await self._connect_once()
            if self._core.is_denied:
                _log.error("the server refuses the connection: %s", self._core.reason)
                return
            await self._pause(self._backoff.next_delay(online_s, self._core.take_retry_after()))

    async def _connect_once(self) -> float:
        """Live through one connection; return the seconds that it was online."""
        self._core.connecting()
        self.notify()
        link = Link(self._core, self._options, on_closing=lambda: self._forget(link))
        reason = "closed"
        online_s = 0.0
        try:
            await self._open(link)
            try:
                online_s = await self._serve(link)
            finally:
                link.drop("closed")
            reason = link.lost_reason
        except (OSError, ValueError) as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the edge of this task
            # A fault of ours, or of the token's callable, must not end it silently: it counts as a lost connection.
            _log.exception("the connection failed")
            reason = repr(error)
        finally:
            self._core.lost(reason)
            self.notify()
        return online_s

    async def _open(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        opening = _Opening(link)
        opened = loop.run_in_executor(None, opening.run)
        opened.add_done_callback(self._on_opened)
        try:
            while not opened.done() and not self._is_stopping:
                self._work.clear()
                await self._work.wait()
        except asyncio.CancelledError:
            opening.abandon()
            raise
        if self._is_stopping:
            opening.abandon()
            raise ConnectionAbortedError("closed")
        opened.result()
        loop.add_reader(link.fileno(), self._on_readable, link)
        self._is_reading = True
        self.wake()

    async def _serve(self, link: Link) -> float:
        """Move bytes until the connection ends; return the seconds that it was online."""
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        online_at: float | None = None
        next_tick = begun + TICK_S
        while link.is_open:
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                link.tick()
                self._core.tick(now)
            self._turn(link, now)
            if online_at is None and self._core.state is State.ONLINE:
                online_at = now
            if online_at is None and now - begun > self._options.connect_timeout_s:
                link.drop(f"no answer to CONNECT within {self._options.connect_timeout_s:g} s")
            self.notify()
            if link.is_open:
                timer = loop.call_later(max(next_tick - time.monotonic(), 0.0), self.wake)
                try:
                    await self._work.wait()
                finally:
                    timer.cancel()
                self._work.clear()
        return 0.0 if online_at is None else time.monotonic() - online_at

    def _turn(self, link: Link, now: float) -> None:
        if self._is_stopping or self._core.is_denied:
            link.leave()
            if now > self._leave_by and self._is_stopping:
                link.drop("closed")
        else:
            link.pump()
        if link.wants_write:
            link.write()
        if link.is_open and link.wants_write != self._is_writing:
            loop = asyncio.get_running_loop()
            self._is_writing = not self._is_writing
            if self._is_writing:
                loop.add_writer(link.fileno(), self.wake)
            else:
                loop.remove_writer(link.fileno())

    async def _pause(self, delay_s: float) -> None:
        """Wait before the next try; the outbox goes on expiring."""
        until = time.monotonic() + delay_s
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            self._core.tick(time.monotonic())
            self.notify()
            self._work.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, TICK_S)):
                    await self._work.wait()

    def _on_readable(self, link: Link) -> None:
        if link.is_open:
            link.read()
        self.wake()

    def _on_opened(self, opened: asyncio.Future[None]) -> None:
        if not opened.cancelled():
            opened.exception()  # looked at: given up, it would be logged as never retrieved
        self.wake()

    def _forget(self, link: Link) -> None:
        if self._is_reading:
            loop = asyncio.get_running_loop()
            self._is_reading = self._is_writing = False
            loop.remove_reader(link.fileno())
            loop.remove_writer(link.fileno())


class _Opening:
    """The opening of a link in a thread, which may be given up: then the thread closes what it opened."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._is_open = False
        self._is_abandoned = False

    def run(self) -> None:
        """Open the link. Blocks; at most for the time-out of a connect."""
        self._link.open()
        with self._lock:
            self._is_open = True
            if self._is_abandoned:
                self._link.drop("closed")

    def abandon(self) -> None:
        """Give it up. From the event loop; it may just have been opened."""
        with self._lock:
            self._is_abandoned = True
            if self._is_open:
                self._link.drop("closed")
