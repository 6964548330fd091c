"""MQTT 3.1.1, sections 3.8 to 3.11: SUBSCRIBE, UNSUBSCRIBE and their answers."""

from __future__ import annotations

import pytest

from conformance.wire311 import (
    PINGREQ,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)

pytestmark = pytest.mark.sockets


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_subscribe_is_answered_with_the_qos_granted(world, qos):
    """SUBSCRIBE gets a SUBACK with its packet id and the QoS granted, which is what was asked for.

    [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.9.3-2] [MQTT-2.3.1-7]
    """
    world.connected().send(subscribe(("a/b", qos), packet_id=0x1234)).expect(b"\x90\x03\x12\x34" + bytes([qos]))


def test_codes_are_in_the_order_of_the_filters(world):
    """One SUBACK answers all filters of a SUBSCRIBE, a code for each, in their order.

    [MQTT-3.9.3-1] [MQTT-3.8.4-4] [MQTT-3.8.4-5]
    """
    peer = world.connected().send(subscribe(("a", 2), ("b", 0), ("c", 1), ("d", 2), packet_id=9))

    peer.expect(b"\x90\x06\x00\x09\x02\x00\x01\x02").expect_nothing()


@pytest.mark.parametrize("number", [1, 2, 125, 126, 200])
def test_many_filters_in_one_packet(world, number):
    """Many filters are as good as one: each is subscribed to, each has its code [MQTT-3.8.4-4] [MQTT-3.8.4-5]."""
    filters = [(f"f/{one}", one % 3) for one in range(number)]
    peer = world.connected().send(subscribe(*filters)).expect(suback(*(qos for _, qos in filters)))
    peer.send(*(publish(name, b"x") for name, _ in filters))

    peer.expect(*(publish(name, b"x") for name, _ in filters)).expect_nothing()


@pytest.mark.parametrize("name", ["+", "#", "+/+", "/+", "+/", "a/#", "/#", "+/#", "a/+/b/#", "/", "//", "a//b"])
def test_filters_with_wildcards_are_supported(world, name):
    """Wildcards are supported wherever they may stand [MQTT-3.8.3-2] [MQTT-4.7.1-1] [MQTT-4.7.1-3]."""
    world.connected().send(subscribe((name, 1))).expect(suback(1)).expect_nothing()


@pytest.mark.parametrize(
    "name", ["a#", "#a", "#/a", "a/#/b", "##", "a/##", "a/b#", "a+", "+a", "a/+b", "a/b+/c", "++", "+#"]
)
def test_a_wildcard_where_it_may_not_stand_is_refused(world, name):
    """A wildcard that is not a whole level, or a `#` that is not the last, gets 0x80 in its place, and only that.

    [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-3.8.4-5]
    """
    peer = world.connected().send(subscribe(("a", 0), (name, 0), ("b", 1))).expect(suback(0, 0x80, 1))
    peer.send(publish("a", b"1"), publish("a/x", b"2"), publish("b", b"3"))

    peer.expect(publish("a", b"1"), publish("b", b"3")).expect_nothing()


@pytest.mark.parametrize("options", [3, 4, 8, 0x10, 0x40, 0x80, 0x81, 0xFC, 0xFF])
def test_reserved_bits_of_the_qos_close(world, options):
    """A QoS byte above 2 closes, also behind a good filter: nothing was subscribed [MQTT-3.8.3-4]."""
    world.connected().send(subscribe(("a", 0), ("b", options)), PINGREQ).expect_closed()


def test_a_subscribe_without_a_filter_closes(world):
    """A SUBSCRIBE with no payload is a violation, and so is an UNSUBSCRIBE [MQTT-3.8.3-3] [MQTT-3.10.3-2]."""
    world.connected("s").send(packet(0x82, b"\x00\x01"), PINGREQ).expect_closed()
    world.connected("u").send(packet(0xA2, b"\x00\x01"), PINGREQ).expect_closed()


def test_half_a_filter_closes(world):
    """Filters are packed without a gap: what is left over at the end is a violation [MQTT-3.10.3-1] [MQTT-3.8.3-1]."""
    world.connected("u").send(packet(0xA2, b"\x00\x01" + text("a") + b"\x00")).expect_closed()
    world.connected("s").send(packet(0x82, b"\x00\x01" + text("a") + b"\x00\x00")).expect_closed()


@pytest.mark.parametrize(("sent", "granted"), [(2, 1), (2, 0), (1, 0), (1, 2), (0, 2)])
def test_the_lower_qos_counts(world, sent, granted):
    """A message comes at the lower of its QoS and the granted one [MQTT-3.8.4-6]."""
    receiver = world.subscribed(("a", granted))
    sender = world.connected("p").send(publish("a", b"x", qos=sent, packet_id=4))
    if sent:
        sender.expect(pubrec(4) if sent == 2 else puback(4))
    if not min(sent, granted):
        receiver.expect(publish("a", b"x"))
        return

    receiver.send(puback(receiver.expect_publish("a", b"x", qos=1)))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (1, 1)])
def test_a_filter_again_replaces_its_subscription(world, first, second):
    """The same filter again replaces the subscription: one copy of each message, at the new QoS; retained come again.

    [MQTT-3.8.4-3] [MQTT-3.3.1-6]
    """
    sender = world.connected("p").send(publish("a", b"kept", qos=1, retain=True)).expect(puback(1))
    receiver = world.connected("s")
    for number, qos in enumerate((first, second), 1):
        receiver.send(subscribe(("a", qos), packet_id=number)).expect(suback(qos, packet_id=number))
        if qos:
            receiver.send(puback(receiver.expect_publish("a", b"kept", qos=1, retain=True)))
        else:
            receiver.expect(publish("a", b"kept", retain=True))
    sender.send(publish("a", b"new", qos=1)).expect(puback(1))
    if second:
        receiver.send(puback(receiver.expect_publish("a", b"new", qos=1)))
    else:
        receiver.expect(publish("a", b"new"))

    receiver.expect_nothing()


