"""Plain sockets under one epoll of our own inside the loop: many accepts and many reads for one turn of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import sys
from typing import TYPE_CHECKING, Any

from mesimqtt.broker.unwritten import Unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mesimqtt.broker.server import SocketServer

EVENTS_MAX = 1_024  # sockets that are served in one turn
READ_SIZE = 64 * 1024  # a larger one costs a mapping of memory for each read (measured: 9 µs instead of 2)
UNWRITTEN_TOTAL = 24 * 1024 * 1024  # of all who do not read together: the more they are, the sooner each is paused
_NOBODY = asyncio.Protocol()

logger = logging.getLogger(__name__)

if sys.platform == "linux":
    from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP

    _ENDING = EPOLLRDHUP | EPOLLHUP | EPOLLERR
    _READABLE = EPOLLIN | _ENDING
    _WRITABLE = EPOLLOUT | EPOLLHUP | EPOLLERR
    # Edge-triggered while nothing waits to be written: the kernel need not look again at every socket that was read.
    # Then nobody else tells of what one read has left, of input or of the end: `_turn` asks for it.
    _INPUT = EPOLLIN | EPOLLRDHUP | EPOLLET


def is_available() -> bool:
    """Tell whether this platform has epoll; elsewhere the loop's own servers do."""
    return hasattr(select, "epoll")


class Reactor:
    """All plain sockets of a broker. The loop sees them as one descriptor that becomes readable.

    The loop's own transports cost 20 to 70 µs and eight system calls more for each connection (measured: it accepts
    one per turn, and asks for names that nobody needs), and 2 KiB of memory; their reads cost the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None], flush: Callable[[], None]) -> None:
        """Watch nothing yet. `begin` is called before all reads of a turn, `flush` after them, before any is closed."""
        self.loop = loop
        self._begin = begin
        self._flush = flush
        self._epoll = select.epoll()
        self._sockets: dict[int, SocketTransport] = {}
        self._leaving: list[SocketTransport] = []
        self._servers: dict[int, SocketServer] = {}
        self._is_scheduled = False
        self.blocked = 0  # connections with unwritten output
        loop.add_reader(self._epoll.fileno(), self._turn)

    def accept(self, server: SocketServer, descriptor: int) -> None:
        """Watch a listening socket."""
        self._servers[descriptor] = server
        self._epoll.register(descriptor, EPOLLIN)

    def add(self, transport: SocketTransport) -> None:
        """Watch a new connection."""
        self._sockets[transport.descriptor] = transport
        self._epoll.register(transport.descriptor, _INPUT)

    def watch(self, descriptor: int, before: int, events: int) -> None:
        """Watch a socket for other events; for none, not at all: its peer's end alone would wake us again and again."""
        if not events:
            self._epoll.unregister(descriptor)
        elif before:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)

    def leave(self, transport: SocketTransport) -> None:
        """Close a socket at the end of this turn, and tell its protocol then: not amid what it is doing now."""
        self._leaving.append(transport)
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._end)

    @property
    def share(self) -> int:
        """Return how much unwritten output is one connection's share, among all that have some."""
        return UNWRITTEN_TOTAL // max(self.blocked, 1)

    def retire(self, descriptor: int) -> None:
        """Forget a server; with the last of them and the last connection the epoll goes, too."""
        self._servers.pop(descriptor, None)
        self._close_if_idle()

    def _turn(self) -> None:
        """Serve all that is ready, and write what came of it: a turn of the loop between the two costs 10 µs."""
        self._begin()
        self._is_scheduled = True  # `_end` comes below
        find = self._sockets.get
        read = os.read
        again: list[SocketTransport] = []
        try:
            for descriptor, event in self._epoll.poll(0, EVENTS_MAX):
                transport = find(descriptor)
                if transport is None:
                    self._accept(descriptor)
                    continue
                if event & _WRITABLE and transport.unwritten is not None:
                    transport.write_on()
                if not (event & _READABLE and transport.wants_input):
                    continue
                try:
                    data = read(descriptor, READ_SIZE)
                except (BlockingIOError, InterruptedError):
                    continue  # an event of a socket that was closed this turn, whose number is another's now
                except OSError:
                    transport.abort()
                    continue
                if not data:
                    transport.close()
                    continue
                try:
                    transport.receive(data)
                except Exception:
                    logger.exception("a connection failed; it is closed, the others go on")
                    transport.abort()
                if event & _ENDING or len(data) == READ_SIZE:
                    again.append(transport)
        finally:
            self._flush()
            for transport in again:
                if transport.wants_input:  # it did not take leave
                    transport.look_again()
            self._end()

    def _accept(self, descriptor: int) -> None:
        server = self._servers.get(descriptor)
        if server is not None:  # else an event of a socket that is gone
            server.accept()

    def _end(self) -> None:
        self._is_scheduled = False
        leaving, self._leaving = self._leaving, []
        for transport in leaving:
            protocol, descriptor = transport.protocol, transport.descriptor
            del self._sockets[descriptor]
            transport.end()
            os.close(descriptor)
            try:
                protocol.connection_lost(None)
            except Exception:
                logger.exception("the end of a connection failed; the others go on")
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self._servers and not self._sockets and not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()


