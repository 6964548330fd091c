"""What stands between a client and a server that does it right, so that one thing is done wrong."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mesimqtt.proof.conform.codec import Cutter
from mesimqtt.testing import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from conform.virtual import Hall, WorldLink

CONNECT, PUBLISH, PUBACK, PUBREC, SUBSCRIBE, SUBACK, DISCONNECT = 1, 3, 4, 5, 8, 9, 14


def kind_of(raw: bytes) -> int:
    """Return the type of a packet."""
    return raw[0] >> 4


def body_of(raw: bytes) -> bytes:
    """Return a packet without its first byte and its length."""
    start = 1
    while raw[start] & 0x80:
        start += 1
    return raw[start + 1 :]


def number(data: bytes, at: int = 0) -> int:
    """Return two bytes as a number."""
    return int.from_bytes(data[at : at + 2])


@dataclass
class Publish:
    """A PUBLISH to be changed: its properties stay the bytes that they are."""

    first: int
    topic: str
    packet_id: int
    properties: bytes
    payload: bytes

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    @property
    def place(self) -> str:
        """What follows `m/{user}/in/`, empty for any other topic."""
        levels = self.topic.split("/", 3)
        return levels[3] if len(levels) == 4 and levels[0] == "m" and levels[2] == "in" else ""

    @property
    def status(self) -> dict[str, Any]:
        """The status that it tells, empty if it tells none."""
        return json.loads(self.payload) if self.place.startswith("status/") else {}

    @classmethod
    def read(cls, raw: bytes, *, five: bool) -> Publish:
        body = body_of(raw)
        at = 2 + number(body)
        topic = body[2:at].decode()
        packet_id = 0
        if raw[0] & 6:
            packet_id, at = number(body, at), at + 2
        properties = b""
        if five:
            size, end = 0, at
            for place, byte in enumerate(body[at : at + 4]):
                size |= (byte & 127) << 7 * place
                end += 1
                if byte < 128:
                    break
            properties, at = body[at : end + size], end + size
        return cls(raw[0], topic, packet_id, properties, body[at:])

    def write(self) -> bytes:
        identifier = self.packet_id.to_bytes(2) if self.qos else b""
        return wire.packet(self.first, wire.text(self.topic) + identifier + self.properties + self.payload)

    def tell(self, **changes: Any) -> bytes:
        """Write it as a status with other values."""
        self.payload = json.dumps({**self.status, **changes}, ensure_ascii=False, separators=(",", ":")).encode()
        return self.write()


def with_password(raw: bytes, old: str, new: str, *, user: str | None = None, name: str = "") -> bytes:
    """Return a CONNECT with another password, and if `user` was its user name, another one of these."""
    body, tail = body_of(raw), wire.text(old.encode("latin-1"))
    fresh = wire.text(new.encode("latin-1"))
    if user is not None:
        tail, fresh = wire.text(user) + tail, wire.text(name) + fresh
    return wire.packet(raw[0], body[: -len(tail)] + fresh) if body.endswith(tail) else raw


class Between:
    """One connection, as the kit has it."""

    def __init__(self, broken: Broken, link: WorldLink) -> None:
        self.broken = broken
        self.link = link
        self.five = False
        self.user = self.client_id = self.password = ""
        self.will: tuple[str, bytes] | None = None
        self.is_polite = False  # it has said DISCONNECT
        self.kept: Any = None  # whatever a broken server remembers of a connection
        self._up, self._down = Cutter(), Cutter()
        self._slipped: list[bytes] = []

    def write(self, data: bytes) -> None:
        with self._noted():
            self._write(data)

    async def read(self) -> bytes:
        while data := await self.link.read():
            with self._noted():
                changed = self._changed(data)
            if changed:
                return changed
        return await self.broken.ended()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.broken.mishaps.append(error)
            raise

    def _write(self, data: bytes) -> None:
        for raw in self._up.feed(data):
            if kind_of(raw) == CONNECT:
                self._greeted(body_of(raw))
                self.link.write(self.broken.greeted(self, raw))
                continue
            self.is_polite = self.is_polite or kind_of(raw) == DISCONNECT
            self.link.write(b"".join(self.broken.up(self, raw)))

    def _changed(self, data: bytes) -> bytes:
        packets = list(self._down.feed(data))
        slipped = [raw for raw in packets if raw in self._slipped]
        self._slipped = [raw for raw in self._slipped if raw not in slipped]
        return b"".join([*self.broken.down(self, [raw for raw in packets if raw not in slipped]), *slipped])

    def close(self) -> None:
        self.broken.closed(self)
        self.link.close()

    @property
    def is_open(self) -> bool:
        return not self.link.is_closed

    def slip(self, topic: str, payload: bytes, **options: Any) -> None:
        """Let the client have a message that the server has not sent; it is not changed on its way."""
        if not self.five:
            self._slipped.append(wire.publish(topic, payload, **options))
            self.link.slip(self._slipped[-1])

    def _greeted(self, body: bytes) -> None:
        self.five, flags, at = body[6] == 5, body[7], 10
        if self.five:
            at += 1 + body[at]
        fields = []
        for is_there in (True, flags & 4, flags & 4, flags & 0x80, flags & 0x40):
            if is_there and len(fields) == 1 and self.five:
                at += 1 + body[at]  # the will's properties
            size = number(body, at) if is_there else 0
            fields.append(body[at + 2 : at + 2 + size])
            at += 2 + size if is_there else 0
        self.client_id, self.user = fields[0].decode(), fields[3].decode()
        self.will = (fields[1].decode(), fields[2]) if flags & 4 else None
        self.password = fields[4].decode("latin-1")


class Broken:
    """A server that does everything right but one thing.

    `sections` are the settings of the server behind it, `options` those of the kit's run.
    """

    sections: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {}
    websocket: Any = None  # what opens one, if it has any

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.links: list[Between] = []
        self.mishaps: list[Exception] = []  # it is broken on purpose, not by accident

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Change what an operator does."""
        return await self.hall.perform(op, **arguments)

    def links_of(self, user: str) -> list[Between]:
        """Return the open connections of a user, those of 3.1.1."""
        return [each for each in self.links if each.user == user and each.is_open and not each.five]

    async def ended(self) -> bytes:
        """Change what a client sees when the server ends its connection."""
        return b""

    def closed(self, link: Between) -> None:
        """Take note that a client has ended its connection."""

    def greeted(self, link: Between, raw: bytes) -> bytes:
        """Change a CONNECT."""
        return raw

    async def dial(self) -> Between:
        link = Between(self, await self.hall.dial())
        self.links.append(link)
        return link

    def up(self, link: Between, raw: bytes) -> Iterable[bytes]:
        """Change what a client says."""
        if kind_of(raw) != PUBLISH:
            return [raw]
        return self.said(link, Publish.read(raw, five=link.five), raw)

    def down(self, link: Between, packets: list[bytes]) -> Iterable[bytes]:
        """Change what the server says in one read."""
        for raw in packets:
            if kind_of(raw) == PUBLISH:
                yield from self.told(link, Publish.read(raw, five=link.five), raw)
            else:
                yield from self.answered(link, raw)

    def said(self, link: Between, publish: Publish, raw: bytes) -> Iterable[bytes]:
        """Change what a client publishes."""
        return [raw]

    def told(self, link: Between, publish: Publish, raw: bytes) -> Iterable[bytes]:
        """Change what the server publishes."""
        return [raw]

    def answered(self, link: Between, raw: bytes) -> Iterable[bytes]:
        """Change what the server answers."""
        return [raw]
