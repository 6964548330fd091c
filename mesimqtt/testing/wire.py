"""MQTT 3.1.1 as a client writes and reads it: packets for tests, made and decoded without the server's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONNACK, PINGREQ = b"\x20\x02\x00\x00", b"\xc0\x00"
PINGRESP, DISCONNECT = ("PINGRESP",), b"\xe0\x00"


def length(number: int) -> bytes:
    """Return a remaining length, encoded as the specification's own pseudo code does it."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def text(value: str | bytes) -> bytes:
    """Return a string of the protocol."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes = b"") -> bytes:
    """Return a packet of its first byte and what follows its length."""
    return bytes([first]) + length(len(body)) + body


def connect(
    client_id: str | bytes = "c",
    *,
    clean: bool = True,
    user: str | bytes | None = None,
    password: str | bytes | None = None,
    will: tuple[str | bytes, str | bytes, int, bool] | None = None,
    keep_alive: int = 60,
    level: int = 4,
    flags: int = 0,
) -> bytes:
    """Return a CONNECT; `will` is (topic, payload, qos, retain)."""
    bits, tail = flags | (2 if clean else 0), text(client_id)
    if will is not None:
        bits |= 4 | will[2] << 3 | (0x20 if will[3] else 0)
        tail += text(will[0]) + text(will[1])
    if user is not None:
        bits |= 0x80
        tail += text(user)
    if password is not None:
        bits |= 0x40
        tail += text(password)
    return packet(0x10, text("MQTT") + bytes([level, bits]) + keep_alive.to_bytes(2, "big") + tail)


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """Return a PUBLISH."""
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, text(topic) + identifier + payload)


def subscribe(*filters: tuple[str | bytes, int], packet_id: int = 1) -> bytes:
    """Return a SUBSCRIBE of (filter, qos) pairs."""
    return packet(0x82, packet_id.to_bytes(2, "big") + b"".join(text(name) + bytes([qos]) for name, qos in filters))


def unsubscribe(*filters: str | bytes, packet_id: int = 1) -> bytes:
    """Return an UNSUBSCRIBE."""
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(map(text, filters)))


def ack(kind: str, packet_id: int) -> bytes:
    """Return a PUBACK, PUBREC, PUBREL or PUBCOMP."""
    return bytes([{"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70}[kind], 2]) + packet_id.to_bytes(2)


@dataclass(frozen=True)
class Message:
    """A PUBLISH that a client received."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False


_NAMES = {4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP", 11: "UNSUBACK"}


def decode(data: bytes) -> list[Any]:
    """Decode what the server sent, independently of the server's own code; trailing bytes are an error."""
    packets, at = [], 0
    while at < len(data):
        first, size, shift, at = data[at], 0, 0, at + 1
        while True:
            size |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                break
        body, at = data[at : at + size], at + size
        assert len(body) == size, "the server sent half a packet"
        packets.append(_decode_one(first, body))
    return packets


def _decode_one(first: int, body: bytes) -> Any:
    kind = first >> 4
    if kind == 3:
        end, qos = 2 + int.from_bytes(body[:2]), first >> 1 & 3
        number = int.from_bytes(body[end : end + 2]) if qos else 0
        payload = body[end + 2 :] if qos else body[end:]
        return Message(body[2:end].decode(), payload, qos, number, bool(first & 1), bool(first & 8))
    if kind == 2:
        assert (0x20, 2) == (first, len(body))
        return ("CONNACK", body[0], body[1])
    if kind == 9:
        return ("SUBACK", int.from_bytes(body[:2]), list(body[2:]))
    if kind == 13:
        assert (0xD0, b"") == (first, body)
        return PINGRESP
    assert first & 15 == (2 if kind == 6 else 0)
    assert len(body) == 2
    return (_NAMES[kind], int.from_bytes(body))
