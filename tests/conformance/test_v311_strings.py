"""MQTT 3.1.1, sections 1.5.3 and 4.7.3: strings, well-formed, kept as they are, of any length."""

from __future__ import annotations

import pytest

from conformance.wire311 import connect, puback, publish, suback, subscribe, unsuback, unsubscribe

pytestmark = [pytest.mark.sockets, pytest.mark.stateless]

ILL_FORMED = {
    "U+D800": b"\xed\xa0\x80",
    "U+DBFF": b"\xed\xaf\xbf",
    "U+DC00": b"\xed\xb0\x80",
    "U+DFFF": b"\xed\xbf\xbf",
    "a surrogate pair (CESU-8)": b"\xed\xa0\xbd\xed\xb8\x80",
    "a lone continuation byte": b"\x80",
    "a lead byte without its continuation": b"\xc3",
    "a lead byte before ASCII": b"\xc3a",
    "two bytes of three": b"\xe2\x82",
    "three bytes of four": b"\xf0\x9f\x98",
    "overlong /": b"\xc0\xaf",
    "overlong U+0000": b"\xc0\x80",
    "overlong in three bytes": b"\xe0\x80\xaf",
    "overlong in four bytes": b"\xf0\x80\x80\xaf",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "0xFE": b"\xfe",
    "0xFF": b"\xff",
    "Latin-1": b"caf\xe9",
}
NULL = {"alone": b"\0", "first": b"\0a", "last": b"a\0", "inside": b"a\0b"}
WELL_FORMED = [
    "a",
    " ",
    "ä",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\ufffd",
    "日本語",
    "\U00010000",
    "😀",
    "\U0010fffd",
    "\ufeff",
    "\ufeffa",
    "a\ufeffb",
    "e\u0301",
    "é",
    "ﬁ",
    "\uff21\uff22\uff23",
]

ill_formed = pytest.mark.parametrize("raw", [*ILL_FORMED.values(), *NULL.values()], ids=[*ILL_FORMED, *NULL])


@ill_formed
def test_an_ill_formed_topic_name_closes(world, raw):
    """A topic name that is not well-formed UTF-8, or holds U+0000, closes at every QoS.

    [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.3.2-1] [MQTT-4.7.3-2] [MQTT-4.8.0-1]
    """
    for qos in (0, 1, 2):
        world.connected(f"p{qos}").send(publish(b"a/" + raw, qos=qos)).expect_closed()


@ill_formed
def test_an_ill_formed_filter_closes(world, raw):
    """So does a filter, in SUBSCRIBE and in UNSUBSCRIBE, though the filter before it is good.

    [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2]
    """
    world.connected("s").send(subscribe(("a", 0), (raw, 0))).expect_closed()
    world.connected("u").send(unsubscribe("a", raw)).expect_closed()


@ill_formed
def test_an_ill_formed_string_in_connect_closes(world, raw):
    """So do client id, will topic and user name, before anything is answered.

    [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
    """
    world.open().send(connect(raw)).expect_closed()
    world.open().send(connect("c", will=(raw, b"x", 0, False))).expect_closed()
    world.open().send(connect("c", user=raw)).expect_closed()


@pytest.mark.parametrize("name", WELL_FORMED, ids=ascii)
def test_a_well_formed_topic_is_carried_as_it_came(world, name):
    """Each UTF-8 string is a topic, compared and sent byte for byte: U+FEFF is kept, nothing is normalized.

    [MQTT-1.5.3-1] [MQTT-1.5.3-3] [MQTT-4.7.3-4]
    """
    others = [other for other in WELL_FORMED if other != name]
    peer = world.subscribed((name, 0), *((f"{other}/x", 0) for other in others))
    peer.send(*(publish(other, b"no") for other in others), publish(name, b"yes"))

    peer.expect(publish(name, b"yes")).expect_nothing()


def test_u_feff_is_a_character_like_others(world):
    """A topic with U+FEFF in front and one without are two topics, also as retained ones.

    [MQTT-1.5.3-3] [MQTT-4.7.3-4]
    """
    peer = world.subscribed((b"\xef\xbb\xbfa", 0))
    peer.send(publish("a", b"no", retain=True), publish(b"\xef\xbb\xbfa", b"yes", retain=True))
    peer.expect(b"\x30\x09\x00\x04\xef\xbb\xbfayes")

    late = world.connected("late").send(subscribe(("a", 0)))
    late.expect(suback(0), publish("a", b"no", retain=True)).expect_nothing()


def test_topics_are_case_sensitive_and_spaces_count(world):
    """`ACCOUNTS` and `Accounts`, `a` and `a ` are different topics [MQTT-4.7.3-4]."""
    peer = world.subscribed(("Accounts", 0), ("Accounts payable", 0), (" a", 0))
    peer.send(publish("ACCOUNTS"), publish("accounts"), publish("Accounts "), publish("a"), publish("a "))

    peer.send(publish("Accounts payable")).expect(publish("Accounts payable")).expect_nothing()


@pytest.mark.limits(topic_max=65_535)
@pytest.mark.parametrize(
    "name", ["x" * 65_535, "/" + "é" * 32_767, "😀" * 16_383 + "abc"], ids=["ascii", "two", "four"]
)
def test_a_topic_of_65535_bytes(world, name):
    """The longest topic that can be encoded is subscribed, published, retained and unsubscribed [MQTT-4.7.3-3]."""
    peer = world.subscribed((name, 1))
    peer.send(publish(name, b"x", qos=1, packet_id=5, retain=True))
    if peer.take() == puback(5):
        peer.send(puback(peer.expect_publish(name, b"x", qos=1)))
    else:
        peer.expect(puback(5))
    peer.send(unsubscribe(name)).expect(unsuback())

    world.connected("late").send(subscribe((name, 0))).expect(suback(0), publish(name, b"x", retain=True))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_topic_name_closes(world, qos):
    """A topic name is at least one character long [MQTT-4.7.3-1] [MQTT-3.3.2-1]."""
    world.connected("c").send(publish("", b"x", qos=qos)).expect_closed()


def test_an_empty_filter_closes(world):
    """So is a topic filter, to subscribe to and to unsubscribe from [MQTT-4.7.3-1]."""
    world.connected("s").send(subscribe(("", 0))).expect_closed()
    world.connected("u").send(unsubscribe("")).expect_closed()


def test_an_empty_will_topic_closes(world):
    """So is the topic of a will [MQTT-4.7.3-1] [MQTT-3.1.3-10]."""
    world.open().send(connect("c", will=("", b"x", 0, False))).expect_closed()


def test_one_character_is_enough(world):
    """One character is a topic, and so is `/` alone [MQTT-4.7.3-1]."""
    peer = world.subscribed(("/", 0), ("a", 0))
    peer.send(publish("/", b"1"), publish("a", b"2")).expect(publish("/", b"1"), publish("a", b"2"))
