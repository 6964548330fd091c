"""Bounds: slow readers, oversized packets, waiting for the gate; nobody else suffers."""

from __future__ import annotations

import pytest

from unit.engine.both_ends import PINGREQ, PINGRESP, Message, Network, ack, length, packet, publish, subscribe, text


def test_a_slow_reader_is_bounded_and_alone():
    """While a reader is congested its messages are queued up to the bound, in order; others get all at once."""
    network = Network(queue_messages_max=10, inflight_max=4)
    slow, good = network.subscribed(("a", 1), client_id="slow"), network.subscribed(("a", 1), client_id="good")
    slow.connection.set_congested(True)
    publisher = network.connected("p")
    for number in range(8):
        publisher.send(publish("a", b"0/%d" % number), publish("a", b"1/%d" % number, qos=1))
        good.send(*(ack("PUBACK", packet.packet_id) for packet in good.received() if packet.qos))

    assert [] == slow.received()
    for number in range(8, 20):
        publisher.send(publish("a", b"0/%d" % number))

    assert 10 == network.engine.counters.dropped
    slow.connection.set_congested(False)

    assert [b"0/%d" % n for n in range(10)] + [b"1/%d" % n for n in range(4)] == [m.payload for m in slow.received()]
    rest = slow.send(*(ack("PUBACK", 1 + number) for number in range(4)))

    assert [b"1/%d" % n for n in range(4, 8)] == [message.payload for message in rest]


def test_the_queue_of_a_slow_reader_is_bounded_in_bytes():
    """QoS 0 messages for a congested reader are dropped beyond `queue_bytes_max`."""
    network = Network(queue_bytes_max=5000)
    slow = network.subscribed(("a", 0))
    slow.connection.set_congested(True)
    network.connected("p").send(publish("a", bytes(2000)), publish("a", bytes(2001)), publish("a", bytes(2002)))

    assert 1 == network.engine.counters.dropped


@pytest.mark.parametrize("qos", [0, 1])
def test_all_slow_readers_together_are_bounded(qos):
    """Whatever each may hold, together they hold at most `queue_bytes_total`; who is gone makes room again."""
    network = Network(queue_bytes_max=5000, queue_bytes_total=6000)
    slow = [network.subscribed((f"a/{n}", qos), client_id=f"slow-{n}") for n in range(3)]
    for client in slow:
        client.connection.set_congested(True)
    publisher = network.connected("p")
    for n in range(3):
        publisher.send(publish(f"a/{n}", bytes(2500), qos=qos))

    assert 1 == network.engine.counters.dropped
    slow[0].connection.lost(network.now)
    network.engine.tick(network.now)
    publisher.send(publish("a/2", bytes(2500), qos=qos))

    assert 1 == network.engine.counters.dropped
    slow[1].connection.set_congested(False)
    slow[2].connection.set_congested(False)

    assert [1, 1] == [len(client.received()) for client in slow[1:]]
    assert 0 == network.engine.held_bytes


def test_who_asks_on_and_never_reads_is_cut():
    """PINGREQs of a client that does not read its answers are answered up to the bound, then it is closed."""
    network = Network(unwritten_max=1000)
    client = network.connected("c")
    client.connection.set_congested(True)
    for _ in range(10):
        client.connection.receive(PINGREQ * 60, network.now)

    assert "does not read" == client.closed
    assert len(b"".join(client.connection.out)) <= 1200


def test_reading_again_forgives(network):
    """A client that reads in between may be congested again and again."""
    client = network.connected("c")
    for _ in range(5):
        client.connection.set_congested(True)
        client.send(PINGREQ * 100_000)
        client.connection.set_congested(False)

    assert not client.closed


def test_a_packet_over_the_limit_closes_at_its_length(network):
    """A packet over 1 MiB is closed when its length is known, nothing of it is kept."""
    client = network.connected("c")
    client.send(b"\x30" + length(1024 * 1024 + 1))

    assert "packet too large" == client.closed


@pytest.mark.parametrize("chunk", [1 << 20, 65_536, 1000])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_oversized_payload_is_thrown_away_while_it_is_read(network, qos, chunk):
    """A payload over 256 KiB is not kept; it is told, acknowledged, and what follows is processed."""
    watcher = network.subscribed(("#", 0), client_id="watcher")
    client = network.connected("c")
    data = publish("a", bytes(600_000), qos=qos, packet_id=3) + PINGREQ
    answers, kept = [], 0
    for start in range(0, len(data), chunk):
        answers += client.send(data[start : start + chunk])
        kept = max(kept, len(client.connection.pending or b""))

    expected = {0: [], 1: [("PUBACK", 3)], 2: [("PUBREC", 3)]}[qos]

    assert [*expected, PINGRESP] == answers
    assert kept < 70_000
    assert [("publish", "a", "limit")] == network.gate.audits
    assert [] == watcher.received()


