"""MQTT 5.0 and 3.1.1 on one server: every message crosses, whatever its sender and its receiver speak."""

from __future__ import annotations

import pytest

from conformance import wire311 as old_wire
from mesimqtt.testing.wire5 import connect, option, publish, suback, subscribe, will

PROPERTIES = {"content_type": "t", "response_topic": "r", "user_property": [("n", "v")], "payload_format_indicator": 1}
QOS_PAIRS = [(said, asked) for said in (0, 1, 2) for asked in (0, 1, 2)]


def say4(peer, topic, payload, qos, **options):
    """Publish as a client of 3.1.1, with the whole exchange."""
    peer.send(old_wire.publish(topic, payload, qos=qos, **options))
    if qos == 1:
        peer.expect(old_wire.puback(1))
    if qos == 2:
        peer.expect(old_wire.pubrec(1)).send(old_wire.pubrel(1)).expect(old_wire.pubcomp(1))


def hear4(peer, topic, payload, qos, **options):
    """Receive as a client of 3.1.1: exactly these bytes but for the packet id."""
    raw = peer.take()
    number = old_wire.packet_id_of(raw) if qos else 1

    assert old_wire.publish(topic, payload, qos=qos, packet_id=number, **options) == raw
    if qos == 1:
        peer.send(old_wire.puback(number))
    if qos == 2:
        peer.send(old_wire.pubrec(number)).expect(old_wire.pubrel(number)).send(old_wire.pubcomp(number))


@pytest.mark.sockets
@pytest.mark.parametrize(("said", "asked"), QOS_PAIRS)
def test_from_5_0_to_3_1_1(five, said, asked):
    """To a client of 3.1.1 goes the plain message: no properties, and not a byte of them.

    [MQTT-3.3.4-1] [MQTT-3.8.4-8]
    """
    peer = five.world.subscribed(("a", asked))
    five.connected("p").say("a", b"x", qos=said, **PROPERTIES, message_expiry_interval=100, topic_alias=1)

    hear4(peer, "a", b"x", min(said, asked))


@pytest.mark.sockets
@pytest.mark.parametrize(("said", "asked"), QOS_PAIRS)
def test_from_3_1_1_to_5_0(five, said, asked):
    """To a client of 5.0 a message of 3.1.1 has no properties but those of its subscription.

    [MQTT-2.2.2-1] [MQTT-3.3.4-3] [MQTT-3.8.4-8]
    """
    plain = five.subscribed(("a", asked), client_id="plain")
    tagged = five.subscribed(("a", asked), client_id="tagged", identifier=300)
    say4(five.world.connected("p"), "a", b"x", said)

    plain.hear("a", b"x", qos=min(said, asked))
    tagged.hear("a", b"x", qos=min(said, asked), subscription_identifier=[300])


@pytest.mark.parametrize("said", [1, 2])
def test_a_kept_message_crosses(five, said):
    """A message that waited crosses as well, both ways [MQTT-3.3.2-17] [MQTT-4.5.0-1]."""
    five.world.connected("old", clean=False).send(old_wire.subscribe(("a", 2))).expect(old_wire.suback(2)).cut()
    five.kept("new", ("a", 2)).cut()
    five.connected("p5").say("a", b"5", qos=said, **PROPERTIES)
    say4(five.world.connected("p4"), "a", b"4", said)
    old = five.world.connected("old", clean=False, resumed=True)
    new = five.back("new")

    first, second = old.take(), old.take()
    assert [b"5", b"4"] == [first[-1:], second[-1:]]
    assert [len(old_wire.publish("a", b"5", qos=said))] * 2 == [len(first), len(second)]
    new.hear("a", b"5", qos=said, **PROPERTIES)
    new.hear("a", b"4", qos=said)
    old.is_over = True


@pytest.mark.sockets
def test_a_retained_message_crosses(five):
    """Retained messages cross both ways; Retain As Published is for 5.0 alone.

    [MQTT-3.3.1-5] [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    """
    watcher = five.subscribed(("+", option(0, as_published=True)), client_id="watcher")
    old = five.world.subscribed(("+", 0), client_id="old")
    five.connected("p5").say("five", b"5", retain=True, **PROPERTIES)
    say4(five.world.connected("p4"), "four", b"4", 0, retain=True)

    watcher.hear("five", b"5", retain=True, **PROPERTIES)
    watcher.hear("four", b"4", retain=True)
    hear4(old, "five", b"5", 0)
    hear4(old, "four", b"4", 0)
    late = five.world.connected("late").send(old_wire.subscribe(("five", 0))).expect(old_wire.suback(0))
    hear4(late, "five", b"5", 0, retain=True)
    five.subscribed(("four", 0), client_id="late5").hear("four", b"4", retain=True)


