"""MQTT 3.1.1, sections 3.1 and 3.2: CONNECT, what refuses it and how, and CONNACK."""

from __future__ import annotations

import pytest

from conformance.wire311 import (
    CONNECTED,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    connack,
    connect,
    packet,
    puback,
    publish,
    suback,
    subscribe,
    text,
)

pytestmark = [pytest.mark.sockets, pytest.mark.stateless]

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def raw_connect(flags, payload, *, name=b"\x00\x04MQTT", level=4, keep_alive=b"\x00\x3c"):
    """A CONNECT whose fields are as wrong as a test wants them."""
    return packet(0x10, name + bytes([level, flags]) + keep_alive + payload)


def test_a_connect_is_answered_with_connack_0(world):
    """A valid CONNECT is acknowledged with a CONNACK of code 0, the first packet that the server sends.

    [MQTT-3.1.4-4] [MQTT-3.2.0-1]
    """
    world.open().send(connect("c")).expect(b"\x20\x02\x00\x00").expect_nothing()


def test_a_connect_may_come_byte_by_byte(world):
    """A CONNECT in pieces is one CONNECT; nothing is sent before it is whole [MQTT-3.2.0-1]."""
    world.open().dribble(connect("c", will=("w", b"x", 1, True))).expect(CONNECTED)


def test_packets_may_follow_a_connect_at_once(world):
    """A client need not wait for CONNACK: what follows is answered after it [MQTT-3.2.0-1]."""
    peer = world.open().send(connect("c"), subscribe(("a", 0)), publish("a", b"x"), PINGREQ)
    peer.expect(CONNECTED, suback(0), publish("a", b"x"), PINGRESP)


@pytest.mark.parametrize(
    "first",
    [
        PINGREQ,
        DISCONNECT,
        publish("a"),
        publish("a", qos=1),
        subscribe(("a", 0)),
        b"\xa2\x05\x00\x01\x00\x01a",
        puback(1),
        b"\x50\x02\x00\x01",
        b"\x62\x02\x00\x01",
        b"\x70\x02\x00\x01",
        CONNECTED,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00",
        b"\xff",
        b"\x11\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
    ],
    ids=lambda first: first[:12].hex(),
)
def test_whatever_is_not_connect_comes_too_early(world, first):
    """The first packet must be a CONNECT: anything else is closed without a word [MQTT-3.1.0-1] [MQTT-3.2.0-1]."""
    world.open().send(first).expect_closed()


def test_a_second_connect_is_a_violation(world):
    """A second CONNECT closes, and is not answered [MQTT-3.1.0-2]."""
    world.connected("c").send(connect("c")).expect_closed()


def test_a_second_connect_behind_the_first_is_a_violation(world):
    """Also if both come in one segment: one CONNACK, then the end [MQTT-3.1.0-2]."""
    world.open().send(connect("c"), connect("c")).expect_closed(CONNECTED)


@pytest.mark.parametrize("name", ["", "M", "MQT", "mqtt", "MQTT ", "MQTTT", "MQIsdpX", "HTTP", b"MQT\xff"])
def test_another_protocol_name_is_closed(world, name):
    """A wrong protocol name is not processed as MQTT 3.1.1: no CONNACK, closed [MQTT-3.1.2-1] [MQTT-3.2.2-6]."""
    world.open().send(connect("c", name=name), PINGREQ).expect_closed()


@pytest.mark.parametrize("level", [0, 1, 2, 3, 6, 127, 255])
def test_another_protocol_level_is_refused_with_1(world, level):
    """A protocol level that is not spoken gets CONNACK code 1 with Session Present 0, then the connection is closed.

    [MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
    """
    world.open().send(connect("c", level=level)).expect_closed(b"\x20\x02\x00\x01")


@pytest.mark.parametrize("level", [3, 4, 131])
def test_mqtt_3_1_is_refused_politely(world, level):
    """MQTT 3.1 (`MQIsdp`) is told with CONNACK code 1 what is wrong, not just cut [MQTT-3.1.2-2] [MQTT-3.2.2-5]."""
    world.open().send(connect("c", name="MQIsdp", level=level)).expect_closed(b"\x20\x02\x00\x01")


MALFORMED = {
    "reserved flag": connect("c", flags=0x01),
    "no client id": raw_connect(0x02, b""),
    "half a client id": raw_connect(0x02, b"\x00\x02c"),
    "half a length": raw_connect(0x02, b"\x00"),
    "bytes behind the client id": raw_connect(0x02, text("c") + b"x"),
    "no keep alive": packet(0x10, b"\x00\x04MQTT\x04\x02\x00"),
    "no flags": packet(0x10, b"\x00\x04MQTT\x04"),
    "no level": packet(0x10, b"\x00\x04MQTT"),
    "empty": b"\x10\x00",
    "client id not UTF-8": connect(b"\xc3\x28"),
    "client id with U+0000": connect("a\0b"),
    "client id with a surrogate": connect(b"\xed\xa0\x80"),
    "will QoS without a will": connect("c", flags=0x08),
    "will QoS 2 without a will": connect("c", flags=0x10),
    "will retain without a will": connect("c", flags=0x20),
    "will fields without a will": raw_connect(0x02, text("c") + text("w") + text("x")),
    "will QoS 3": connect("c", will=("w", b"x", 3, False)),
    "will QoS 3, retained": connect("c", will=("w", b"x", 3, True)),
    "a will without its topic": raw_connect(0x06, text("c")),
    "a will without its message": raw_connect(0x06, text("c") + text("w")),
    "will topic not UTF-8": connect("c", will=(b"\xff", b"x", 0, False)),
    "will topic with U+0000": connect("c", will=("a\0", b"x", 0, False)),
    "user flag, no user": raw_connect(0x82, text("c")),
    "user, no flag": raw_connect(0x02, text("c") + text("u")),
    "user not UTF-8": connect("c", user=b"\xe2\x82"),
    "user with U+0000": connect("c", user="\0"),
    "password flag, no password": raw_connect(0xC2, text("c") + text("u")),
    "password, no flag": raw_connect(0x82, text("c") + text("u") + text("p")),
    "password without a user": connect("c", password="p"),
    "half a password": raw_connect(0xC2, text("c") + text("u") + b"\x00\x05pass"),
}


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.replace(" ", "-"))
def test_a_malformed_connect_is_closed_without_connack(world, case):
    """A CONNECT that does not conform to section 3.1 is closed, without a CONNACK: no code of Table 3.1 means that.

    [MQTT-3.1.4-1] [MQTT-3.2.2-6] [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.2-22] [MQTT-3.1.2-9] [MQTT-3.1.3-3]
    [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
    """
    world.open().send(MALFORMED[case], PINGREQ).expect_closed()


