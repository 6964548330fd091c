"""A device that knows MQTT and the topics, and nothing else: any client of 3.1.1 or 5.0, sending at QoS 0 or 1."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.history import Marked, Shown, Taken
from mesimqtt.proof.sim.phones import SUBSCRIBE_ID, Letter, Phone

if TYPE_CHECKING:
    from mesimqtt.proof.sim.phones import Habits
    from mesimqtt.proof.sim.wires import Publish
    from mesimqtt.proof.sim.world import SimWorld

WINDOW = 20  # unacknowledged PUBLISH packets
RESEND_MS = 20_000  # what is not answered by then is sent again
BATCH_MS = 200
_REFUSED = 0x80


class PlainPhone(Phone):
    """Keeps what it sent until it is acknowledged, and sends it again after a reconnect: the same cid, DUP or not."""

    def __init__(self, world: SimWorld, user: str, device: str, habits: Habits) -> None:
        super().__init__(world, user, device, habits)
        self._outbox: OrderedDict[str, Letter] = OrderedDict()
        self._in_flight: dict[int, str] = {}  # packet id -> cid, '' for what is no message
        self._packet_id = 0
        self._shown: set[str] = set()
        self._asked = 0

    def send(self, letter: Letter) -> None:
        """Send a message, now or when there is a connection again."""
        self._outbox[letter.cid] = letter
        self._pump()

    def mark(self, place: str, mid: str, *, is_upto: bool) -> None:
        """Mark a message, or all up to it, as read."""
        if self.is_online:
            self.world.history.marked.append(Marked(self.world.loop.ms, self.user, place, mid, is_upto))
            self._put(f"read/{place}", f"{'<=' if is_upto else ''}{mid}".encode(), "")

    def ask(self, op: str, arguments: dict[str, Any]) -> None:
        """Ask the server something by rpc."""
        if self.is_online:
            self._asked += 1
            self._put(f"rpc/{op}/{self._asked}", json.dumps(arguments).encode(), "")

    def signal(self, place: str, payload: bytes) -> None:
        """Publish presence."""
        if self.is_online and self.link is not None:
            topic = f"m/{self.user}/out/presence/{place}"
            self.link.send(self._wire.publish(topic, payload, qos=0, packet_id=0, dup=False))

    def subscribed(self) -> None:
        """Send what was not acknowledged."""
        self._pump(is_again=True)

    def acknowledged(self, packet_id: int, code: int) -> None:
        """Take PUBACK: what it belongs to is the server's now."""
        cid = self._in_flight.pop(packet_id, "")
        letter = self._outbox.pop(cid, None) if cid else None
        if letter is not None and code < _REFUSED:
            self.world.history.taken.append(Taken(self.world.loop.ms, self.user, cid))
        self._pump()

    def _status(self, data: dict[str, Any], text: str) -> None:
        super()._status(data, text)
        if not (data["status"] == _REFUSED and data.get("reason") == "store"):
            self._outbox.pop(data["cid"], None)

    def took(self, packet: Publish, mid: str) -> None:
        """Show it, and acknowledge it when this client gets to it."""
        if mid and mid not in self._shown:
            self._shown.add(mid)
            self.world.history.shown.append(Shown(self.world.loop.ms, self.user, self.device, mid))
        if packet.qos:
            fast, slow = self.habits.ack_ms
            wait_ms = self._random.uniform(fast, slow)
            wait_ms += BATCH_MS - (self.world.loop.ms + wait_ms) % BATCH_MS if slow > BATCH_MS else 0
            self._later(wait_ms, lambda: self.acknowledge(packet.packet_id, mid))

    def lost(self) -> None:
        """Forget what was in flight: it is sent again, but for what is worth nothing later."""
        self._in_flight.clear()
        for letter in [letter for letter in self._outbox.values() if letter.is_transient]:
            del self._outbox[letter.cid]

    @property
    def unsettled(self) -> int:
        """How many messages it has not got rid of yet."""
        return len(self._outbox)

    def _pump(self, *, is_again: bool = False) -> None:
        if not self.is_online or self.link is None:
            return
        underway = set(self._in_flight.values())
        for letter in list(self._outbox.values()):
            if len(self._in_flight) >= WINDOW:
                return
            if letter.cid not in underway:
                topic = f"{letter.to}/{letter.cid}"
                self._put(f"{topic}/{letter.params}" if letter.params else topic, letter.body.encode(), letter.cid,
                          qos=letter.qos, dup=is_again and self._random.random() < 0.5)  # fmt: skip

    def _put(self, rest: str, payload: bytes, cid: str, *, qos: int = 1, dup: bool = False) -> None:
        assert self.link is not None  # noqa: S101 - it is online
        self._packet_id = self._packet_id % (SUBSCRIBE_ID - 1) + 1
        number = self._packet_id
        topic = f"m/{self.user}/out/{rest}"
        self.link.send(self._wire.publish(topic, payload, qos=qos, packet_id=number, dup=dup and bool(qos)))
        self._in_flight[number] = cid
        self._later(RESEND_MS, lambda: self._look(number, cid))

    def _look(self, number: int, cid: str) -> None:
        """Send again what was not answered in time."""
        if self._in_flight.get(number, None) == cid:
            del self._in_flight[number]
            self._pump()
