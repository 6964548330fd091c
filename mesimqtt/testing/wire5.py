"""MQTT 5.0 on the wire: a builder of every packet, written from the specification alone; parse5.py reads them.

Properties are keyword arguments with the specification's names: `publish("t", b"x", topic_alias=1)`; those that may
stand more than once are lists. What a builder cannot say (a property that is not allowed, or stands twice) is said
with `raw`, which replaces the whole property block. The parser refuses all that the specification calls malformed,
whoever sent it, and `parse` checks that what it read encodes to the same bytes again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

BYTE, TWO, FOUR, VARIABLE, BINARY, TEXT, PAIR = "byte", "two", "four", "variable", "binary", "text", "pair"
ACKS = ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP")
KINDS = {
    1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP", 8: "SUBSCRIBE",
    9: "SUBACK", 10: "UNSUBSCRIBE", 11: "UNSUBACK", 12: "PINGREQ", 13: "PINGRESP", 14: "DISCONNECT", 15: "AUTH",
}  # fmt: skip
NUMBERS = {name: number for number, name in KINDS.items()}
ANSWERS = {"CONNACK", *ACKS, "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH"}
MESSAGE = {"PUBLISH", "WILL"}
# Table 2-4: name -> (identifier, type, packets)
PROPERTIES: dict[str, tuple[int, str, set[str]]] = {
    "payload_format_indicator": (1, BYTE, MESSAGE),
    "message_expiry_interval": (2, FOUR, MESSAGE),
    "content_type": (3, TEXT, MESSAGE),
    "response_topic": (8, TEXT, MESSAGE),
    "correlation_data": (9, BINARY, MESSAGE),
    "subscription_identifier": (11, VARIABLE, {"PUBLISH", "SUBSCRIBE"}),
    "session_expiry_interval": (17, FOUR, {"CONNECT", "CONNACK", "DISCONNECT"}),
    "assigned_client_identifier": (18, TEXT, {"CONNACK"}),
    "server_keep_alive": (19, TWO, {"CONNACK"}),
    "authentication_method": (21, TEXT, {"CONNECT", "CONNACK", "AUTH"}),
    "authentication_data": (22, BINARY, {"CONNECT", "CONNACK", "AUTH"}),
    "request_problem_information": (23, BYTE, {"CONNECT"}),
    "will_delay_interval": (24, FOUR, {"WILL"}),
    "request_response_information": (25, BYTE, {"CONNECT"}),
    "response_information": (26, TEXT, {"CONNACK"}),
    "server_reference": (28, TEXT, {"CONNACK", "DISCONNECT"}),
    "reason_string": (31, TEXT, ANSWERS),
    "receive_maximum": (33, TWO, {"CONNECT", "CONNACK"}),
    "topic_alias_maximum": (34, TWO, {"CONNECT", "CONNACK"}),
    "topic_alias": (35, TWO, {"PUBLISH"}),
    "maximum_qos": (36, BYTE, {"CONNACK"}),
    "retain_available": (37, BYTE, {"CONNACK"}),
    "user_property": (38, PAIR, {*ANSWERS, *MESSAGE, "CONNECT", "SUBSCRIBE", "UNSUBSCRIBE"}),
    "maximum_packet_size": (39, FOUR, {"CONNECT", "CONNACK"}),
    "wildcard_subscription_available": (40, BYTE, {"CONNACK"}),
    "subscription_identifiers_available": (41, BYTE, {"CONNACK"}),
    "shared_subscription_available": (42, BYTE, {"CONNACK"}),
}
NAMES = {identifier: name for name, (identifier, _, _) in PROPERTIES.items()}
NEVER_ZERO = {"receive_maximum", "maximum_packet_size", "topic_alias", "subscription_identifier"}
REASONS = {  # table 2-6
    "CONNACK": {0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    "PUBACK": {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    "PUBREC": {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    "PUBREL": {0, 0x92},
    "PUBCOMP": {0, 0x92},
    "SUBACK": {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    "UNSUBACK": {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    "DISCONNECT": {0, 4, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3)},
    "AUTH": {0, 0x18, 0x19},
}


class WireError(AssertionError):
    """The bytes are not MQTT 5.0."""


@dataclass(frozen=True)
class Packet:
    """One packet, with what its kind has of these fields; two of them are equal if they mean the same."""

    kind: str
    code: int = 0
    packet_id: int = 0
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    session_present: bool = False
    codes: tuple[int, ...] = ()  # of SUBACK and UNSUBACK; the options of a SUBSCRIBE
    filters: tuple[str, ...] = ()
    properties: tuple[tuple[str, Any], ...] = ()  # by identifier; user properties in their order
    connect: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        said = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self)[1:] if getattr(self, f.name) != f.default]
        return f"{self.kind}({', '.join(said)})"

    def __getattr__(self, name: str) -> Any:
        """Return a property by its name: a list if it may stand more than once, else its value or None."""
        if name not in PROPERTIES:
            raise AttributeError(name)
        values = [value for key, value in self.properties if key == name]
        return values if name in {"user_property", "subscription_identifier"} else values[0] if values else None


# --- writing ---


def variable(number: int) -> bytes:
    """Encode a Variable Byte Integer (section 1.5.5)."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def text(value: str | bytes) -> bytes:
    """Encode a string or binary data (sections 1.5.4 and 1.5.6)."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2) + raw


def one(name: str, value: Any) -> bytes:
    """Encode one property with its identifier."""
    identifier, kind, _ = PROPERTIES[name]
    encoded: bytes
    if kind in {BYTE, TWO, FOUR}:
        encoded = value.to_bytes({BYTE: 1, TWO: 2, FOUR: 4}[kind])
    elif kind == VARIABLE:
        encoded = variable(value)
    else:
        encoded = text(value[0]) + text(value[1]) if kind == PAIR else text(value)
    return bytes([identifier]) + encoded


def properties(raw: bytes | None = None, /, **values: Any) -> bytes:
    """Encode a property block with its length; `raw` replaces the block's content."""
    if raw is None:
        raw = b""
        for name, value in values.items():
            raw += b"".join(one(name, each) for each in (value if isinstance(value, list) else [value]))
    return variable(len(raw)) + raw


