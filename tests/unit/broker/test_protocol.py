"""The wire: one write per connection and loop turn, bounded output, nobody cut but who does not read."""

from __future__ import annotations

import os
import socket

import pytest

from mesimqtt.broker.protocol import SLICE_MIN, Listener
from mesimqtt.broker.wire import LINGER_S
from unit.broker.wire_world import FakeTransport, World

pytestmark = pytest.mark.interpreted_only(
    "the engine is a fake, and a compiled wire takes the engine's own Connection only"
)


def ends(transport):
    """Tell whether the way out has ended, whether both have, and whether it was cut."""
    return transport.is_ended, transport.is_closed, transport.is_aborted


def test_all_output_of_a_turn_is_one_write():
    """Three reads in one turn are answered by one write, and the flush is scheduled once."""
    world = World()
    protocol = world.connect()
    for data in (b"a", b"b", b"c"):
        protocol.data_received(data)
    assert 1 == len(world.turns)
    world.turn()

    assert [b"<a><b><c>"] == protocol.transport.written
    assert 9 == world.engine.counters.bytes_out


def test_a_turn_with_much_input_is_flushed_before_its_end():
    """A flood in one turn does not pile up in memory: output is written after every MiB of input."""
    world = World()
    protocol = world.connect()
    for _ in range(5):
        protocol.data_received(b"x" * 300_000)

    (written,) = protocol.transport.written
    assert 1024 * 1024 < written.count(b"x") < 4 * 300_000


def test_who_sends_without_end_lets_others_have_their_turn():
    """A read that takes long is taken in parts, one each loop turn, in order; meanwhile nothing more is read."""
    world = World()
    protocol, other = world.connect(), world.connect()
    world.engine.opened[0].cost_s = 0.003
    sent = bytes(range(256)) * 1024
    protocol.data_received(sent)
    assert protocol.transport.is_reading_paused
    assert 2 == len(world.engine.opened[0].out)
    other.data_received(b"me, too")
    turns = 0
    while world.turns:
        world.turn()
        turns += 1

    assert [b"<me, too>"] == other.transport.written
    assert sent == b"".join(protocol.transport.written).replace(b"><", b"")[1:-1]
    assert turns > 3
    assert not protocol.transport.is_reading_paused


def test_output_that_comes_outside_of_a_read_is_written_too():
    """What a commit puts out for a connection wakes the wire."""
    world = World()
    protocol = world.connect()
    world.engine.opened[0].send(b"committed")
    world.turn()

    assert [b"committed"] == protocol.transport.written


def test_a_plain_socket_is_written_directly_and_in_order():
    """What the socket takes goes at once; the rest follows through the transport, and nothing overtakes it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        world = World()
        transport = FakeTransport(ours)
        protocol = world.connect(transport, Listener("x", world.wire, connections_max=0, is_plain=True))
        connection = world.engine.opened[0]
        connection.send(b"first")
        world.turn()
        assert b"first" == theirs.recv(100)
        assert [] == transport.written

        big = os.urandom(8_000_000)
        connection.send(big)
        world.turn()
        connection.send(b"after")
        world.turn()
        received = b""
        while len(received) < len(big) - sum(map(len, transport.written[:1])):
            received += theirs.recv(1 << 20)

        assert big + b"after" == received + b"".join(transport.written)
        assert protocol in world.wire.blocked


def test_a_socket_that_takes_nothing_is_cut_after_its_time():
    """Nothing written for `stalled_s` cuts the connection; any progress begins the time anew."""
    world = World(stalled_s=30.0)
    protocol = world.connect()
    world.engine.opened[0].send(b"x" * 100)
    world.turn()
    world.now += 29
    protocol.transport.kept = 60
    world.wire.tick(world.now)
    world.now += 29
    world.wire.tick(world.now)
    assert not protocol.transport.is_aborted
    world.now += 1
    world.wire.tick(world.now)

    assert protocol.transport.is_aborted
    assert "does not read" == world.engine.opened[0].close_reason


def test_a_socket_that_took_everything_is_no_longer_watched():
    """A connection that caught up is as any other."""
    world = World()
    protocol = world.connect()
    world.engine.opened[0].send(b"x")
    world.turn()
    protocol.transport.kept = 0
    world.wire.tick(world.now)

    assert {} == world.wire.blocked
    assert not protocol.transport.is_aborted


def test_hand_over_pauses_while_too_much_is_unwritten():
    """The transport's high-water mark is `unwritten_max`, and the engine is told of both marks."""
    world = World(unwritten_max=1000)
    protocol = world.connect()
    protocol.pause_writing()
    protocol.resume_writing()

    assert (1000, 250) == protocol.transport.limits
    assert [True, False] == world.engine.opened[0].congested


