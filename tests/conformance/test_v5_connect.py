"""MQTT 5.0, section 3.1: CONNECT, field by field, and what a wrong one costs."""

from __future__ import annotations

import pytest

from conformance.wire311 import connect as connect4
from mesimqtt.hooks import Refusal
from mesimqtt.testing.wire5 import (
    PINGREQ,
    PINGRESP,
    auth,
    connack,
    connect,
    disconnect,
    packet,
    properties,
    puback,
    publish,
    pubrel,
    suback,
    subscribe,
    text,
    unsubscribe,
    will,
)

HEAD = text("MQTT") + b"\x05"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.sockets
@pytest.mark.parametrize(
    "first",
    [
        publish("a", b"x"),
        subscribe(("a", 0)),
        unsubscribe("a"),
        PINGREQ,
        puback(1),
        pubrel(1),
        disconnect(),
        auth(0x19, authentication_method="OAUTH2-JWT"),
        connack(),
        PINGRESP,
        b"\x00\x00",
    ],
    ids=lambda raw: raw[:2].hex(),
)
def test_the_first_packet_must_be_connect(five, first):
    """Anything but CONNECT as the first packet closes the connection without an answer.

    [MQTT-3.1.0-1] [MQTT-3.2.0-1] [MQTT-3.14.0-1]
    """
    five.open().send(first).peer.expect_closed()


@pytest.mark.sockets
def test_a_second_connect_is_a_protocol_error(five):
    """A second CONNECT costs the connection, with 0x82; there is no second CONNACK.

    [MQTT-3.1.0-2] [MQTT-3.2.0-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1]
    """
    five.connected().send(connect()).expect_closed(disconnect(0x82))


def test_a_second_connect_publishes_the_will(five):
    """A Protocol Error is no normal disconnection: the will is published [MQTT-3.1.0-2] [MQTT-3.1.2-8]."""
    watcher = five.subscribed(("w", 0))
    five.connected(will=will("w", b"gone")).send(connect()).expect_closed(disconnect(0x82))

    watcher.hear("w", b"gone")


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["mqtt", "MQTX", "", "MQT", "MQTTT", b"MQ\xffT"])
def test_another_protocol_name_closes(five, name):
    """A protocol name other than MQTT is not served; a server may reveal itself with 0x84 [MQTT-3.1.2-1]."""
    five.open().send(connect(name=name)).peer.expect_closed()


@pytest.mark.sockets
def test_mqtt_3_1_is_refused_politely(five):
    """MQIsdp at level 3 gets the CONNACK that its client can read: return code 1 [MQTT-3.1.2-1] [MQTT-3.1.2-2]."""
    five.open().send(connect4(name="MQIsdp", level=3)).peer.expect_closed(b"\x20\x02\x00\x01")


