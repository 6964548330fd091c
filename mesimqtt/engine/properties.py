"""Properties of MQTT 5.0: which there are, where each may stand, reading and writing them [MQTT 5.0, section 2.2.2].

A property that is not allowed where it stands is a Malformed Packet (0x81), one that stands twice a Protocol
Error (0x82). Of a PUBLISH, what a receiver gets too is kept as it came (`Properties.forward`): the server
forwards it unaltered and in order [MQTT-3.3.2-17], [MQTT-3.3.2-18].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesimqtt.engine.codes import PROTOCOL_ERROR, TOPIC_ALIAS_INVALID
from mesimqtt.engine.packets import U16, MalformedError, encode_length, read_field

if TYPE_CHECKING:
    from collections.abc import Iterable

PAYLOAD_FORMAT: Final = 0x01
MESSAGE_EXPIRY: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_ID: Final = 0x0B
SESSION_EXPIRY: Final = 0x11
ASSIGNED_CLIENT_ID: Final = 0x12
SERVER_KEEP_ALIVE: Final = 0x13
AUTH_METHOD: Final = 0x15
AUTH_DATA: Final = 0x16
REQUEST_PROBLEM_INFO: Final = 0x17
WILL_DELAY: Final = 0x18
REQUEST_RESPONSE_INFO: Final = 0x19
RESPONSE_INFO: Final = 0x1A
SERVER_REFERENCE: Final = 0x1C
REASON_STRING: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS_MAXIMUM: Final = 0x22
TOPIC_ALIAS: Final = 0x23
USER_PROPERTY: Final = 0x26
MAXIMUM_PACKET_SIZE: Final = 0x27

_BYTE, _TWO, _FOUR, _VARIABLE, _TEXT, _BINARY, _PAIR = range(7)
_KINDS: Final = {
    PAYLOAD_FORMAT: _BYTE,
    MESSAGE_EXPIRY: _FOUR,
    CONTENT_TYPE: _TEXT,
    RESPONSE_TOPIC: _TEXT,
    CORRELATION_DATA: _BINARY,
    SUBSCRIPTION_ID: _VARIABLE,
    SESSION_EXPIRY: _FOUR,
    ASSIGNED_CLIENT_ID: _TEXT,
    SERVER_KEEP_ALIVE: _TWO,
    AUTH_METHOD: _TEXT,
    AUTH_DATA: _BINARY,
    REQUEST_PROBLEM_INFO: _BYTE,
    WILL_DELAY: _FOUR,
    REQUEST_RESPONSE_INFO: _BYTE,
    RESPONSE_INFO: _TEXT,
    SERVER_REFERENCE: _TEXT,
    REASON_STRING: _TEXT,
    RECEIVE_MAXIMUM: _TWO,
    TOPIC_ALIAS_MAXIMUM: _TWO,
    TOPIC_ALIAS: _TWO,
    USER_PROPERTY: _PAIR,
    MAXIMUM_PACKET_SIZE: _FOUR,
}
# What a client may send, by packet. A Subscription Identifier in a PUBLISH comes from servers only [MQTT-3.3.4-6].
IN_CONNECT: Final = frozenset(
    {
        SESSION_EXPIRY,
        RECEIVE_MAXIMUM,
        MAXIMUM_PACKET_SIZE,
        TOPIC_ALIAS_MAXIMUM,
        REQUEST_RESPONSE_INFO,
        REQUEST_PROBLEM_INFO,
        USER_PROPERTY,
        AUTH_METHOD,
        AUTH_DATA,
    }
)
IN_WILL: Final = frozenset(
    {WILL_DELAY, PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, USER_PROPERTY}
)
IN_PUBLISH: Final = (IN_WILL - {WILL_DELAY}) | {TOPIC_ALIAS, SUBSCRIPTION_ID}
IN_ACK: Final = frozenset({REASON_STRING, USER_PROPERTY})
IN_SUBSCRIBE: Final = frozenset({SUBSCRIPTION_ID, USER_PROPERTY})
IN_UNSUBSCRIBE: Final = frozenset({USER_PROPERTY})
IN_DISCONNECT: Final = frozenset({SESSION_EXPIRY, REASON_STRING, USER_PROPERTY})
IN_AUTH: Final = frozenset({AUTH_METHOD, AUTH_DATA, REASON_STRING, USER_PROPERTY})

_NOT_FORWARDED: Final = frozenset({MESSAGE_EXPIRY, TOPIC_ALIAS, WILL_DELAY})
_FLAGS: Final = frozenset({PAYLOAD_FORMAT, REQUEST_PROBLEM_INFO, REQUEST_RESPONSE_INFO})
_NOT_ZERO: Final = frozenset({RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE, SUBSCRIPTION_ID})
_NUL: Final = 0

Value = int | bytes | str


class Properties:
    """The properties of one packet. `forward`: those of a PUBLISH or will that its receivers get, as they came."""

    __slots__ = ("forward", "user", "values")

    def __init__(self) -> None:
        self.values: dict[int, Value] = {}
        self.user: list[tuple[str, str]] = []
        self.forward = b""

    def number(self, identifier: int, default: int) -> int:
        """Return a number, or `default` where it is absent."""
        value = self.values.get(identifier, default)
        return value if isinstance(value, int) else default

    def text(self, identifier: int) -> str | None:
        """Return a text, or None where it is absent."""
        value = self.values.get(identifier)
        return value if isinstance(value, str) else None

    def data(self, identifier: int) -> bytes | None:
        """Return binary data, or None where it is absent."""
        value = self.values.get(identifier)
        return value if isinstance(value, bytes) else None


NO_PROPERTIES: Final = Properties()  # never written to


def read(data: bytes, position: int, end: int, allowed: frozenset[int]) -> tuple[Properties, int]:
    """Return the properties whose length stands at `position`, and the position after them. Raises MalformedError."""
    if position < end and not data[position]:
        return NO_PROPERTIES, position + 1
    size, position = variable(data, position, end)
    stop = position + size
    if stop > end:
        raise MalformedError("properties reach past their packet")
    properties = Properties()
    values, kept = properties.values, []
    while position < stop:
        start = position
        identifier = data[position]  # all that exist are below 128: one byte
        if identifier not in allowed:
            raise MalformedError(f"property {identifier:#04x} does not belong into this packet")
        if identifier == USER_PROPERTY:
            name, position = string(data, position + 1, stop)
            value, position = string(data, position, stop)
            properties.user.append((name, value))
        else:
            if identifier in values:
                raise MalformedError(f"property {identifier:#04x} stands twice", PROTOCOL_ERROR)
            values[identifier], position = _value(data, position + 1, stop, identifier)
        if identifier not in _NOT_FORWARDED:
            kept.append(data[start:position])
    properties.forward = b"".join(kept)
    return properties, position


def _value(data: bytes, position: int, stop: int, identifier: int) -> tuple[Value, int]:
    kind = _KINDS[identifier]
    if kind == _TEXT:
        return string(data, position, stop)
    if kind == _BINARY:
        return read_field(data, position, stop)
    if kind == _VARIABLE:
        number, position = variable(data, position, stop)
    else:
        size = 1 if kind == _BYTE else 2 if kind == _TWO else 4
        if position + size > stop:
            raise MalformedError("properties end inside a number")
        number = int.from_bytes(data[position : position + size], "big")
        position += size
    if identifier in _FLAGS and number > 1:
        raise MalformedError(f"property {identifier:#04x} is 0 or 1", PROTOCOL_ERROR)
    if not number:
        if identifier in _NOT_ZERO:
            raise MalformedError(f"property {identifier:#04x} must not be 0", PROTOCOL_ERROR)
        if identifier == TOPIC_ALIAS:
            raise MalformedError("topic alias 0", TOPIC_ALIAS_INVALID)  # [MQTT-3.3.2-8]
    return number, position


def variable(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a Variable Byte Integer and the position after it; its shortest spelling only [MQTT-1.5.5-1]."""
    number, shift = 0, 0
    while position < end and shift < 28:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if shift and not byte:
                raise MalformedError("a Variable Byte Integer longer than it need be")
            return number, position
        shift += 7
    raise MalformedError("a Variable Byte Integer of more than four bytes, or cut short")


