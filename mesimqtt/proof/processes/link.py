"""A raw connection of a user's device, over any number of lost links: every packet is seen."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER_S = 30.0  # however busy the machine is


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a user: its client id, its token, and which MQTT it speaks."""

    user: str
    name: str
    token: str
    level: int = 4
    clean: bool = True
    keep_alive_s: int = 60

    def __str__(self) -> str:
        return f"{self.user}/{self.name}"


class LinkError(Exception):
    """The server refused a connection or a filter, or did not answer."""


class Link(asyncio.Protocol):
    """One device's connections, one after another; `packets` is what a kind of client does with what comes."""

    def __init__(self, device: Device, filters: Iterable[tuple[str, int]]) -> None:
        self.device = device
        self.password = device.token
        self.connection = 0  # how many there have been
        self.is_resumed = False  # the server knew the session
        self.lost = asyncio.Event()
        self.lost.set()
        self._filters = list(filters)
        self._transport: asyncio.Transport | None = None
        self._reader = stream.Reader()
        self._ready: asyncio.Future[None] | None = None
        self._is_held = False

    async def connect(self, port: int, host: str = "127.0.0.1") -> None:
        """Connect, subscribe, and return once both are answered. Raises LinkError, OSError."""
        loop = asyncio.get_running_loop()
        self._reader = stream.Reader()
        self._ready = loop.create_future()
        async with asyncio.timeout(ANSWER_S):
            await loop.create_connection(lambda: self, host, port)
            await self._ready

    async def close(self) -> None:
        """Drop the connection, if there is one, without a DISCONNECT."""
        if self._transport is not None:
            self._transport.abort()
            await self.lost.wait()

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take what one read brought and return what is to be written."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write, unless the link is lost."""
        if data and self._transport is not None and not self.lost.is_set():
            self._transport.write(data)

    @property
    def port(self) -> int:
        """Return the port of its own end; 0 while there is no connection."""
        return int(self._transport.get_extra_info("sockname")[1]) if self._transport is not None else 0

    def hold(self, is_held: bool) -> None:
        """Stop reading, or go on: a client that is slow."""
        if self._transport is not None and is_held != self._is_held:
            self._is_held = is_held
            (self._transport.pause_reading if is_held else self._transport.resume_reading)()

    # ---- asyncio's callbacks ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce the device."""
        self._transport = transport  # type: ignore[assignment] # asyncio's own protocols do it like that
        self._is_held = False
        self.connection += 1
        self.lost.clear()
        device = self.device
        self.write(
            stream.connect(
                device.name,
                device.user,
                self.password,
                clean=device.clean,
                keep_alive_s=device.keep_alive_s,
                level=device.level,
                session_expiry_s=0 if device.clean else 0xFFFF_FFFF,
            )
        )
        if self._filters:
            self.write(stream.subscribe(65_535, self._filters, level=device.level))

    def data_received(self, data: bytes) -> None:
        """Cut what came into packets."""
        packets = list(self._reader.feed(data))
        if self._ready is not None and not self._ready.done():
            packets = [packet for packet in packets if not self._greeted(packet)]
        if packets:
            self.write(self.packets(packets))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everybody who waits know."""
        self._transport = None
        self.lost.set()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(LinkError(f"{self.device} was cut off before it was let in ({exc})"))

    def _greeted(self, packet: stream.Packet) -> bool:
        """Take CONNACK and SUBACK; tell whether the packet was one of them."""
        if self._ready is None or self._ready.done() or packet.kind not in (stream.CONNACK, stream.SUBACK):
            return False
        if packet.kind == stream.CONNACK:
            refused = packet.body[1]
            self.is_resumed = bool(packet.body[0] & 1)
        else:
            refused = max(stream.suback_codes(packet, level=self.device.level))
        if refused >= stream.REFUSED or (packet.kind == stream.CONNACK and refused):
            self._ready.set_exception(LinkError(f"{self.device} was refused with {refused}"))
        elif packet.kind == stream.SUBACK or not self._filters:
            self._ready.set_result(None)
        return True


class Bystander(Link):
    """A client that is connected and says nothing."""

    def __init__(self, device: Device, filters: Iterable[tuple[str, int]] = ()) -> None:
        super().__init__(device, filters)

        self._came = asyncio.Event()

    async def round_trip(self, topic: str) -> bool:
        """Publish to a topic that it is subscribed to; tell whether that comes back."""
        self._came.clear()
        self.write(stream.publish(topic, b"?", level=self.device.level))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._came.wait()
        return self._came.is_set()

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Say nothing to what comes."""
        if any(packet.kind == stream.PUBLISH for packet in packets):
            self._came.set()
        return b""
