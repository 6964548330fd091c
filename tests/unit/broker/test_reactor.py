"""Plain sockets under our own epoll: what asyncio's transports promise a protocol holds here, too."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from mesimqtt.broker.loop import loop_factory
from mesimqtt.broker.reactor import Reactor
from mesimqtt.broker.server import RETRY_S, SocketServer
from mesimqtt.broker.sockets import bind_tcp

DEADLINE_S = 60.0
SHORTLY_S = 0.05
LOT = b"x" * 8_000_000  # more than the sockets in between hold


class Recorder(asyncio.Protocol):
    """Notes what it is told; does what a test asks when data comes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[str] = []
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.set_write_buffer_limits(high=100_000, low=10_000)
        self.said.append("made")
        self.world.protocols.append(self)
        self.world.on_made(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.world.on_data(self, data)

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")


def nothing(*_arguments: object) -> None:
    """Do nothing."""


def read_all(world: World, client: socket.socket) -> bytes:
    """Read to the end of the connection."""
    client.settimeout(SHORTLY_S)
    found = b""
    while True:
        with contextlib.suppress(TimeoutError):  # the kernel is busy: another turn
            data = client.recv(1 << 18)
            found += data
            if not data:
                return found
        world.turn()


class World:
    """A reactor on a loop that is turned by hand, and blocking clients."""

    def __init__(self) -> None:
        self.loop = loop_factory()()
        self.reactor = Reactor(self.loop, nothing, nothing)
        self.protocols: list[Recorder] = []
        self.on_made = self.on_data = nothing
        (self.bound,) = bind_tcp("default", "mqtt", "127.0.0.1", 0)
        self.port = self.bound.getsockname()[1]
        self.server: SocketServer = SocketServer(self.reactor, self.bound, lambda: Recorder(self))
        self.clients: list[socket.socket] = []

    def connect(self) -> tuple[socket.socket, Recorder]:
        client = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        self.clients.append(client)
        count = len(self.protocols)
        self.until(lambda: len(self.protocols) > count)
        return client, self.protocols[-1]

    def until(self, condition) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that"
            self.turn()

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.call_later(0.002, self.loop.stop)
            self.loop.run_forever()

    def close(self) -> None:
        self.server.close()
        for client in self.clients:
            client.close()
        self.until(lambda: all(one.said[-1] == "lost" for one in self.protocols))
        assert self.reactor._epoll.closed
        self.loop.close()


@pytest.fixture
def world():
    """A world; at its end every connection must be gone, and the epoll with the last."""
    one = World()
    yield one
    one.close()


def test_many_come_in_one_turn(world: World) -> None:
    """Newcomers are taken together, each with a protocol of its own that knows its peer."""
    clients = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(100)]
    world.clients += clients
    world.until(lambda: len(world.protocols) == 100)

    peers = {one.transport.get_extra_info("peername") for one in world.protocols}
    assert {client.getsockname() for client in clients} == peers
    assert world.protocols[0].transport.get_extra_info("ssl_object") is None


def test_both_directions(world: World) -> None:
    """What a client writes arrives, and what the protocol writes reaches the client at once (no Nagle)."""
    client, protocol = world.connect()
    client.sendall(b"hello")
    world.until(lambda: protocol.data == b"hello")
    protocol.transport.write(b"world")

    assert b"world" == client.recv(100)
    with socket.socket(fileno=socket.dup(protocol.transport.fileno())) as twin:
        assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_slow_reader_gets_everything_in_order(world: World) -> None:
    """What the socket does not take is kept, the protocol is paused meanwhile and told when to go on."""
    client, protocol = world.connect()
    protocol.transport.write(LOT)
    protocol.transport.write(b"end")

    assert ["made", "pause"] == protocol.said
    assert protocol.transport.get_write_buffer_size() > 1_000_000
    client.settimeout(SHORTLY_S)
    found = b""
    while not found.endswith(b"end"):
        world.turn()
        with contextlib.suppress(TimeoutError):
            found += client.recv(1 << 20)
    assert LOT + b"end" == found
    assert ["made", "pause", "resume"] == protocol.said
    assert 0 == protocol.transport.get_write_buffer_size()