def packet(first: int, body: bytes = b"") -> bytes:
    """Frame a body."""
    return bytes([first]) + variable(len(body)) + body


def will(
    topic: str | bytes, payload: bytes, *, qos: int = 0, retain: bool = False, raw: bytes | None = None, **values: Any
) -> tuple[int, bytes]:
    """Return a will for `connect`: its bits and its bytes."""
    return 0x04 | qos << 3 | retain << 5, properties(raw, **values) + text(topic) + text(payload)


def connect(
    client_id: str | bytes = "c",
    *,
    clean: bool = True,
    keep_alive: int = 60,
    user: str | bytes | None = None,
    password: str | bytes | None = None,
    will: tuple[int, bytes] | None = None,
    flags: int = 0,
    name: str | bytes = "MQTT",
    level: int = 5,
    raw: bytes | None = None,
    **values: Any,
) -> bytes:
    """CONNECT; `flags` are bits set besides those that follow from the other arguments."""
    bits, tail = flags | (2 if clean else 0), text(client_id)
    if will is not None:
        bits, tail = bits | will[0], tail + will[1]
    if user is not None:
        bits, tail = bits | 0x80, tail + text(user)
    if password is not None:
        bits, tail = bits | 0x40, tail + text(password)
    head = text(name) + bytes([level, bits]) + keep_alive.to_bytes(2) + properties(raw, **values)
    return packet(0x10, head + tail)


def connack(code: int = 0, *, session_present: bool = False, raw: bytes | None = None, **values: Any) -> bytes:
    """CONNACK."""
    return packet(0x20, bytes([session_present, code]) + properties(raw, **values))


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
    raw: bytes | None = None,
    **values: Any,
) -> bytes:
    """PUBLISH."""
    identifier = packet_id.to_bytes(2) if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, text(topic) + identifier + properties(raw, **values) + payload)


def ack(kind: str, packet_id: int, code: int | None = None, *, raw: bytes | None = None, **values: Any) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP: in the form of 2 bytes, of 3 with a code, or with properties."""
    body = packet_id.to_bytes(2)
    if code is not None or values or raw is not None:
        body += bytes([code or 0])
    if values or raw is not None:
        body += properties(raw, **values)
    return packet(NUMBERS[kind] << 4 | (2 if kind == "PUBREL" else 0), body)


def puback(packet_id: int, code: int | None = None, **values: Any) -> bytes:
    """PUBACK."""
    return ack("PUBACK", packet_id, code, **values)


def pubrec(packet_id: int, code: int | None = None, **values: Any) -> bytes:
    """PUBREC."""
    return ack("PUBREC", packet_id, code, **values)


def pubrel(packet_id: int, code: int | None = None, **values: Any) -> bytes:
    """PUBREL."""
    return ack("PUBREL", packet_id, code, **values)


def pubcomp(packet_id: int, code: int | None = None, **values: Any) -> bytes:
    """PUBCOMP."""
    return ack("PUBCOMP", packet_id, code, **values)


def option(qos: int = 0, *, no_local: bool = False, as_published: bool = False, retain_handling: int = 0) -> int:
    """Subscription Options (section 3.8.3.1)."""
    return qos | no_local << 2 | as_published << 3 | retain_handling << 4


def subscribe(*filters: tuple[str | bytes, int], packet_id: int = 1, raw: bytes | None = None, **values: Any) -> bytes:
    """SUBSCRIBE of (filter, options) pairs."""
    body = packet_id.to_bytes(2) + properties(raw, **values)
    return packet(0x82, body + b"".join(text(name) + bytes([options]) for name, options in filters))


def suback(*codes: int, packet_id: int = 1, **values: Any) -> bytes:
    """SUBACK."""
    return packet(0x90, packet_id.to_bytes(2) + properties(**values) + bytes(codes))


def unsubscribe(*filters: str | bytes, packet_id: int = 1, raw: bytes | None = None, **values: Any) -> bytes:
    """UNSUBSCRIBE."""
    return packet(0xA2, packet_id.to_bytes(2) + properties(raw, **values) + b"".join(map(text, filters)))


def unsuback(*codes: int, packet_id: int = 1, **values: Any) -> bytes:
    """UNSUBACK."""
    return packet(0xB0, packet_id.to_bytes(2) + properties(**values) + bytes(codes))


def _closing(first: int, code: int | None, raw: bytes | None, values: dict[str, Any]) -> bytes:
    body = b"" if code is None and not values and raw is None else bytes([code or 0])
    return packet(first, body + (properties(raw, **values) if values or raw is not None else b""))


def disconnect(code: int | None = None, *, raw: bytes | None = None, **values: Any) -> bytes:
    """DISCONNECT: empty, with a code, or with properties."""
    return _closing(0xE0, code, raw, values)


def auth(code: int | None = None, *, raw: bytes | None = None, **values: Any) -> bytes:
    """AUTH."""
    return _closing(0xF0, code, raw, values)


PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