def test_reading_pauses_as_the_engine_wants_it():
    """A connection that waits for a plugin or a commit is not read from."""
    world = World()
    protocol = world.connect()
    connection = world.engine.opened[0]
    connection.paused = True
    protocol.data_received(b"x")
    world.turn()
    assert protocol.transport.is_reading_paused
    connection.paused = False
    connection.send(b"y")
    world.turn()

    assert not protocol.transport.is_reading_paused


def test_a_connection_that_the_engine_closes_gets_its_last_output_first():
    """CONNACK with a refusal is written before the socket is closed; what is sent until then is taken, and no more."""
    world = World()
    protocol = world.connect()
    connection = world.engine.opened[0]
    connection.send(b"refused")
    connection.closing = True
    world.turn()

    assert [b"refused"] == protocol.transport.written
    assert (True, False, False) == ends(protocol.transport)
    world.wire.tick(world.now + LINGER_S - 0.01)
    assert (True, False, False) == ends(protocol.transport)
    world.wire.tick(world.now + LINGER_S)
    assert (True, True, False) == ends(protocol.transport)


def test_a_client_that_has_said_disconnect_is_closed_at_once():
    """Nothing more can come from it."""
    world = World()
    protocol = world.connect()
    connection = world.engine.opened[0]
    connection.send(b"acknowledged")
    connection.closing = connection.is_done = True
    world.turn()

    assert (False, True, False) == ends(protocol.transport)


def test_what_a_closed_client_had_sent_before_is_dropped():
    """The rest of a read, for which others had their turn, is not taken any more."""
    world = World()
    protocol = world.connect()
    connection = world.engine.opened[0]
    connection.cost_s = 1.0
    protocol.data_received(b"x" * 10_000)
    connection.closing = True
    world.turn()
    world.turn()

    assert b"<" + b"x" * SLICE_MIN + b">" == b"".join(protocol.transport.written)
    assert (True, False, False) == ends(protocol.transport)


def test_a_lost_socket_is_told_once_and_forgotten():
    """The engine learns of the loss; output that was still due for it is dropped."""
    world = World()
    protocol = world.connect()
    connection = world.engine.opened[0]
    connection.send(b"too late")
    protocol.connection_lost(None)
    world.turn()

    assert world.now == connection.lost_at
    assert {} == world.wire.protocols
    assert [] == connection.out


def test_connections_of_one_address_are_bounded():
    """Beyond `connections_per_address` a connection is dropped at accept; one that leaves makes room."""
    world = World(connections_per_address=2)
    first, _second, third = (world.connect() for _ in range(3))
    assert third.transport.is_aborted
    third.connection_lost(None)
    first.connection_lost(None)
    fourth = world.connect()

    assert not fourth.transport.is_aborted
    assert 3 == len(world.engine.opened)


def test_connections_of_one_listener_are_bounded():
    """The `max_connections` of amqtt's configuration holds per listener."""
    world = World()
    listener = Listener("small", world.wire, connections_max=1, is_plain=False)
    first = world.connect(listener=listener)
    second = world.connect(listener=listener)

    assert (False, True) == (first.transport.is_aborted, second.transport.is_aborted)


def test_work_in_portions_goes_on_after_each_flush():
    """Retained messages that were too many for one turn follow in the next ones, as long as there are any."""
    wire = World().wire
    wire.flush()
    wire.engine.replays["client"] = "waiting"
    wire.flush()
    wire.flush()

    assert 2 == wire.engine.portions


class FakeTraffic:
    """Holds who has sent more than so many bytes."""

    def __init__(self, most):
        self.most = most
        self.reads = 0

    def begin(self):
        self.reads += 1

    def end(self, connection, now):
        sent = sum(len(each) - 2 for each in connection.out)
        return 0.5 if sent > self.most else 0.0


def test_traffic_is_looked_at_however_small_the_reads_are():
    """A flood in small pieces is held as one in large ones: each read is charged, and reading pauses."""
    world = World()
    world.wire.traffic = traffic = FakeTraffic(5)
    protocol = world.connect()
    protocol.data_received(b"abc")
    assert not protocol.transport.is_reading_paused
    protocol.data_received(b"def")

    assert protocol.transport.is_reading_paused
    assert 2 == traffic.reads
    assert [0.5] == [seconds for seconds, _ in world.later]
