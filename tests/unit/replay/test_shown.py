"""Packets as text: what a person looks for, and nothing that a terminal would obey or that nobody may see."""

from __future__ import annotations

from mesimqtt.replay.shown import Shown
from mesimqtt.testing import wire, wire5


def shown(*packets: bytes, version: int = 4, is_mqtt: bool = True) -> list[str]:
    one = Shown(is_mqtt=is_mqtt)
    one.version = version
    return [line for packet in packets for line in one.lines(packet)]


def test_packets_of_both_versions():
    """A line each: kind, id, topic, and the beginning of a payload."""
    assert [
        "CONNECT version=4 client='phone' user='bob' clean=1 password=(hidden)",
        "SUBSCRIBE id=3 m/bob/in/#@1 free/a@0",
        "PUBLISH qos=1 id=7 dup free/a hi",
        "PUBACK id=7",
        "UNSUBSCRIBE id=4 free/a",
        "PINGREQ",
        "DISCONNECT",
    ] == shown(
        wire.connect("phone", user="bob", password=b"secret-token"),
        wire.subscribe(("m/bob/in/#", 1), ("free/a", 0), packet_id=3),
        wire.publish("free/a", b"hi", qos=1, packet_id=7, dup=True),
        wire.ack("PUBACK", 7),
        wire.unsubscribe("free/a", packet_id=4),
        wire.PINGREQ,
        wire.DISCONNECT,
    )
    five = shown(
        wire5.connect("tab", user="bob", password=b"x", session_expiry_interval=5),
        wire5.subscribe(("a/#", 2), packet_id=1, subscription_identifier=[9]),
        wire5.publish("t", b"hi", message_expiry_interval=3),
    )

    assert ["CONNECT version=5 client='tab' user='bob' clean=1 password=(hidden)", "SUBSCRIBE id=1 a/#@2"] == five[:2]
    assert "PUBLISH qos=0 t hi" == five[2]


def test_packets_in_pieces_and_pieces_of_packets():
    """A read is not a packet."""
    whole = wire.publish("t", b"x" * 300) + wire.PINGREQ
    one = Shown(is_mqtt=True)
    lines = [line for byte in whole for line in one.lines(bytes((byte,)))]

    assert ["PINGREQ"] == lines[1:]
    assert lines[0].endswith("… (300 bytes)")


def test_nothing_reaches_the_terminal_raw():
    """Control characters and what is no UTF-8 are spelled out; what cannot be read is said to be so."""
    lines = shown(wire.publish("t", b"\x1b[31mred\xff\n"), b"\x30\x03\x00\x09x", is_mqtt=True)

    assert "PUBLISH qos=0 t \\x1b[31mred\\xff\\x0a" == lines[0]
    assert lines[1].startswith("PUBLISH")


def test_other_protocols_are_shown_by_their_first_line():
    """HTTP and WebSocket: what was asked."""
    one = Shown()

    assert ["35 bytes: GET /v1/inbox HTTP/1.1"] == list(one.lines(b"GET /v1/inbox HTTP/1.1\r\nHost: x\r\n\r\n"))
