"""One connection over WebSocket: a plain socket's protocol, an HTTP request before it and frames around it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mesimqtt.broker.frames import (
    BINARY,
    GOING_AWAY,
    NORMAL,
    PONG,
    FrameReader,
    close_frame,
    frame,
    frame_head,
)
from mesimqtt.broker.protocol import ClientProtocol
from mesimqtt.broker.unwritten import rest_of
from mesimqtt.broker.upgrade import Policy, RefusedError, accept, head_size, refusal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from mesimqtt.broker.protocol import Listener
    from mesimqtt.broker.unwritten import Chunk

FRAME_MAX = 16 * 1024 * 1024  # what a frame may announce; its payload goes on as it comes, nothing is kept
END_S = 0.5  # for the client's answer to our Close
BREACH_S = 0.1  # for the client to read our Close, if it broke the rules of frames: its answer cannot be read


class WebSocketProtocol(ClientProtocol):
    """ClientProtocol for `ws` and `wss`.

    `descriptor` stays -1, so that all output comes through `write`, which makes one frame of a loop turn's
    output; `_direct` is what `descriptor` is to a plain socket. Until the request is answered `_frames` is None.
    """

    __slots__ = ("_direct", "_frames", "_head", "_is_ending", "_pong")

    def __init__(self, listener: Listener, address: str | None = None) -> None:
        super().__init__(listener, address)
        self._head = bytearray()
        self._frames: FrameReader | None = None
        self._pong: bytes | None = None
        self._is_ending = False
        self._direct = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the engine's connection: its deadline for CONNECT holds for the HTTP request, too."""
        super().connection_made(transport)
        self._input = self
        self._direct, self.descriptor = self.descriptor, -1

    def receive(self, data: bytes, now: float) -> None:
        """Take what a read returned."""
        connection = self._connection
        frames = self._frames
        if connection.closing:
            self._receive_last(data)
            return
        if frames is None:
            frames = self._open(data)
            if frames is None:
                return
            data, self._head = bytes(self._head), bytearray()
        payload = frames.feed(data)
        if payload:
            connection.receive(payload, now)
        if frames.ping is not None:
            self._answer(frames)
        if frames.is_closed:
            self.close()
        elif frames.code and not connection.closing:
            connection.close(f"WebSocket: {frames.reason}")

    def write(self, chunks: Sequence[Chunk], written: int = 0) -> None:
        """Send the output of a loop turn as one frame."""
        if self._frames is not None and not self._is_ending:
            self._send(frame_head(BINARY, sum(map(len, chunks)) - written), *rest_of(chunks, written))

    def unblock(self) -> None:
        """Take note that the transport has written everything; answer the last Ping that waited for that."""
        super().unblock()
        self._direct, self.descriptor = self.descriptor, -1
        if self._pong is not None and not self._is_ending:
            pong, self._pong = self._pong, None
            self._send(frame(PONG, pong))

    def close(self) -> None:
        """Say Close and wait a moment for the client's own, so that it reads all that was written."""
        frames = self._frames
        if frames is None:
            self.transport.close()
        elif not self._is_ending:
            is_over = frames.is_closed
            self._send(close_frame(frames.code or (GOING_AWAY if self._wire.is_leaving else NORMAL)))
            self._is_ending = True
            if is_over:
                self.transport.close()
            else:
                self._wire.loop.call_later(BREACH_S if frames.code else END_S, self.transport.close)

    def linger(self) -> None:
        """Say Close: it is what the client answers."""
        self.close()

    def finish(self) -> None:
        """Say Close, as the last words; the client's own Close, or its end, ends the connection."""
        frames = self._frames
        if frames is not None and not self._is_ending:
            self._send(close_frame(frames.code or GOING_AWAY))
            self._is_ending = True
        super().finish()

    def _receive_last(self, data: bytes) -> None:
        """Look for the client's Close after ours; all else is too late."""
        if self._frames is not None:
            self._frames.feed(data)
            if self._is_ending and self._frames.is_closed:
                self.transport.close()

    def _open(self, data: bytes) -> FrameReader | None:
        """Answer the HTTP request once it is whole; what follows it is left in `_head`."""
        head = self._head
        head += data
        try:
            size = head_size(head)
            if not size:
                return None
            answer = accept(bytes(head[:size]), self._listener.policy or Policy())
        except RefusedError as error:
            self._send(refusal(error))
            self._connection.close(f"WebSocket refused: {error}")
            return None
        del head[:size]
        self._send(answer)
        self._frames = FrameReader(FRAME_MAX)
        return self._frames

    def _answer(self, frames: FrameReader) -> None:
        """Answer the last Ping of a read; who does not read gets one answer when it does again."""
        ping, frames.ping = frames.ping, None
        if ping is None:
            return
        if self._blocked is None:
            self._send(frame(PONG, ping))
        else:
            self._pong = ping

    def _send(self, *chunks: Chunk) -> None:
        if self._direct < 0:
            super().write(chunks)
            return
        if self.transport.is_closing():
            return
        data = b"".join(chunks)
        try:
            written = os.write(self._direct, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.transport.abort()
            return
        if written != len(data):
            self._direct = -1
            super().write(chunks, written)


def take_over(listener: Listener, address: str, transport: asyncio.Transport, head: bytes) -> None:
    """Go on as MQTT over WebSocket with a connection of `address`, admitted already, that began as HTTP.

    `head` is its request as it was read, with what followed it.
    """
    protocol = WebSocketProtocol(listener, address)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    protocol.data_received(head)