@pytest.mark.parametrize("level", [0, 1, 2, 3, 6, 7, 127, 128, 133, 255])
def test_other_versions_are_refused(five, level):
    """A version that is not spoken here is answered in the form of 3.1.1 with code 1, or with 0x84.

    [MQTT-3.1.2-2] [MQTT-3.2.2-7]
    """
    peer = five.open().send(connect(level=level)).peer
    got = peer.take()

    assert got in {b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"}
    peer.expect_closed()


def test_version_4_is_still_3_1_1(five):
    """A client of 3.1.1 is answered as one [MQTT-3.1.2-2]."""
    five.world.entered(connect4("old"), b"\x20\x02\x00\x00").leave()


@pytest.mark.parametrize("bits", [0x01, 0x03, 0xC3, 0x07])
def test_the_reserved_flag_must_be_0(five, bits):
    """The reserved flag of CONNECT makes it malformed [MQTT-3.1.2-3] [MQTT-3.1.4-1]."""
    body = HEAD + bytes([bits]) + b"\0\x3c\0" + text("c") + b"\0" + text("w") + text("") + text("u") + text("p")

    five.open().send(packet(0x10, body)).expect_refused(0x81)


@pytest.mark.parametrize("flags", [0x08, 0x10, 0x18, 0x20, 0x28, 0x38])
def test_will_bits_need_a_will(five, flags):
    """Will QoS and Will Retain must be 0 where there is no will [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.4-1]."""
    five.open().send(connect(flags=flags)).expect_refused(0x81, 0x82)


def test_will_qos_3_is_malformed(five):
    """A Will QoS of 3 is malformed [MQTT-3.1.2-12] [MQTT-3.1.4-1]."""
    five.open().send(connect(will=will("w", b"", qos=3))).expect_refused(0x81)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_every_will_is_taken(five, qos, retain):
    """Will QoS 0, 1 and 2, retained or not, are within the server's capabilities, and it announces no less.

    [MQTT-3.1.2-12] [MQTT-3.2.2-9] [MQTT-3.2.2-12] [MQTT-3.2.2-13]
    """
    peer = five.connected(will=will("w", b"x", qos=qos, retain=retain))

    assert (None, None) == (peer.connack.maximum_qos, peer.connack.retain_available)
    peer.leave()


PAYLOADS = {
    "no client id": (0x02, b""),
    "client id cut short": (0x02, b"\0\5abc"),
    "will properties missing": (0x06, text("c")),
    "will topic missing": (0x06, text("c") + b"\0"),
    "will payload missing": (0x06, text("c") + b"\0" + text("w")),
    "will properties left out": (0x06, text("c") + text("wwww") + text("x")),
    "user name missing": (0x82, text("c")),
    "password missing": (0x42, text("c")),
    "password missing after user name": (0xC2, text("c") + text("u")),
    "user name without flag": (0x02, text("c") + text("u")),
    "password without flag": (0x82, text("c") + text("u") + text("p")),
    "will without flag": (0x02, text("c") + b"\0" + text("w") + text("x")),
    "a byte too many": (0x02, text("c") + b"x"),
}


@pytest.mark.parametrize("case", PAYLOADS)
def test_the_payload_must_be_what_the_flags_say(five, case):
    """What the flags announce must stand in the payload, and nothing else.

    [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
    [MQTT-3.1.4-1]
    """
    bits, payload = PAYLOADS[case]

    five.open().send(packet(0x10, HEAD + bytes([bits]) + b"\0\x3c\0" + payload)).expect_refused(0x81)


@pytest.mark.parametrize("size", range(1, 13))
def test_a_connect_that_ends_early_is_malformed(five, size):
    """A CONNECT whose body ends before its payload is malformed [MQTT-3.1.3-3] [MQTT-3.1.4-1]."""
    body = (HEAD + b"\x02\0\x3c\0" + text("c"))[:size]
    peer = five.open().send(packet(0x10, body)).peer

    assert peer.wire.read() in {b"", b"\x20\x03\x00\x81\x00"}
    peer.expect_closed()


def test_the_order_of_the_payload(five):
    """Client id, will properties, topic, payload, user name, password: in this order.

    [MQTT-3.1.2-7] [MQTT-3.1.2-9] [MQTT-3.1.3-1]
    """
    watcher = five.subscribed(("w", 0))
    payload = text("c") + properties(content_type="t") + text("w") + text("p") + text("u") + text("secret")
    peer = five.open().send(packet(0x10, HEAD + b"\xc6\0\x3c\0" + payload))

    assert 0 == peer.take().code
    peer.cut()
    watcher.hear("w", b"p", content_type="t")


@pytest.mark.parametrize("user", [None, "u", ""])
@pytest.mark.parametrize("password", [None, b"p", b"", b"\x00\xff"])
def test_user_name_and_password_are_independent(world, five, user, password):
    """5.0 allows a password without a user name, and any bytes in it.

    [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
    """
    five.connected(user=user, password=password).leave()
    request = world.network.gate.requests[-1]

    assert (user, password, 5) == (request.username, request.password, request.version)


@pytest.mark.parametrize("client_id", [ALPHABET[start : start + 23] for start in range(0, 62, 13)] + ["a", "0"])
def test_plain_client_ids_are_taken(five, client_id):
    """1 to 23 letters and digits are a legal client id [MQTT-3.1.3-5]."""
    peer = five.connected(client_id)

    assert peer.connack.assigned_client_identifier is None
    peer.leave()


@pytest.mark.parametrize("client_id", ["x" * 24, "ü/+#$", "with space", "x" * 1000])
def test_other_client_ids_are_taken_or_refused(five, client_id):
    """What is longer or has other characters is taken, or refused with 0x85 [MQTT-3.1.3-8] [MQTT-3.2.2-7]."""
    peer = five.open().send(connect(client_id))
    got = peer.take()

    assert got.code in {0, 0x85}
    if got.code:
        peer.peer.expect_closed()


@pytest.mark.parametrize("size", [8_200, 65_535])
def test_a_connect_that_is_too_large_is_told(five, size):
    """A CONNECT over the server's own bound is not read, and its client is told so: CONNACK 0x95 [MQTT-4.13.1-1]."""
    five.open().send(connect("x" * size)).expect_refused(0x95)


@pytest.mark.sockets
@pytest.mark.parametrize("clean", [True, False])
def test_an_empty_client_id_is_assigned_one(five, clean):
    """Who comes without a client id gets one of its own, with Clean Start 0 as well as 1.

    [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
    """
    first, second = five.open().send(connect("", clean=clean)), five.open().send(connect("", clean=clean))
    told = [first.take(), second.take()]
    names = [packet.assigned_client_identifier for packet in told]

    assert [0, 0] == [packet.code for packet in told]
    assert [False, False] == [packet.session_present for packet in told]
    assert all(names)
    assert names[0] != names[1]


def test_the_assigned_client_id_names_the_session(five):
    """Who comes back with the client id that it was assigned finds its session.

    [MQTT-3.1.3-2] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
    """
    peer = five.open().send(connect("", session_expiry_interval=60))
    name = peer.take().assigned_client_identifier
    peer.send(subscribe(("a", 1))).expect(suback(1))
    peer.cut()

    assert name
    five.back(name, expiry=60).leave()


def test_a_session_belongs_to_a_client_id(five):
    """Another client id is another session [MQTT-3.1.3-2]."""
    five.kept("one", ("a", 1)).cut()
    five.kept("two", ("b", 1)).cut()
    sender = five.connected("p")
    sender.say("a", b"for one", qos=1)
    sender.say("b", b"for two", qos=1)

    five.back("one").hear("a", b"for one", qos=1)
    five.back("two").hear("b", b"for two", qos=1)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(4, "no"), 0x86),
        (Refusal(5, "no"), 0x87),
        (Refusal(3, "no"), 0x88),
        (Refusal(5, "no", 0x8A), 0x8A),
    ],
)
def test_who_may_not_enter_is_told_and_closed(world, five, refusal, code):
    """A refused CONNECT gets its reason code, no session, and no word of why; the connection is closed.

    [MQTT-3.1.4-2] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT-4.13.2-1]
    """
    five.kept("c").cut()
    world.network.gate.verdict = refusal
    peer = five.open().send(connect("c", clean=False))
    got = peer.take()

    assert (code, False, None) == (got.code, got.session_present, got.reason_string)
    peer.peer.expect_closed()
    world.network.gate.verdict = "by name"
    five.back("c").leave()


