"""The clients of asyncio: aiomqtt (3.1.1 and 5.0) and amqtt's own (3.1.1), each driven from the tests' thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiomqtt
from amqtt.client import MQTTClient
from paho.mqtt.packettypes import PacketTypes

from interop.guest import DEADLINE_S, Guest, Properties, Received, Will
from interop.guest_paho import as_received, expiry, for_paho

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence


class LoopThread:
    """An event loop in a thread of its own, for every asyncio client of a test run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_S)

    def close(self) -> None:
        """Stop it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class AsyncGuest(Guest):
    """What both have in common: a loop, and a task that takes messages."""

    loop: LoopThread
    listener: asyncio.Task[None] | None = None

    def come(
        self, filters: Sequence[tuple[str, int]] = (), *, keeps: bool = False, will: Will | None = None
    ) -> bool | None:
        return self.loop.do(self._come(list(filters), keeps, will))

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        self.loop.do(self._publish(topic, payload, qos, retain, properties))

    def leave(self) -> None:
        self.loop.do(self._leave())

    def vanish(self) -> None:
        self.loop.do(self._vanish())

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.loop.do(self._leave())

    async def _stop_listening(self) -> None:
        if self.listener is not None:
            self.listener.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await self.listener
            self.listener = None

    async def _come(self, filters: list[tuple[str, int]], keeps: bool, will: Will | None) -> bool | None:
        raise NotImplementedError

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None) -> None:
        raise NotImplementedError

    async def _leave(self) -> None:
        raise NotImplementedError

    async def _vanish(self) -> None:
        raise NotImplementedError


class Aiomqtt(AsyncGuest):
    """aiomqtt, as its documentation shows it: a context manager and a stream of messages."""

    client: aiomqtt.Client

    async def _come(self, filters: list[tuple[str, int]], keeps: bool, will: Will | None) -> bool | None:
        five = self.kind.version == 5
        options: dict[str, Any] = (
            {"clean_start": not keeps, "properties": expiry(keeps)} if five else {"clean_session": not keeps}
        )
        self.client = aiomqtt.Client(
            self.house.host,
            self.house.ws_port if self.kind.transport == "ws" else self.house.port,
            username=self.who.address,
            password=self.who.token,
            identifier=self.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            transport="websockets" if self.kind.transport == "ws" else "tcp",
            websocket_path="/mqtt" if self.kind.transport == "ws" else None,
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain) if will else None,
            **options,
        )
        await self.client.__aenter__()
        self.listener = asyncio.create_task(self._listen())
        if filters:
            granted = await self.client.subscribe(filters)
            assert [qos for _, qos in filters] == [getattr(code, "value", code) for code in granted]
        return None

    async def _listen(self) -> None:
        async for message in self.client.messages:
            self.took(as_received(message))

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None) -> None:
        given = for_paho(properties, PacketTypes.PUBLISH) if properties else None
        await self.client.publish(topic, payload, qos, retain, given)

    async def _leave(self) -> None:
        await self._stop_listening()
        await self.client.__aexit__(None, None, None)

    async def _vanish(self) -> None:
        found: Any = self.client._client.socket()
        getattr(found, "_socket", found).shutdown(socket.SHUT_RDWR)
        await self._stop_listening()
        with contextlib.suppress(aiomqtt.MqttError):
            await self.client.__aexit__(None, None, None)


class Amqtt(AsyncGuest):
    """amqtt's own client."""

    client: MQTTClient

    async def _come(self, filters: list[tuple[str, int]], keeps: bool, will: Will | None) -> bool | None:
        config: dict[str, Any] = {
            "auto_reconnect": False,
            "connection_timeout": int(DEADLINE_S),
            "reconnect_retries": 0,
        }
        if will:
            config["will"] = {
                "topic": will.topic,
                "message": will.payload.decode(),
                "qos": will.qos,
                "retain": will.retain,
            }
        self.client = MQTTClient(self.client_id, config)
        where = f"{self.house.host}:{self.house.ws_port if self.kind.transport == 'ws' else self.house.port}"
        scheme, path = ("ws", "/mqtt") if self.kind.transport == "ws" else ("mqtt", "/")
        await self.client.connect(
            f"{scheme}://{self.who.address}:{self.who.token}@{where}{path}", cleansession=not keeps
        )
        self.listener = asyncio.create_task(self._listen())
        if filters:
            assert [qos for _, qos in filters] == await self.client.subscribe(filters)
        return None

    async def _listen(self) -> None:
        while message := await self.client.deliver_message():
            self.took(Received(message.topic, bytes(message.data or b""), message.qos or 0, bool(message.retain)))

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None) -> None:
        assert properties is None, "amqtt speaks 3.1.1"
        await self.client.publish(topic, payload, qos, retain)

    async def _leave(self) -> None:
        await self._stop_listening()
        await self.client.disconnect()

    async def _vanish(self) -> None:
        await self._stop_listening()
        handler: Any = self.client._handler
        writer = handler.writer
        (writer._protocol if self.kind.transport == "ws" else writer._writer).transport.abort()
        with contextlib.suppress(Exception):
            await self.client.disconnect()
