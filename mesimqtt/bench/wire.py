"""MQTT packets as the load generator needs them: built once, compared in bulk, parsed only on mismatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
DISCONNECT = b"\xe0\x00"
FIVE = 5
NO_PROPERTIES = b"\0"
ACK_SIZE = 4
PAYLOAD_SIZE = 256
ONE_BYTE = tuple(bytes((value,)) for value in range(256))
_FILLER = bytes(ord("a") + (place * 7) % 26 for place in range(2 * PAYLOAD_SIZE))
_INDEX_AT = 2  # a payload begins with the publisher (2 bytes) and the index of the frame in its ring (4 bytes)
_MARK_SIZE = 6


def remaining_length(size: int) -> bytes:
    """Encode a remaining length [MQTT 3.1.1, section 2.2.3]."""
    encoded = bytearray()
    while True:
        size, digit = size >> 7, size & 127
        encoded.append(digit | 128 if size else digit)
        if not size:
            return bytes(encoded)


def string(text: str | bytes) -> bytes:
    """Encode a length-prefixed string."""
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(2, "big") + raw


def packet(head: int, body: bytes) -> bytes:
    """Return a whole packet with the given first byte."""
    return ONE_BYTE[head] + remaining_length(len(body)) + body


def connect(
    client_id: str, *, user: str | None = None, password: str | None = None, clean: bool = True, version: int = 4
) -> bytes:
    """Return a CONNECT of protocol level `version`; with `user` and `password` if they are given."""
    flags = (2 if clean else 0) | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    head = string("MQTT") + bytes((version, flags, 600 >> 8, 600 & 255))
    body = head + (NO_PROPERTIES if version == FIVE else b"") + string(client_id)
    if user is not None:
        body += string(user)
    if password is not None:
        body += string(password)
    return packet(0x10, body)


def subscribe(filters: Sequence[str], qos: int, packet_id: int = 1, *, version: int = 4) -> bytes:
    """Return a SUBSCRIBE of `filters`, all at `qos`."""
    body = b"".join(string(one) + ONE_BYTE[qos] for one in filters)
    return packet(0x82, packet_id.to_bytes(2, "big") + (NO_PROPERTIES if version == FIVE else b"") + body)


def unsubscribe(filters: Sequence[str], packet_id: int = 1) -> bytes:
    """Return an UNSUBSCRIBE of 3.1.1."""
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(string(one) for one in filters))


def user_property(name: str, value: str) -> bytes:
    """Return the properties of a PUBLISH of 5.0 with one user property, their length before them."""
    body = b"\x26" + string(name) + string(value)
    return remaining_length(len(body)) + body


def publish(topic: str | bytes, payload: bytes, qos: int, packet_id: int, properties: bytes = b"") -> bytes:
    """Return a PUBLISH; `packet_id` stands in it from QoS 1 on, `properties` on 5.0 with their length before them."""
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, string(topic) + identifier + properties + payload)


@dataclass(frozen=True, slots=True)
class Part:
    """Where one packet lies in a buffer: its first byte's value, the start of its body, its end."""

    head: int
    body: int
    end: int


def next_packet(data: bytes, start: int) -> Part | None:
    """Find the packet that begins at `start`; None if it is not whole yet."""
    size, shift, place = 0, 0, start + 1
    while place < len(data):
        digit = data[place]
        size |= (digit & 127) << shift
        shift, place = shift + 7, place + 1
        if not digit & 128:
            end = place + size
            return Part(data[start], place, end) if end <= len(data) else None
    return None


def packets(data: bytes, start: int = 0) -> Iterator[Part]:
    """Yield the whole packets of `data` from `start` on."""
    while (part := next_packet(data, start)) is not None:
        yield part
        start = part.end


def publish_parts(data: bytes, part: Part) -> tuple[bytes, bytes, bytes]:
    """Return topic, packet id (empty at QoS 0) and payload of a PUBLISH."""
    topic_end = part.body + 2 + int.from_bytes(data[part.body : part.body + 2], "big")
    body = topic_end + (2 if part.head & 6 else 0)
    return data[part.body + 2 : topic_end], data[topic_end:body], data[body : part.end]


def run_length(data: bytes, start: int, size: int) -> int:
    """Count the whole packets of equal first byte and fixed `size` that follow each other from `start`.

    The byte after the last of them is the first byte of another kind of packet, so the strided look stops there.
    """
    whole = (len(data) - start) // size
    heads = data[start : start + whole * size : size]
    return whole - len(heads.lstrip(ONE_BYTE[data[start]]))


def answers(head: int, high: bytes | bytearray, low: bytes | bytearray) -> bytearray:
    """Return acknowledgements of kind `head` for packet ids given as their high and their low bytes."""
    block = bytearray(bytes((head, 2, 0, 0)) * len(high))
    block[2::4] = high
    block[3::4] = low
    return block


class Ring:
    """The frames of one publisher, built once and sent over and over.

    A frame names its publisher and its index in the ring. As a flow keeps its order, what arrives must equal
    the ring byte for byte (but for the receiver's packet ids), so one comparison checks a whole burst.
    `wire` and `blank` (packet ids zero) hold the ring twice, so that no burst has to be cut at its end.
    """

    def __init__(
        self, topic: str, *, qos: int, count: int, publisher: int = 0, twice: bool = True, properties: bytes = b""
    ) -> None:
        self.count = count
        self.qos = qos
        self.properties = properties
        self.head = 0x30 | qos << 1
        payloads = [marked_payload(publisher, index) for index in range(count)]
        frames = [
            publish(topic, payload, qos, index % 65_535 + 1, properties) for index, payload in enumerate(payloads)
        ]
        times = 2 if twice else 1
        self.size = len(frames[0])
        self.wire = memoryview(b"".join(frames) * times)
        self.id_at = self.size - PAYLOAD_SIZE - len(properties) - 2
        blank = (
            b"".join(publish(topic, payload, qos, 0, properties) for payload in payloads) if qos else b"".join(frames)
        )
        self.blank = blank * times
        self.publisher_at = self.size - PAYLOAD_SIZE
        self._ids = b"".join((index % 65_535 + 1).to_bytes(2, "big") for index in range(count)) * times
        self._acks: dict[int, bytes] = {}

    def frames(self, index: int, count: int) -> memoryview:
        """Return `count` frames from `index` on, `index` within the ring."""
        return self.wire[index * self.size : (index + count) * self.size]

    def acks(self, head: int) -> bytes:
        """Return the acknowledgements of kind `head` that the ring's frames must get, in their order."""
        if head not in self._acks:
            self._acks[head] = bytes(answers(head, self._ids[0::2], self._ids[1::2]))
        return self._acks[head]


def marked_payload(publisher: int, index: int, size: int = PAYLOAD_SIZE) -> bytes:
    """Return a payload of `size` bytes that names its publisher and its index."""
    return publisher.to_bytes(2, "big") + index.to_bytes(4, "big") + _FILLER[_MARK_SIZE:size]


def mark_of(payload: bytes) -> tuple[int, int] | None:
    """Return publisher and index of a payload; None if it is not one that a ring holds."""
    if len(payload) < 2 * _MARK_SIZE or payload[_MARK_SIZE:] != _FILLER[_MARK_SIZE : len(payload)]:
        return None
    return int.from_bytes(payload[:_INDEX_AT], "big"), int.from_bytes(payload[_INDEX_AT:_MARK_SIZE], "big")
