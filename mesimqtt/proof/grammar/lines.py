"""A raw client of one server: what comes is parsed strictly and put into words that can be compared."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from mesimqtt.engine.packets import walk
from mesimqtt.testing import parse5, wire, wire5

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 5.0
_MISUSE = (0x81, 0x82)  # malformed packet, protocol error: which of them is often a matter of taste
_LEFT_OUT = ("message_expiry_interval", "topic_alias")
_UNSPOKEN = b"\x20\2\0\1"

Event = tuple[Any, ...]


class Line:
    """One connection. Acknowledges whatever messages come, and keeps `events` of all that does not follow from that."""

    def __init__(self, address: tuple[str, int], version: int) -> None:
        self._socket = socket.create_connection(address, DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bytes = b""
        self._version = version
        self._aliases: dict[int, str] = {}
        self._mine: set[int] = set()  # ids of messages that are being acknowledged
        self.is_closed = False
        self.pongs = 0
        self.events: list[Event] = []

    def send(self, data: bytes) -> None:
        """Send, as far as the other side still takes it."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def pump(self, seconds: float) -> bool:
        """Take what comes within so many seconds; tell whether anything did."""
        if self.is_closed or not select.select([self._socket], [], [], seconds)[0]:
            return False
        try:
            data = self._socket.recv(262_144)
        except OSError:
            data = b""
        if not data:
            self.is_closed = True
            self.events.append(("closed",))
            return True
        self._bytes += data
        for raw in self._packets():
            self._take(raw)
        return True

    def ping(self) -> bool:
        """Send a PINGREQ and take all that comes before its answer; False if it does not come."""
        wanted = self.pongs + 1
        self.send(wire.PINGREQ)
        deadline = time.monotonic() + DEADLINE_S
        while not self.is_closed and self.pongs < wanted and time.monotonic() < deadline:
            self.pump(deadline - time.monotonic())
        return self.pongs >= wanted

    @property
    def is_receiving(self) -> bool:
        """Tell whether a message of QoS 2 is on its way."""
        return bool(self._mine) and not self.is_closed

    def close(self) -> None:
        """Cut the connection."""
        self._socket.close()
        self.is_closed = True

    def _packets(self) -> Iterator[bytes]:
        at, data = 0, self._bytes
        for _, size in walk(data):
            yield data[at : at + size]
            at += size
        self._bytes = data[at:]

    def _take(self, raw: bytes) -> None:
        if raw == wire5.PINGRESP:
            self.pongs += 1
            return
        if raw == _UNSPOKEN and not self.events:  # to a version that is not spoken, in the oldest words
            self.events.append(("CONNACK", "0x84", False))
            return
        try:
            packet: Any = parse5.parse_from_server(raw) if self._version == 5 else _parsed4(raw)
        except (AssertionError, ValueError, IndexError, KeyError) as error:
            self.events.append(("malformed", str(error)))
            return
        if packet.kind == "PUBLISH":
            self._message(packet)
        elif packet.kind == "PUBREL" and packet.packet_id in self._mine:
            self._mine.discard(packet.packet_id)
            self.send(wire.ack("PUBCOMP", packet.packet_id))
        else:
            self.events.append(_event(packet))

    def _message(self, packet: wire5.Packet) -> None:
        topic, alias = packet.topic, packet.topic_alias
        if alias:
            topic = topic or self._aliases.get(alias, "")
            self._aliases[alias] = topic
        if packet.qos:
            self.send(wire.ack("PUBACK" if packet.qos == 1 else "PUBREC", packet.packet_id))
            if packet.qos == 2:
                self._mine.add(packet.packet_id)
        extras = tuple(pair for pair in packet.properties if pair[0] not in _LEFT_OUT)
        self.events.append(("message", topic, packet.payload, packet.qos, packet.retain, extras))


def _parsed4(raw: bytes) -> wire5.Packet:
    """Return a packet of 3.1.1 in the words of 5.0."""
    (packet,) = wire.decode(raw)
    if isinstance(packet, wire.Message):
        return wire5.Packet(
            "PUBLISH", topic=packet.topic, payload=packet.payload, qos=packet.qos, packet_id=packet.packet_id,
            retain=packet.retain, dup=packet.dup,
        )  # fmt: skip
    kind, *rest = packet
    if kind == "CONNACK":
        return wire5.Packet(kind, session_present=bool(rest[0]), code=rest[1])
    if kind == "SUBACK":
        return wire5.Packet(kind, packet_id=rest[0], codes=tuple(rest[1]))
    return wire5.Packet(kind, packet_id=rest[0])


def _event(packet: wire5.Packet) -> Event:
    """Return what a packet means, without what each server may choose."""
    if packet.kind == "CONNACK":
        return ("CONNACK", meaning(packet.code), packet.session_present)
    if packet.kind in ("SUBACK", "UNSUBACK"):
        return (packet.kind, packet.packet_id, *map(meaning, packet.codes))
    if packet.kind == "DISCONNECT":
        return ("DISCONNECT", meaning(packet.code))
    return (packet.kind, packet.packet_id, meaning(packet.code))


def meaning(code: int) -> str:
    """Return the class of a reason code."""
    if code in (0, 0x10, 0x11):
        return "ok"
    return "misuse" if code in _MISUSE else f"{code:#04x}"