def test_replacing_a_subscription_interrupts_nothing(world):
    """What is in flight while a subscription is replaced goes on to its end [MQTT-3.8.4-3]."""
    receiver = world.subscribed(("a", 2))
    sender = world.connected("p")
    sender.send(publish("a", b"1", qos=2, packet_id=1), publish("a", b"2", qos=2, packet_id=2))
    sender.expect(pubrec(1), pubrec(2))
    ids = [receiver.expect_publish("a", payload, qos=2) for payload in (b"1", b"2")]
    receiver.send(pubrec(ids[0])).expect(pubrel(ids[0]))
    receiver.send(subscribe(("a", 0), packet_id=7)).expect(suback(0, packet_id=7))
    sender.send(publish("a", b"3"))
    receiver.expect(publish("a", b"3")).send(pubcomp(ids[0]), pubrec(ids[1])).expect(pubrel(ids[1]))

    receiver.send(pubcomp(ids[1])).expect_nothing()


def test_a_filter_twice_in_one_packet(world):
    """Filters of one packet are taken one after the other: the last QoS of a filter counts.

    [MQTT-3.8.4-4] [MQTT-3.8.4-3]
    """
    receiver = world.connected("s").send(subscribe(("a", 0), ("a", 1))).expect(suback(0, 1))
    world.connected("p").send(publish("a", b"x", qos=1)).expect(puback(1))

    receiver.send(puback(receiver.expect_publish("a", b"x", qos=1))).expect_nothing()


@pytest.mark.parametrize("name", ["a/b", "a/+", "a/#", "#"])
def test_unsubscribe_ends_a_subscription(world, name):
    """UNSUBSCRIBE is answered with its packet id, and from then on nothing new is sent.

    [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-2.3.1-7]
    """
    receiver = world.subscribed((name, 1))
    sender = world.connected("p")
    receiver.send(unsubscribe(name, packet_id=0xABCD)).expect(b"\xb0\x02\xab\xcd")
    sender.send(publish("a/b", b"x", qos=1)).expect(puback(1))

    receiver.expect_nothing()


def test_filters_are_compared_character_by_character(world):
    """Only the very filter is unsubscribed from, not what it matches, or what matches it.

    [MQTT-3.10.4-1] [MQTT-3.10.4-5]
    """
    receiver = world.subscribed(("a/+", 0), ("b/c", 0), ("C", 0))
    for number, name in enumerate(("a/b", "a/#", "#", "+/c", "b/+", "c", "a/+/", "/a/+"), 20):
        receiver.send(unsubscribe(name, packet_id=number)).expect(unsuback(number))
    receiver.send(publish("a/b", b"1"), publish("b/c", b"2"), publish("C", b"3"))

    receiver.expect(publish("a/b", b"1"), publish("b/c", b"2"), publish("C", b"3")).expect_nothing()


def test_unsubscribing_from_nothing_is_answered(world):
    """UNSUBACK comes also if no subscription was there [MQTT-3.10.4-5]."""
    world.connected().send(unsubscribe("never/+/seen", packet_id=3)).expect(b"\xb0\x02\x00\x03")


def test_many_filters_in_one_unsubscribe(world):
    """An UNSUBSCRIBE of many filters ends each of them and gets one UNSUBACK [MQTT-3.10.4-6]."""
    receiver = world.subscribed(("a", 0), ("b", 0), ("c", 0), ("d", 0))
    receiver.send(unsubscribe("a", "x", "c", "a", packet_id=4)).expect(unsuback(4))
    receiver.send(*(publish(name, b"x") for name in "abcd"))

    receiver.expect(publish("b", b"x"), publish("d", b"x")).expect_nothing()


def test_unsubscribe_completes_what_is_in_flight(world):
    """What was sent before UNSUBSCRIBE is finished after it, at QoS 1 and 2 [MQTT-3.10.4-3]."""
    receiver = world.subscribed(("a", 1), ("b", 2))
    sender = world.connected("p")
    sender.send(publish("a", b"1", qos=1), publish("b", b"2", qos=2, packet_id=2)).expect(puback(1), pubrec(2))
    one, two = receiver.expect_publish("a", b"1", qos=1), receiver.expect_publish("b", b"2", qos=2)
    receiver.send(unsubscribe("a", "b")).expect(unsuback())
    receiver.send(puback(one), pubrec(two)).expect(pubrel(two))

    receiver.send(pubcomp(two)).expect_nothing()


def test_unsubscribe_completes_what_is_in_flight_over_a_reconnect(world):
    """Also if the client was gone in between: it is sent again, though the subscription is no more [MQTT-3.10.4-3]."""
    receiver = world.subscribed(("a", 1), clean=False)
    world.connected("p").send(publish("a", b"1", qos=1)).expect(puback(1))
    number = receiver.expect_publish("a", b"1", qos=1)
    receiver.send(unsubscribe("a")).expect(unsuback()).cut()
    receiver = world.connected("s", clean=False, resumed=True)

    receiver.expect(publish("a", b"1", qos=1, packet_id=number, dup=True)).send(puback(number)).expect_nothing()