def string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """Return a UTF-8 string and the position after it. Control characters are the application's, U+0000 is not."""
    raw, position = read_field(data, position, end)
    if _NUL in raw:  # [MQTT-1.5.4-2]
        raise MalformedError("U+0000 in a string")
    try:
        return raw.decode(), position
    except UnicodeDecodeError:  # [MQTT-1.5.4-1]
        raise MalformedError("ill-formed UTF-8") from None


def write(properties: Iterable[tuple[int, Value]], user: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return properties on the wire, without the length before them."""
    parts: list[bytes] = []
    for identifier, value in properties:
        parts.append(bytes((identifier,)))
        kind = _KINDS[identifier]
        if isinstance(value, int):
            if kind == _VARIABLE:
                parts.append(encode_length(value))
            else:
                parts.append(value.to_bytes(1 if kind == _BYTE else 2 if kind == _TWO else 4, "big"))
        else:
            raw = value.encode() if isinstance(value, str) else value
            parts += (U16[len(raw)], raw)
    for name, text in user:
        first, second = name.encode(), text.encode()
        parts += (b"\x26", U16[len(first)], first, U16[len(second)], second)
    return b"".join(parts)


def block(properties: bytes) -> bytes:
    """Return properties with their length before them."""
    return encode_length(len(properties)) + properties
