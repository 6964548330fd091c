"""SUBSCRIBE and UNSUBSCRIBE: codes in order, bounds, denials, pending answers."""

from __future__ import annotations

import pytest

from unit.engine.both_ends import PINGREQ, PINGRESP, Message, Network, packet, publish, subscribe, text, unsubscribe


def test_exactly_the_forbidden_filters_are_refused(network):
    """Each filter has its own code, in the order of the filters [MQTT-3.8.4-5]; denials are audited."""
    network.gate.denied |= {("subscribe", "b"), ("subscribe", "#")}
    client = network.connected("c")

    assert [("SUBACK", 7, [2, 0x80, 1, 0x80])] == client.send(
        subscribe(("a", 2), ("b", 0), ("c", 1), ("#", 0), packet_id=7)
    )
    assert [("subscribe", "b", "no"), ("subscribe", "#", "no")] == network.gate.audits
    assert {"a": 2, "c": 1} == client.connection.session.subscriptions


@pytest.mark.parametrize(
    "topic_filter",
    [
        "a/#/b",
        "a#",
        "a+/b",
        "+a",
        "##",
        "$share//x",
        "$share/g",
        "$share/#",
        "$share/g/",
        "$share/+/t",
        "$share/g/a#",
        "x" * 513,
        "/" * 32,
    ],
)
def test_a_filter_that_cannot_be_is_refused(network, topic_filter):
    """An impossible filter is 0x80 and never a plain subscription."""
    client = network.connected("c")

    assert [("SUBACK", 1, [0x80])] == client.send(subscribe((topic_filter, 0)))
    assert {} == client.connection.session.subscriptions


@pytest.mark.parametrize(
    "data",
    [
        packet(0x82, b"\0\1"),
        packet(0x82, b"\0"),
        packet(0x82, b""),
        packet(0x82, b"\0\0" + text("a") + b"\0"),
        packet(0x82, b"\0\1" + text("a") + b"\3"),
        packet(0x82, b"\0\1" + text("a") + b"\4"),
        packet(0x82, b"\0\1" + text("a")),
        packet(0x82, b"\0\1" + text("") + b"\0"),
        packet(0x82, b"\0\1\0\5abc"),
        packet(0x82, b"\0\1" + text(b"a\0b") + b"\0"),
        packet(0x82, b"\0\1" + text(b"\xc0\x80") + b"\0"),
        packet(0x82, b"\0\1" + text(b"\xed\xa0\x80") + b"\0"),
        packet(0x80, b"\0\1" + text("a") + b"\0"),
        packet(0xA2, b"\0\1"),
        packet(0xA2, b"\0\0" + text("a")),
        packet(0xA2, b"\0\1\0\5abc"),
        packet(0xA0, b"\0\1" + text("a")),
    ],
)
def test_malformed_subscriptions_close(network, data):
    """Empty, truncated, QoS 3, packet id 0, ill-formed text: closed, and nothing after it is processed."""
    watcher = network.subscribed(("x", 0), client_id="watcher")
    client = network.connected("c")

    assert [] == client.send(data, publish("x", b"after"))
    assert client.closed
    assert [] == watcher.received()


def test_filters_are_bounded_per_session():
    """A SUBSCRIBE beyond `filters_max` gets 0x80 for the excess; replacing and room made by UNSUBSCRIBE work."""
    network = Network(filters_max=3)
    client = network.connected("c")

    assert [("SUBACK", 1, [0, 0])] == client.send(subscribe(("a", 0), ("b", 0)))
    assert [("SUBACK", 1, [1, 0, 0x80])] == client.send(subscribe(("a", 1), ("c", 0), ("d", 0)))
    assert [("UNSUBACK", 1), ("SUBACK", 1, [0])] == client.send(unsubscribe("b", "never"), subscribe(("d", 0)))
    assert {"a": 1, "c": 0, "d": 0} == client.connection.session.subscriptions


def test_ten_thousand_filters_in_one_packet_cost_little():
    """A huge SUBSCRIBE gets a code for each filter, and only the first ones are looked at."""
    network = Network()
    client = network.connected("c")
    ((_, _, codes),) = client.send(subscribe(*((f"f/{number}", 0) for number in range(10_000))))

    assert [0] * 200 + [0x80] * 9_800 == codes
    assert 200 == len(client.connection.session.subscriptions)


