"""A receiver of webhooks that costs little: `python -m mesimqtt.bench.receiver` answers 204 and counts events."""

from __future__ import annotations

import asyncio
import re
import sys

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_EVENT = b'{"type":"message.'
_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection. A GET is answered with how many events came in how many requests, over all connections."""

    events = requests = 0

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._buffer += data
        if not self._need:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            found = _LENGTH.search(self._buffer, 0, end)
            self._need = end + 4 + (int(found[1]) if found else 0)
        if len(self._buffer) < self._need or self._transport is None:
            return
        if self._buffer.startswith(b"GET"):
            body = f"{Receiver.events} {Receiver.requests}".encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        else:
            Receiver.requests += 1
            Receiver.events += self._buffer.count(_EVENT)
            self._transport.write(_TAKEN)
        self._buffer.clear()
        self._need = 0


async def main() -> None:
    """Listen on a free port, print it, and serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