def test_a_refused_connect_ends_everything(world):
    """What follows a CONNECT that is refused is not processed: no retained message comes of it.

    [MQTT-3.1.4-5] [MQTT-3.2.2-5]
    """
    world.open().send(connect("c", level=3), publish("a", b"x", retain=True)).expect_closed(connack(1))

    world.subscribed(("a", 0)).expect_nothing()


@pytest.mark.parametrize("size", [1, 2, 22, 23, 24, 64, 255, 256])
def test_client_ids_of_any_length_are_allowed(world, size):
    """A client id of 1 to 23 bytes of letters and digits is allowed, and so is a longer one [MQTT-3.1.3-5]."""
    world.connected((ALPHABET * 5)[:size], clean=False).leave()

    world.connected((ALPHABET * 5)[:size], clean=False, resumed=True)


@pytest.mark.limits(packet_max_before_connect=100_000)
def test_a_client_id_of_65535_bytes(world):
    """The longest client id that can be encoded is a client id like any other [MQTT-3.1.3-2] [MQTT-3.1.3-4]."""
    world.connected("x" * 65_535, clean=False).leave()

    world.connected("x" * 65_534 + "y", clean=False)
    world.connected("x" * 65_535, clean=False, resumed=True)


def test_every_character_of_the_alphabet_makes_a_client_id(world):
    """Each of the 62 characters that must be allowed is, and each is a client of its own.

    [MQTT-3.1.3-5] [MQTT-3.1.3-2]
    """
    peers = [world.connected(character) for character in ALPHABET]

    for peer in peers:
        peer.send(PINGREQ).expect(PINGRESP)


@pytest.mark.parametrize("client_id", ["ä", "日本", "😀", "a b", "a/b", "+#$", "\ufeff"])
def test_other_characters_make_a_client_id_too(world, client_id):
    """A client id is any UTF-8 string, kept as it is [MQTT-3.1.3-4] [MQTT-3.1.3-2]."""
    world.connected(client_id, clean=False).leave()

    world.connected(client_id, clean=False, resumed=True)


def test_an_empty_client_id_gets_a_unique_one(world):
    """Clients without an id are let in, if they ask for a clean session, and do not displace each other.

    [MQTT-3.1.3-6] [MQTT-3.1.3-7]
    """
    peers = [world.connected("") for _ in range(3)]

    for peer in peers:
        peer.send(PINGREQ).expect(PINGRESP)


def test_an_empty_client_id_with_a_kept_session_is_refused_with_2(world):
    """An empty client id with CleanSession 0 gets CONNACK code 2, and the connection is closed.

    [MQTT-3.1.3-7] [MQTT-3.1.3-8] [MQTT-3.1.3-9] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
    """
    world.open().send(connect("", clean=False), PINGREQ).expect_closed(b"\x20\x02\x00\x02")


def test_a_client_id_belongs_to_one_connection(world):
    """A client that comes again ends its former connection, which gets nothing more [MQTT-3.1.4-2] [MQTT-3.1.3-2]."""
    former = world.connected("c")
    present = world.connected("c")

    former.expect_closed()
    present.send(PINGREQ).expect(PINGRESP)


def test_a_take_over_goes_on_with_the_session(world):
    """With CleanSession 0 whoever takes over finds the session of the one he ends [MQTT-3.1.4-2] [MQTT-3.1.4-3]."""
    former = world.connected("c", clean=False)
    former.send(subscribe(("a", 1))).expect(suback(1))
    present = world.connected("c", clean=False, resumed=True)
    former.expect_closed()

    present.send(publish("a", b"x")).expect(publish("a", b"x"))


def test_a_take_over_with_clean_session_begins_anew(world):
    """With CleanSession 1 nothing of the former session is left, also if it was connected.

    [MQTT-3.1.4-3] [MQTT-3.1.2-6]
    """
    former = world.connected("c", clean=False)
    former.send(subscribe(("a", 1))).expect(suback(1))
    present = world.connected("c")
    former.expect_closed()

    present.send(publish("a", b"x")).expect_nothing()


def test_client_ids_are_case_sensitive_and_not_trimmed(world):
    """Client ids that differ in anything are different clients [MQTT-3.1.3-2]."""
    peers = [world.connected(name) for name in ("c", "C", " c", "c ", "\uff43", "c\u0301", "ć")]

    for peer in peers:
        peer.send(PINGREQ).expect(PINGRESP)
