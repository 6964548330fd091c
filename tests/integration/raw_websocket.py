"""A WebSocket client by hand on asyncio streams: every byte of the handshake and of the frames is the test's own."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

DEADLINE_S = 60.0
REQUEST = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mqtt",
}


def request(path: str = "/mqtt", **changes: str | None) -> bytes:
    """Return an upgrade request; a change of None leaves a field out."""
    fields = {**REQUEST, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode()


def masked(payload: bytes, opcode: int = 2, *, fin: bool = True) -> bytes:
    """Return a client's frame."""
    size, mask = len(payload), os.urandom(4)
    head = bytes(((0x80 if fin else 0) | opcode,))
    if size <= 125:
        head += bytes((0x80 | size,))
    else:
        head += b"\xfe" + size.to_bytes(2, "big") if size < 0x10000 else b"\xff" + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


class RawWebSocket:
    """One connection. `status` is that of the HTTP answer, `head` the answer itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.head = b""

    @classmethod
    async def connect(
        cls, port: int, path: str = "/mqtt", *, tls: ssl.SSLContext | None = None, **changes: str | None
    ) -> Self:
        """Connect, send the request and read the answer."""
        name = "localhost" if tls is not None else None
        client = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))
        client.writer.write(request(path, **changes))
        try:
            await client.answer()
        except (EOFError, OSError):
            await client.close()
            raise
        return client

    async def answer(self) -> None:
        """Read the HTTP answer."""
        async with asyncio.timeout(DEADLINE_S):
            self.head = await self.reader.readuntil(b"\r\n\r\n")
        self.status = int(self.head.split(b" ")[1])

    def send(self, *payloads: bytes) -> None:
        """Send each payload as a binary frame, all in one write."""
        self.writer.write(b"".join(map(masked, payloads)))

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame; it must be final and not masked."""
        async with asyncio.timeout(DEADLINE_S):
            first, size = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def mqtt(self, size: int) -> bytes:
        """Return `size` bytes of MQTT, from as many binary frames as they come in."""
        got = b""
        while len(got) < size:
            opcode, payload = await self.frame()
            assert opcode == 2
            got += payload
        return got

    async def close_code(self) -> int:
        """Return the code of the Close frame that comes, whatever comes before it."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")

    async def ended(self) -> bytes:
        """Wait until the other side has closed; return what it sent before."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        """Close without a Close frame."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # the other side was faster
