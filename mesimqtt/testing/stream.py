"""MQTT 3.1.1 and 5.0 as bytes, just enough to see every packet of a real connection; no code of the engine is in it.

Functions without a `level` write what is the same in both, or 3.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)
REFUSED = 0x80  # [MQTT-3.9.3-2]
FIVE = 5
_SESSION_EXPIRY, _USER_PROPERTY, _SUBSCRIPTION_ID = 0x11, 0x26, 0x0B
_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}  # payload format, message expiry, topic alias; all else is two bytes of length

PING = bytes([PINGREQ << 4, 0])
GOODBYE = bytes([DISCONNECT << 4, 0])


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it came: its type, the flags of its first byte, what follows the length, and its whole size."""

    kind: int
    flags: int
    body: bytes
    size: int

    @property
    def packet_id(self) -> int:
        """The packet id of an acknowledgement."""
        return int.from_bytes(self.body[:2])


@dataclass(frozen=True, slots=True)
class Publish:
    """A decoded PUBLISH; `user` holds the user properties of 5.0 that have no native meaning here."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    user: tuple[tuple[str, str], ...] = ()


def framed(first: int, body: bytes) -> bytes:
    """Return a packet: its first byte, the remaining length, its body."""
    length = bytearray()
    rest = len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes([first, *length]) + body


def text(value: str | bytes) -> bytes:
    """Return a string or binary field: two bytes of length, then the bytes."""
    encoded = value.encode() if isinstance(value, str) else value
    return len(encoded).to_bytes(2) + encoded


def connect(
    client_id: str,
    user: str | None,
    password: str | None,
    *,
    clean: bool = True,
    keep_alive_s: int = 60,
    level: int = 4,
    session_expiry_s: int = 0,
) -> bytes:
    """Return a CONNECT without a will. `session_expiry_s` is 5.0's; 0 says nothing."""
    flags = (0x02 if clean else 0) | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([level, flags]) + keep_alive_s.to_bytes(2)
    if level == FIVE:
        expiry = bytes([_SESSION_EXPIRY]) + session_expiry_s.to_bytes(4) if session_expiry_s else b""
        body += bytes([len(expiry)]) + expiry
    body += text(client_id)
    for field in (user, password):
        body += text(field) if field is not None else b""
    return framed(CONNECT << 4, body)


def publish(
    topic: str, payload: bytes, *, qos: int = 0, packet_id: int = 0, dup: bool = False, level: int = 4
) -> bytes:
    """Return a PUBLISH without properties."""
    head = text(topic) + (packet_id.to_bytes(2) if qos else b"") + (b"\0" if level == FIVE else b"")
    return framed(PUBLISH << 4 | (8 if dup else 0) | qos << 1, head + payload)


def subscribe(packet_id: int, filters: list[tuple[str, int]], *, level: int = 4) -> bytes:
    """Return a SUBSCRIBE for (filter, QoS) pairs."""
    head = packet_id.to_bytes(2) + (b"\0" if level == FIVE else b"")
    return framed(SUBSCRIBE << 4 | 2, head + b"".join(text(name) + bytes([qos]) for name, qos in filters))


def puback(packet_id: int) -> bytes:
    """Return a PUBACK."""
    return framed(PUBACK << 4, packet_id.to_bytes(2))


def suback_codes(packet: Packet, *, level: int = 4) -> list[int]:
    """Return the codes of a SUBACK."""
    end = 2
    if level == FIVE:
        size, end = _variable(packet.body, 2)
        end += size
    return list(packet.body[end:])


def decode_publish(packet: Packet, *, level: int = 4) -> Publish:
    """Decode the PUBLISH in `packet`."""
    qos = packet.flags >> 1 & 3
    end = 2 + int.from_bytes(packet.body[:2])
    identifier = int.from_bytes(packet.body[end : end + 2]) if qos else 0
    at = end + (2 if qos else 0)
    user: tuple[tuple[str, str], ...] = ()
    if level == FIVE:
        size, at = _variable(packet.body, at)
        user = _user_properties(packet.body[at : at + size])
        at += size
    return Publish(
        topic=packet.body[2:end].decode(),
        payload=packet.body[at:],
        qos=qos,
        retain=bool(packet.flags & 1),
        dup=bool(packet.flags & 8),
        packet_id=identifier,
        user=user,
    )


def _user_properties(block: bytes) -> tuple[tuple[str, str], ...]:
    """Return the pairs in a PUBLISH's properties and step over all others [MQTT5-3.3.2.3]."""
    found = []
    at = 0
    while at < len(block):
        kind, at = block[at], at + 1
        if kind == _USER_PROPERTY:
            pair = []
            for _ in range(2):
                size = int.from_bytes(block[at : at + 2])
                pair.append(block[at + 2 : at + 2 + size].decode())
                at += 2 + size
            found.append((pair[0], pair[1]))
        elif kind in _SIZES:
            at += _SIZES[kind]
        elif kind == _SUBSCRIPTION_ID:
            _, at = _variable(block, at)
        else:
            at += 2 + int.from_bytes(block[at : at + 2])
    return tuple(found)


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable byte integer and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


class Reader:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that are complete once `data` has come."""
        buffer = self._buffer
        buffer += data
        start = 0
        while (header := _header(buffer, start)) is not None:
            body, end = header
            if end > len(buffer):
                break
            yield Packet(buffer[start] >> 4, buffer[start] & 15, bytes(buffer[body:end]), end - start)
            start = end
        del buffer[:start]


def _header(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `start` begins and ends; None while its length is incomplete."""
    length = 0
    for index in range(4):
        at = start + 1 + index
        if at >= len(buffer):
            return None
        length |= (buffer[at] & 0x7F) << 7 * index
        if not buffer[at] & 0x80:
            return at + 1, at + 1 + length
    raise ValueError("remaining length of more than four bytes")
