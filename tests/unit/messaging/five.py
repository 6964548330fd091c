"""Clients of MQTT 5.0 at the edge of the virtual server; what the server sends them is parsed strictly."""

from __future__ import annotations

from typing import Any

from mesimqtt.testing import wire5
from mesimqtt.testing.parse5 import parse_from_server, split
from unit.messaging.world import Peer

NEVER = 0xFFFFFFFF


class Peer5(Peer):
    """A client's end of one connection of 5.0. `most` is its Receive Maximum: the server must never exceed it."""

    most = 65_535

    def __init__(self, world, user, device, connection) -> None:
        super().__init__(world, user, device, connection)
        self.unacked: set[int] = set()
        self.largest = 0

    def read_out(self) -> list[Any]:
        """Take what the server has written; more in flight than Receive Maximum is an error."""
        data = b"".join(self.connection.out)
        self.connection.out.clear()
        if self.connection in self.world.engine.dirty:
            self.world.engine.dirty.remove(self.connection)
        packets = []
        for raw in split(data):
            packet = parse_from_server(raw)
            packets.append(packet)
            if packet.kind == "PUBLISH":
                self.inbox.append(packet)
                self.largest = max(self.largest, len(raw))
                if packet.qos:
                    assert packet.packet_id not in self.unacked, "a packet id that is in use"
                    self.unacked.add(packet.packet_id)
            elif packet.kind != "PINGRESP":
                self.other.append(packet)
        assert len(self.unacked) <= self.most, "more in flight than Receive Maximum [MQTT-3.3.4-9]"
        return packets

    def exchange(self) -> bool:
        """Read and acknowledge; tell whether there was anything."""
        if not self.is_reading or not self.connection.out:
            return False
        packets = self.read_out()
        if self.auto_ack and not self.is_closed:
            self._answer([packet for packet in packets if packet.packet_id])
        return bool(packets)

    def _answer(self, packets: list[wire5.Packet]) -> None:
        answers = []
        for packet in packets:
            if packet.kind == "PUBREL":
                answers.append(wire5.pubcomp(packet.packet_id))
                self.unacked.discard(packet.packet_id)
            elif packet.kind == "PUBLISH" and packet.qos == 2:
                answers.append(wire5.pubrec(packet.packet_id))
            elif packet.kind == "PUBLISH":
                answers.append(wire5.puback(packet.packet_id))
                self.unacked.discard(packet.packet_id)
        if answers:
            self.connection.receive(b"".join(answers), self.world.now())

    def ack(self, *messages: wire5.Packet) -> None:
        """Acknowledge messages, in one segment."""
        self._answer(list(messages))
        self.world.turn()

    def subscribe(self, *filters: str, qos: int = 1, identifier: int = 0) -> list[int] | None:
        """Subscribe under the own `in/`, or to whole filters; return the SUBACK's codes."""
        names = [name if name.startswith(("m/", "$", "+", "free")) else f"m/{self.user}/in/{name}" for name in filters]
        values = {"subscription_identifier": identifier} if identifier else {}
        self.send(wire5.subscribe(*[(name, qos) for name in names], packet_id=self.next_id(), **values))
        found = self._take("SUBACK")
        return list(found.codes) if found else None

    def unsubscribe(self, rest: str) -> int:
        """Forget a filter under the own `in/`; return the UNSUBACK's code."""
        self.send(wire5.unsubscribe(f"m/{self.user}/in/{rest}", packet_id=self.next_id()))
        return self._take("UNSUBACK").codes[0]

    def publish(self, rest: str, payload: bytes | str = b"hi", *, qos: int = 1, packet_id: int = 0, **values: Any):
        """Publish under the own `out/` (or a whole topic); return (code, Reason String) of its answer, if there is one.

        `user` is a list of pairs: the user properties.
        """
        topic = rest if rest.startswith(("m/", "$", "free")) else f"m/{self.user}/out/{rest}"
        body = payload.encode() if isinstance(payload, str) else payload
        packet_id = packet_id or self.next_id()
        if "user" in values:
            values["user_property"] = [(key, str(value)) for key, value in values.pop("user")]
        self.send(wire5.publish(topic, body, qos=qos, packet_id=packet_id, **values))
        found = self._take("PUBACK" if qos == 1 else "PUBREC", packet_id)
        return (found.code, found.reason_string) if found else None

    def _take(self, kind: str, packet_id: int = 0) -> Any:
        for packet in self.other:
            if packet.kind == kind and packet_id in (0, packet.packet_id):
                self.other.remove(packet)
                return packet
        return None

    def leave(self, **values: Any) -> None:
        """End the connection in good order."""
        self.send(wire5.disconnect(**values))
        self.world.peers.remove(self)

    def goodbye(self) -> tuple[int, str | None]:
        """Return what the server's DISCONNECT said."""
        found = self._take("DISCONNECT")
        return found.code, found.reason_string


def connect(
    world, user: str, device: str = "phone", *, clean: bool = False, expiry: int = 3600, token: str = "", **options: Any
) -> Peer5:
    """Connect a client of 5.0; its CONNACK is taken."""
    connection = world.engine.open("192.0.2.1", "default", world.now())
    peer = Peer5(world, user, device, connection)
    peer.most = options.get("receive_maximum", Peer5.most)
    password = (token or world.tokens[user]).encode()
    if "authentication_method" in options:
        options["authentication_data"] = password
    else:
        options |= {"user": user, "password": password}
    if expiry:
        options["session_expiry_interval"] = expiry
    world.peers.append(peer)
    peer.send(wire5.connect(device, clean=clean, keep_alive=0, **options))
    peer.connack = peer._take("CONNACK")
    return peer


def listener(
    world, user: str, device: str = "phone", *, qos: int = 1, filters=("#",), identifier: int = 0, **options: Any
) -> Peer5:
    """Connect a client of 5.0 that subscribes under `in/`."""
    peer = connect(world, user, device, **options)
    for rest in filters:
        assert [qos] == peer.subscribe(rest, qos=qos, identifier=identifier)
    return peer
