"""A client of MQTT 5.0: it reads packets instead of bytes, strictly, and knows what the server announces.

    five = Five(world)
    peer = five.connected("c", receive_maximum=2)      # CONNACK taken and compared
    peer.send(publish("a", b"x", qos=1)).expect(puback(1, 0x10))
    peer.expect_closed(disconnect(0x82))

What is expected is built like what is sent and compared by meaning: an acknowledgement's short and long form are
the same, and so are orders of properties that mean the same. A Reason String is for people: it is compared only
where one is expected. Byte for byte is what tests/vectors/mqtt5.json is for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from mesimqtt.testing import wire5
from mesimqtt.testing.parse5 import demand, parse, parse_from_server
from mesimqtt.testing.wire5 import (
    PINGREQ,
    PINGRESP,
    Packet,
    connack,
    connect,
    disconnect,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
)

if TYPE_CHECKING:
    from conformance.peer import Peer, World

SUCCESS = (0x00, 0x10)  # 0x10: success, and nobody subscribed
# What a server with default settings tells every client of 5.0.
ANNOUNCED: dict[str, Any] = {"receive_maximum": 1000, "topic_alias_maximum": 16, "maximum_packet_size": 1024 * 1024}


class Peer5:
    """One connection that speaks 5.0."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.connack = Packet("CONNACK")

    def send(self, *packets: bytes) -> Self:
        """Send packets as one segment."""
        self.peer.send(*packets)
        return self

    def take(self) -> Packet:
        """Return the next packet, whatever it is."""
        return parse_from_server(self.peer.take())

    def expect(self, *packets: bytes) -> Self:
        """Assert that these packets are next; more may follow them."""
        for raw in packets:
            wanted, got = parse(raw), self.take()

            assert wanted == _comparable(got, wanted)
        return self

    def expect_any_order(self, *packets: bytes) -> Self:
        """Assert that these packets are next, in whatever order."""
        wanted = sorted((parse(raw) for raw in packets), key=repr)
        got = sorted((_comparable(self.take(), wanted[0]) for _ in packets), key=repr)

        assert wanted == got
        return self

    def expect_nothing(self) -> Self:
        """Assert that nothing is unread, and that the connection still works."""
        self.peer.expect_nothing()
        return self

    def expect_closed(self, *packets: bytes) -> Self:
        """Assert that the server sent these packets, and closed."""
        self.expect(*packets)
        self.peer.expect_closed()
        return self

    def expect_refused(self, *codes: int) -> Self:
        """Assert that the server closed with one of these reason codes, in a DISCONNECT or a refusing CONNACK."""
        got = self.take()

        assert got.kind == ("DISCONNECT" if self.peer.is_entered else "CONNACK")
        assert got.code in codes, f"{got.code:#04x} is none of {[hex(code) for code in codes]}"
        self.peer.expect_closed()
        return self

    def say(self, topic: str | bytes, payload: bytes = b"", *, qos: int = 0, packet_id: int = 1, **values: Any) -> Self:
        """Publish, and go through the whole exchange of its QoS; both codes of success will do."""
        self.send(publish(topic, payload, qos=qos, packet_id=packet_id, **values))
        if qos:
            got = self.answer()

            assert ("PUBACK" if qos == 1 else "PUBREC", packet_id) == (got.kind, got.packet_id)
            assert got.code in SUCCESS
        if qos == 2:
            got = self.send(pubrel(packet_id)).answer()

            assert parse(pubcomp(packet_id)) == got
        return self

    def answer(self) -> Packet:
        """Return the next packet that is no PUBLISH; those before it stay unread."""
        before = b""
        while (got := self.peer.take())[0] >> 4 == 3:
            before += got
        self.peer._unread = before + self.peer._unread
        return parse_from_server(got)

    def hear(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        answers: bool = True,
        dup: bool | None = False,
        **values: Any,
    ) -> Packet:
        """Take a PUBLISH, compare it in all but its packet id, and go through the exchange of its QoS if it `answers`.

        `dup` None: DUP is not compared.
        """
        got = self.take()
        number = got.packet_id
        dup = got.dup if dup is None else dup

        assert parse(publish(topic, payload, qos=qos, packet_id=max(number, 1), dup=dup, **values)) == got
        if answers and qos == 1:
            self.send(puback(number))
        if answers and qos == 2:
            released = self.send(pubrec(number)).answer()

            assert parse(pubrel(number)) == released
            self.send(pubcomp(number))
        return got

    def messages(self, count: int) -> list[Packet]:
        """Take so many PUBLISH packets."""
        found = [self.take() for _ in range(count)]

        assert ["PUBLISH"] * count == [packet.kind for packet in found]
        return found

    def cut(self) -> None:
        """Break the network connection, without DISCONNECT."""
        self.peer.cut()

    def leave(self, code: int | None = None, **values: Any) -> None:
        """Send DISCONNECT; the server closes without an answer."""
        self.send(disconnect(code, **values)).expect_closed()


def _comparable(got: Packet, wanted: Packet) -> Packet:
    if wanted.reason_string is not None:
        return got
    return replace(got, properties=tuple(pair for pair in got.properties if pair[0] != "reason_string"))


class Five:
    """A world seen by clients of 5.0."""

    def __init__(self, world: World) -> None:
        self.world = world

    def open(self) -> Peer5:
        """Open a connection that has said nothing yet."""
        return Peer5(self.world.open())

    def entered(self, greeting: bytes, answer: bytes) -> Peer5:
        """Open a connection, send this CONNECT and expect this CONNACK."""
        peer = self.open().send(greeting)
        got = peer.take()
        wanted = parse(answer)

        assert wanted == _comparable(got, wanted)
        demand(got.code < 0x80, "refused")
        peer.connack = got
        peer.peer.is_entered = True
        return peer

    def connected(
        self, client_id: str | bytes = "c", *, resumed: bool = False, told: dict[str, Any] | None = None, **options: Any
    ) -> Peer5:
        """Connect; `told` is what CONNACK must say besides the usual, or (None) must not say."""
        values = {**ANNOUNCED, **(told or {})}
        given = {name: value for name, value in values.items() if value is not None}
        answer = connack(session_present=resumed, **given)
        return self.entered(connect(client_id, **options), answer)

    def subscribed(
        self,
        *filters: tuple[str | bytes, int],
        client_id: str = "s",
        identifier: int | None = None,
        **options: Any,
    ) -> Peer5:
        """Connect and subscribe; every QoS asked for must be granted."""
        peer = self.connected(client_id, **options)
        values = {} if identifier is None else {"subscription_identifier": identifier}
        return peer.send(subscribe(*filters, **values)).expect(suback(*(option & 3 for _, option in filters)))

    def kept(self, client_id: str = "k", *filters: tuple[str, int], expiry: int = 3600, **options: Any) -> Peer5:
        """Connect with a session that outlives its connection, and subscribe."""
        peer = self.connected(client_id, session_expiry_interval=expiry, **options)
        if filters:
            peer.send(subscribe(*filters)).expect(suback(*(option & 3 for _, option in filters)))
        return peer

    def back(self, client_id: str = "k", *, expiry: int = 3600, **options: Any) -> Peer5:
        """Connect again to a session that must still be there."""
        return self.connected(client_id, resumed=True, clean=False, session_expiry_interval=expiry, **options)

    def gone(self, client_id: str = "k") -> Peer5:
        """Connect again to a session that must not be there any more."""
        return self.connected(client_id, clean=False)


__all__ = ["ANNOUNCED", "PINGREQ", "PINGRESP", "Five", "Peer5", "wire5"]
