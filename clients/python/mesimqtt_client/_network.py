"""The network thread of the blocking client: connect, move bytes, wait, connect again."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from mesimqtt_client._backoff import Backoff
from mesimqtt_client._link import Link
from mesimqtt_client._status import State

if TYPE_CHECKING:
    from mesimqtt_client._options import Options
    from mesimqtt_client._protocol import Core

TICK_S: Final = 1.0
LEAVE_S: Final = 2.0
_log = logging.getLogger("mesimqtt_client")


class Network:
    """Owns the socket. It holds the client's lock whenever it is not waiting, and nobody else calls paho."""

    def __init__(self, core: Core, options: Options, news: threading.Condition) -> None:
        self._core = core
        self._options = options
        self._news = news  # its lock is the client's
        self._backoff = Backoff(base_s=options.reconnect_base_s, max_s=options.reconnect_max_s)
        self._is_stopping = False
        self._leave_by = 0.0
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"mesimqtt-network-{options.device}", daemon=True)

    def start(self) -> None:
        """Start connecting."""
        self._thread.start()

    def wake(self) -> None:
        """Have the thread look at the core at once. From any thread."""
        with contextlib.suppress(OSError):  # it is full of wake-ups already, or closed
            self._wake_sender.send(b"\0")

    def stop(self) -> None:
        """Write what is left, disconnect and end the thread; takes at most `LEAVE_S` and a connect under way."""
        with self._news:
            self._is_stopping = True
            self._leave_by = time.monotonic() + LEAVE_S
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(LEAVE_S + self._options.connect_timeout_s + 1.0)
        if self._thread.is_alive():
            _log.error("the network thread did not end; its sockets stay open until it does")
            return
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _run(self) -> None:
        while not self._is_stopping:
            online_s = self._connect_once()
            if self._core.is_denied:
                _log.error("the server refuses the connection: %s", self._core.reason)
                return
            self._pause(self._backoff.next_delay(online_s, self._core.take_retry_after()))

    def _connect_once(self) -> float:
        """Live through one connection; return the seconds that it was online."""
        with self._news:
            self._core.connecting()
            self._news.notify_all()
        link = Link(self._core, self._options, on_closing=lambda: self._forget(link))
        reason = ""
        online_s = 0.0
        try:
            link.open()
            self._selector.register(link.fileno(), selectors.EVENT_READ)
            online_s = self._serve(link)
            reason = link.lost_reason
        except (OSError, ValueError) as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the edge of this thread
            # A fault of ours, or of the token's callable, must not end it silently: it counts as a lost connection.
            _log.exception("the connection failed")
            reason = repr(error)
        with self._news:
            link.drop(reason)
            self._core.lost(reason)
            self._news.notify_all()
        return online_s

    def _serve(self, link: Link) -> float:
        """Move bytes until the connection ends; return the seconds that it was online."""
        begun = time.monotonic()
        online_at: float | None = None
        next_tick = begun + TICK_S
        while link.is_open:
            with self._news:
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
                self._news.notify_all()
            if link.is_open:
                self._wait(link, next_tick - time.monotonic())
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
        if link.is_open:
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
            if interest != self._selector.get_key(link.fileno()).events:
                self._selector.modify(link.fileno(), interest)

    def _wait(self, link: Link, timeout: float) -> None:
        for key, events in self._selector.select(max(timeout, 0.0)):
            if key.fileobj is self._wake_receiver:
                self._swallow_wakes()
            elif events & selectors.EVENT_READ:
                with self._news:
                    link.read()

    def _pause(self, delay_s: float) -> None:
        """Wait before the next try; the outbox goes on expiring."""
        until = time.monotonic() + delay_s
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            with self._news:
                self._core.tick(time.monotonic())
                self._news.notify_all()
            if self._selector.select(min(left, TICK_S)):
                self._swallow_wakes()

    def _swallow_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_receiver.recv(4096):
                pass

    def _forget(self, link: Link) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it was never registered, or is gone
            self._selector.unregister(link.fileno())
