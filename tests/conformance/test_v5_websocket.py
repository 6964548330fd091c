"""MQTT 5.0, section 6: the same packets over WebSocket."""

from __future__ import annotations

import pytest

from conformance.peer5 import Five
from conformance.test_v311_websocket import TEXT, WebSocketWire, WebSocketWorld
from integration.raw_websocket import masked
from mesimqtt.testing.wire5 import PINGREQ, connack, connect, publish, suback, subscribe, will


@pytest.fixture
def web(loop_thread):
    """A broker that listens for WebSockets, seen by clients of 5.0."""
    world = WebSocketWorld(loop_thread)
    yield Five(world)
    world.finish()


def test_the_subprotocol_is_mqtt(web):
    """The server selects `mqtt` from what the client offers, for 5.0 as for 3.1.1 [MQTT-6.0.0-4]."""
    wire = WebSocketWire(web.world.web_port, **{"Sec-WebSocket-Protocol": "other, mqtt"})

    assert b"\r\nsec-websocket-protocol: mqtt" in wire.head.lower()
    wire.cut()


def test_a_client_that_offers_no_mqtt_is_refused(web):
    """Without `mqtt` among its subprotocols a client is not served [MQTT-6.0.0-3]."""
    for offer in ("chat", None):
        wire = WebSocketWire(web.world.web_port, **{"Sec-WebSocket-Protocol": offer})

        assert not wire.head.startswith(b"HTTP/1.1 101") or b"sec-websocket-protocol" not in wire.head.lower()
        wire.cut()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_and_properties_pass(web, qos):
    """Every exchange works in binary frames, properties and all [MQTT-6.0.0-1]."""
    values = {"content_type": "t", "user_property": [("n", "v")], "correlation_data": bytes(range(256))}
    peer = web.subscribed(("a", qos), identifier=3)
    web.connected("p").say("a", b"x", qos=qos, **values)

    peer.hear("a", b"x", qos=qos, subscription_identifier=[3], **values)


def test_a_text_frame_closes(web):
    """A text frame costs the connection, and the will comes [MQTT-6.0.0-1]."""
    watcher = web.subscribed(("w", 0), client_id="watcher")
    peer = web.connected("c", will=will("w", b"gone"))
    peer.peer.wire.write_raw(masked(PINGREQ, TEXT))
    watcher.hear("w", b"gone")
    peer.peer.is_over = True

    assert [] == [raw for raw in [peer.peer.wire.read()] if raw[:1] not in {b"", b"\xe0"}]
    assert peer.peer.wire.is_closed or not peer.peer.wire.read()


def test_frames_and_packets_need_not_match(web):
    """A frame holds many packets, and a packet spans many frames [MQTT-4.2.0-1] [MQTT-6.0.0-2]."""
    peer = web.open().send(connect("c"), subscribe(("a", 0)), publish("a", b"1"))
    peer.expect(connack(**dict(web.connected("d").connack.properties)), suback(0), publish("a", b"1"))
    peer.peer.is_entered = True
    peer.peer.dribble(publish("a", b"x" * 200))

    peer.hear("a", b"x" * 200)
