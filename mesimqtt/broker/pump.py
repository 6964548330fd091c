"""Connections that come as amqtt's reader and writer adapters: a small transport that pumps between the two.

Slower than a socket of our own (two tasks per connection): it serves amqtt's `external` listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from mesimqtt.broker.protocol import SHARE_S

if TYPE_CHECKING:
    from amqtt.adapters import ReaderAdapter, WriterAdapter

    from mesimqtt.broker.protocol import ClientProtocol

READ_MAX = 64 * 1024
CLOSE_S = 2.0  # for a writer's close: it may wait for a client that reads nothing


class PumpTransport(asyncio.Transport):
    """An asyncio transport on a pair of adapters."""

    def __init__(self, protocol: ClientProtocol, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        super().__init__({"peername": writer.get_peer_info()})
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._high = READ_MAX
        self._low = READ_MAX // 4
        self._is_congested = False
        self._is_closing = False
        self._output = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def run(self) -> None:
        """Pump both ways until one side ends."""
        self._protocol.connection_made(self)
        loop = asyncio.get_running_loop()
        receiving, sending = self._tasks = loop.create_task(self._receive()), loop.create_task(self._send())
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                self.close()
                await asyncio.wait((sending,))
        finally:
            self.abort()
            await asyncio.gather(receiving, sending, return_exceptions=True)
            self._protocol.connection_lost(None)
            with contextlib.suppress(OSError):  # TimeoutError is one, too
                await asyncio.wait_for(self._writer.close(), CLOSE_S)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data` for the writer."""
        if self._is_closing:
            return
        self._chunks.append(bytes(data))
        self._size += len(data)
        self._output.set()
        if self._size > self._high and not self._is_congested:
            self._is_congested = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Stop reading; end once everything queued is written."""
        self._is_closing = True
        self._output.set()

    def abort(self) -> None:
        """End at once."""
        self._is_closing = True
        self._chunks.clear()
        self._size = 0
        self._output.set()
        for task in self._tasks:  # also one that waits for a client which takes nothing
            task.cancel()

    def can_write_eof(self) -> bool:
        """Tell that adapters are closed both ways at once."""
        return False

    def is_closing(self) -> bool:
        """Tell whether the end is near."""
        return self._is_closing

    def pause_reading(self) -> None:
        """Read no further packet for now."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Read on."""
        self._readable.set()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait for the writer."""
        return self._size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set above and below how many waiting bytes the protocol is told."""
        self._high = READ_MAX if high is None else high
        self._low = self._high // 4 if low is None else low

    async def _receive(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            while not self._is_closing:
                await self._readable.wait()
                await self._receive_packet()
                if clock() - began > SHARE_S:  # an adapter that has thousands of packets already waits for nothing
                    await asyncio.sleep(0)
                    began = clock()
        except (OSError, EOFError):
            return  # the other side is gone; `run` tells the protocol

    async def _receive_packet(self) -> None:
        # An adapter reads exactly what it is asked for, so the remaining length must be known first
        # [MQTT 3.1.1, section 2.2.3]. Every part goes on at once: the engine refuses an oversized packet by its head.
        head = await self._read(1)
        remaining = shift = 0
        while shift < 28:
            byte = (await self._read(1))[0]
            head += bytes((byte,))
            remaining |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        self._protocol.data_received(head)
        while remaining and not self._is_closing:
            await self._readable.wait()
            data = await self._read(min(remaining, READ_MAX))
            remaining -= len(data)
            self._protocol.data_received(data)
            await asyncio.sleep(0)  # lets the engine's verdict on this part take effect

    async def _read(self, size: int) -> bytes:
        data = await self._reader.read(size)
        if not data:
            raise EOFError
        return bytes(data)

    async def _send(self) -> None:
        try:
            while True:
                while self._chunks:
                    data = self._chunks.popleft()
                    self._writer.write(data)
                    await self._writer.drain()
                    self._size = max(0, self._size - len(data))
                    if self._is_congested and self._size <= self._low:
                        self._is_congested = False
                        self._protocol.resume_writing()
                if self._is_closing:
                    return
                self._output.clear()
                await self._output.wait()
        except OSError:
            return  # the other side is gone; `run` tells the protocol
