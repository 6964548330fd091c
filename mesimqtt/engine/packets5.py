"""MQTT 5.0 on the wire: the packets that the server builds. A PUBLISH is built in letter.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import properties as known
from mesimqtt.engine.packets import (
    AUTH,
    CONNACK,
    DISCONNECT,
    FIRST,
    PUBACK,
    PUBREC,
    SUBACK,
    U16,
    UNSUBACK,
    encode_length,
)
from mesimqtt.engine.properties import block, write

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.properties import Value

_REASON_MAX = 256  # bytes of a Reason String
RETRY_AFTER = "retry-after"  # our User Property of a DISCONNECT: seconds, with one decimal


def connack(code: int, properties: list[tuple[int, Value]], *, session_present: bool = False) -> bytes:
    """Return a CONNACK; a refusal never says that a session is present [MQTT-3.2.2-6]."""
    body = bytes((1 if session_present and not code else 0, code)) + block(write(properties))
    return FIRST[CONNACK] + encode_length(len(body)) + body


def ack(kind: int, packet_id: int, code: int = 0, reason: str = "") -> bytes:
    """Return a PUBACK, PUBREC, PUBREL or PUBCOMP; a Reason Code of 0 is left out, and so are absent properties."""
    if not code:
        return bytes((kind, 2)) + U16[packet_id]
    if not reason:
        return bytes((kind, 3)) + U16[packet_id] + FIRST[code]
    body = U16[packet_id] + FIRST[code] + block(write([(known.REASON_STRING, reason[:_REASON_MAX])]))
    return FIRST[kind] + encode_length(len(body)) + body


def refusal(connection: Connection, qos: int, packet_id: int, code: int, reason: str) -> bytes:
    """Return the PUBACK or PUBREC of a PUBLISH, with `reason` where its client wants to hear it and can take it."""
    kind = PUBACK if qos == 1 else PUBREC
    five = connection.five
    packet = ack(kind, packet_id, code, reason if five is not None and five.wants_reasons else "")
    if 0 < connection.packet_max < len(packet):
        return ack(kind, packet_id, code)  # [MQTT-3.4.2-2]
    return packet


def suback(packet_id: int, codes: bytes) -> bytes:
    """Return a SUBACK with one reason code per filter, in their order [MQTT-3.9.3-1]."""
    return _listing(SUBACK, packet_id, codes)


def unsuback(packet_id: int, codes: bytes) -> bytes:
    """Return an UNSUBACK with one reason code per filter, in their order [MQTT-3.11.3-1]."""
    return _listing(UNSUBACK, packet_id, codes)


def _listing(kind: int, packet_id: int, codes: bytes) -> bytes:
    return b"".join((FIRST[kind], encode_length(3 + len(codes)), U16[packet_id], b"\0", codes))


def disconnect(code: int, reason: str = "", server_reference: str = "", retry_after_s: float = 0.0) -> bytes:
    """Return the server's DISCONNECT [MQTT 5.0, section 3.14]; `retry_after_s` is when to come back, 0: not said."""
    properties: list[tuple[int, Value]] = []
    if reason:
        properties.append((known.REASON_STRING, reason[:_REASON_MAX]))
    if server_reference:
        properties.append((known.SERVER_REFERENCE, server_reference))
    user = [(RETRY_AFTER, f"{retry_after_s:.1f}")] if retry_after_s else []
    body = bytes((code,)) + (block(write(properties, user)) if properties or user else b"")
    return FIRST[DISCONNECT] + encode_length(len(body)) + body


def auth(code: int, method: str) -> bytes:
    """Return an AUTH: what the client sent was accepted (0x00) [MQTT-4.12.0-3]."""
    body = bytes((code,)) + block(write([(known.AUTH_METHOD, method)]))
    return FIRST[AUTH] + encode_length(len(body)) + body
