"""A bad road between a client and a server: slow, standing still, cut in mid-packet, or silently gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_MAX: Final = 65_536
RESET: Final = struct.pack("ii", 1, 0)  # linger for no time at all


class Way:
    """One direction of a connection: what is read at one end is written at the other, as long as it is well."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.piece = 0  # bytes at once; 0: as they come
        self.pause_s = 0.0  # after each piece
        self.is_hole = False  # nothing arrives, not even the end
        self.ended = asyncio.Event()  # at the end that is read
        self.full = asyncio.Event()  # as many bytes have passed as `cut_after` allows
        self._left: int | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._reader = reader
        self._writer = writer

    def stall(self, is_stalled: bool) -> None:
        """Let nothing pass, or go on with what has come meanwhile: nothing is lost."""
        (self._open.clear if is_stalled else self._open.set)()

    def cut_after(self, size: int) -> None:
        """Let so many more bytes pass, and then no more."""
        self._left = size

    async def run(self) -> None:
        """Carry until the end, and carry that, too."""
        with contextlib.suppress(OSError):
            while data := await self._reader.read(READ_MAX):
                for piece in self._pieces(data):
                    await self._open.wait()
                    if not await self._carry(piece):
                        break
        self.ended.set()
        await self._open.wait()
        if not self.is_hole and self._left is None:
            self._writer.close()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = self.piece or len(data)  # it may become better or worse in the middle
            yield data[at : at + size]
            at += size

    async def _carry(self, data: bytes) -> bool:
        """Write, if it is well; tell whether more is to come."""
        if self.is_hole or self.full.is_set():
            return False
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            if not self._left:
                self.full.set()
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(self.pause_s if self.piece else 0)
        return True


class Road:
    """One connection of a client through the proxy: the way up to the server, and the way down."""

    def __init__(self, up: Way, down: Way, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.up = up
        self.down = down
        self._writers = writers

    @property
    def ways(self) -> tuple[Way, Way]:
        """Both directions."""
        return self.up, self.down

    def cut(self, *, is_reset: bool = False) -> None:
        """Close both ends at once, by FIN or by RST."""
        for each in self._writers:
            if is_reset and not each.transport.is_closing():
                each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            each.transport.abort()


class Proxy:
    """A port on which one client reaches the server; `road` is the last connection that came."""

    def __init__(self) -> None:
        self.port = 0
        self.road: Road | None = None
        self._to = ("", 0)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._roads: list[Road] = []

    @classmethod
    async def before(cls, host: str, port: int) -> Self:
        """Listen, for connections to this server."""
        proxy = cls()
        proxy._to = (host, port)
        proxy._server = await asyncio.start_server(proxy._came, "127.0.0.1", 0)
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        return proxy

    async def close(self) -> None:
        """Cut everything, and listen no more."""
        if self._server is not None:
            self._server.close()
        for each in self._roads:
            each.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(*self._to)
        up, down = Way(reader, their_writer), Way(their_reader, writer)
        self.road = road = Road(up, down, (writer, their_writer))
        self._roads.append(road)
        for way in road.ways:
            task = asyncio.ensure_future(way.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
