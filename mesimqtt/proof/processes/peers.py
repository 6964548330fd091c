"""Users who send, read and acknowledge over any number of lost links, and write down what they are told."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.checker import Delivery, StatusStep
from mesimqtt.proof.processes.ledger import Aside
from mesimqtt.proof.processes.link import Link
from mesimqtt.proof.steps import DELIVERED, FAILED, READ, SENT
from mesimqtt.testing import stream

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from mesimqtt.proof.processes.ledger import Ledger
    from mesimqtt.proof.processes.link import Device

WINDOW: Final = 64
ASIDE_EVERY: Final = 24  # messages, of which one is for who is online now
MARK_EVERY: Final = 16  # messages, of which a reader marks one as read
PADDING_MAX: Final = 4_000
_ARRIVED = re.compile(r"m/[^/]+/in/(u|g)/([^/]+)(?:/([^/]+))?/([0-9a-f]{16})(?:/(?:seq=(\d+)|expiry=0))?")
_ASIDE: Final = "expiry=0"


class Peer(Link):
    """A device that may send, and receives what its filters select: messages, statuses, marks of its other devices."""

    def __init__(self, device: Device, filters: Iterable[str], ledger: Ledger, chance: random.Random) -> None:
        me = f"m/{device.user}/in"
        super().__init__(device, [(f"{me}/{each}", 1) for each in filters])
        self.waiting: dict[str, str] = {}  # cid -> target, sent and not acknowledged, in order
        self.awaited: set[tuple[str, str]] = set()  # (cid, recipient) accepted and not told as delivered
        self.marks: dict[str, tuple[str, str]] = {}  # payload -> (conversation, sender), not acknowledged
        self.accepted = 0
        self._ledger = ledger
        self._chance = chance
        self._targets: list[str] = []
        self._left = 0
        self._count = 0
        self._seen = 0
        self._told: set[tuple[str, str]] = set()
        self._paddings: dict[str, int] = {}
        self._in_flight: dict[int, str] = {}  # packet id -> cid
        self._marks_in_flight: dict[int, str] = {}
        self._packet_id = 0

    # ---- sending ---------------------------------------------------------------------------------------------

    def send(self, targets: list[str], count: int) -> None:
        """Send again what was not acknowledged, then up to `count` new messages to `u/…` and `g/…` in turn."""
        self._targets, self._left = targets, count
        self._in_flight.clear()
        again = b"".join(self._packet(cid, dup=True) for cid in self.waiting)
        self.write(again + self._more())

    def go_on(self, count: int) -> None:
        """Send up to `count` more on the connection there is."""
        self._left += count
        self.write(self._more())

    def enough(self) -> None:
        """Send nothing new."""
        self._left = 0

    def again(self) -> None:
        """Send again on a new connection what was not acknowledged, then what was to be sent, and the read marks."""
        self.send(self._targets, self._left)
        self.mark_again()

    def mark_again(self) -> None:
        """Send again the read marks that were not acknowledged."""
        self._marks_in_flight.clear()
        self.write(b"".join(self._mark_packet(payload, dup=True) for payload in self.marks))

    def _more(self) -> bytes:
        packets = []
        while self._left and len(self._in_flight) < WINDOW:
            self._left -= 1
            self._count += 1
            target = self._targets[self._count % len(self._targets)]
            is_aside = self._count % ASIDE_EVERY == 0
            cid = f"{self.device.user}-{'aside-' if is_aside else ''}{self._count}"
            self._paddings[cid] = int(PADDING_MAX * self._chance.random() ** 4)
            if not is_aside:
                self.waiting[cid] = target
            packets.append(self._packet(cid, target=target, is_aside=is_aside))
        return b"".join(packets)

    def _packet(self, cid: str, *, target: str = "", dup: bool = False, is_aside: bool = False) -> bytes:
        target = target or self.waiting[cid]
        topic = f"m/{self.device.user}/out/{target}/{cid}"
        if is_aside:
            topic += f"/{_ASIDE}"
        packet_id = self._next_id()
        self._in_flight[packet_id] = cid
        padding = self._paddings[cid]
        payload = f"{self.device.user} {cid} {padding} ".encode() + b"." * padding
        return stream.publish(topic, payload, qos=1, packet_id=packet_id, dup=dup, level=self.device.level)

    def _mark_packet(self, payload: str, *, dup: bool = False) -> bytes:
        packet_id = self._next_id()
        self._marks_in_flight[packet_id] = payload
        topic = f"m/{self.device.user}/out/read/{self.marks[payload][0]}"
        return stream.publish(topic, payload.encode(), qos=1, packet_id=packet_id, dup=dup, level=self.device.level)

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65_000 + 1
        return self._packet_id

    # ---- what comes ------------------------------------------------------------------------------------------

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Acknowledge at once, and write down what it was."""
        answer = bytearray()
        for packet in packets:
            if packet.kind == stream.PUBACK:
                self._acknowledged(packet)
            elif packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet, level=self.device.level)
                answer += self._came(message)
                answer += stream.puback(message.packet_id)
        return bytes(answer) + self._more()

    def _acknowledged(self, packet: stream.Packet) -> None:
        is_refused = len(packet.body) > 2 and packet.body[2] >= stream.REFUSED  # 5.0
        payload = self._marks_in_flight.pop(packet.packet_id, "")
        if payload:
            if mark := self.marks.pop(payload, None):
                self._ledger.marked[self.device.user, payload.removeprefix("<=")] = mark[1]
            return
        cid = self._in_flight.pop(packet.packet_id, "")
        target = self.waiting.pop(cid, "")
        if target and is_refused:
            self._refused(cid, f"{cid} by PUBACK {packet.body[2]:#x}")
        elif target:
            self._accepted(cid, target, "PUBACK")

    def _refused(self, cid: str, said: str, reason: str = "") -> None:
        if self._ledger.excused and reason in ("", self._ledger.excused):
            self._ledger.refuse(self.device.user, cid)
        else:
            self._ledger.complaints.append(f"refused: {said}")

    def _accepted(self, cid: str, target: str, by: str) -> None:
        self.accepted += 1
        receiver = target.partition("/")[2]
        self._ledger.accept(self.device.user, receiver, cid, by)
        for user in self._ledger.recipients(self._ledger.accepted[self.device.user, cid]):
            if (cid, user) not in self._told:
                self.awaited.add((cid, user))

    def _came(self, message: stream.Publish) -> bytes:
        kind = message.topic.split("/", 4)[3]
        if kind == "status":
            self._status(message)
        elif kind in ("u", "g"):
            return self._message(message)
        elif kind != "read":
            self._ledger.complaints.append(f"unexpected: {self.device} got {message.topic}")
        return b""

    def _status(self, message: stream.Publish) -> None:
        fields = json.loads(message.payload)
        cid, code, peer = fields["cid"], fields["status"], fields.get("peer", "")
        if "-aside-" in cid:
            if code == SENT:
                self._ledger.complaints.append(f"stored: {cid}, for who is online only, is told as sent")
            return
        text, user = message.payload.decode(), self.device.user
        reason = fields.get("reason", "")
        if code >= FAILED:
            self._refused(cid, text, reason)
            return
        self._ledger.steps.append(StatusStep(user, self.connection, cid, fields["mid"], peer, code, text, reason))
        if code == SENT:
            receiver = fields.get("group") or peer
            self._ledger.accept(user, receiver, cid, "SENT")
            for each in self._ledger.recipients(self._ledger.accepted[user, cid]):
                if (cid, each) not in self._told:
                    self.awaited.add((cid, each))
        elif code in (DELIVERED, READ):
            self._told.add((cid, peer))
            self.awaited.discard((cid, peer))

    def _message(self, message: stream.Publish) -> bytes:
        topic = _ARRIVED.fullmatch(message.topic)
        sender, cid, padding, dots = message.payload.split(b" ", 3)
        if topic is None or int(padding) != len(dots) or dots.strip(b"."):
            self._ledger.complaints.append(f"altered: {self.device} got {message.topic} with {message.payload[:80]!r}")
            return b""
        kind, conversation, member, mid, seq = topic.groups()
        if sender.decode() != (member or conversation):
            self._ledger.complaints.append(f"forged: {message.topic} is told to be of {sender.decode()}")
        if b"-aside-" in cid:
            self._ledger.asides.append(Aside(self.device, self.connection, cid.decode(), mid))
            return b""
        number = int(seq or dict(message.user)["seq"])
        receiver = self.device.user if kind == "u" else conversation
        self._ledger.deliveries[self.device].append(
            Delivery(receiver, self.connection, sender.decode(), cid.decode(), mid, number, message.dup)
        )
        self._seen += 1
        if self._seen % MARK_EVERY or message.dup:
            return b""
        payload = mid if self._seen % (2 * MARK_EVERY) else f"<={mid}"
        self.marks[payload] = (f"{kind}/{conversation}", sender.decode())
        return self._mark_packet(payload)