def test_nothing_after_a_refused_connect_is_processed(world, five):
    """What was sent behind a CONNECT that is refused is not processed [MQTT-3.1.4-2] [MQTT-3.1.4-6]."""
    watcher = five.subscribed(("a", 0))
    world.network.gate.verdict = Refusal(5, "no")
    five.open().send(connect("c"), publish("a", b"x"), subscribe(("a", 0))).expect_closed(connack(0x87))

    watcher.expect_nothing()


@pytest.mark.sockets
def test_what_follows_connect_at_once_is_processed(five):
    """A client need not wait for CONNACK; CONNACK comes first all the same [MQTT-3.1.4-5] [MQTT-3.2.0-1]."""
    peer = five.open().send(connect("c"), subscribe(("a", 0)), publish("a", b"x"), PINGREQ)

    assert ["CONNACK", "SUBACK", "PUBLISH", "PINGRESP"] == [peer.take().kind for _ in range(4)]


@pytest.mark.sockets
def test_a_client_id_in_use_takes_over(five):
    """The earlier connection of the same client id is told 0x8E and closed, and gets nothing more.

    [MQTT-3.1.4-3] [MQTT-4.13.2-1]
    """
    first = five.connected("c")
    second = five.connected("c")

    first.expect_closed(disconnect(0x8E))
    second.expect_nothing()


def test_a_take_over_moves_the_session(five):
    """Who takes over with Clean Start 0 goes on with the session; what was in flight is sent again.

    [MQTT-3.1.2-5] [MQTT-3.1.4-3] [MQTT-4.4.0-1]
    """
    first = five.kept("c", ("a", 1))
    five.connected("p").say("a", b"x", qos=1)
    first.hear("a", b"x", qos=1, answers=False)
    second = five.back("c")

    first.expect_closed(disconnect(0x8E))
    second.hear("a", b"x", qos=1, dup=True)
    second.expect_nothing()


def test_a_take_over_with_clean_start_discards_the_session(five):
    """Who takes over with Clean Start 1 begins anew [MQTT-3.1.2-4] [MQTT-3.1.4-3] [MQTT-3.1.4-4]."""
    first = five.kept("c", ("a", 1))
    second = five.connected("c")
    first.expect_closed(disconnect(0x8E))
    five.connected("p").say("a", b"x", qos=1)

    second.expect_nothing()


def test_a_take_over_publishes_the_will(five):
    """The connection that is taken over ends without DISCONNECT of its own: its will is published.

    [MQTT-3.1.2-8] [MQTT-3.1.4-3]
    """
    watcher = five.subscribed(("w", 0))
    first = five.connected("c", will=will("w", b"gone"))
    five.connected("c")

    first.expect_closed(disconnect(0x8E))
    watcher.hear("w", b"gone")


def test_a_3_1_1_client_that_is_taken_over_is_closed_without_a_word(five):
    """DISCONNECT from a server exists in 5.0 only [MQTT-3.1.4-3]."""
    first = five.world.connected("c")
    five.connected("c")

    first.expect_closed()


@pytest.mark.extra
def test_a_packet_type_for_servers_is_a_protocol_error(five):
    """A client that sends what only servers send is closed with 0x81 or 0x82."""
    for raw in (connack(), suback(0), PINGRESP, b"\x00\x00", b"\xb0\x04\x00\x01\x00\x00"):
        five.connected().send(raw).expect_refused(0x81, 0x82)
