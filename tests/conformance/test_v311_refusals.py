"""MQTT 3.1.1, sections 3.1.4 and 3.3.5: who is refused by the gate, and what he is told."""

from __future__ import annotations

import pytest

from conformance.wire311 import (
    CONNECTED,
    PINGREQ,
    connack,
    connect,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    text,
)
from mesimqtt.hooks import Refusal


def test_the_fields_come_in_their_order(world):
    """Client id, will topic, will message, user name, password: read in this order [MQTT-3.1.3-1] [MQTT-3.1.2-9]."""
    watcher = world.subscribed(("will-topic", 0))
    fields = ("client-id", "will-topic", "will-message", "user", "password")
    greeting = packet(0x10, b"\x00\x04MQTT\x04\xc6\x00\x3c" + b"".join(map(text, fields)))
    world.open().send(greeting).expect(CONNECTED).cut()
    request = world.network.gate.requests[-1]

    assert ("client-id", "user", b"password") == (request.client_id, request.username, request.password)
    watcher.expect(publish("will-topic", b"will-message"))


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_a_refusal_is_a_connack_with_its_code(world, code):
    """Whoever is refused gets his return code with Session Present 0, also if his session exists, and is cut.

    [MQTT-3.2.2-4] [MQTT-3.2.2-5] [MQTT-3.1.4-5]
    """
    world.connected("c", clean=False).leave()
    world.network.gate.verdict = Refusal(code, "no")

    world.open().send(connect("c", clean=False), PINGREQ, publish("a")).expect_closed(connack(code))


def test_the_gate_sees_user_and_password_as_they_came(world):
    """User name and password reach whoever decides byte for byte; a password is binary.

    [MQTT-3.1.2-19] [MQTT-3.1.2-21]
    """
    world.connected("c", user="ünï\ufeff", password=bytes(range(256)))
    request = world.network.gate.requests[-1]

    assert ("ünï\ufeff", bytes(range(256))) == (request.username, request.password)


def test_a_user_without_a_password(world):
    """A user name may come without a password, and neither need come [MQTT-3.1.2-18] [MQTT-3.1.2-20]."""
    world.connected("c", user="u")
    world.connected("d")

    assert [("u", None), (None, None)] == [(one.username, one.password) for one in world.network.gate.requests]


def test_an_empty_user_and_an_empty_password_are_present(world):
    """A field of length 0 is present [MQTT-3.1.2-19] [MQTT-3.1.2-21]."""
    world.connected("c", user="", password=b"")
    request = world.network.gate.requests[-1]

    assert ("", b"") == (request.username, request.password)


def test_a_denied_publish_is_acknowledged_and_not_delivered(world):
    """A client that may not publish gets the normal acknowledgement at each QoS, and nobody gets the message.

    [MQTT-3.3.5-2]
    """
    watcher = world.subscribed(("#", 2))
    world.network.gate.denied.add(("publish", "shut"))
    peer = world.connected("p")
    peer.send(publish("shut", b"0", retain=True)).expect_nothing()
    peer.send(publish("shut", b"1", qos=1, packet_id=7)).expect(puback(7))
    peer.send(publish("shut", b"2", qos=2, packet_id=8)).expect(pubrec(8))
    peer.send(pubrel(8)).expect(pubcomp(8))

    watcher.expect_nothing()
    world.connected("late").send(subscribe(("shut", 0))).expect(suback(0)).expect_nothing()


def test_a_denied_filter_is_0x80_in_its_place(world):
    """A filter that is denied fails alone; no other code than 0, 1, 2 and 0x80 is used.

    [MQTT-3.8.4-5] [MQTT-3.9.3-2]
    """
    world.network.gate.denied.add(("subscribe", "shut"))
    peer = world.connected("c").send(subscribe(("a", 0), ("shut", 2), ("b", 2), packet_id=513))

    peer.expect(b"\x90\x05\x02\x01\x00\x80\x02")
