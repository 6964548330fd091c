"""MQTT 3.1.1 as bytes, just enough for tests that must see every packet; it shares no code with the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)
REFUSED = 0x80  # [MQTT-3.9.3-2]

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
    """A decoded PUBLISH."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


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
    client_id: str, user: str | None, password: str | None, *, clean: bool = True, keep_alive_s: int = 60
) -> bytes:
    """Return a CONNECT without a will."""
    flags = (0x02 if clean else 0) | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([4, flags]) + keep_alive_s.to_bytes(2) + text(client_id)
    for field in (user, password):
        body += text(field) if field is not None else b""
    return framed(CONNECT << 4, body)


def publish(topic: str, payload: bytes, *, qos: int = 0, packet_id: int = 0, dup: bool = False) -> bytes:
    """Return a PUBLISH."""
    identifier = packet_id.to_bytes(2) if qos else b""
    return framed(PUBLISH << 4 | (8 if dup else 0) | qos << 1, text(topic) + identifier + payload)


def subscribe(packet_id: int, filters: list[tuple[str, int]]) -> bytes:
    """Return a SUBSCRIBE for (filter, QoS) pairs."""
    return framed(
        SUBSCRIBE << 4 | 2, packet_id.to_bytes(2) + b"".join(text(name) + bytes([qos]) for name, qos in filters)
    )


def puback(packet_id: int) -> bytes:
    """Return a PUBACK."""
    return framed(PUBACK << 4, packet_id.to_bytes(2))


def decode_publish(packet: Packet) -> Publish:
    """Decode the PUBLISH in `packet`."""
    qos = packet.flags >> 1 & 3
    end = 2 + int.from_bytes(packet.body[:2])
    identifier = int.from_bytes(packet.body[end : end + 2]) if qos else 0
    return Publish(
        topic=packet.body[2:end].decode(),
        payload=packet.body[end + (2 if qos else 0) :],
        qos=qos,
        retain=bool(packet.flags & 1),
        dup=bool(packet.flags & 8),
        packet_id=identifier,
    )


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
