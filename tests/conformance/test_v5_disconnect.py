"""MQTT 5.0, sections 3.14 and 4.13: DISCONNECT from both sides, and what errors cost."""

from __future__ import annotations

import pytest

from conformance.peer import SocketWorld
from conformance.peer5 import Five
from mesimqtt.testing.wire5 import (
    PINGREQ,
    REASONS,
    connect,
    disconnect,
    packet,
    properties,
    publish,
    suback,
    subscribe,
    will,
)

pytestmark = pytest.mark.stateless  # the store has no part in it

FROM_CLIENTS = [0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
REASON = {"reason_string": "bye", "user_property": [("n", "v")]}


@pytest.mark.sockets
@pytest.mark.parametrize("code", [None, *FROM_CLIENTS])
@pytest.mark.parametrize("values", [{}, REASON], ids=["plain", "reason"])
def test_every_disconnect_of_a_client(five, code, values):
    """Every form and code that a client may use closes the connection without an answer.

    [MQTT-3.14.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    """
    five.connected().leave(code, **values)


@pytest.mark.parametrize("code", [0x01, 0x02, 0x10, 0x11, 0x18, 0x19, 0x84, 0x85, 0x86, 0x8C, 0x92, 0xA3, 0xFF])
def test_a_code_that_is_none_is_a_protocol_error(five, code):
    """A reason code that DISCONNECT does not have is refused [MQTT-3.14.2-1] [MQTT-4.13.1-1]."""
    five.connected().send(disconnect(code)).expect_refused(0x81, 0x82)


@pytest.mark.parametrize("body", [b"\0\5", b"\0\1", b"\0\2\x1f\0", b"\0\0x", b"\0\5\x11\0\0"], ids=bytes.hex)
def test_a_malformed_disconnect(five, body):
    """A DISCONNECT whose properties are none is malformed [MQTT-4.13.1-1]."""
    five.connected().send(packet(0xE0, body)).expect_refused(0x81)


def test_a_malformed_disconnect_publishes_the_will(five):
    """Only a DISCONNECT that is one discards the will [MQTT-3.14.1-1] [MQTT-3.14.4-3]."""
    watcher = five.subscribed(("w", 0))
    five.connected(will=will("w", b"gone")).send(b"\xe1\x00").expect_refused(0x81)

    watcher.hear("w", b"gone")


@pytest.mark.sockets
def test_nothing_behind_disconnect_is_processed(five):
    """What a client sends behind its DISCONNECT is not looked at [MQTT-3.14.4-1]."""
    watcher = five.subscribed(("a", 0))
    five.connected("c").send(disconnect(), publish("a", b"x"), PINGREQ).expect_closed()

    watcher.expect_nothing()


@pytest.mark.sockets
def test_nothing_behind_an_offence_is_processed(five):
    """What stands behind a malformed packet is not processed, what stands before it is.

    [MQTT-3.14.4-1] [MQTT-4.13.1-1]
    """
    watcher = five.subscribed(("a", 0))
    five.connected("c").send(publish("a", b"1"), b"\xc1\x00", publish("a", b"2")).expect_refused(0x81)

    watcher.hear("a", b"1")
    watcher.expect_nothing()


def test_the_servers_disconnect_has_no_session_expiry(five):
    """No DISCONNECT of the server carries a Session Expiry Interval, and each has a code of its table.

    [MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-4.13.2-1]
    """
    for offence in (connect(), b"\xc1\x00", publish("a", b"x", topic_alias=99), publish("#", b"x")):
        peer = five.connected("c", session_expiry_interval=60).send(offence)
        got = peer.take()

        assert ("DISCONNECT", None) == (got.kind, got.session_expiry_interval)
        assert got.code in REASONS["DISCONNECT"]
        peer.peer.expect_closed()
        five.connected("c").leave()


def test_a_server_reference_is_for_servers(five):
    """A client that sends a Server Reference, or other properties of servers, is refused [MQTT-4.13.1-1]."""
    five.connected().send(disconnect(0, server_reference="x")).expect_refused(0x81, 0x82)


def test_no_disconnect_before_connack(five):
    """Before CONNACK the server says nothing but a CONNACK that refuses [MQTT-3.2.0-1] [MQTT-3.14.0-1]."""
    peer = five.open().send(connect(raw=b"\xff"))

    assert ("CONNACK", 0x81) == ((got := peer.take()).kind, got.code)
    peer.peer.expect_closed()


def test_an_offence_in_a_dead_packet_is_seen_early(five):
    """A packet type that does not exist is refused by its first byte [MQTT-2.1.3-1] [MQTT-4.13.1-1]."""
    five.connected().send(b"\x00").send(b"\x00").expect_refused(0x81, 0x82)


@pytest.mark.limits(packet_max=2000)
def test_a_packet_that_is_too_large(five):
    """A packet over the announced size costs the connection, with 0x95, in every state.

    [MQTT-3.2.2-15] [MQTT-4.13.1-1]
    """
    watcher = five.open().send(connect("w", keep_alive=60))
    size = watcher.take().maximum_packet_size
    watcher.peer.is_entered = True
    watcher.send(subscribe(("a", 0))).expect(suback(0))
    peer = five.open().send(connect("c"))
    peer.take()
    peer.peer.is_entered = True
    peer.send(publish("a", bytes(size))).expect_closed(disconnect(0x95))

    watcher.expect_nothing()


def test_a_connect_that_is_too_large_is_refused(five):
    """Before anybody is known much less is read [MQTT-3.1.4-1] [MQTT-3.1.4-2]."""
    peer = five.open().send(connect("c", user_property=[("n", "v" * 60_000)])).peer
    answer = peer.wire.read()

    assert answer in {b"", b"\x20\x03\x00\x95\x00"}
    peer.expect_closed()


def test_the_session_after_an_offence(five):
    """An offence closes the connection; the session goes on as its expiry says [MQTT-3.1.2-23] [MQTT-4.13.2-1]."""
    five.kept("k", ("a", 1)).send(b"\xc1\x00").expect_refused(0x81)
    five.connected("p").say("a", b"x", qos=1)

    five.back("k").hear("a", b"x", qos=1)


def test_an_offence_touches_nobody_else(five):
    """An error closes the connection on which it happened, and no other [MQTT-4.13.1-1]."""
    others = [five.connected(f"o{number}") for number in range(3)]
    five.connected("c").send(b"\xf1\x00").expect_refused(0x81, 0x82)

    for other in others:
        other.expect_nothing()


@pytest.mark.extra
def test_an_empty_property_block_of_disconnect(five):
    """DISCONNECT with a code and a Property Length of 0 is legal."""
    five.connected().send(packet(0xE0, b"\0" + properties())).expect_closed()


def test_a_server_that_stops_says_so(loop_thread):
    """A server in good order tells its clients of 5.0 that it stops, and closes; those of 3.1.1 it just closes.

    [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.2-1]
    """
    world = SocketWorld(loop_thread)
    new, old = Five(world).connected("new"), world.connected("old")
    loop_thread.run(world.broker.shutdown())

    told = new.take()
    ((name, seconds),) = told.user_property

    assert ("DISCONNECT", 0x8B, "retry-after") == (told.kind, told.code, name)
    assert 1.0 <= float(seconds) <= 2.0
    new.expect_closed()
    old.expect_closed()
    new.cut()
    old.cut()
