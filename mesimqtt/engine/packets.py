"""MQTT on the wire, what both versions share and 3.1.1 alone: constants, lengths, strings, packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT: Final = 0x10
CONNACK: Final = 0x20
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62  # flags 0010 [MQTT-3.6.1-1]
PUBCOMP: Final = 0x70
SUBSCRIBE: Final = 0x82  # flags 0010 [MQTT-3.8.1-1]
SUBACK: Final = 0x90
UNSUBSCRIBE: Final = 0xA2  # flags 0010 [MQTT-3.10.1-1]
UNSUBACK: Final = 0xB0
PINGREQ: Final = 0xC0
DISCONNECT: Final = 0xE0
AUTH: Final = 0xF0  # 5.0 only

PINGRESP_PACKET: Final = b"\xd0\x00"
_WELCOME: Final = b"\x20\x02\x00\x00"  # the usual CONNACK
ACCEPTED: Final = 0
BAD_PROTOCOL: Final = 1
BAD_CLIENT_ID: Final = 2
UNAVAILABLE: Final = 3
BAD_CREDENTIALS: Final = 4
NOT_AUTHORIZED: Final = 5
SUBACK_FAILURE: Final = 0x80
PROTOCOL_LEVEL: Final = 4  # 3.1.1
FIVE: Final = 5  # the protocol level of 5.0

U16: Final[tuple[bytes, ...]] = tuple(number.to_bytes(2, "big") for number in range(65_536))
_ACK_HEADS: Final = {kind: bytes((kind, 2)) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK)}
_LENGTHS: Final[tuple[bytes, ...]] = tuple(
    bytes((number,)) if number < 128 else bytes((number & 127 | 128, number >> 7)) for number in range(16_384)
)

# What no string may hold: C0 and DEL, and what no topic name may: wildcards. [MQTT-1.5.3-2], [MQTT-3.3.2-2]
_CONTROLS: Final = bytes((*range(32), 127))
_NOT_IN_TOPICS: Final = _CONTROLS + b"+#"


class MalformedError(Exception):
    """The client broke the protocol: its connection is closed and nothing after that is processed.

    `code` is the reason code that a client of 5.0 is told: 0x81 malformed packet where nothing else is said.
    """

    def __init__(self, reason: str, code: int = 0x81) -> None:
        super().__init__(reason)
        self.code = code


def encode_length(number: int) -> bytes:
    """Return a remaining length as one to four bytes."""
    if number < 16_384:
        return _LENGTHS[number]
    low, rest = _LENGTHS[number & 0x3FFF], number >> 14
    two = bytes((low[0] | 128, (low[1] if len(low) == 2 else 0) | 128))
    return two + _LENGTHS[rest]


def ack(kind: int, packet_id: int) -> bytes:
    """Return a PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK."""
    return _ACK_HEADS[kind] + U16[packet_id]


def connack(code: int, *, session_present: bool = False) -> bytes:
    """Return a CONNACK; a refusal never says that a session is present [MQTT-3.2.2-4]."""
    if code == ACCEPTED and not session_present:
        return _WELCOME
    return bytes((CONNACK, 2, 1 if session_present and code == ACCEPTED else 0, code))


def suback(packet_id: int, codes: bytes) -> bytes:
    """Return a SUBACK with one code per filter, in their order [MQTT-3.8.4-5]."""
    return b"".join((FIRST[SUBACK], encode_length(2 + len(codes)), U16[packet_id], codes))


def publish_head(first: int, topic: bytes, payload_size: int) -> bytes:
    """Return a PUBLISH up to its topic; `first` is the first byte. Packet id (if QoS > 0) and payload follow."""
    size = len(topic)
    length = 2 + size + payload_size + (2 if first & 6 else 0)
    return b"".join((FIRST[first], encode_length(length), U16[size], topic))


FIRST: Final[tuple[bytes, ...]] = tuple(bytes((number,)) for number in range(256))


def publish(topic: bytes, payload: bytes, *, qos: int = 0, packet_id: int = 0, retain: bool = False) -> bytes:
    """Return a whole PUBLISH."""
    head = publish_head(PUBLISH | qos << 1 | retain, topic, len(payload))
    return b"".join((head, U16[packet_id], payload)) if qos else head + payload


def publish_size(topic_size: int, payload_size: int) -> int:
    """Return the size of a whole PUBLISH with a packet id."""
    length = 2 + topic_size + 2 + payload_size
    return 1 + len(encode_length(length)) + length


def check_text(raw: bytes) -> str:
    """Decode a string of the protocol. Raises MalformedError for ill-formed UTF-8 and control characters.

    Ill-formed UTF-8 and U+0000 must close the connection [MQTT-1.5.3-1], [MQTT-1.5.3-2]; other
    control characters and non-characters may, and do: no subscriber is to be cut because of them.
    """
    if len(raw.translate(None, _CONTROLS)) != len(raw):
        raise MalformedError("control character in a string")
    return _decode(raw)


def check_topic(raw: bytes) -> str:
    """Decode a topic name. Raises MalformedError if it is empty or has wildcards [MQTT-3.3.2-2], [MQTT-4.7.3-1]."""
    if not raw or len(raw.translate(None, _NOT_IN_TOPICS)) != len(raw):
        raise MalformedError("empty topic name, or a wildcard or control character in it")
    return _decode(raw)


def is_plain_topic(raw: bytes) -> bool:
    """Tell whether a topic name is certainly valid: printable ASCII without wildcards."""
    return raw.isascii() and len(raw.translate(None, _NOT_IN_TOPICS)) == len(raw) > 0


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("ill-formed UTF-8") from None
    if not text.isascii():
        for character in text:
            code = ord(character)
            if 0x80 <= code < 0xA0 or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
                raise MalformedError("control character or non-character in a string")
    return text


def is_filter(topic_filter: str) -> bool:
    """Tell whether wildcards stand where they may [MQTT-4.7.1-2], [MQTT-4.7.1-3]."""
    if "#" not in topic_filter and "+" not in topic_filter:
        return bool(topic_filter)
    levels = topic_filter.split("/")
    last = len(levels) - 1
    for position, level in enumerate(levels):
        if level in ("+", ""):
            continue
        if level == "#":
            if position != last:
                return False
        elif "#" in level or "+" in level:
            return False
    return True


def read_field(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Return a length-prefixed field and the position after it. Raises MalformedError if it passes `end`."""
    start = position + 2
    if start > end:
        raise MalformedError("packet ends inside a length")
    stop = start + (data[position] << 8 | data[position + 1])
    if stop > end:
        raise MalformedError("a field reaches past its packet")
    return data[start:stop], stop


def read_text(data: bytes, position: int, end: int) -> tuple[str, int]:
    """Return a length-prefixed string and the position after it. Raises MalformedError as its two parts do."""
    start = position + 2
    if start <= end:
        stop = start + (data[position] << 8 | data[position + 1])
        raw = data[start:stop]
        if stop <= end and raw.isascii():  # the usual one, in a third of the time
            text = raw.decode()
            if text.isprintable():
                return text, stop
    raw, stop = read_field(data, position, end)
    return check_text(raw), stop


def walk(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (first byte, size) of each whole packet in `data`; for observers of packets."""
    position, size = 0, len(data)
    while position + 1 < size:
        length, shift, body = 0, 0, position + 1
        while body < size:
            byte = data[body]
            body += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        else:
            return
        if body + length > size:
            return
        yield data[position], body + length - position
        position = body + length