def test_subscribing_again_replaces_and_sends_retained_again(network):
    """The same filter again replaces the QoS, and retained messages are sent again [MQTT-3.8.4-3]."""
    network.connected("p").send(publish("a", b"old", qos=1, retain=True))
    client = network.subscribed(("a", 1))

    assert [("SUBACK", 1, [0]), Message("a", b"old", retain=True)] == client.send(subscribe(("a", 0)))
    assert {"a": 0} == client.connection.session.subscriptions


def test_unsubscribing_from_nothing_is_acknowledged(network):
    """UNSUBACK follows although nothing was removed [MQTT-3.10.4-5]."""
    assert [("UNSUBACK", 9)] == network.connected("c").send(unsubscribe("never", packet_id=9))


def test_a_subscribe_waits_for_the_gate_as_a_whole(network):
    """While one of its filters is not decided, none takes effect; later packets wait, in order."""
    network.gate.denied.add(("subscribe", "a"))
    network.gate.unknown.add(("subscribe", "b"))
    client = network.connected("c")

    assert [] == client.send(subscribe(("a", 0), ("c", 0), ("b", 0)), PINGREQ)
    assert {} == client.connection.session.subscriptions
    assert [] == network.gate.audits
    assert [] == client.send(publish("c", b"x"))
    network.gate.unknown.clear()
    client.connection.resume(network.now)

    assert [("SUBACK", 1, [0x80, 0, 0]), PINGRESP, Message("c", b"x")] == client.received()
    assert [("subscribe", "a", "no")] == network.gate.audits


def test_a_retained_message_waits_for_the_gate(network):
    """The right to receive a retained message may take its time too: it follows, and the SUBACK does not wait for it.

    The next ones are asked about meanwhile, but not all of a hundred thousand at once.
    """
    network.connected("p").send(*(publish(f"t/{number:03}", b"old", retain=True) for number in range(200)))
    topics = [f"t/{number:03}" for number in range(200)]
    network.gate.unknown |= {("receive", topic) for topic in topics}
    network.gate.denied.add(("receive", "t/007"))
    client = network.connected("c")

    assert [("SUBACK", 1, [0])] == client.send(subscribe(("#", 0)))
    network.engine.go_on()
    assert [] == client.received()
    assert 51 == len({topic for _, topic in network.gate.asked})
    assert 55 > len(network.gate.asked)
    network.gate.unknown.clear()
    network.engine.go_on()

    assert [topic for topic in topics if topic != "t/007"] == sorted(message.topic for message in client.received())
    assert {} == network.engine.replays


def test_all_filters_are_asked_about_at_once(network):
    """A gate that needs time for an answer needs it once for a SUBSCRIBE, not for one filter after another."""
    filters = [(f"f/{number}", 0) for number in range(5)]
    network.gate.unknown |= {("subscribe", topic) for topic, _ in filters}
    client = network.connected("c")

    assert [] == client.send(subscribe(*filters))
    assert [("c", topic) for topic, _ in filters] == network.gate.asked
    network.gate.unknown.clear()
    client.connection.resume(network.now)

    assert [("SUBACK", 1, [0] * 5)] == client.received()


def test_what_is_asked_about_is_bounded_by_what_may_be_granted():
    """Thousands of filters in one packet are not as many questions."""
    network = Network(filters_max=3)
    filters = [(f"f/{number}", 0) for number in range(50)]
    network.gate.unknown |= {("subscribe", topic) for topic, _ in filters}
    client = network.connected("c")

    assert [] == client.send(subscribe(*filters))
    assert 3 == len(network.gate.asked)


def test_many_retained_messages_are_bounded_by_bytes():
    """A wildcard brings them in portions of some bytes, one after each flush; none is dropped."""
    network = Network(unwritten_max=10_000)
    network.connected("p").send(*(publish(f"t/{number}", bytes(990), retain=True) for number in range(20)))
    client = network.subscribed(("#", 0))
    portions = [len(client.rest)]
    while network.engine.replays:
        network.engine.go_on()
        portions.append(len(client.received()))

    assert [10, 10] == portions
    assert 0 == network.engine.counters.dropped
