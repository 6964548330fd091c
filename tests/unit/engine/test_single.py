"""A read that is exactly one packet: the short way does what the long way does."""

from __future__ import annotations

import pytest

from mesimqtt.testing import wire5
from unit.engine.both_ends import Message, Network, ack, connect, packet, publish, subscribe, text

READS = {
    "a message": publish("a", b"hello", qos=1, packet_id=7),
    "an empty one": publish("a", b"", qos=1, packet_id=7),
    "one whose length takes two bytes": publish("a", b"x" * 200, qos=1, packet_id=7),
    "one whose length takes three": publish("a", b"x" * 20_000, qos=1, packet_id=7),
    "one whose length takes a byte too many": b"\x32\x8a\0" + text("a") + b"\0\7hello",
    "one to nobody": publish("b", b"hello", qos=1, packet_id=7),
    "one on a new topic": publish("c", b"hello", qos=1, packet_id=7),
    "packet id 0": publish("a", b"hello", qos=1, packet_id=0),
    "no topic": packet(0x32, text("") + b"\0\7hello"),
    "a topic that reaches past its packet": packet(0x32, b"\0\xff" + b"a\0\7hello"),
    "a packet id that does": packet(0x32, text("hello") + b"\0"),
    "hardly anything": packet(0x32, b"\0\1a"),
    "an acknowledgement": ack("PUBACK", 9),
    "one of packet id 0": ack("PUBACK", 0),
    "one that is too long": packet(0x40, b"\0\1\0"),
    "two messages": publish("a", b"1", qos=1, packet_id=7) + publish("a", b"2", qos=1, packet_id=8),
    "one and a half": publish("a", b"hello", qos=1, packet_id=7) + publish("a", b"2", qos=1, packet_id=8)[:5],
    "QoS 0": publish("a", b"hello"),
    "an empty one of QoS 0": publish("a", b""),
    "QoS 0, with a length of two bytes": publish("a", b"x" * 200),
    "QoS 0, with a length of three": publish("a", b"x" * 20_000),
    "QoS 0, with a length of a byte too many": b"\x30\x88\0" + text("a") + b"hello",
    "QoS 0, to nobody": publish("b", b"hello"),
    "QoS 0, on a new topic": publish("c", b"hello"),
    "QoS 0, no topic": packet(0x30, text("") + b"hello"),
    "QoS 0, a topic that reaches past its packet": packet(0x30, b"\0\xff" + b"ahello"),
    "QoS 0, two messages": publish("a", b"1") + publish("a", b"2"),
    "QoS 0, one and a half": publish("a", b"hello") + publish("a", b"2")[:3],
    "QoS 0, as large as can be": publish("a", b"x" * 10_000),
    "QoS 0, retained": publish("a", b"hello", retain=True),
    "QoS 2": publish("a", b"hello", qos=2, packet_id=7),
    "retained": publish("a", b"hello", qos=1, packet_id=7, retain=True),
    "repeated": publish("a", b"hello", qos=1, packet_id=7, dup=True),
}


def outcome(reads: list[bytes], *, inflight_max: int = 64) -> list[object]:
    """Return all that can be seen of a publisher's reads, once the routes of `a` and `b` are known."""
    network = Network(inflight_max=inflight_max, payload_max=10_000)
    subscribers = [network.subscribed(("a", qos), client_id=f"s{qos}") for qos in (1, 2)]
    publisher = network.connected("p")
    for topic in ("a", "b"):
        publisher.send(publish(topic, b"first", qos=1, packet_id=1))
    for read in reads:
        publisher.connection.receive(read, network.now)
    counters = network.engine.counters
    return [
        publisher.raw(),
        publisher.closed,
        [subscriber.raw() for subscriber in subscribers],
        [sorted(subscriber.connection.session.inflight) for subscriber in subscribers],
        (counters.messages_in, counters.messages_out, counters.acks_in, counters.acks_out, counters.bytes_in),
    ]


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("inflight_max", [1, 64])
def test_one_read_is_as_good_as_two(name, inflight_max):
    """What comes in two parts takes the long way: nobody can tell the difference, whatever it is."""
    read = READS[name]
    whole = outcome([read], inflight_max=inflight_max)

    assert whole == outcome([read[:1], read[1:]], inflight_max=inflight_max)


