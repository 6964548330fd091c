"""MQTT 5.0, chapters 1 and 2: strings, numbers, flags, packet ids and properties."""

from __future__ import annotations

import pytest

from conformance.carriers5 import METHOD, SENT, allowed, speaker
from mesimqtt.testing.wire5 import (
    connect,
    one,
    packet,
    properties,
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
    will,
)

pytestmark = pytest.mark.stateless  # the store has no part in it

ILL_FORMED = [
    b"\xff",
    b"\xc3",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"a\xe2\x82",
]


@pytest.mark.parametrize("bad", ILL_FORMED, ids=bytes.hex)
@pytest.mark.parametrize("where", ["client id", "user", "will topic", "topic", "filter", "unsubscribe", "property"])
def test_ill_formed_strings_are_malformed(five, where, bad):
    """A string that is no UTF-8 is malformed, wherever it stands.

    [MQTT-1.5.4-1] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19]
    [MQTT-3.8.3-1] [MQTT-3.10.3-1]
    """
    refused_string(five, where, bad)


@pytest.mark.parametrize("where", ["client id", "user", "will topic", "topic", "filter", "unsubscribe", "property"])
def test_nul_in_a_string_is_malformed(five, where):
    """U+0000 in a string is malformed, wherever it stands [MQTT-1.5.4-2] [MQTT-4.7.3-2]."""
    refused_string(five, where, b"a\0b")


def refused_string(five, where, bad):
    """Send a bad string and be refused for it: 0x81, or what a bad client id, topic or filter costs."""
    early = {
        "client id": lambda: connect(bad),
        "user": lambda: connect(user=bad),
        "will topic": lambda: connect(will=will(bad, b"")),
    }
    if where in early:
        five.open().send(early[where]()).expect_refused(0x81, 0x85, 0x90)
        return
    late = {
        "topic": lambda: publish(bad, b"x"),
        "filter": lambda: subscribe((bad, 0)),
        "unsubscribe": lambda: unsubscribe(bad),
        "property": lambda: publish("a", b"x", content_type=bad),
    }
    five.connected().send(late[where]()).expect_refused(0x81, 0x90, 0x8F)


@pytest.mark.parametrize("name", ["content_type", "response_topic"])
@pytest.mark.parametrize("bad", [*ILL_FORMED, b"a\0b"], ids=bytes.hex)
def test_ill_formed_properties_are_malformed(five, name, bad):
    """A property that is a string must be one, too [MQTT-1.5.4-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19]."""
    five.connected().send(publish("a", b"x", **{name: bad})).expect_refused(0x81)


@pytest.mark.parametrize("bad", [(b"\xff", b"v"), (b"n", b"\xff"), (b"n\0", b"v"), (b"n", b"\0")], ids=str)
@pytest.mark.parametrize("kind", [kind for kind in SENT if allowed("user_property", kind)])
def test_both_strings_of_a_pair_are_checked(five, kind, bad):
    """Name and value of a User Property must be well-formed strings, in every packet [MQTT-1.5.4-1] [MQTT-1.5.7-1]."""
    raw = (METHOD if kind == "AUTH" else b"") + one("user_property", bad)

    speaker(five, kind).send(SENT[kind](raw)).expect_refused(0x81)


@pytest.mark.sockets
def test_a_byte_order_mark_is_a_character(five):
    """EF BB BF is a character in a topic and in a property: neither skipped nor stripped.

    [MQTT-1.5.4-3] [MQTT-4.7.3-4]
    """
    topic = "\ufeffa/\ufeff"
    peer = five.subscribed((topic, 0), ("a/", 0))

    five.connected("p").say(topic, b"x", content_type="\ufefft", user_property=[("\ufeff", "\ufeff")])
    peer.hear(topic, b"x", content_type="\ufefft", user_property=[("\ufeff", "\ufeff")])
    peer.expect_nothing()


@pytest.mark.parametrize(
    "character",
    ["\x01", "\x1f", "\x7f", "\x9f", "\ufdd0", "\uffff", "\U0001ffff", "\U0010ffff", "\u20ac", "\U0001f600"],
)
def test_other_characters_pass_in_properties(five, character):
    """What is well-formed passes unaltered in an application's strings [MQTT-3.3.2-17] [MQTT-3.3.2-20]."""
    values = {"content_type": character, "user_property": [(character, character * 3)]}
    peer = five.subscribed(("a", 0))

    five.connected("p").say("a", b"x", **values)
    peer.hear("a", b"x", **values)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xc0\x80\x00",
        b"\x30\x83\x00\x00\x01a",
        b"\x30\x84\x80\x00\x00\x01a\x00",
        b"\x30\x80\x80\x80\x80\x01",
        b"\x30\xff\xff\xff\xff\x7f",
        packet(0x30, b"\x00\x01a\x80\x00x"),
        packet(0x30, b"\x00\x01a\xff\xff\xff\xff\x7f"),
        packet(0x30, b"\x00\x01a\x80\x80\x80\x80\x01"),
        packet(0x82, b"\x00\x01" + b"\x03\x0b\x81\x00" + text("a") + b"\0"),
        packet(0x82, b"\x00\x01" + b"\x06\x0b\xff\xff\xff\xff\x7f" + text("a") + b"\0"),
    ],
    ids=bytes.hex,
)
def test_a_long_winded_number_is_malformed(five, raw):
    """A Variable Byte Integer that is longer than it need be, or than four bytes, is malformed.

    [MQTT-1.5.5-1] [MQTT-4.13.1-1]
    """
    five.connected().send(raw).expect_refused(0x81)


