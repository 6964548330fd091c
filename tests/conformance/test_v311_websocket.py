"""MQTT 3.1.1, section 6: MQTT over WebSocket."""

from __future__ import annotations

import socket

import pytest

from conformance.peer import DEADLINE_S
from conformance.peer_websocket import ACCEPT, BINARY, CONTINUATION, TEXT, WebSocketWire, WebSocketWorld
from conformance.wire311 import (
    CONNECTED,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    connect,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
)
from integration.raw_websocket import masked


@pytest.fixture
def web(loop_thread):
    found = WebSocketWorld(loop_thread)
    yield found
    found.finish()


def test_the_subprotocol_is_mqtt(web):
    """The server selects `mqtt`, and nothing else, also where the client offers more [MQTT-6.0.0-4]."""
    for offer in ("mqtt", "mqttv3.1, mqtt", "mqtt, chat", "chat,mqtt"):
        wire = WebSocketWire(web.web_port, **{"Sec-WebSocket-Protocol": offer})
        lines = wire.head.split(b"\r\n")

        assert b"HTTP/1.1 101 Switching Protocols" == lines[0]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        assert b"mqtt" == fields[b"sec-websocket-protocol"]
        assert ACCEPT == fields[b"sec-websocket-accept"]
        assert b"sec-websocket-extensions" not in fields
        wire.cut()


def test_everything_works_as_over_tcp(web):
    """Both ends of each QoS, a will and a kept session, in binary frames in both directions [MQTT-6.0.0-1]."""
    receiver = web.subscribed(("a/+", 2), ("w", 0), client_id="r", clean=False)
    sender = web.connected("p", will=("w", b"gone", 0, False))
    sender.send(
        publish("a/0", b"0"), publish("a/1", b"1", qos=1, packet_id=1), publish("a/2", b"2", qos=2, packet_id=2)
    )
    sender.expect(puback(1), pubrec(2)).send(pubrel(2)).expect(pubcomp(2)).cut()
    receiver.expect(publish("a/0", b"0"))
    receiver.send(puback(receiver.expect_publish("a/1", b"1", qos=1)))
    number = receiver.expect_publish("a/2", b"2", qos=2)
    receiver.expect(publish("w", b"gone")).send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number))
    receiver.send(DISCONNECT).expect_closed()

    web.connected("r", clean=False, resumed=True)


def test_text_frames_close(web):
    """A text frame is no MQTT: the connection is closed, before CONNECT and after it, and the will comes.

    [MQTT-6.0.0-1]
    """
    watcher = web.subscribed(("w", 0), client_id="watcher")
    early = web.open()
    early.wire.write_raw(masked(connect("early"), TEXT))
    early.expect_closed()
    peer = web.connected("c", will=("w", b"gone", 0, False))
    peer.wire.write_raw(masked(PINGREQ, TEXT))
    peer.expect_closed()

    watcher.expect(publish("w", b"gone"))
    assert [1003] == early.wire.codes == peer.wire.codes


def test_a_frame_may_hold_many_packets(web):
    """Several control packets in one frame are several packets [MQTT-6.0.0-2]."""
    peer = web.open().send(connect("c"), subscribe(("a", 0)), publish("a", b"1"), publish("a", b"2"), PINGREQ)

    peer.expect(CONNECTED, suback(0), publish("a", b"1"), publish("a", b"2"), PINGRESP)


def test_a_packet_may_span_many_frames(web):
    """A packet in frames of a byte each is one packet, and a frame may end in the middle of the next [MQTT-6.0.0-2]."""
    peer = web.open().dribble(connect("c"), subscribe(("a", 0))).expect(CONNECTED, suback(0))
    stream = publish("a", b"x" * 300) * 3
    for start in range(0, len(stream), 77):
        peer.send(stream[start : start + 77])

    peer.expect(stream).expect_nothing()


def test_a_message_may_be_fragmented(web):
    """A binary message in fragments, with a Ping in between, is no more aligned to packets than frames.

    [MQTT-6.0.0-2]
    """
    peer = web.connected("c").send(subscribe(("a", 0))).expect(suback(0))
    whole = publish("a", b"payload") * 2
    peer.wire.write_raw(masked(whole[:5], BINARY, fin=False) + masked(whole[5:9], CONTINUATION, fin=False))
    peer.wire.write_raw(masked(b"", CONTINUATION, fin=False) + masked(whole[9:], CONTINUATION))

    peer.expect(whole).expect_nothing()


@pytest.mark.parametrize("size", [117, 118, 119, 120, 121, 122, 65_520, 65_525, 65_530, 65_540, 200_000])
def test_frames_of_every_form_of_length(web, size):
    """Payloads around the steps of a frame's length come in and go out as they are [MQTT-6.0.0-1] [MQTT-6.0.0-2]."""
    peer = web.subscribed(("a", 0))

    peer.send(publish("a", b"x" * size)).expect(publish("a", b"x" * size)).expect_nothing()


def test_tcp_and_websocket_are_one_broker(web):
    """Who is connected by TCP and who by WebSocket talk to each other [MQTT-6.0.0-1] [MQTT-7.1.1-1]."""
    page = web.subscribed(("a", 0), client_id="page")
    with socket.create_connection(("127.0.0.1", web.port), DEADLINE_S) as plain:
        plain.sendall(connect("plain") + publish("a", b"x") + DISCONNECT)
        page.expect(publish("a", b"x"))
