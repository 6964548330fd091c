"""What an observer of the engine sees."""

from __future__ import annotations

from unit.engine.both_ends import DISCONNECT, FakeClaim, Network, ack, publish, subscribe, unsubscribe


class FakeObserver:
    """Records what it is told."""

    def __init__(self, *, packets):
        self.packets = packets
        self.calls = []

    def connected(self, connection):
        self.calls.append(("connected", connection.client_id))

    def reauthenticated(self, connection):
        self.calls.append(("reauthenticated", connection.client_id))

    def disconnected(self, connection, reason):
        self.calls.append(("disconnected", connection.client_id, reason))

    def subscribed(self, connection, topic_filter, qos):
        self.calls.append(("subscribed", topic_filter, qos))

    def unsubscribed(self, connection, topic_filter):
        self.calls.append(("unsubscribed", topic_filter))

    def published(self, connection, topic, payload, qos, retain):
        self.calls.append(("published", topic, payload, qos, retain))

    def packet(self, connection, packet_type, size, sent):
        self.calls.append(("packet", packet_type, size, sent))


def test_an_observer_hears_of_sessions_and_subscriptions():
    """Connections, subscriptions and their ends are told, refused filters are not."""
    network = Network(observer=FakeObserver(packets=False))
    network.gate.denied.add(("subscribe", "no"))
    client = network.connected("c")
    client.send(subscribe(("a", 1), ("no", 0)), unsubscribe("a", "never"), publish("a", b"x"), DISCONNECT)

    assert [
        ("connected", "c"),
        ("subscribed", "a", 1),
        ("unsubscribed", "a"),
        ("disconnected", "c", "DISCONNECT"),
    ] == network.observer.calls


def test_an_observer_of_packets_sees_each_packet_and_message():
    """With `packets`, every packet received and every message taken is told, also where they form a run."""
    network = Network(observer=FakeObserver(packets=True), claim=FakeClaim())
    network.gate.denied.add(("publish", "no"))
    client = network.connected("c")
    client.raw()
    network.observer.calls.clear()
    client.send(
        *(publish("a", b"x", qos=1, packet_id=number) for number in (1, 2)), publish("m/x", b"y"), publish("no", b"z")
    )
    client.send(ack("PUBACK", 1), ack("PUBACK", 2))
    network.engine.sent(client.connection, ack("PUBACK", 1) + publish("a", bytes(200)))

    assert [
        ("published", "a", b"x", 1, False),
        ("packet", 3, 8, False),
        ("published", "a", b"x", 1, False),
        ("packet", 3, 8, False),
        ("published", "m/x", b"y", 0, False),
        ("packet", 3, 8, False),
        ("packet", 3, 7, False),
        ("packet", 4, 4, False),
        ("packet", 4, 4, False),
        ("packet", 4, 4, True),
        ("packet", 3, 206, True),
    ] == network.observer.calls


def test_an_observer_hears_of_a_renewed_identity():
    """Whoever notes until when a client may stay is told that its identity is another."""
    network = Network(observer=FakeObserver(packets=False))
    client = network.connected("c")
    network.engine.identity_changed(client.connection)

    assert [("connected", "c"), ("reauthenticated", "c")] == network.observer.calls
