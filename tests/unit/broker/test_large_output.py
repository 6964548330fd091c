"""Large output for many: a megabyte at a time, and nobody else waits for it."""

from __future__ import annotations

import socket

import pytest

from unit.broker.wire_world import FakeTransport, World

pytestmark = pytest.mark.interpreted_only(
    "the engine is a fake, and a compiled wire takes the engine's own Connection only"
)


def test_large_output_for_many_waits_for_its_turn():
    """A megabyte at a time is written of what is large; small output, and that of later turns, does not wait for it."""
    world = World()
    crowd = [world.connect() for _ in range(30)]
    friend = world.connect()
    large = [b"1" * 100_000, b"2" * 100_000]
    for number, _ in enumerate(crowd):
        world.engine.opened[number].send(large[0])
    friend.data_received(b"hi")
    world.turn()

    assert 12 == sum(bool(each.transport.written) for each in crowd)
    assert [b"<hi>"] == friend.transport.written
    world.engine.opened[29].send(large[1])  # who waits stays in its place
    friend.data_received(b"ho")
    for _ in range(3):
        world.turn()
    assert [b"<hi>", b"<ho>"] == friend.transport.written
    assert [[large[0]]] * 29 + [[b"".join(large)]] == [each.transport.written for each in crowd]
    assert [] == world.turns


def test_large_output_comes_however_much_is_small():
    """Where small output alone is more than a turn's share, one large one is written a turn; at the end, all are."""
    world = World()
    for _ in range(24):
        world.connect()
    some, many = world.engine.opened[:4], world.engine.opened[4:]

    def talk():
        for each in many:
            each.send(b"s" * 63_000)

    talk()
    for each in some:
        each.send(b"l" * 100_000)
    for wanted in (1, 2):
        world.wire.flush()
        talk()
        assert wanted <= sum(not each.out for each in some)
    world.wire.is_leaving = True
    world.wire.flush()
    assert not any(each.out for each in (*some, *many))


def test_who_is_lost_while_output_waits_is_passed_over():
    """A client that goes away while its large output waits for its turn holds up nobody, and leaves nothing."""
    world = World()
    crowd = [world.connect() for _ in range(15)]
    for each in world.engine.opened:
        each.send(b"l" * 100_000)
    world.turn()
    crowd[12].connection_lost(None)
    world.turn()

    assert [1] * 12 + [0] + [1] * 2 == [len(each.transport.written) for each in crowd]
    assert not any(each.out for each in world.engine.opened)


def test_what_a_peer_has_not_taken_is_known():
    """What was written and did not arrive on the other machine; nothing of that where there is no socket."""
    world = World()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(listening.getsockname())
        ours, _ = listening.accept()
        with ours:
            world.connect(FakeTransport(ours))
            world.connect(FakeTransport())
            ours.setblocking(False)
            written = ours.send(bytes(100_000))
            mute, unknown = world.engine.opened
            assert written > world.wire.untaken(mute) > 0
            assert 0 == world.wire.untaken(unknown)
            while written:
                written -= len(client.recv(written))
        assert 0 == world.wire.untaken(mute)  # closed by now