def test_many_who_do_not_read_are_paused_sooner(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all of them may leave unwritten is shared out; who goes gives his share back."""
    monkeypatch.setattr("mesimqtt.broker.reactor.UNWRITTEN_TOTAL", 30_000)
    pairs = [world.connect() for _ in range(3)]
    for _, protocol in pairs:
        protocol.transport.pause_reading()
        protocol.transport.write(LOT)
    first = pairs[0][1]

    assert (3, 10_000) == (world.reactor.blocked, world.reactor.share)
    assert all("pause" in protocol.said for _, protocol in pairs)
    for _, protocol in pairs[1:]:
        protocol.transport.abort()
    assert (1, 30_000) == (world.reactor.blocked, world.reactor.share)
    first.transport.abort()
    assert 0 == world.reactor.blocked


def test_close_writes_the_rest_and_abort_does_not(world: World) -> None:
    """A closed connection goes when all is written, an aborted one at once."""
    (kind, closed), (brusque, aborted) = world.connect(), world.connect()
    for one in (closed, aborted):
        one.transport.write(LOT)
    closed.transport.close()
    aborted.transport.abort()
    assert closed.transport.is_closing()
    assert aborted.transport.is_closing()
    world.turn(3)

    assert "lost" == aborted.said[-1]
    assert "lost" != closed.said[-1]
    assert LOT == read_all(world, kind)
    assert len(LOT) > len(read_all(world, brusque))
    world.until(lambda: closed.said[-1] == "lost")


def test_the_end_is_told_after_the_turn(world: World) -> None:
    """A protocol that closes amid its data is not told of its end before it has returned."""
    order: list[str] = []

    def close(protocol: Recorder, _data: bytes) -> None:
        protocol.transport.close()
        protocol.transport.abort()
        order.append(protocol.said[-1])

    world.on_data = close
    client, protocol = world.connect()
    client.sendall(b"x")
    world.until(lambda: protocol.said[-1] == "lost")

    assert ["made"] == order
    assert 1 == protocol.said.count("lost")


def test_paused_reading(world: World) -> None:
    """Nothing is read from a paused connection, and its peer's end does not keep the loop busy."""
    client, protocol = world.connect()
    protocol.transport.pause_reading()
    client.sendall(b"later")
    client.shutdown(socket.SHUT_RDWR)
    world.turn(3)

    assert b"" == protocol.data
    assert not protocol.transport.is_reading()
    assert not world.reactor._epoll.poll(0)
    protocol.transport.resume_reading()
    world.until(lambda: protocol.said[-1] == "lost")
    assert b"later" == protocol.data


def test_more_than_one_read(world: World) -> None:
    """What a read has left comes with the next turn, though nothing new arrives."""
    client, protocol = world.connect()
    protocol.transport.pause_reading()
    sent = bytes(range(256)) * 2_000
    client.sendall(sent)
    protocol.transport.resume_reading()
    world.until(lambda: len(protocol.data) == len(sent))

    assert sent == protocol.data


def test_the_end_right_behind_the_data(world: World) -> None:
    """An end that comes together with the last data is seen, too; so is one behind more data than one read takes."""
    for sent in (b"bye", b"x" * 150_000):
        client, protocol = world.connect()
        protocol.transport.pause_reading()
        client.sendall(sent)
        client.close()
        world.turn()
        protocol.transport.resume_reading()
        world.until(lambda protocol=protocol: protocol.said[-1] == "lost")

        assert sent == protocol.data


def test_reading_goes_on_after_a_pause_amid_the_data(world: World) -> None:
    """A protocol that pauses and resumes while it is given data misses nothing, also with output that waits."""

    def blink(protocol: Recorder, _data: bytes) -> None:
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()

    world.on_data = blink
    client, protocol = world.connect()
    protocol.transport.write(LOT)
    client.sendall(b"one")
    world.until(lambda: protocol.data == b"one")
    client.settimeout(SHORTLY_S)
    left = len(LOT)
    while left:
        with contextlib.suppress(TimeoutError):
            left -= len(client.recv(1 << 20))
        world.turn()
    client.sendall(b"two")
    world.until(lambda: protocol.data == b"onetwo")

    assert "lost" not in protocol.said


def test_what_stands_around_a_turn() -> None:
    """Before all reads of a turn one is called, after them the other; a connection is closed after both."""
    world = World()
    order: list[str] = []
    world.reactor._begin = lambda: order.append("begin")
    world.reactor._flush = lambda: order.append("flush")
    client, protocol = world.connect()
    order.clear()
    world.on_data = lambda one, data: (order.append(data.decode()), one.transport.close())
    client.sendall(b"data")
    world.until(lambda: protocol.said[-1] == "lost")
    world.close()

    assert ["begin", "data", "flush"] == order[:3]


def test_a_peer_that_resets(world: World) -> None:
    """A connection whose peer resets it ends, paused with unwritten output or not."""
    (one, reading), (other, waiting) = world.connect(), world.connect()
    waiting.transport.write(LOT)
    waiting.transport.pause_reading()
    for client in (one, other):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    world.until(lambda: reading.said[-1] == waiting.said[-1] == "lost")

    waiting.transport.write(b"x")
    assert 0 == waiting.transport.get_write_buffer_size()


def test_a_protocol_that_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises loses its connection, with a line in the log; the others go on."""

    def fail(protocol: Recorder, data: bytes) -> None:
        if data == b"bad":
            raise ValueError(data)

    world.on_data = fail
    (bad, failing), (good, steady) = world.connect(), world.connect()
    bad.sendall(b"bad")
    good.sendall(b"good")
    world.until(lambda: failing.said[-1] == "lost" and steady.data == b"good")

    assert "made" == steady.said[-1]
    assert "the others go on" in caplog.text


def test_one_that_cannot_be_opened(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A protocol that raises at the beginning loses its connection, and the next one is taken."""

    def fail(_protocol: Recorder) -> None:
        world.on_made = nothing
        raise ValueError

    world.on_made = fail
    first, protocol = world.connect()
    world.until(lambda: protocol.said[-1] == "lost")
    _, second = world.connect()

    assert b"" == first.recv(10)
    assert "made" == second.said[-1]
    assert "could not be opened" in caplog.text


class Exhausted:
    """A listening socket of a process that has no file left, the first time."""

    def __init__(self, bound: socket.socket) -> None:
        self._bound = bound
        self.family = bound.family
        self.setsockopt, self.fileno, self.close = bound.setsockopt, bound.fileno, bound.close
        self.calls = 0

    def _accept(self):
        self.calls += 1
        if self.calls == 1:
            raise OSError(24, "Too many open files")
        return self._bound._accept()


def test_without_files_newcomers_wait(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A process that has run out of files says so, does not spin, and takes the newcomer when it tries again."""
    (bound,) = bind_tcp("other", "mqtt", "127.0.0.1", 0)
    exhausted = Exhausted(bound)
    server = SocketServer(world.reactor, exhausted, lambda: Recorder(world))
    world.clients.append(socket.create_connection(bound.getsockname()))
    began = time.monotonic()
    world.until(lambda: world.protocols)

    assert time.monotonic() - began >= 0.9 * RETRY_S
    assert "Too many open files; newcomers wait" in caplog.text
    assert 1 == caplog.text.count("newcomers wait")
    server.close()
