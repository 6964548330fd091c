"""Sockets under epoll: as few system calls per burst as Python allows, nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from select import EPOLLET, EPOLLIN, EPOLLOUT, epoll

from mesimqtt.bench.wire import DISCONNECT, Part, next_packet
from mesimqtt.domain.errors import MesimqttError

Address = tuple[str, int]
Receive = Callable[[bytes], bytes | bytearray]
READ_SIZE = 65_536
HANDSHAKE_DEADLINE_S = 20.0
LEAVE_DEADLINE_S = 2.0
_LOOPBACK_SOURCES = 64


class BenchError(MesimqttError):
    """A measurement could not be made; the text says which and why."""

    exit_code = 1


class Link:
    """One connection whose handshake is done."""

    __slots__ = ("_loop", "_pending", "_send", "is_open", "sock")

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._send = sock.send
        self._pending = b""
        self.sock = sock
        self.is_open = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write now what the socket takes, the rest when it can."""
        if self._pending:
            self._pending += data
            return
        try:
            written = self._send(data)
        except BlockingIOError:
            written = 0
        except OSError:
            return  # the next read sees the end of the connection and counts it
        if written < len(data):
            self._pending = bytes(data[written:])
            self._loop.poller.modify(self.sock, EPOLLIN | EPOLLOUT | EPOLLET)

    def flush(self) -> None:
        """Go on with what the socket did not take."""
        data, self._pending = self._pending, b""
        if data:
            self.write(data)
        if self.is_open and not self._pending:
            self._loop.poller.modify(self.sock, EPOLLIN | EPOLLET)

    def close(self, *, politely: bool = False) -> None:
        """Close, after a DISCONNECT if `politely`."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.forget(self.sock)
        if politely:
            with suppress(OSError):  # the other end may be quicker
                self.sock.send(DISCONNECT)
        self.sock.close()


class Loop:
    """All connections of one measurement."""

    def __init__(self) -> None:
        self.poller = epoll()
        self.disconnects = 0
        self._links: dict[int, tuple[Link, Callable[[int], bytes], Receive]] = {}

    def add(self, sock: socket.socket, receive: Receive) -> Link:
        """Watch a connected socket; `receive` takes what was read and returns what is to be written."""
        sock.setblocking(False)
        link = Link(self, sock)
        self._links[sock.fileno()] = (link, sock.recv, receive)
        # Edge-triggered: the kernel need not look again at what has just been read.
        self.poller.register(sock, EPOLLIN | EPOLLET)
        return link

    def forget(self, sock: socket.socket) -> None:
        """Watch it no longer."""
        if self._links.pop(sock.fileno(), None) is not None:
            self.poller.unregister(sock)

    def step(self, timeout_s: float) -> bool:
        """Serve what is ready; tell whether anything was."""
        find = self._links.get
        events = self.poller.poll(timeout_s)
        for number, event in events:
            found = find(number)
            if found is None:
                continue
            link, read, receive = found
            if event & EPOLLOUT:
                link.flush()
            try:
                data = read(READ_SIZE)
                while data:
                    reply = receive(data)
                    if reply:
                        link.write(reply)
                    if len(data) < READ_SIZE:
                        break
                    data = read(READ_SIZE)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data and link.is_open:
                link.close()
                self.disconnects += 1
        return bool(events)

    def close(self) -> None:
        """Disconnect everything."""
        for link, _, _ in list(self._links.values()):
            link.close(politely=True)
        self.poller.close()


def open_socket(address: Address, source: int | None = None, *, receive_buffer: int | None = None) -> socket.socket:
    """Connect; on loopback from 127.0.0.x, so that one address does not run out of ports."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(HANDSHAKE_DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None and address[0] == "127.0.0.1":
            sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            sock.bind((f"127.0.0.{source % _LOOPBACK_SOURCES + 1}", 0))
        sock.connect(address)
    except OSError as error:
        sock.close()
        raise BenchError(f"cannot connect to {address[0]}:{address[1]}: {error}") from None
    return sock


def handshake(
    address: Address,
    connect: bytes,
    subscribes: Sequence[bytes] = (),
    *,
    source: int | None = None,
    receive_buffer: int | None = None,
) -> socket.socket:
    """Connect and subscribe, waiting for each answer; the socket is still a blocking one."""
    sock = open_socket(address, source, receive_buffer=receive_buffer)
    try:
        sock.sendall(connect)
        _expect_accepted(sock)
        for subscribe in subscribes:
            sock.sendall(subscribe)
            _expect_grant(sock)
    except OSError as error:
        sock.close()
        raise BenchError(f"the server at {address[0]}:{address[1]} did not answer a handshake: {error}") from None
    except BenchError:
        sock.close()
        raise
    return sock


def leave(sock: socket.socket) -> None:
    """Disconnect a blocking socket, and wait until the server has seen it."""
    with sock:
        try:
            sock.sendall(DISCONNECT)
            sock.settimeout(LEAVE_DEADLINE_S)
            while sock.recv(READ_SIZE):
                pass
        except OSError:
            return  # reset or silent: either way it is no longer ours


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise BenchError("the server closed a connection during its handshake")
        data += part
    return data


def _expect_accepted(sock: socket.socket) -> None:
    """Read a CONNACK and nothing behind it."""
    data, part = _read_packet(sock)
    if data[part.body + 1]:
        raise BenchError(f"the server refused a connection with code {data[part.body + 1]}")


def _expect_grant(sock: socket.socket) -> None:
    """Read a SUBACK and nothing behind it."""
    data, part = _read_packet(sock)
    if part.head != 0x90 or any(code & 0x80 for code in data[part.body + 2 :]):
        raise BenchError("the server refused a subscription")


def _read_packet(sock: socket.socket) -> tuple[bytes, Part]:
    data = _read(sock, 2)
    while data[-1] & 128:
        data += _read(sock, 1)
    size = sum((digit & 127) << 7 * place for place, digit in enumerate(data[1:]))
    data += _read(sock, size)
    part = next_packet(data, 0)
    if part is None or size < 2:
        raise BenchError("the server sent a strange packet during a handshake")
    return data, part
