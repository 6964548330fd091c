"""One application message for one receiver, not yet bytes: what it becomes depends on when and to whom it is written.

The blocks of the hot path (`window.Run`) are bytes already. What has properties, an expiry, a subscription
identifier, or goes to a client with topic aliases or a Maximum Packet Size travels as a Letter.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine.packets import FIRST, FIVE, PUBLISH, U16, encode_length, publish_head

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection

_OVERHEAD = 64  # bytes that a waiting letter costs beside its contents


class Letter(NamedTuple):
    """`properties` are encoded and go to receivers of 5.0 only; `expires_at` is engine time, 0.0 for never.

    `is_shared`: it came by a shared subscription, and would be another member's if this one's session ended.
    `share` is that subscription where it is known: the store does not keep it.
    """

    topic: bytes
    payload: bytes
    qos: int
    retain: bool = False
    properties: bytes = b""
    expires_at: float = 0.0
    is_shared: bool = False
    share: str = ""

    @property
    def size(self) -> int:
        """Return what this costs while it waits, in bytes."""
        return len(self.topic) + len(self.payload) + len(self.properties) + _OVERHEAD

    def is_expired(self, now: float) -> bool:
        """Tell whether its Message Expiry Interval has passed [MQTT-3.3.2-5]."""
        return bool(self.expires_at) and self.expires_at <= now


def put(connection: Connection, first: int, topic: bytes, packet_id: int, properties: bytes, payload: bytes) -> None:
    """Write a PUBLISH to a client that takes it as it is: no aliases, no bounds of its own, no expiry to count down."""
    out = connection.out
    if not out:
        connection.engine.mark(connection)
    block = b"" if connection.five is None else encode_length(len(properties)) + properties
    head = publish_head(first, topic, len(block) + len(payload))
    if packet_id:
        out += (head, U16[packet_id], block, payload)
    else:
        out += (head, block, payload)
    connection.engine.counters.messages_out += 1


def encode(
    connection: Connection,
    letter: Letter,
    packet_id: int,
    *,
    dup: bool = False,
    is_begun: bool = False,
    has_alias: bool = True,
) -> bytes:
    """Return the PUBLISH for this client now; empty where it takes none of that size, or where it has expired.

    A packet over the client's Maximum Packet Size is treated as if it had been sent [MQTT-3.1.2-25]. A topic that
    comes only once gets no alias (`has_alias`).
    """
    topic, payload, qos, retain, properties, expires_at, *_ = letter
    left = expires_at - connection.engine.now if expires_at else 0.0
    if expires_at and left <= 0 and not is_begun:  # what was sent once does not expire any more [MQTT-4.3.3-7]
        return b""
    first = PUBLISH | (8 if dup else 0) | qos << 1 | retain
    middle = U16[packet_id] if qos else b""
    if connection.version != FIVE:
        length = 2 + len(topic) + len(middle) + len(payload)
        packet = b"".join((FIRST[first], encode_length(length), U16[len(topic)], topic, middle, payload))
        return b"" if 0 < connection.packet_max < len(packet) else packet
    if expires_at:
        properties = (
            b"\x02" + min(max(ceil(round(left, 3)), 0), 0xFFFFFFFF).to_bytes(4, "big") + properties
        )  # [MQTT-3.3.2-6]
    name, alias = topic, b""
    state = connection.five
    is_new = False
    if has_alias and state is not None and state.alias_maximum:
        number = state.aliases.get(topic, 0)
        if number:
            name = b""
        elif len(state.aliases) < state.alias_maximum:
            number, is_new = len(state.aliases) + 1, True
        if number:
            alias = b"\x23" + U16[number]
    packet = _build(first, name, middle, alias + properties, payload)
    if 0 < connection.packet_max < len(packet):
        return b"" if not is_new else _without_alias(connection, first, topic, middle, properties, payload)
    if is_new and state is not None:
        state.aliases[topic] = len(state.aliases) + 1
    return packet


def _without_alias(
    connection: Connection, first: int, topic: bytes, middle: bytes, properties: bytes, payload: bytes
) -> bytes:
    packet = _build(first, topic, middle, properties, payload)
    return b"" if len(packet) > connection.packet_max else packet


def _build(first: int, topic: bytes, middle: bytes, properties: bytes, payload: bytes) -> bytes:
    size = encode_length(len(properties))
    length = 2 + len(topic) + len(middle) + len(size) + len(properties) + len(payload)
    return b"".join((FIRST[first], encode_length(length), U16[len(topic)], topic, middle, size, properties, payload))