@pytest.mark.sockets
@pytest.mark.parametrize("size", [0, 1, 122, 123, 124, 16_378, 16_379, 16_380, 200_000])
def test_numbers_at_their_boundaries(five, size):
    """Lengths of one, two and three bytes are read and written with the fewest bytes [MQTT-1.5.5-1]."""
    peer = five.subscribed(("a", 0))

    five.connected("p").say("a", bytes(size))
    peer.hear("a", bytes(size))


@pytest.mark.parametrize("size", [0, 1, 120, 121, 122, 123, 124, 125, 16_370, 16_375, 16_376, 16_377, 16_380, 40_000])
def test_property_lengths_at_their_boundaries(five, size):
    """Property Lengths of one, two and three bytes are read and written with the fewest bytes.

    [MQTT-1.5.5-1] [MQTT-2.2.2-1]
    """
    values = {"correlation_data": bytes(size)} if size else {}
    peer = five.subscribed(("a", 0))

    five.connected("p").say("a", b"x", **values)
    peer.hear("a", b"x", **values)


@pytest.mark.parametrize("identifier", [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
def test_subscription_identifiers_at_their_boundaries(five, identifier):
    """A Subscription Identifier of one to four bytes comes back in its shortest form [MQTT-1.5.5-1] [MQTT-3.3.4-3]."""
    peer = five.subscribed(("a", 0), identifier=identifier)

    five.connected("p").say("a", b"x")
    peer.hear("a", b"x", subscription_identifier=[identifier])


RESERVED = [
    *((first << 4 | flags) for first in (4, 5, 7, 12, 14) for flags in (1, 2, 4, 8, 15)),
    *((first << 4 | flags) for first in (6, 8, 10) for flags in (0, 1, 3, 6, 10, 15)),
]


@pytest.mark.parametrize("first", RESERVED, ids=hex)
def test_reserved_flags_are_checked(five, first):
    """Reserved flags that are not as listed make a packet malformed.

    [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-4.13.1-1]
    """
    whole = {4: puback(1), 5: pubrec(1), 6: pubrel(1), 7: pubcomp(1), 8: subscribe(("a", 0)), 10: unsubscribe("a")}
    body = whole.get(first >> 4, b"\0\0")[2:]

    five.connected().send(packet(first, body)).expect_refused(0x81)


@pytest.mark.parametrize("flags", [1, 2, 4, 8, 15])
def test_reserved_flags_of_auth_are_checked(five, flags):
    """AUTH with other flags than 0 is malformed [MQTT-2.1.3-1] [MQTT-3.15.1-1]."""
    peer = speaker(five, "AUTH")

    peer.send(packet(0xF0 | flags, b"\x19" + properties(METHOD))).expect_refused(0x81)


@pytest.mark.parametrize("flags", [1, 2, 4, 8])
def test_reserved_flags_of_connect_are_checked(five, flags):
    """CONNECT with other flags than 0 is malformed [MQTT-2.1.3-1] [MQTT-3.1.4-1]."""
    five.open().send(bytes([0x10 | flags]) + connect()[1:]).peer.expect_closed()


@pytest.mark.sockets
def test_qos_0_has_no_packet_id(five):
    """What follows the topic of a PUBLISH at QoS 0 is its properties, both ways.

    [MQTT-2.2.1-2] [MQTT-2.2.2-1] [MQTT-4.3.1-1]
    """
    peer = five.subscribed(("a", 2))

    five.connected("p").send(b"\x30\x05\x00\x01a\x00x")

    assert b"\x30\x05\x00\x01a\x00x" == peer.peer.take()


@pytest.mark.parametrize("raw", [publish("a", b"x", qos=1, packet_id=0), publish("a", b"x", qos=2, packet_id=0)])
def test_a_publish_with_packet_id_0_is_refused(five, raw):
    """Packet Identifier 0 is a Protocol Error in a PUBLISH [MQTT-2.2.1-3] [MQTT-4.13.1-1]."""
    five.connected().send(raw).expect_refused(0x81, 0x82)


@pytest.mark.parametrize("raw", [subscribe(("a", 0), packet_id=0), unsubscribe("a", packet_id=0)])
def test_a_subscribe_with_packet_id_0_is_refused(five, raw):
    """Packet Identifier 0 is a Protocol Error in SUBSCRIBE and UNSUBSCRIBE [MQTT-2.2.1-3] [MQTT-4.13.1-1]."""
    five.connected().send(raw).expect_refused(0x81, 0x82)


@pytest.mark.parametrize("number", [1, 2, 255, 256, 0x7FFF, 0x8000, 0xFFFF])
def test_answers_carry_the_packet_id(five, number):
    """Every acknowledgement has the Packet Identifier of what it answers.

    [MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.10.4-5] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11]
    """
    peer = five.connected()
    peer.send(subscribe(("other", 0), packet_id=number)).expect(suback(0, packet_id=number))
    peer.send(unsubscribe("other", packet_id=number)).expect(unsuback(0, packet_id=number))

    peer.say("a", b"1", qos=1, packet_id=number)
    peer.say("a", b"2", qos=2, packet_id=number)
    peer.expect_nothing()
