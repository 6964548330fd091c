"""Packets of MQTT 3.1.1 as bytes, each as the specification's figures show it; no code of the server is used."""

from __future__ import annotations

CONNECTED = b"\x20\x02\x00\x00"  # CONNACK: accepted, no session present
RESUMED = b"\x20\x02\x01\x00"  # CONNACK: accepted, session present
PINGREQ, PINGRESP, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"


def remaining_length(number: int) -> bytes:
    """Encode a remaining length (section 2.2.3; a variable byte integer in 5.0)."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def text(value: str | bytes) -> bytes:
    """Encode a string or binary field: two bytes of length, then the bytes (section 1.5.3)."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2) + raw


def packet(first: int, body: bytes = b"") -> bytes:
    """Frame a body: first byte, remaining length, body (section 2.2)."""
    return bytes([first]) + remaining_length(len(body)) + body


def connect(
    client_id: str | bytes = "c",
    *,
    clean: bool = True,
    user: str | bytes | None = None,
    password: str | bytes | None = None,
    will: tuple[str | bytes, bytes, int, bool] | None = None,
    keep_alive: int = 60,
    name: str | bytes = "MQTT",
    level: int = 4,
    flags: int = 0,
) -> bytes:
    """CONNECT; `will` is (topic, payload, QoS, retain), `flags` are bits set besides those that follow."""
    bits, tail = flags | (0x02 if clean else 0), text(client_id)
    if will is not None:
        bits |= 0x04 | will[2] << 3 | (0x20 if will[3] else 0)
        tail += text(will[0]) + text(will[1])
    if user is not None:
        bits |= 0x80
        tail += text(user)
    if password is not None:
        bits |= 0x40
        tail += text(password)
    return packet(0x10, text(name) + bytes([level, bits]) + keep_alive.to_bytes(2) + tail)


def connack(code: int = 0, *, session_present: bool = False) -> bytes:
    """CONNACK."""
    return bytes([0x20, 2, session_present, code])


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """PUBLISH; the packet id stands only where QoS is above 0."""
    identifier = packet_id.to_bytes(2) if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, text(topic) + identifier + payload)


def puback(packet_id: int) -> bytes:
    """PUBACK."""
    return b"\x40\x02" + packet_id.to_bytes(2)


def pubrec(packet_id: int) -> bytes:
    """PUBREC."""
    return b"\x50\x02" + packet_id.to_bytes(2)


def pubrel(packet_id: int) -> bytes:
    """PUBREL."""
    return b"\x62\x02" + packet_id.to_bytes(2)


def pubcomp(packet_id: int) -> bytes:
    """PUBCOMP."""
    return b"\x70\x02" + packet_id.to_bytes(2)


def subscribe(*filters: tuple[str | bytes, int], packet_id: int = 1) -> bytes:
    """SUBSCRIBE of (filter, QoS) pairs."""
    return packet(0x82, packet_id.to_bytes(2) + b"".join(text(name) + bytes([qos]) for name, qos in filters))


def suback(*codes: int, packet_id: int = 1) -> bytes:
    """SUBACK."""
    return packet(0x90, packet_id.to_bytes(2) + bytes(codes))


def unsubscribe(*filters: str | bytes, packet_id: int = 1) -> bytes:
    """UNSUBSCRIBE."""
    return packet(0xA2, packet_id.to_bytes(2) + b"".join(map(text, filters)))


def unsuback(packet_id: int = 1) -> bytes:
    """UNSUBACK."""
    return b"\xb0\x02" + packet_id.to_bytes(2)


def packet_id_of(raw: bytes) -> int:
    """Return the packet id of a PUBLISH at QoS 1 or 2, or of an acknowledgement."""
    start = 1
    while raw[start] & 0x80:
        start += 1
    start += 1
    if raw[0] >> 4 == 3:
        start += 2 + int.from_bytes(raw[start : start + 2])
    return int.from_bytes(raw[start : start + 2])