def test_a_will_crosses(five):
    """Wills cross both ways [MQTT-3.1.2-8] [MQTT-3.3.2-17]."""
    old, new = five.world.subscribed(("w", 0), client_id="old"), five.subscribed(("w", 0), client_id="new")
    five.connected("c5", will=will("w", b"5", **PROPERTIES)).cut()
    five.world.connected("c4", will=("w", b"4", 0, False)).cut()

    new.hear("w", b"5", **PROPERTIES)
    new.hear("w", b"4")
    hear4(old, "w", b"5", 0)
    hear4(old, "w", b"4", 0)


def test_an_expired_message_does_not_reach_3_1_1(world, five):
    """Expiry counts for receivers of either version [MQTT-3.3.2-5]."""
    world.connected("old", clean=False).send(old_wire.subscribe(("a", 1))).expect(old_wire.suback(1)).cut()
    sender = five.connected("p")
    sender.say("a", b"short", qos=1, message_expiry_interval=5).say("a", b"long", qos=1, message_expiry_interval=500)
    world.pass_time(10)
    old = world.connected("old", clean=False, resumed=True)

    hear4(old, "a", b"long", 1)
    old.expect_nothing()


def test_a_session_changes_its_version(five):
    """A client that comes back with the other version finds its session [MQTT-3.1.2-5] [MQTT-3.2.2-3]."""
    five.world.connected("k", clean=False).send(old_wire.subscribe(("a", 1))).expect(old_wire.suback(1)).cut()
    sender = five.connected("p").say("a", b"1", qos=1, **PROPERTIES)
    peer = five.back("k")
    peer.hear("a", b"1", qos=1, **PROPERTIES)
    peer.send(subscribe(("b", option(1, as_published=True)), subscription_identifier=5)).expect(suback(1))
    peer.cut()
    sender.say("b", b"2", qos=1, **PROPERTIES)
    old = five.world.connected("k", clean=False, resumed=True)
    raw = old.take()

    assert old_wire.publish("b", b"2", qos=1, packet_id=old_wire.packet_id_of(raw))[1:] == raw[1:]
    old.send(old_wire.puback(old_wire.packet_id_of(raw)))


def test_a_take_over_between_versions(five):
    """The same client id is the same client in either version [MQTT-3.1.4-3]."""
    old = five.world.connected("c")
    new = five.connected("c")
    old.expect_closed()
    newer = five.world.connected("c")

    new.expect_refused(0x8E)
    newer.expect_nothing()


def test_a_clean_session_of_3_1_1_ends_a_session_of_5_0(five):
    """Clean session 1 discards what there is, and leaves nothing [MQTT-3.1.2-4] [MQTT-4.1.0-2]."""
    five.kept("k", ("a", 1)).cut()
    five.world.connected("k").leave()

    five.gone("k").expect_nothing()


def test_3_1_1_keeps_its_session_as_long_as_the_server_allows(world, five):
    """Clean session 0 has no interval of its own: nothing is told of one, and it does not end with the connection.

    [MQTT-3.1.2-23]
    """
    world.connected("k", clean=False).cut()
    world.pass_time(100)

    world.connected("k", clean=False, resumed=True).leave()


def test_no_property_of_5_0_is_read_as_3_1_1(five):
    """What the versions write differently is read by the version of its connection [MQTT-2.2.2-1]."""
    old = five.world.subscribed(("a", 0), client_id="old")
    five.world.connected("p4").send(old_wire.publish("a", b"\x03\x0b\x01\x02x"))
    new = five.subscribed(("b", 0), client_id="new")
    five.connected("p5").send(publish("b", b"\x03\x0b\x01\x02x"))

    hear4(old, "a", b"\x03\x0b\x01\x02x", 0)
    new.hear("b", b"\x03\x0b\x01\x02x")


def test_an_empty_client_id_in_both_versions(five):
    """3.1.1 is told nothing of its client id, 5.0 is [MQTT-3.2.2-16]."""
    five.world.connected("").leave()

    assert five.open().send(connect("")).take().assigned_client_identifier