@pytest.mark.parametrize("to", [4, 5])
@pytest.mark.parametrize("by", [4, 5])
@pytest.mark.parametrize("properties", [b"", b"\x01\x01", b"\x26\0\1k\0\1v"], ids=["none", "format", "user"])
def test_one_read_of_qos_0_is_as_good_as_two_for_either_version(by, to, properties):
    """From and to clients of 3.1.1 and 5.0, with properties and without: in one part and in two."""

    def heard(*parts: bytes) -> list[object]:
        network = Network()
        subscriber, publisher = network.client(), network.client()
        for client, version, name in ((subscriber, to, "s"), (publisher, by, "p")):
            client.connection.receive(wire5.connect(name) if version == 5 else connect(name), network.now)
        asked = wire5.subscribe(("a", wire5.option(0))) if to == 5 else subscribe(("a", 0))
        subscriber.connection.receive(asked, network.now)
        for part in (packet(0x30, text("a") + (b"\0" if by == 5 else b"") + b"known"), *parts):
            publisher.connection.receive(part, network.now)
        counters = network.engine.counters
        return [subscriber.raw(), publisher.raw(), publisher.closed, counters.messages_in, counters.messages_out]

    read = packet(0x30, text("a") + (bytes((len(properties),)) + properties if by == 5 else b"") + b"hello")

    assert heard(read) == heard(read[:5], read[5:])
    assert b"hello" in bytes(heard(read)[0])


def test_a_message_of_qos_0_waits_for_who_does_not_read(network):
    """What comes in one read is held for a slow reader, and given to him when he reads again."""
    subscriber, publisher = network.subscribed(("a", 0)), network.connected("p")
    publisher.send(publish("a", b"first"))
    subscriber.received()
    subscriber.connection.set_congested(True)
    publisher.connection.receive(publish("a", b"second"), network.now)
    while_slow = subscriber.received()
    subscriber.connection.set_congested(False)

    assert [] == while_slow
    assert [b"second"] == [message.payload for message in subscriber.received()]


@pytest.mark.parametrize("cut", [1, 100])
def test_a_length_longer_than_it_need_be_is_malformed_however_it_comes(network, cut):
    """MQTT 5.0 [MQTT-1.5.5-1], on a topic that is known."""
    subscriber, publisher = network.client(), network.client()
    for part in (wire5.connect("s"), wire5.subscribe(("a", wire5.option(1)))):
        subscriber.connection.receive(part, network.now)
    read = b"\x32\x8b\0" + text("a") + b"\0\7\0hello"
    plain = [wire5.publish("a", b"plain", qos=1, packet_id=number) for number in (1, 2)]
    for part in (wire5.connect("p"), *plain, read[:cut], read[cut:]):
        publisher.connection.receive(part, network.now)

    assert publisher.closed
    assert b"hello" not in subscriber.raw()


def test_a_message_whose_last_byte_is_missing_is_not_taken_for_another():
    """The third byte of its length is never read as part of a topic, though what follows is a known one."""
    network = Network(payload_max=100_000)
    rest = b"b" * 97 + b"cc" + b"d" * 156  # topic, packet id, and what follows: with its length "a" before it 256 bytes
    known = (b"a" + rest).decode()
    subscriber, publisher = network.subscribed((known, 1)), network.connected("p")
    publisher.send(publish(known, b"first", qos=1, packet_id=1))
    subscriber.received()
    body = b"\0a" + rest + b"e" * (0x4000 + 300 - 2 - len(rest))
    read = packet(0x32, body)
    publisher.connection.receive(read[:-1], network.now)

    assert [] == subscriber.received()


def test_who_gets_his_own_message_has_its_acknowledgement_before_it(network):
    """PUBACK stands before the message, for a client that is subscribed to what it publishes."""
    client = network.subscribed(("a", 1))
    client.send(publish("a", b"first", qos=1, packet_id=1))
    answer = client.send(publish("a", b"second", qos=1, packet_id=2))

    assert ("PUBACK", 2) == answer[0]
    assert isinstance(answer[1], Message)
    assert b"second" == answer[1].payload


def test_receivers_are_written_to_before_the_sender(network):
    """The one waits for a message, the other for no more than its acknowledgement."""
    subscriber, publisher = network.subscribed(("a", 1)), network.connected("p")
    publisher.send(publish("a", b"first", qos=1, packet_id=1))
    subscriber.received()
    network.engine.dirty.clear()
    publisher.connection.receive(publish("a", b"second", qos=1, packet_id=2), network.now)

    assert [subscriber.connection, publisher.connection] == network.engine.dirty


def test_a_route_that_changed_is_found_anew(network):
    """Who subscribed meanwhile gets the next message."""
    publisher = network.connected("p")
    publisher.send(publish("a", b"first", qos=1, packet_id=1))
    subscriber = network.subscribed(("a", 1))
    publisher.send(publish("a", b"second", qos=1, packet_id=2))

    assert [b"second"] == [message.payload for message in subscriber.received()]
