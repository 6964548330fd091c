"""Accepts where something stands before MQTT: a PROXY header, a TLS handshake. Neither costs the others anything.

asyncio's servers know nothing of either: they would begin TLS before the PROXY header, and keep a TLS state for
every connection that never says a word. Here a connection is counted at once, and until its first byte it is
one socket; a handshake has a task, and only so many run at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, cast

from mesimqtt.broker.peers import LOCAL
from mesimqtt.broker.proxy_protocol import HeaderError, read_header
from mesimqtt.broker.tls import why

if TYPE_CHECKING:
    from mesimqtt.broker.protocol import Accepted, Listener
    from mesimqtt.broker.tls import Tls
    from mesimqtt.record.outside import Outside

ACCEPTS_PER_TURN = 64
WAITING_MAX = 8_192  # connections that have said nothing yet; the longest waiting makes room
HANDSHAKES_MAX = 256  # likewise
GOODBYE_S = 2.0  # for a client's end of TLS, when the server ends the connection
RETRY_S = 1.0  # after a failed accept, such as for want of files
_PEEK = 4096

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

logger = logging.getLogger(__name__)


class Waiting:
    """A connection that was accepted and has not said enough yet. `address` is None until a PROXY header names it."""

    __slots__ = ("address", "deadline", "header", "peer", "socket")

    def __init__(self, accepted: socket.socket, peer: str, deadline: float) -> None:
        self.socket = accepted
        self.peer = peer
        self.address: str | None = None
        self.header = b""
        self.deadline = deadline


class Acceptor:
    """The accept loop of one listening socket. `proxies` are the networks whose peers must send a PROXY header."""

    def __init__(
        self,
        listener: Listener,
        bound: socket.socket,
        *,
        tls: Tls | None,
        proxies: tuple[Network, ...],
        outside: Outside,
    ) -> None:
        self._listener = listener
        self._wire = listener.wire
        self._outside = outside
        self._loop = outside.loop
        self._bound = bound
        self._tls = tls
        self._proxies = proxies
        self._waiting: dict[int, Waiting] = {}
        self._handshakes: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._retry: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """Return the name of its listener."""
        return self._listener.name

    def start(self) -> None:
        """Accept connections from now on."""
        self._loop.add_reader(self._bound.fileno(), self._accept)

    async def close(self) -> None:
        """Accept no more, and drop what is not through."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._bound.fileno())
        self._bound.close()
        for waiting in list(self._waiting.values()):
            self._drop(waiting)
        tasks = list(self._handshakes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tick(self, now: float) -> None:
        """Drop who has said too little for too long."""
        for waiting in list(self._waiting.values()):
            if waiting.deadline > now:
                return  # they stand in the order in which they came
            self._drop(waiting)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, peer = self._bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # above all: no files left
                logger.warning("listener %s: %s; newcomers wait", self._listener.name, error.strerror)
                self._loop.remove_reader(self._bound.fileno())
                self._retry = self._loop.call_later(RETRY_S, self.start)
                return
            self._take(accepted, str(peer[0]) if isinstance(peer, tuple) else LOCAL)

    def _take(self, accepted: socket.socket, peer: str) -> None:
        accepted.setblocking(False)
        waiting = Waiting(accepted, peer, self._wire.clock() + self._wire.limits.connect_deadline_s)
        if not self._is_proxy(peer):
            if not self._admit(peer):
                accepted.close()
                return
            waiting.address = peer
        if len(self._waiting) >= WAITING_MAX:
            self._drop(next(iter(self._waiting.values())))
        self._waiting[accepted.fileno()] = waiting
        self._loop.add_reader(accepted.fileno(), self._readable, waiting)

    def _admit(self, address: str) -> bool:
        listener = self._listener
        return self._outside.enter("admit", lambda _name, address: listener.admit(address), listener.name, address)

    def _leave(self, address: str) -> None:
        listener = self._listener
        self._outside.enter("leave", lambda _name, address: listener.leave(address), listener.name, address)

    def _is_proxy(self, peer: str) -> bool:
        if not self._proxies or peer == LOCAL:
            return False
        address = ipaddress.ip_address(peer.partition("%")[0])
        return any(address in network for network in self._proxies)

    def _drop(self, waiting: Waiting) -> None:
        self._forget(waiting)
        if waiting.address is not None:
            self._leave(waiting.address)
        waiting.socket.close()

    def _forget(self, waiting: Waiting) -> None:
        self._loop.remove_reader(waiting.socket.fileno())
        del self._waiting[waiting.socket.fileno()]

    def _readable(self, waiting: Waiting) -> None:
        if waiting.address is None:
            try:
                is_through = self._read_header(waiting)
            except (HeaderError, OSError) as error:
                self._wire.on_refused(waiting.peer, f"PROXY header: {error}")
                self._drop(waiting)
                return
            if not is_through:
                return
        self._forget(waiting)
        if len(self._handshakes) >= HANDSHAKES_MAX:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        protocol = self._listener.protocol(waiting.address)
        task = self._loop.create_task(self._connect(waiting, protocol))
        self._handshakes[task] = None
        task.add_done_callback(partial(self._connected, waiting, protocol))

    def _read_header(self, waiting: Waiting) -> bool:
        """Take the PROXY header and not a byte more; tell whether it is whole, and its client admitted."""
        try:
            peeked = waiting.socket.recv(_PEEK, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        if not peeked:
            raise HeaderError("the connection ended within it")
        found = read_header(waiting.header + peeked)
        if found is None:  # all of it is header: taken, so that the socket is not readable again at once
            waiting.header += waiting.socket.recv(len(peeked))
            return False
        size, address = found
        waiting.socket.recv(size - len(waiting.header))
        address = address or waiting.peer
        if not self._admit(address):
            raise HeaderError(f"{address} has too many connections")
        waiting.address = address
        return True

    async def _connect(self, waiting: Waiting, protocol: Accepted) -> None:
        """Hand the socket to the loop, with TLS if the listener has it."""
        await self._loop.connect_accepted_socket(
            lambda: cast("asyncio.Protocol", protocol),
            waiting.socket,
            # Asked for here, so that a new certificate holds from the next connection on.
            ssl=self._tls.context if self._tls is not None else None,
            ssl_handshake_timeout=self._wire.limits.connect_deadline_s if self._tls is not None else None,
            ssl_shutdown_timeout=GOODBYE_S if self._tls is not None else None,
        )

    def _connected(self, waiting: Waiting, protocol: Accepted, task: asyncio.Task[None]) -> None:
        """Take note of the end of a handshake, also of one that was cancelled before it began."""
        self._handshakes.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        if not protocol.is_made:  # else `connection_lost` follows
            self._leave(waiting.address or "")
        with contextlib.suppress(OSError):
            waiting.socket.close()
        if isinstance(error, ssl.SSLError):  # who goes away in the middle is none
            self._wire.on_refused(waiting.address or "", f"TLS: {why(error)}")
        elif error is not None and not isinstance(error, OSError):
            logger.error("listener %s: a handshake failed", self._listener.name, exc_info=error)
