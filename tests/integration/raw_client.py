"""A raw MQTT 3.1.1 client on asyncio streams, and a broker beside it in the same loop."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from mesimqtt.broker.broker import Broker
from mesimqtt.broker.loop import loop_factory
from mesimqtt.settings import Limits, Settings
from mesimqtt.testing import stream as wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine

DEADLINE_S = 60.0
OPEN_PLUGINS: dict[str, dict[str, Any]] = {
    "mesimqtt_plugins.auth.TokenAuth": {},
    "mesimqtt_plugins.acl.FolderAccess": {},
}


class RawClient:
    """One connection; every packet of the other side is seen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.code = -1
        self.session_present = False
        self._packets = wire.Reader()
        self._arrived: deque[wire.Packet] = deque()
        self._messages: deque[wire.Publish] = deque()
        self._packet_id = 0

    @classmethod
    async def connect(
        cls,
        port: int,
        client_id: str = "raw",
        user: str | None = None,
        password: str | None = None,
        *,
        clean: bool = True,
        will: tuple[str, bytes] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect and read CONNACK; its code is in `code`."""
        name = "localhost" if tls is not None else None
        client = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))
        client.writer.write(
            with_will(wire.connect(client_id, None, None), will)
            if will
            else wire.connect(client_id, user, password, clean=clean)
        )
        try:
            connack = await client.expect(wire.CONNACK)
        except (EOFError, OSError):
            await client.close()
            raise
        client.session_present, client.code = bool(connack.body[0]), connack.body[1]
        return client

    async def subscribe(self, topic_filter: str, qos: int = 0) -> int:
        """Subscribe and return the SUBACK's code."""
        self._packet_id += 1
        self.writer.write(wire.subscribe(self._packet_id, [(topic_filter, qos)]))
        return (await self.expect(wire.SUBACK)).body[2]

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Publish at QoS 0 or 1, and wait for the PUBACK."""
        self._packet_id += 1
        packet = bytearray(wire.publish(topic, payload, qos=qos, packet_id=self._packet_id))
        packet[0] |= retain
        self.writer.write(packet)
        if qos:
            await self.expect(wire.PUBACK)

    async def ping(self) -> None:
        """Wait for a PINGRESP: everything before it has been processed."""
        self.writer.write(wire.PING)
        await self.expect(wire.PINGRESP)

    async def message(self) -> wire.Publish:
        """Return the next PUBLISH, acknowledged if it asks for that."""
        while not self._messages:
            await self._read()
        message = self._messages.popleft()
        if message.qos == 1:
            self.writer.write(wire.puback(message.packet_id))
        return message

    async def expect(self, kind: int) -> wire.Packet:
        """Return the next packet that is not a PUBLISH; it must be of this kind."""
        while not self._arrived:
            await self._read()
        packet = self._arrived.popleft()
        assert kind == packet.kind
        return packet

    async def ended(self) -> bytes:
        """Wait until the other side has closed, and return what it sent before."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        """Close without DISCONNECT."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # the other side was faster

    async def _read(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            data = await self.reader.read(65536)
        if not data:
            raise EOFError("the broker closed the connection")
        for packet in self._packets.feed(data):
            if packet.kind == wire.PUBLISH:
                self._messages.append(wire.decode_publish(packet))
            else:
                self._arrived.append(packet)


def with_will(connect: bytes, will: tuple[str, bytes]) -> bytes:
    """Return a CONNECT without name and password, with a will at QoS 0."""
    topic, payload = will
    body = bytearray(connect[2:])
    body[7] |= 4
    return wire.framed(connect[0], bytes(body) + wire.text(topic) + wire.text(payload))


def settings_of(
    plugins: dict[str, dict[str, Any]] | None = None,
    *,
    is_open: bool = True,
    listener: dict[str, Any] | None = None,
    **limits: Any,
) -> Settings:
    """Return settings of a broker on a free port."""
    default = {"type": "tcp", "bind": "127.0.0.1:0", **(listener or {})}
    broker = {"listeners": {"default": default}, "plugins": OPEN_PLUGINS if plugins is None else plugins}
    return replace(Settings(), open=is_open, limits=Limits(**limits), broker=broker)


@asynccontextmanager
async def serving(settings: Settings | None = None, **options: Any) -> AsyncIterator[Broker]:
    """Run a broker that is shut down at the end."""
    broker = Broker(settings or settings_of(), **options)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.shutdown()


def play(story: Callable[[], Coroutine[Any, Any, None]], *, uvloop: bool = True) -> None:
    """Run a story to its end, on uvloop or on asyncio's own loop."""
    with asyncio.Runner(loop_factory=loop_factory() if uvloop else asyncio.new_event_loop) as runner:
        runner.run(asyncio.wait_for(story(), 120))  # whatever hangs; how long something may take is the story's affair


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; fails after the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the broker's state has no event to wait for
            await asyncio.sleep(0.005)
