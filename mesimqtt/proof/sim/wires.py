"""MQTT as the clients of a simulation speak it: packets made by mesimqtt.testing, and a stream cut into packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.testing import parse5, wire, wire5

if TYPE_CHECKING:
    from collections.abc import Iterator


class Publish(NamedTuple):
    """A PUBLISH in either version; the parameters of 5.0 stand in the topic as those of 3.1.1 do."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    dup: bool


class _Stream:
    """Bytes as they come, cut into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """Yield each complete packet as (kind, what it says)."""
        data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 2:
            length, shift, head = 0, 0, at + 1
            while head < size:
                byte = data[head]
                length |= (byte & 127) << shift
                shift, head = shift + 7, head + 1
                if byte < 128:
                    break
            else:
                break
            if head + length > size:
                break
            raw, at = data[at : head + length], head + length
            found = self.parse(raw, len(raw) - length)
            if found is not None:
                yield found
        self._rest = data[at:]

    def parse(self, raw: bytes, head: int) -> tuple[str, Any] | None:
        """Return what one packet says; its body begins at `head`."""
        raise NotImplementedError


class Wire3(_Stream):
    """MQTT 3.1.1."""

    def connect(self, device: str, *, clean: bool, user: str, password: bytes, keep_alive: int, **_: int) -> bytes:
        """Return a CONNECT."""
        return wire.connect(device, clean=clean, user=user, password=password, keep_alive=keep_alive)

    def subscribe(self, filters: list[str], qos: int, packet_id: int) -> bytes:
        """Return a SUBSCRIBE."""
        return wire.subscribe(*[(name, qos) for name in filters], packet_id=packet_id)

    def unsubscribe(self, filters: list[str], packet_id: int) -> bytes:
        """Return an UNSUBSCRIBE."""
        return wire.unsubscribe(*filters, packet_id=packet_id)

    def publish(self, topic: str, payload: bytes, *, qos: int, packet_id: int, dup: bool) -> bytes:
        """Return a PUBLISH."""
        return wire.publish(topic, payload, qos=qos, packet_id=packet_id, dup=dup)

    def puback(self, packet_id: int) -> bytes:
        """Return a PUBACK."""
        return wire.ack("PUBACK", packet_id)

    def pingreq(self) -> bytes:
        """Return a PINGREQ."""
        return wire.PINGREQ

    def disconnect(self) -> bytes:
        """Return a DISCONNECT."""
        return wire.DISCONNECT

    def parse(self, raw: bytes, head: int) -> tuple[str, Any] | None:
        """Return what one packet says."""
        kind = raw[0] >> 4
        if kind == 3:
            end = head + 2 + int.from_bytes(raw[head : head + 2])
            qos = raw[0] >> 1 & 3
            number = int.from_bytes(raw[end : end + 2]) if qos else 0
            topic, payload = raw[head + 2 : end].decode(), raw[end + 2 :] if qos else raw[end:]
            return "PUBLISH", Publish(topic, payload, qos, number, bool(raw[0] & 8))
        if kind == 4:
            return "PUBACK", (int.from_bytes(raw[head : head + 2]), 0)
        if kind == 2:
            return "CONNACK", (raw[head + 1], bool(raw[head]))
        if kind == 9:
            return "SUBACK", list(raw[head + 2 :])
        return None


class Wire5(Wire3):
    """MQTT 5.0; what the server sends is parsed strictly."""

    def connect(
        self,
        device: str,
        *,
        clean: bool,
        user: str,
        password: bytes,
        keep_alive: int,
        receive_maximum: int = 0,
        **_: int,
    ) -> bytes:
        """Return a CONNECT."""
        more: dict[str, Any] = {"receive_maximum": receive_maximum} if receive_maximum else {}
        if not clean:
            more["session_expiry_interval"] = 86_400
        return wire5.connect(device, clean=clean, user=user, password=password, keep_alive=keep_alive, **more)

    def subscribe(self, filters: list[str], qos: int, packet_id: int) -> bytes:
        """Return a SUBSCRIBE."""
        return wire5.subscribe(*[(name, qos) for name in filters], packet_id=packet_id)

    def unsubscribe(self, filters: list[str], packet_id: int) -> bytes:
        """Return an UNSUBSCRIBE."""
        return wire5.unsubscribe(*filters, packet_id=packet_id)

    def publish(self, topic: str, payload: bytes, *, qos: int, packet_id: int, dup: bool) -> bytes:
        """Return a PUBLISH."""
        return wire5.publish(topic, payload, qos=qos, packet_id=packet_id, dup=dup)

    def puback(self, packet_id: int) -> bytes:
        """Return a PUBACK."""
        return wire5.puback(packet_id)

    def disconnect(self) -> bytes:
        """Return a DISCONNECT."""
        return wire5.disconnect()

    def parse(self, raw: bytes, head: int) -> tuple[str, Any] | None:  # noqa: ARG002 - the other version needs it
        """Return what one packet says."""
        packet = parse5.parse_from_server(raw)
        if packet.kind == "PUBLISH":
            level = "&".join(f"{key}={value}" for key, value in packet.user_property)
            topic = f"{packet.topic}/{level}" if level else packet.topic
            return "PUBLISH", Publish(topic, packet.payload, packet.qos, packet.packet_id, packet.dup)
        if packet.kind == "PUBACK":
            return "PUBACK", (packet.packet_id, packet.code)
        if packet.kind == "CONNACK":
            return "CONNACK", (packet.code, packet.session_present)
        if packet.kind == "SUBACK":
            return "SUBACK", list(packet.codes)
        return None
