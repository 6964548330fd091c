"""A strict parser of MQTT 5.0, written from the specification: whatever is malformed raises `WireError`."""

from __future__ import annotations

from typing import Any

from mesimqtt.testing.wire5 import (
    ACKS,
    BYTE,
    FOUR,
    KINDS,
    NAMES,
    NEVER_ZERO,
    NUMBERS,
    PAIR,
    PROPERTIES,
    REASONS,
    TEXT,
    TWO,
    VARIABLE,
    Packet,
    WireError,
)

_SIZES = {BYTE: 1, TWO: 2, FOUR: 4}
_REPEATED = {"user_property"}
FROM_SERVERS = {"CONNACK", "PUBLISH", *ACKS, "SUBACK", "UNSUBACK", "PINGRESP", "DISCONNECT", "AUTH"}


def demand(condition: object, what: str) -> None:
    """Raise unless something is as the specification has it."""
    if not condition:
        raise WireError(what)


class _Reader:
    """Bytes that are taken from the front; taking more than there are is malformed."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        demand(len(self.data) >= size, f"cut short: {size} bytes wanted, {len(self.data)} left")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def variable(self) -> int:
        value, place = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * place
            place += 1
            if byte < 128:
                demand(place == 1 or byte, "a Variable Byte Integer that is not the shortest [MQTT-1.5.5-1]")
                return value
            demand(place < 4, "a Variable Byte Integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        raw = self.binary()
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            raise WireError("ill-formed UTF-8 [MQTT-1.5.4-1]") from None
        demand("\0" not in value, "U+0000 in a string [MQTT-1.5.4-2]")
        return value

    def properties(self, kind: str) -> tuple[tuple[str, Any], ...]:
        block = _Reader(self.take(self.variable()))
        found: list[tuple[str, Any]] = []
        while block.data:
            name = NAMES.get(block.variable())
            demand(name and kind in PROPERTIES[name][2], f"{name} in a {kind}")
            assert name
            may_repeat = name in _REPEATED or (name == "subscription_identifier" and kind == "PUBLISH")
            demand(may_repeat or name not in dict(found), f"{name} twice")
            found.append((name, self._value(block, name)))
        return tuple(sorted(found, key=lambda pair: (PROPERTIES[pair[0]][0], pair[1] if pair[0][:3] == "sub" else 0)))

    @staticmethod
    def _value(block: _Reader, name: str) -> Any:
        kind = PROPERTIES[name][1]
        value: Any
        if kind in _SIZES:
            value = block.number(_SIZES[kind])
            demand(kind != BYTE or value < 2, f"{name} is {value}")
        elif kind == VARIABLE:
            value = block.variable()
        elif kind == PAIR:
            value = (block.text(), block.text())
        else:
            value = block.text() if kind == TEXT else block.binary()
        demand(value or name not in NEVER_ZERO, f"{name} is 0")
        return value


def parse(data: bytes) -> Packet:
    """Read exactly one packet."""
    reader = _Reader(data)
    first = reader.number(1)
    kind = KINDS.get(first >> 4)
    demand(kind, "packet type 0")
    assert kind
    body = _Reader(reader.take(reader.variable()))
    demand(not reader.data, "bytes behind the packet")
    wanted = 2 if kind in {"PUBREL", "SUBSCRIBE", "UNSUBSCRIBE"} else 0
    demand(kind == "PUBLISH" or first & 15 == wanted, f"reserved flags of {kind} [MQTT-2.1.3-1]")
    if kind == "PUBLISH":
        return _publish(first, body)
    found = _READERS[kind](kind, body)
    demand(not body.data, f"bytes at the end of {kind}")
    return found


def parse_all(data: bytes) -> list[Packet]:
    """Read any number of packets."""
    return [parse(raw) for raw in split(data)]


def split(data: bytes) -> list[bytes]:
    """Cut bytes into packets."""
    packets = []
    while data:
        reader = _Reader(data[1:])
        size = reader.variable()
        whole = len(data) - len(reader.data) + size
        demand(len(data) >= whole, "half a packet at the end")
        packets.append(data[:whole])
        data = data[whole:]
    return packets


def parse_from_server(data: bytes) -> Packet:
    """Read one packet that a server sent: what only clients may say is an error too."""
    found = parse(data)
    demand(found.kind in FROM_SERVERS, f"a server sent {found.kind}")
    demand(found.kind != "DISCONNECT" or found.session_expiry_interval is None, "session expiry [MQTT-3.14.2-2]")
    demand(found.kind != "DISCONNECT" or found.code != 4, "only a client leaves its will behind")
    if found.kind == "CONNACK":
        demand(not found.session_present or not found.code, "a session with a refusal [MQTT-3.2.2-6]")
        demand(found.receive_maximum != 65535, "a default that needs no telling")
    return found


def _publish(first: int, body: _Reader) -> Packet:
    qos, dup, topic = first >> 1 & 3, bool(first & 8), body.text()
    demand(qos < 3, "QoS 3 [MQTT-3.3.1-4]")
    demand(qos or not dup, "DUP at QoS 0 [MQTT-3.3.1-2]")
    packet_id = body.number(2) if qos else 0
    demand(packet_id or not qos, "packet id 0 [MQTT-2.2.1-4]")
    demand("+" not in topic and "#" not in topic, "a wildcard in a topic [MQTT-3.3.2-2]")
    found = body.properties("PUBLISH")
    known = dict(found)
    demand(topic or "topic_alias" in known, "neither topic nor alias [MQTT-4.7.3-1]")
    response = known.get("response_topic", "x")
    demand("+" not in response and "#" not in response, "a wildcard in a response topic [MQTT-3.3.2-14]")
    return Packet("PUBLISH", 0, packet_id, topic, body.data, qos, bool(first & 1), dup, properties=found)


def _ack(kind: str, body: _Reader) -> Packet:
    packet_id = body.number(2)
    demand(packet_id, "packet id 0")
    code = body.number(1) if body.data else 0
    demand(code in REASONS[kind], f"reason code {code:#04x} in {kind}")
    return Packet(kind, code, packet_id, properties=body.properties(kind) if body.data else ())


def _connack(kind: str, body: _Reader) -> Packet:
    flags, code = body.number(1), body.number(1)
    demand(flags < 2, "reserved flags [MQTT-3.2.2-1]")
    demand(code in REASONS[kind], f"reason code {code:#04x} in {kind} [MQTT-3.2.2-8]")
    return Packet(kind, code, session_present=bool(flags), properties=body.properties(kind))


def _listing(kind: str, body: _Reader) -> Packet:
    packet_id, found = body.number(2), body.properties(kind)
    codes = tuple(body.take(len(body.data)))
    demand(codes and packet_id, "no codes, or packet id 0")
    demand(set(codes) <= REASONS[kind], f"reason codes {codes} in {kind}")
    return Packet(kind, 0, packet_id, codes=codes, properties=found)


def _closing(kind: str, body: _Reader) -> Packet:
    code = body.number(1) if body.data else 0
    demand(code in REASONS[kind], f"reason code {code:#04x} in {kind}")
    return Packet(kind, code, properties=body.properties(kind) if body.data else ())


def _ping(kind: str, body: _Reader) -> Packet:  # noqa: ARG001 - as the other readers
    return Packet(kind)


def _filters(kind: str, body: _Reader) -> Packet:
    packet_id, found = body.number(2), body.properties(kind)
    filters, codes = [], []
    while body.data:
        filters.append(body.text())
        demand(filters[-1], "an empty filter [MQTT-4.7.3-1]")
        if kind == "SUBSCRIBE":
            codes.append(body.number(1))
            demand(codes[-1] & 3 < 3 and codes[-1] >> 4 < 3, f"options {codes[-1]:#04x} [MQTT-3.8.3-5]")
    demand(filters and packet_id, "no filter, or packet id 0")
    return Packet(kind, 0, packet_id, codes=tuple(codes), filters=tuple(filters), properties=found)


def _connect(kind: str, body: _Reader) -> Packet:
    demand((body.text(), body.number(1)) == ("MQTT", 5), "protocol name and version")
    bits, keep_alive = body.number(1), body.number(2)
    demand(not bits & 1, "the reserved flag [MQTT-3.1.2-3]")
    demand(bits & 4 or not bits & 0x38, "will bits without a will [MQTT-3.1.2-11]")
    found, client_id = body.properties(kind), body.text()
    left = (body.properties("WILL"), body.text(), body.binary(), bits >> 3 & 3, bool(bits & 0x20)) if bits & 4 else None
    demand(left is None or left[3] < 3, "will QoS 3 [MQTT-3.1.2-12]")
    user = body.text() if bits & 0x80 else None
    password = body.binary() if bits & 0x40 else None
    return Packet(kind, properties=found, connect=(client_id, bool(bits & 2), keep_alive, left, user, password))


_READERS = {
    "CONNECT": _connect,
    "CONNACK": _connack,
    **dict.fromkeys(ACKS, _ack),
    "SUBSCRIBE": _filters,
    "UNSUBSCRIBE": _filters,
    "SUBACK": _listing,
    "UNSUBACK": _listing,
    "PINGREQ": _ping,
    "PINGRESP": _ping,
    "DISCONNECT": _closing,
    "AUTH": _closing,
}
assert set(_READERS) | {"PUBLISH"} == set(NUMBERS)