def test_a_payload_of_exactly_the_limit_passes(network):
    """256 KiB are delivered, one byte more is not."""
    watcher = network.subscribed(("a", 0))
    client = network.connected("c")
    client.send(publish("a", bytes(262_144)), publish("a", bytes(262_145)))

    assert [262_144] == [len(message.payload) for message in watcher.received()]


def test_an_oversized_payload_does_not_excuse_a_malformed_head(network):
    """The head of an oversized PUBLISH is checked before its payload is awaited."""
    body = bytes(300_000)
    heads = [
        packet(0x36, text("a") + b"\0\1" + body),
        packet(0x38, text("a") + body),
        packet(0x30, text("a/#") + body),
        packet(0x32, text("a") + b"\0\0" + body),
        packet(0x30, b"\xff\xff" + bytes(70_000) + body),
    ]
    for head in heads[:4]:
        client = network.connected("c")
        client.send(head[:100])

        assert client.closed
    client = network.connected("c")
    client.send(heads[4])

    assert client.closed


def test_waiting_for_the_gate_pauses_and_is_bounded():
    """A publish that the gate cannot decide yet pauses the connection; input beyond the bound closes it."""
    network = Network(packet_max=10_000)
    watcher = network.subscribed(("#", 0), client_id="watcher")
    network.gate.unknown.add(("publish", "a"))
    client = network.connected("c")
    client.send(publish("b", b"1"), publish("a", b"2"), publish("b", b"3"))

    assert client.connection.paused
    assert [b"1"] == [message.payload for message in watcher.received()]
    network.gate.unknown.clear()
    client.connection.resume(network.now)

    assert not client.connection.paused
    assert [b"2", b"3"] == [message.payload for message in watcher.received()]
    network.gate.unknown.add(("publish", "c"))
    client.send(publish("c"))
    for _ in range(4):
        client.send(publish("b", bytes(4000)))

    assert client.closed


def test_a_publisher_waits_for_the_rights_of_its_receivers(network):
    """A route is built when the gate knows of every receiver; then the publish goes on by itself."""
    watcher = network.subscribed(("a", 0))
    network.gate.unknown.add(("receive", "a"))
    publisher = network.connected("p")

    assert [] == publisher.send(publish("a", b"x", qos=1))
    network.engine.publish("a", b"server's", 0, False)
    network.gate.unknown.clear()
    watcher.connection.resume(network.now)

    assert [("PUBACK", 1)] == publisher.received()
    assert [Message("a", b"x"), Message("a", b"server's")] == watcher.received()


def test_a_receiver_that_goes_does_not_hold_the_publisher(network):
    """If the receiver whose right is not known leaves, the publish goes on without it."""
    watcher = network.subscribed(("a", 0))
    network.gate.unknown.add(("receive", "a"))
    publisher = network.connected("p")
    publisher.send(publish("a", b"x", qos=1))
    watcher.lose()

    assert [("PUBACK", 1)] == publisher.received()


def test_an_idle_connection_holds_no_containers(network):
    """A connection with one subscription has made no queue, set or cache."""
    client = network.connected("c")
    client.connection.receive(subscribe(("a", 1)), network.now)
    connection, session = client.connection, client.connection.session

    assert (None, None, None, None) == (connection.routes, connection.pending, connection.waiters, connection.acked)
    assert (None, None, None, None) == (session.window, session.kept, session.incoming, session.held)


def test_closed_connections_leave_nothing_behind(network):
    """After all clients left, in whatever way, the engine is as it was."""
    for number in range(50):
        client = network.subscribed(("a", 1), (f"b/{number}/+", 0), client_id=f"c{number}", will=("a", b"", 1, False))
        client.send(publish("a", b"x", qos=2))
        client.lose() if number % 2 else client.send(b"\xe0\0")
    engine = network.engine

    assert (0, {}, {}) == (engine.counters.connected, engine.sessions, engine._users)
    assert {} == engine.wheel._buckets
    assert {} == engine.tree._exact
    assert not engine.tree._root.children


def test_the_broker_is_woken_once_per_turn(network):
    """`wake` is called when the first connection has output, not for each."""
    subscribers = [network.subscribed(("a", 0), client_id=f"s{number}") for number in range(5)]
    publisher = network.connected("p")
    before = network.wakes
    publisher.connection.receive(publish("a", b"x") + publish("a", b"y") + PINGREQ, network.now)

    assert before + 1 == network.wakes
    assert {client.connection for client in [*subscribers, publisher]} == set(network.engine.dirty)
