"""MQTT 5.0, section 2.2.2: every property in every packet: where it belongs, where it does not, and twice."""

from __future__ import annotations

import pytest

from conformance.carriers5 import METHOD, SENT, allowed, example, speaker
from mesimqtt.testing.parse5 import FROM_SERVERS
from mesimqtt.testing.wire5 import (
    PROPERTIES,
    connack,
    disconnect,
    one,
    option,
    packet,
    suback,
    subscribe,
    text,
    unsuback,
)

pytestmark = pytest.mark.stateless  # the store has no part in it

NOT_ALLOWED = [(kind, name) for kind in SENT for name in PROPERTIES if not allowed(name, kind)]


@pytest.mark.parametrize(("kind", "name"), NOT_ALLOWED)
def test_a_property_that_does_not_belong_there_is_refused(five, kind, name):
    """A property in a packet where it is not allowed is malformed [MQTT-3.1.4-1] [MQTT-3.3.4-6] [MQTT-4.13.1-1]."""
    raw = (METHOD if kind == "AUTH" else b"") + example(name)

    speaker(five, kind).send(SENT[kind](raw)).expect_refused(0x81, 0x82)


TWICE = [(kind, name) for kind in SENT for name in PROPERTIES if allowed(name, kind) and name != "user_property"]


@pytest.mark.parametrize(("kind", "name"), TWICE)
def test_a_property_that_stands_twice_is_refused(five, kind, name):
    """A property that may stand once and stands twice is a Protocol Error [MQTT-3.1.4-1] [MQTT-4.13.1-1]."""
    rest = METHOD if kind == "AUTH" and name != "authentication_method" else b""
    if kind == "CONNECT" and name == "authentication_data":
        rest = METHOD

    speaker(five, kind).send(SENT[kind](rest + example(name) * 2)).expect_refused(0x82)


NOT_ALONE = {"authentication_data", "maximum_packet_size"}  # needs a method; 1 byte is too little for a CONNACK
ALONE = [(kind, name) for kind, name in TWICE if kind not in {"AUTH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"}]


@pytest.mark.parametrize(("kind", "name"), [pair for pair in ALONE if pair[1] not in NOT_ALONE])
def test_every_property_is_taken_where_it_belongs(five, kind, name):
    """Each property is accepted in every packet in which a client may send it [MQTT-3.1.4-5] [MQTT-3.3.2-12]."""
    peer = speaker(five, kind).send(SENT[kind](example(name)))
    if kind in {"CONNECT", "WILL"}:
        got = peer.take()
        peer.peer.is_entered = True

        assert ("CONNACK", 0) == (got.kind, got.code)
    elif kind == "SUBSCRIBE":
        peer.expect(suback(0))
    elif kind == "UNSUBSCRIBE":
        peer.expect(unsuback(0x11))
    elif kind == "DISCONNECT":
        code = 0x82 if name == "session_expiry_interval" else None
        peer.expect_closed(*([disconnect(code)] if code else []))
    else:
        peer.expect_nothing()


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("CONNECT", one("receive_maximum", 0)),
        ("CONNECT", one("maximum_packet_size", 0)),
        ("CONNECT", one("request_problem_information", 2)),
        ("CONNECT", one("request_response_information", 2)),
        ("CONNECT", one("authentication_data", b"x")),
        ("WILL", one("payload_format_indicator", 2)),
        ("PUBLISH", one("payload_format_indicator", 2)),
        ("PUBLISH", one("payload_format_indicator", 255)),
        ("SUBSCRIBE", one("subscription_identifier", 0)),
    ],
)
def test_values_out_of_range_are_protocol_errors(five, kind, raw):
    """A value that the specification excludes is a Protocol Error [MQTT-3.1.4-1] [MQTT-4.13.1-1]."""
    speaker(five, kind).send(SENT[kind](raw)).expect_refused(0x82)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00",
        b"\x04",
        b"\x7f\x00",
        b"\x80\x01",
        b"\x01",
        b"\x02\x00\x00\x00",
        b"\x03\x00\x05abc",
        b"\x09\x00",
        b"\x26\x00\x01n\x00\x05v",
        b"\x26\x00\x01n",
        one("content_type", "x") + b"\x01",
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("kind", ["CONNECT", "WILL", "PUBLISH", "SUBSCRIBE"])
def test_broken_property_blocks_are_malformed(five, kind, raw):
    """Unknown identifiers, values that are cut short, and strings that reach past the block are malformed.

    [MQTT-3.1.4-1] [MQTT-4.13.1-1]
    """
    speaker(five, kind).send(SENT[kind](raw)).expect_refused(0x81)


@pytest.mark.parametrize(
    "raw",
    [
        packet(0x30, text("a")),
        packet(0x30, text("a") + b"\x05\x01"),
        packet(0x32, text("a") + b"\0\1"),
        packet(0x82, b"\0\1" + text("a") + b"\0"),
        packet(0x82, b"\0\1"),
        packet(0xA2, b"\0\1"),
        packet(0xE0, b"\0\5"),
        packet(0x40, b"\0\1\0\5"),
    ],
    ids=bytes.hex,
)
def test_a_missing_property_length_is_malformed(five, raw):
    """Property Length must stand where properties may; one that reaches past the packet is malformed.

    [MQTT-2.2.2-1] [MQTT-4.13.1-1]
    """
    five.connected().send(raw).expect_refused(0x81, 0x82)


@pytest.mark.extra
def test_builders_and_parser_agree():
    """What the builders of these tests write is what their strict parser reads, for every packet and property."""
    from mesimqtt.testing.parse5 import parse

    packets = [SENT[kind](example(name)) for kind, name in TWICE]
    packets += [connack(0, assigned_client_identifier="x", server_keep_alive=3), unsuback(0, 0x11), suback(1, 2)]
    packets += [
        disconnect(0x9C, server_reference="other"),
        subscribe(("a", option(2, no_local=True, retain_handling=2))),
    ]
    kinds = {parse(raw).kind for raw in packets}

    assert len(kinds) >= len(SENT) - 1
    assert FROM_SERVERS - {"PINGRESP"} <= kinds | {"CONNACK"}
