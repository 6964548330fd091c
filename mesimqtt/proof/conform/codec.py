"""From a server's bytes to packets, the same for MQTT 3.1.1 and 5.0; without any code of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesimqtt.testing import wire
from mesimqtt.testing.parse5 import parse_from_server
from mesimqtt.testing.wire5 import Packet, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURE = 0x80
PACKET_MAX = 256 * 1024 + 2**20  # bytes: the contract's largest payload, and whatever may stand around it


@dataclass(slots=True)
class Cutter:
    """Cuts what comes into whole packets."""

    rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the packets that are whole now. Raises WireError."""
        self.rest += data
        while (size := self._size()) and size <= len(self.rest):
            raw = bytes(self.rest[:size])
            del self.rest[:size]
            yield raw

    def _size(self) -> int:
        length = 0
        for place, byte in enumerate(self.rest[1:5]):
            length |= (byte & 127) << 7 * place
            if byte < 128:
                if length > PACKET_MAX:
                    raise WireError(f"a packet of {length} bytes, more than the kit takes ({PACKET_MAX})")
                return 2 + place + length
        if len(self.rest) > 4:
            raise WireError(f"a remaining length of more than four bytes: {self.rest[:5].hex(' ')}")
        return 0


def read(raw: bytes, *, five: bool) -> Packet:
    """Read one packet of a server. Raises WireError."""
    if five:
        return parse_from_server(raw)
    try:
        found = wire.decode(raw)[0]
    except (AssertionError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise WireError(f"no packet of a 3.1.1 server: {raw[:24].hex(' ')} ({error})") from None
    if isinstance(found, wire.Message):
        return Packet(
            "PUBLISH", 0, found.packet_id, found.topic, found.payload, found.qos, found.retain, found.dup
        )  # fmt: skip
    kind, *values = found
    if kind == "CONNACK":
        return Packet(kind, values[1], session_present=bool(values[0]))
    if kind == "SUBACK":
        return Packet(kind, 0, values[0], codes=tuple(values[1]))
    return Packet(kind, 0, *values)


def shown(packet: Packet) -> str:
    """Return a packet as a report shows it."""
    if packet.kind == "PUBLISH":
        marks = f"q{packet.qos}{' dup' if packet.dup else ''}{' retain' if packet.retain else ''}"
        return f"PUBLISH {packet.topic} {marks} {brief(packet.payload)}{_properties(packet)}"
    code = f" {packet.code:#04x}" if packet.code or packet.kind in {"CONNACK", "DISCONNECT"} else ""
    codes = f" {', '.join(f'{each:#04x}' for each in packet.codes)}" if packet.codes else ""
    return f"{packet.kind}{code}{codes}{_properties(packet)}"


def brief(payload: bytes) -> str:
    """Return a payload, or its beginning, in one line."""
    text = repr(payload[:160])[1:]
    return text if len(payload) <= 160 else f"{text} … ({len(payload)} bytes)"


def _properties(packet: Packet) -> str:
    told = [
        f"{name}={value!r}" for name, value in packet.properties if packet.kind != "CONNACK" or name == "reason_string"
    ]
    return f" [{', '.join(told)}]" if told else ""
