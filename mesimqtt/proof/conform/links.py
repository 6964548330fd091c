"""How the kit reaches a server: TCP, TLS, and WebSocket over both, by the URL that names them."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.conform.websocket import WebSocketClient, frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_CHUNK = 65_536
_OPEN_S = 10.0


class UnreachableError(MesimqttError):
    """Nobody listens where the URL says, or he speaks something else."""

    exit_code = 2


class Link(Protocol):
    """One connection's bytes."""

    def write(self, data: bytes) -> None:
        """Send."""

    async def read(self) -> bytes:
        """Return what comes next; nothing once the other side has ended."""

    def close(self) -> None:
        """End at once, without a word of MQTT."""


Dial = "Callable[[], Awaitable[Link]]"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, as its URL says."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def address_of(url: str) -> Address:
    """Read a URL. Raises MesimqttError with what to write instead."""
    parts = urlsplit(url if "://" in url else f"mqtt://{url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in PORTS or not parts.hostname or port == -1 or parts.username or parts.query:
        example = "mqtt://127.0.0.1:1883 (or mqtts://, ws://, wss://)"
        raise UnreachableError(f"{url!r} is no address of a server; write for example {example}")
    path = (parts.path or "/mqtt") if parts.scheme.startswith("ws") else ""
    return Address(parts.scheme, parts.hostname, port or PORTS[parts.scheme], path)


def dialer(url: str, *, authority: Path | None = None, insecure: bool = False) -> Callable[[], Awaitable[Link]]:
    """Return what opens one connection after the other to a URL."""
    address = address_of(url)
    context = _context(authority, insecure=insecure) if address.scheme in {"mqtts", "wss"} else None

    async def dial() -> Link:
        name = address.host if context is not None else None
        try:
            async with asyncio.timeout(_OPEN_S):
                streams = await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=name)
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"cannot connect to {address}: {str(error) or 'no answer'}") from None
        return WebSocketLink(*streams, address) if address.scheme.startswith("ws") else StreamLink(*streams)

    return dial


def _context(authority: Path | None, *, insecure: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError) as error:
        raise UnreachableError(f"cannot read the certificates of {authority}: {error}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class StreamLink:
    """TCP or TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Send; what the other side does not take any more is seen at the next read."""
        with suppress(OSError, RuntimeError):
            self._writer.write(data)

    async def read(self) -> bytes:
        """Return what comes next; nothing once the other side has ended."""
        try:
            return await self._reader.read(_CHUNK)
        except OSError:
            return b""

    def close(self) -> None:
        """Cut the connection."""
        with suppress(OSError, RuntimeError):
            self._writer.close()


class WebSocketLink(StreamLink):
    """MQTT in binary frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address) -> None:
        super().__init__(reader, writer)
        self._socket = WebSocketClient(f"{address.host}:{address.port}", address.path)
        self._waiting: list[bytes] = []
        super().write(self._socket.request)

    def write(self, data: bytes) -> None:
        """Send one frame, once the WebSocket is open."""
        if self._socket.is_open:
            super().write(frame(data))
        else:
            self._waiting.append(data)

    async def read(self) -> bytes:
        """Return MQTT's bytes; nothing once the other side has ended. Raises WebSocketError."""
        while not self._socket.is_closed:
            data = await super().read()
            if not data:
                return b""
            payload = self._socket.receive(data)
            for answer in self._socket.answers:
                super().write(answer)
            self._socket.answers.clear()
            if self._socket.is_open and self._waiting:
                self._waiting, waiting = [], self._waiting
                super().write(b"".join(map(frame, waiting)))
            if payload:
                return payload
        return b""
