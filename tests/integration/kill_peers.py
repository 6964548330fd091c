"""Senders and receivers of the kill loop: they write down what they saw and go on after any lost link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING

from integration import wire
from mesimqtt.proof.checker import SENT, Accepted, Delivery, StatusStep

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW = 64
_MESSAGE = re.compile(r"m/[^/]+/in/u/([^/]+)/([0-9a-f]{16})/seq=(\d+)")


class Peer:
    """A connection of one user that subscribes to one filter and sees every packet."""

    def __init__(self, user: str, token: str, topic_filter: str) -> None:
        self.user = user
        self.connection = 0
        self.lost = asyncio.Event()
        self.lost.set()
        self._token = token
        self._filter = topic_filter
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def connect(self, port: int) -> None:
        """Connect with a clean session, subscribe, and return once both are answered."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self.connection += 1
        self.lost.clear()
        self._ready.clear()
        self._writer.write(wire.connect("device", self.user, self._token))
        self._writer.write(wire.subscribe(1, [(self._filter, 1)]))
        self._reading = asyncio.create_task(self._read(reader))
        await asyncio.wait_for(self._ready.wait(), 10)

    async def close(self) -> None:
        """Drop the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._reading is not None:
            await self._reading

    def packets(self, packets: Iterable[wire.Packet]) -> bytes:
        """Take what one read brought and return what is to be written."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write, unless the link is lost."""
        if data and self._writer is not None and not self.lost.is_set():
            self._writer.write(data)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        cutter = wire.Reader()
        with contextlib.suppress(OSError):  # a killed server resets its connections
            while data := await reader.read(262_144):
                packets = []
                for packet in cutter.feed(data):
                    if packet.kind == wire.CONNACK and packet.body[1]:
                        raise AssertionError(f"{self.user} was refused with {packet.body[1]}")
                    if packet.kind == wire.SUBACK:
                        self._ready.set()
                    packets.append(packet)
                self.write(self.packets(packets))
        self.lost.set()


class Sender(Peer):
    """Sends flat out to its receivers in turn; what has no PUBACK is sent again with the same cid."""

    def __init__(self, user: str, token: str, receivers: list[str]) -> None:
        super().__init__(user, token, f"m/{user}/in/status/#")
        self.accepted: list[Accepted] = []
        self.steps: list[StatusStep] = []
        self.unacknowledged: dict[str, str] = {}  # cid -> receiver, in the order of sending
        self.delivered: set[str] = set()
        self.first_ack = asyncio.Event()
        self._receivers = receivers
        self._count = 0
        self._in_flight: dict[int, str] = {}
        self._packet_id = 0
        self._left = 0

    async def send(self, port: int, count: int) -> None:
        """Connect, send again what was not acknowledged, then up to `count` new messages."""
        await self.connect(port)
        self.first_ack.clear()
        self._in_flight.clear()
        self._left = count
        self.write(b"".join(self._packet(cid, dup=True) for cid in self.unacknowledged))
        self.write(self._more())

    def packets(self, packets: Iterable[wire.Packet]) -> bytes:
        answer = bytearray()
        for packet in packets:
            if packet.kind == wire.PUBACK:
                cid = self._in_flight.pop(packet.packet_id)
                self.accepted.append(Accepted(self.user, self.unacknowledged.pop(cid), cid))
                self.first_ack.set()
            elif packet.kind == wire.PUBLISH:
                message = wire.decode_publish(packet)
                self._status(message)
                answer += wire.puback(message.packet_id)
        return bytes(answer) + self._more()

    def _more(self) -> bytes:
        packets = []
        while self._left and len(self._in_flight) < WINDOW:
            self._left -= 1
            self._count += 1
            cid = f"{self.user}-{self._count}"
            self.unacknowledged[cid] = self._receivers[self._count % len(self._receivers)]
            packets.append(self._packet(cid))
        return b"".join(packets)

    def _packet(self, cid: str, *, dup: bool = False) -> bytes:
        self._packet_id = self._packet_id % 65_535 + 1
        self._in_flight[self._packet_id] = cid
        topic = f"m/{self.user}/out/u/{self.unacknowledged[cid]}/{cid}"
        return wire.publish(topic, f"{self.user} {cid}".encode(), qos=1, packet_id=self._packet_id, dup=dup)

    def _status(self, message: wire.Publish) -> None:
        fields = json.loads(message.payload)
        cid, code = fields["cid"], fields["status"]
        step = StatusStep(
            self.user,
            self.connection,
            cid,
            fields["mid"],
            fields["peer"],
            code,
            message.payload.decode(),
            fields.get("reason", ""),
        )
        self.steps.append(step)
        if code == SENT:
            self.accepted.append(Accepted(self.user, step.peer, cid, "SENT"))
        elif code == SENT + 1:
            self.delivered.add(cid)


class Receiver(Peer):
    """Acknowledges at once and writes down every delivery, repeats too."""

    def __init__(self, user: str, token: str) -> None:
        super().__init__(user, token, f"m/{user}/in/u/#")
        self.deliveries: list[Delivery] = []

    def packets(self, packets: Iterable[wire.Packet]) -> bytes:
        answer = bytearray()
        for packet in packets:
            if packet.kind != wire.PUBLISH:
                continue
            message = wire.decode_publish(packet)
            topic = _MESSAGE.fullmatch(message.topic)
            if topic is None:
                raise AssertionError(f"{self.user} got {message.topic}")
            sender, cid = message.payload.decode().split(" ")
            seq = int(topic[3])
            self.deliveries.append(Delivery(self.user, self.connection, sender, cid, topic[2], seq, message.dup))
            answer += wire.puback(message.packet_id)
        return bytes(answer)
