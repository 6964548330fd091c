"""One MQTT connection of the kit: it says what a check tells it, and keeps what comes until a check looks."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypeVar

from mesimqtt.proof.conform import codec
from mesimqtt.proof.conform.heard import Told
from mesimqtt.proof.conform.websocket import WebSocketError
from mesimqtt.testing import wire, wire5
from mesimqtt.testing.wire5 import Packet, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.proof.conform.links import Link
    from mesimqtt.proof.conform.people import Person
    from mesimqtt.proof.conform.stage import Stage

BYTES_MAX = 16 * 2**20
PACKETS_MAX = 20_000
T = TypeVar("T")
Json = dict[str, Any]


class Client:
    """A device. It acknowledges what comes at QoS 1 and 2 unless `acks` is off."""

    def __init__(self, stage: Stage, person: Person, name: str, link: Link, *, five: bool) -> None:
        self.stage = stage
        self.person = person
        self.name = name
        self.five = five
        self.acks = True
        self.connack = Packet("CONNACK")
        self.inbox: list[Packet] = []
        self.answers: list[Packet] = []
        self.is_closed = False
        self.number = stage.next_connection()
        self._link = link
        self._bell = asyncio.Event()
        self._packet_id = 0
        self._malformed = ""
        self._came_bytes = self._came_packets = 0
        self._task = asyncio.create_task(self._listen())

    # ---- what comes --------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        cutter = codec.Cutter()
        try:
            while data := await self._link.read():
                for raw in cutter.feed(data):
                    self._count(len(raw))
                    self._take(codec.read(raw, five=self.five))
                self._bell.set()
        except (WireError, WebSocketError) as error:
            self._malformed = str(error)
            self._note(f"< {error}")
        self.is_closed = True
        self._note("< the connection ends")
        self._bell.set()
        self._link.close()

    def _count(self, size: int) -> None:
        """Take no more of one connection than any check asks for: all of it is kept. Raises WireError."""
        self._came_bytes += size
        self._came_packets += 1
        if self._came_bytes > BYTES_MAX or self._came_packets > PACKETS_MAX:
            raise WireError(f"more than the kit takes of one connection ({BYTES_MAX} bytes, {PACKETS_MAX} packets)")

    def _take(self, packet: Packet) -> None:
        if packet.kind != "PINGRESP":
            self._note(f"< {codec.shown(packet)}")
        if packet.kind == "PUBREL":
            return self.send(wire.ack("PUBCOMP", packet.packet_id))
        if packet.kind != "PUBLISH":
            return self.answers.append(packet)
        prefix = f"{self.person.home}/in/"
        place = packet.topic.removeprefix(prefix) if packet.topic.startswith(prefix) else ""
        self.stage.heard.told.append(Told(self.person.address, self.number, place, packet))
        self.inbox.append(packet)
        if self.acks:
            self.ack(packet)
        return None

    async def until(self, look: Callable[[], T | None], expected: str, within_s: float = 0.0) -> T:
        """Wait until `look` finds something. Raises BrokenError with what came instead."""
        try:
            async with asyncio.timeout(within_s or self.stage.options.wait_s):
                while (found := look()) is None:
                    if self.is_closed:
                        break
                    self._bell.clear()
                    await self._bell.wait()
        except TimeoutError:
            found = look()
        if found is None:
            raise self.stage.broken(expected, self._came())
        return found

    def _came(self) -> str:
        if self._malformed:
            return f"to {self}: what is no MQTT: {self._malformed}"
        came = [codec.shown(packet) for packet in [*self.answers[-3:], *self.inbox[-6:]]]
        ended = "; then the connection ended" if self.is_closed else ""
        return f"to {self}: {'; '.join(came) or 'nothing'}{ended}"

    def _note(self, text: str) -> None:
        self.stage.note(f"{self} {text}")

    def __str__(self) -> str:
        return f"{self.person.address}/{self.name or '-'}"

    # ---- looking -----------------------------------------------------------------------------------------------

    async def hear(
        self, place: str, payload: bytes | None = None, *, fits: Callable[[Packet], bool] | None = None,
        expected: str = "", within_s: float = 0.0,
    ) -> Packet:  # fmt: skip
        """Return the next message whose topic after `in/` begins with `place`, perhaps with this payload."""
        start = f"{self.person.home}/in/{place}"

        def look() -> Packet | None:
            for packet in self.inbox:
                if (
                    packet.topic.startswith(start)
                    and payload in (None, packet.payload)
                    and (fits is None or fits(packet))
                ):
                    self.inbox.remove(packet)
                    return packet
            return None

        said = f" with {codec.brief(payload)}" if payload is not None else ""
        return await self.until(look, expected or f"{self} receives {start}…{said}", within_s)

    async def status(self, cid: str, code: int, *, peer: str | None = None, within_s: float = 0.0) -> Json:
        """Return the next status of a cid with this code (of this recipient)."""
        found: list[Json] = []

        def fits(packet: Packet) -> bool:
            told = _json(packet.payload)
            found[:] = [told]
            return told.get("status") == code and (peer is None or told.get("peer") == peer)

        of = f" of {peer}" if peer else ""
        expected = f"{self} receives status {code} ({code:#04x}){of} on in/status/{cid}"
        packet = await self.hear(f"status/{cid}", fits=fits, expected=expected, within_s=within_s)
        return _json(packet.payload)

    def received(self, place: str = "") -> list[Packet]:
        """Take what has come so far under `in/` + `place`; the rest stays."""
        start = f"{self.person.home}/in/{place}"
        found = [packet for packet in self.inbox if packet.topic.startswith(start)]
        self.inbox = [packet for packet in self.inbox if not packet.topic.startswith(start)]
        return found

    def statuses(self, cid: str = "") -> list[Json]:
        """Take the statuses (of a cid) that have come so far."""
        return [_json(packet.payload) for packet in self.received(f"status/{cid}")]

    def nothing(self, place: str, why: str) -> None:
        """Hold that nothing has come there. Raises BrokenError."""
        came = self.received(place)
        if came:
            raise self.stage.broken(why, f"to {self}: {'; '.join(map(codec.shown, came[:4]))}")

    async def closed(self, expected: str, within_s: float = 0.0) -> None:
        """Wait until the server has ended the connection."""
        await self.until(lambda: self.is_closed or None, expected, within_s)

    # ---- saying ------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self.is_closed:
            self._link.write(data)

    async def subscribe(self, *filters: str, qos: int = 1, whole: bool = False) -> tuple[int, ...]:
        """Subscribe to filters under the own `in/`, or to `whole` ones; return the SUBACK's codes."""
        names = [name if whole else f"{self.person.home}/in/{name}" for name in filters]
        number = self._next_id()
        build = wire5.subscribe if self.five else wire.subscribe
        self._note(f"> SUBSCRIBE {', '.join(names)} q{qos}")
        self.send(build(*[(name, qos) for name in names], packet_id=number))
        return (await self._answer("SUBACK", number)).codes

    async def unsubscribe(self, rest: str) -> None:
        """Forget a filter under the own `in/`."""
        number = self._next_id()
        build = wire5.unsubscribe if self.five else wire.unsubscribe
        self._note(f"> UNSUBSCRIBE {self.person.home}/in/{rest}")
        self.send(build(f"{self.person.home}/in/{rest}", packet_id=number))
        await self._answer("UNSUBACK", number)

    async def say(self, rest: str, payload: bytes = b"hi", **options: Any) -> Packet:  # noqa: ANN401 - a packet's options
        """Publish under the own `out/`; see `publish`."""
        return await self.publish(f"{self.person.home}/out/{rest}", payload, **options)

    async def publish(
        self, topic: str, payload: bytes = b"hi", *, qos: int = 1, wait: bool = True, retain: bool = False,
        **properties: Any,  # noqa: ANN401 - values of properties
    ) -> Packet:  # fmt: skip
        """Publish and return the answer (PUBACK, PUBREC); where none is awaited, an empty one.

        `user` is a list of pairs, the user properties of 5.0; other properties have the specification's names.
        """
        number = self._next_id() if qos else 0
        self.stage.took_cid(self.person, topic)
        if "user" in properties:
            properties["user_property"] = [(key, str(value)) for key, value in properties.pop("user")]
        build = wire5.publish if self.five else wire.publish
        told = "".join(f" {key}={value!r}" for key, value in properties.items())
        self._note(f"> PUBLISH {topic} q{qos}{' retain' if retain else ''} {codec.brief(payload)}{told}")
        self.send(build(topic, payload, qos=qos, packet_id=number, retain=retain, **properties))
        if not qos or not wait:
            return Packet("")
        answer = await self._answer("PUBACK" if qos == 1 else "PUBREC", number)
        if qos == 2 and answer.code < codec.FAILURE:
            self.send(wire.ack("PUBREL", number))
            await self._answer("PUBCOMP", number)
        return answer

    async def ask(self, op: str, arguments: Json | None = None) -> Json:
        """Ask by rpc and return the answer."""
        number = f"r{self._next_id()}"
        await self.say(f"rpc/{op}/{number}", json.dumps(arguments or {}).encode())
        return _json((await self.hear(f"rpc/{number}")).payload)

    async def _answer(self, kind: str, packet_id: int) -> Packet:
        def look() -> Packet | None:
            for packet in self.answers:
                if (packet.kind, packet.packet_id) == (kind, packet_id):
                    self.answers.remove(packet)
                    return packet
            return None

        return await self.until(look, f"{kind} for {self}")

    async def answer(self, kind: str) -> Packet:
        """Return the next answer of a kind, whatever it answers."""

        def look() -> Packet | None:
            found = next((packet for packet in self.answers if packet.kind == kind), None)
            if found is not None:
                self.answers.remove(found)
            return found

        return await self.until(look, f"{kind} for {self}")

    def ack(self, *packets: Packet) -> None:
        """Acknowledge messages, in one segment."""
        parts = [wire.ack("PUBREC" if each.qos == 2 else "PUBACK", each.packet_id) for each in packets if each.qos]
        if parts:
            self.send(b"".join(parts))

    async def ping(self) -> None:
        """Wait until the server has read all that was sent so far."""
        if self.is_closed:
            return
        self.send(wire.PINGREQ)
        await self.answer("PINGRESP")

    async def leave(self) -> None:
        """End the connection in good order."""
        self._note("> DISCONNECT")
        await self.ping()
        self.send(wire.DISCONNECT)
        await self._gone()

    async def cut(self) -> None:
        """Lose the connection: no DISCONNECT."""
        self._note("> cuts the connection")
        await self._gone()

    async def _gone(self) -> None:
        self.is_closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        self._link.close()
        self._bell.set()

    def _next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id


def _json(payload: bytes) -> Json:
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
