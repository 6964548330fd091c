"""The accept loop of one listening socket under the reactor."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING

from mesimqtt.broker.reactor import SocketTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mesimqtt.broker.reactor import Reactor

ACCEPTS_PER_TURN = 64  # newcomers that are taken in one turn: who is there has his turns in between
RETRY_S = 1.0  # after the process ran out of files
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger(__name__)


class SocketServer:
    """Accepts on one listening socket; `make` makes the protocol of each connection."""

    def __init__(self, reactor: Reactor, bound: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        self._reactor = reactor
        self._bound = bound
        self._make = make
        self._retry: asyncio.TimerHandle | None = None
        if bound.family != socket.AF_UNIX:
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        self._start()

    def close(self) -> None:
        """Accept nothing more."""
        if self._retry is not None:
            self._retry.cancel()
        descriptor = self._bound.fileno()
        if descriptor >= 0:
            self._bound.close()  # and the epoll knows it no more
            self._reactor.retire(descriptor)

    def accept(self) -> None:
        """Take newcomers."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                # A socket object for each connection would cost as much as all the rest.
                descriptor, peer = self._bound._accept()  # type: ignore[attr-defined] # noqa: SLF001 - as said
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_FILES:
                    logger.exception("cannot accept; the others go on")
                    return
                logger.error("cannot accept: %s; newcomers wait", error.strerror)  # noqa: TRY400 - no trace is needed
                self._reactor.watch(self._bound.fileno(), 0, 0)
                self._retry = self._reactor.loop.call_later(RETRY_S, self._start)
                return
            os.set_blocking(descriptor, False)
            self._open(descriptor, peer)

    def _start(self) -> None:
        self._reactor.accept(self, self._bound.fileno())

    def _open(self, descriptor: int, peer: object) -> None:
        protocol = self._make()
        transport = SocketTransport(self._reactor, descriptor, peer, protocol)
        self._reactor.add(transport)
        try:
            protocol.connection_made(transport)
        except Exception:
            logger.exception("a connection could not be opened; it is closed, the others go on")
            with contextlib.suppress(OSError):
                transport.abort()