class SocketTransport(asyncio.Transport):
    """What a protocol asks of its transport, over a descriptor; see asyncio's documentation for each method."""

    __slots__ = (
        "_events",
        "_high",
        "_is_closing",
        "_is_ended",
        "_is_full",
        "_low",
        "_peer",
        "_reactor",
        "descriptor",
        "protocol",
        "receive",
        "unwritten",
        "wants_input",
    )

    def __init__(self, reactor: Reactor, descriptor: int, peer: object, protocol: asyncio.Protocol) -> None:
        self._reactor = reactor
        self._peer = peer
        self._events = _INPUT
        self._high = self._low = 0
        self._is_closing = self._is_ended = self._is_full = False
        self.descriptor = descriptor
        self.protocol = protocol
        self.receive = protocol.data_received
        self.wants_input = True
        self.unwritten: Unwritten | None = None

    def fileno(self) -> int:
        """Return the descriptor: this stands for the socket, too."""
        return self.descriptor

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's signature
        """Return `peername`, or what stands for the `socket`."""
        if name == "peername":
            return self._peer
        return self if name == "socket" else default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return whose input this is."""
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the input to another protocol from now on."""
        if isinstance(protocol, asyncio.Protocol):
            self.protocol = protocol
            self.receive = protocol.data_received

    def is_closing(self) -> bool:
        """Tell whether it is closed, or will be once everything is written."""
        return self._is_closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set from how much unwritten output on the protocol is told to pause, and when to go on."""
        self._high = high or 0
        self._low = low or 0

    def get_write_buffer_size(self) -> int:
        """Return how much is unwritten."""
        return self.unwritten.size if self.unwritten is not None else 0

    def is_reading(self) -> bool:
        """Tell whether it reads."""
        return self.wants_input

    def pause_reading(self) -> None:
        """Leave in the socket what the peer sends."""
        self.wants_input = False
        self._watch()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._is_closing:
            self.wants_input = True
            self._watch()

    def can_write_eof(self) -> bool:
        """Tell that a socket can be closed one way."""
        return True

    def write_eof(self) -> None:
        """Write nothing more behind what is unwritten, and read on: the peer's own end closes it.

        To close a socket on what the peer still sends would reset it, and take away what the peer has not read.
        """
        if self._is_closing or self._is_ended:
            return
        self._is_ended = True
        if self.unwritten is None:
            self._shut()
        self.resume_reading()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # it is gone: the next read says so
            found = socket.socket(fileno=self.descriptor)
            try:
                found.shutdown(socket.SHUT_WR)
            finally:
                found.detach()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write now what the socket takes, the rest when it can."""
        if self._is_closing or self._is_ended:
            return
        if self.unwritten is None:
            try:
                written = os.write(self.descriptor, data)
            except BlockingIOError:
                written = 0
            except OSError:
                self.abort()
                return
            if written == len(data):
                return
            data = memoryview(data)[written:]
        self._keep((data,))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write when the socket takes it: it was full a moment ago. Chunks that nobody can change are not copied."""
        if not (self._is_closing or self._is_ended):
            self._keep(list_of_data)

    def _keep(self, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        unwritten = self.unwritten
        if unwritten is None:
            unwritten = self.unwritten = Unwritten()
            self._reactor.blocked += 1
            self._watch()
        for chunk in chunks:
            unwritten.add(chunk)
        if not self._is_full and unwritten.size > min(self._high, self._reactor.share):
            self._is_full = True
            self.protocol.pause_writing()

    def write_on(self) -> None:
        """Go on with what the socket did not take."""
        unwritten = self.unwritten
        if unwritten is None:
            return
        try:
            written = os.writev(self.descriptor, unwritten.first())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        unwritten.advance(written)
        if not unwritten.size:
            self._unblock()
            if self._is_closing:
                self._reactor.leave(self)
                return
            if self._is_ended:
                self._shut()
            self._watch()
        if self._is_full and unwritten.size <= self._low:
            self._is_full = False
            self.protocol.resume_writing()

    def look_again(self) -> None:
        """Have the next turn read on, though nothing new may come."""
        if self._events == _INPUT:
            self._reactor.watch(self.descriptor, _INPUT, _INPUT)

    def close(self) -> None:
        """Close once everything is written."""
        if self._is_closing:
            return
        self._is_closing = True
        self.wants_input = False
        if self.unwritten is None:
            self._reactor.leave(self)
        else:
            self._watch()

    def abort(self) -> None:
        """Close; what is unwritten is lost."""
        if self._is_closing and self.unwritten is None:
            return
        self._is_closing = True
        self.wants_input = False
        self._unblock()
        self._reactor.leave(self)

    def end(self) -> None:
        """Let go of the protocol, which holds this: neither is to wait for the garbage collector."""
        self.descriptor = -1
        self.protocol = _NOBODY
        self.receive = _NOBODY.data_received

    def _unblock(self) -> None:
        if self.unwritten is not None:
            self.unwritten = None
            self._reactor.blocked -= 1

    def _watch(self) -> None:
        if self.unwritten is None:
            events = _INPUT if self.wants_input else 0
        else:
            events = EPOLLOUT | (EPOLLIN if self.wants_input else 0)
        if events != self._events:
            self._reactor.watch(self.descriptor, self._events, events)
            self._events = events
