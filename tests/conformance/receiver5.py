"""A subscriber that keeps its promises over any number of connections, and checks that the server keeps its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesimqtt.testing.parse5 import parse_all
from mesimqtt.testing.wire5 import puback, pubcomp, pubrec

if TYPE_CHECKING:
    import random

    from conformance.peer5 import Five, Peer5
    from mesimqtt.testing.wire5 import Packet


@dataclass
class Receiver:
    """One client with a kept session. `heard` is what its application got: (topic, payload, QoS), each as it came."""

    five: Five
    chance: random.Random
    client_id: str
    identifiers: set[int] = field(default_factory=set)  # of its subscriptions
    heard: list[tuple[str, bytes, int]] = field(default_factory=list)
    peer: Peer5 | None = None
    held: list[Packet] = field(default_factory=list)  # not acknowledged yet, oldest first
    unreleased: set[int] = field(default_factory=set)  # QoS 2 that came, until PUBREL: the session's
    open_ids: set[int] = field(default_factory=set)
    maximum: int = 65535
    aliases: dict[int, str] = field(default_factory=dict)
    alias_maximum: int = 0

    def come(self, *, resumed: bool = True) -> None:
        """Connect with limits drawn at random."""
        self.maximum = self.chance.choice((1, 2, 5, 65535))
        self.alias_maximum = self.chance.choice((0, 1, 3))
        self.aliases, self.open_ids, self.held = {}, set(), []
        self.peer = self.five.connected(
            self.client_id,
            resumed=resumed,
            clean=not resumed,
            session_expiry_interval=3600,
            receive_maximum=self.maximum,
            topic_alias_maximum=self.alias_maximum,
        )

    def go(self) -> None:
        """Lose the connection with everything that was on its way."""
        if self.peer is not None:
            self.peer.peer._unread = b""
            self.peer.cut()
            self.peer = None

    def take_over(self) -> None:
        """Connect while the earlier connection still stands: that one is told so, and closed."""
        before = self.peer
        self.come()
        if before is not None:
            last = parse_all(before.peer._unread + before.peer.wire.read())[-1]
            before.peer._unread, before.peer.is_over = b"", True

            assert ("DISCONNECT", 0x8E) == (last.kind, last.code)
            assert before.peer.wire.is_closed

    def read(self, *, holds: bool) -> bool:
        """Take all that came and answer it, or some of it later; tell whether anything came or went."""
        if self.peer is None:
            return False
        raw = self.peer.peer._unread + self.peer.peer.wire.read()
        self.peer.peer._unread = b""
        for packet in parse_all(raw):
            self._take(packet)
        is_busy = bool(raw)
        while self.held and not (holds and self.chance.random() < 0.5):
            self._answer(self.held.pop(0))
            is_busy = True
        return is_busy

    def _take(self, packet: Packet) -> None:
        if packet.kind == "PUBREL":
            assert packet.code in {0, 0x92}
            self.unreleased.discard(packet.packet_id)
            self.open_ids.discard(packet.packet_id)
            self._send(pubcomp(packet.packet_id))
            return
        assert packet.kind == "PUBLISH", packet
        assert self.identifiers >= set(packet.subscription_identifier)
        topic = self._topic(packet)
        number = packet.packet_id
        if packet.qos == 0:
            self.heard.append((topic, packet.payload, 0))
            return
        assert number not in self.open_ids, "a packet id that is in use"
        self.open_ids.add(number)
        assert len(self.open_ids) <= self.maximum, "more than the Receive Maximum"
        if packet.qos == 1 or number not in self.unreleased:
            self.heard.append((topic, packet.payload, packet.qos))
        else:
            assert packet.dup, "the same again, and not even DUP"
        if packet.qos == 2:
            self.unreleased.add(number)
        self.held.append(packet)

    def _topic(self, packet: Packet) -> str:
        alias = packet.topic_alias
        assert alias is None or alias <= self.alias_maximum
        if packet.topic and alias:
            self.aliases[alias] = packet.topic
        return packet.topic or self.aliases[alias]

    def _answer(self, packet: Packet) -> None:
        number = packet.packet_id
        if packet.qos == 1:
            self.open_ids.discard(number)
            self._send(puback(number))
        else:
            self._send(pubrec(number))

    def _send(self, raw: bytes) -> None:
        if self.peer is not None:
            self.peer.send(raw)
