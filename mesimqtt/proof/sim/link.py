"""Links in memory: bytes in flight, with a seeded latency, cuts that lose them, stalls of which nobody is told."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from random import Random

    from mesimqtt.broker.protocol import ClientProtocol, Listener
    from mesimqtt.proof.sim.loop import VirtualLoop

WINDOW_BYTES = 16 * 1024  # what a socket holds for a client that does not read
_SPLIT = 0.15  # how often what was written in one piece is read in several


class Client(Protocol):
    """What a link asks of a client."""

    def received(self, data: bytes, written_ms: int) -> None:
        """Take bytes, and when the server wrote them."""

    def ended(self, link: Link) -> None:
        """Take note that the connection is gone."""


@dataclass
class Weather:
    """How links are at the moment: milliseconds of latency, from and to."""

    fast_ms: float = 0.2
    slow_ms: float = 40.0


class ServerEnd(asyncio.Transport):
    """The server's end of a link, as asyncio gives it to a protocol."""

    def __init__(self, link: Link, address: str) -> None:
        super().__init__({"peername": (address, 40_000)})
        self.link = link
        self.protocol: ClientProtocol | None = None
        self.unwritten: deque[tuple[bytes, int]] = deque()
        self.size = 0  # of what is unwritten
        self.size_max = 0  # that it ever was
        self.is_paused = False  # reading is
        self._high, self._low = 64 * 1024, 16 * 1024
        self._is_congested = False
        self._is_closing = False
        self._is_ending = False
        self.is_gone = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes for the client."""
        if self._is_closing:
            return
        self.unwritten.append((bytes(data), self.link.loop.ms))
        self.size += len(data)
        self.size_max = max(self.size_max, self.size)
        self.link.pump()
        if self.size > self._high and not self._is_congested and self.protocol is not None:
            self._is_congested = True
            self.protocol.pause_writing()

    def taken(self) -> None:
        """Take note that the socket took something."""
        if self._is_congested and self.size <= self._low and self.protocol is not None and not self.is_gone:
            self._is_congested = False
            self.protocol.resume_writing()
        if not self.unwritten and (self._is_closing or self._is_ending):
            self.link.written(is_closed=self._is_closing)

    def get_write_buffer_size(self) -> int:
        """Return how much the socket has not taken yet."""
        return self.size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take the marks between which writing is paused."""
        self._high = high if high is not None else 64 * 1024
        self._low = low if low is not None else self._high // 4

    def is_closing(self) -> bool:
        """Tell whether it is closing or gone."""
        return self._is_closing or self.is_gone

    def close(self) -> None:
        """Close once everything is written."""
        if not self._is_closing:
            self._is_closing = True
            if not self.unwritten:
                self.link.written(is_closed=True)

    def can_write_eof(self) -> bool:
        """Tell that each way can end by itself."""
        return True

    def write_eof(self) -> None:
        """End this way once everything is written; the client reads to the end, and closes then."""
        self._is_ending = True
        self.taken()

    def abort(self) -> None:
        """Close at once; what is unwritten is lost."""
        self._is_closing = True
        self.unwritten.clear()
        self.size = 0
        self.link.written(is_closed=True)

    def pause_reading(self) -> None:
        """Leave in the socket what comes."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Read on."""
        if self.is_paused:
            self.is_paused = False
            self.link.loop.post(0, self.link.read_up)

    def gone(self) -> None:
        """Tell the protocol that the socket is gone."""
        if not self.is_gone:
            self.is_gone = True
            self.unwritten.clear()
            self.size = 0
            if self.protocol is not None:
                self.protocol.connection_lost(None)


class Link:
    """One connection between a client and the server. `number` tells it from all others of the run.

    Each way is a queue of what is in flight and one of what has arrived and is not read; None is the end of a way.
    """

    def __init__(self, loop: VirtualLoop, random: Random, weather: Weather, number: int, client: Client) -> None:
        self.loop = loop
        self.number = number
        self.server: ServerEnd | None = None
        self.is_cut = False
        self._client: Client | None = client
        self._random = random
        self._weather = weather
        self._is_stalled = False
        self._is_reading = True  # the client is
        self._up: deque[bytes | None] = deque()
        self._up_unread: deque[bytes | None] = deque()
        self._up_at = 0.0  # when the newest arrives
        self._down: deque[tuple[bytes, int] | None] = deque()
        self._down_unread: deque[tuple[bytes, int] | None] = deque()
        self._down_at = 0.0
        self._in_socket = 0  # bytes on their way to the client, or not yet read by him
        self._has_ended = False  # the server wrote its last

    def open(self, listener: Listener, address: str) -> None:
        """Connect to a server that listens."""
        self.server = ServerEnd(self, address)
        self.server.protocol = protocol = listener.protocol()
        protocol.connection_made(self.server)

    # ---- the client's side -------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Take bytes for the server."""
        if not self.is_cut and self._client is not None:
            for piece in self._pieces(data):
                self._send(piece)

    def close(self) -> None:
        """Close from the client's side, after what is on its way."""
        if self._client is not None and not self.is_cut:
            self._client = None
            self._send(None)

    def read(self, *, on: bool) -> None:
        """Stop or go on reading, as a client does that is busy elsewhere."""
        self._is_reading = on
        self._read_down()

    # ---- faults ------------------------------------------------------------------------------------------------------

    def cut(self, *, told: str = "both") -> None:
        """Lose the connection and all that is in flight. `told`: who notices soon: `both`, `client` or `server`."""
        if self.is_cut:
            return
        self.is_cut = True
        for queue in (self._up, self._up_unread, self._down, self._down_unread):
            queue.clear()
        if told != "server":
            self.loop.post(self._latency(), self._tell_client)
        if told != "client":
            self.loop.post(self._latency(), self._tell_server)

    def reset(self) -> None:
        """Lose the connection because the server's process is gone: only the client is there to be told."""
        self.server = None
        self.cut(told="client")

    @property
    def is_over(self) -> bool:
        """Tell whether the server has done with it."""
        return self.server is None or self.server.is_gone

    def stall(self) -> None:
        """Let nothing more through; nobody is told."""
        self._is_stalled = True

    def heal(self) -> None:
        """Let through what waited, and all that comes."""
        self._is_stalled = False
        self.read_up()
        self._read_down()

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Move what the server wrote into the socket, as far as there is room."""
        server = self.server
        if server is None:
            return
        while server.unwritten and (self._in_socket < WINDOW_BYTES or self.is_cut):
            data, written_ms = server.unwritten.popleft()
            server.size -= len(data)
            self._in_socket += len(data)
            if self.is_cut:  # the socket takes it; it goes nowhere
                continue
            for piece in self._pieces(data):
                self._write((piece, written_ms))

    def read_up(self) -> None:
        """Give the server what has arrived, while it reads."""
        server, unread = self.server, self._up_unread
        while unread and not self._is_stalled and server is not None and not server.is_paused:
            piece = unread.popleft()
            if piece is None:
                server.gone()
            elif server.protocol is not None and not server.is_closing():
                server.protocol.data_received(piece)

    def written(self, *, is_closed: bool) -> None:
        """Take note that the server wrote its last: the client reads what was written before, and then the end."""
        if is_closed:
            self.loop.post(0, self._tell_server)
        if not self._has_ended:
            self._has_ended = True
            self._write(None)

    def _send(self, piece: bytes | None) -> None:
        self._up.append(piece)
        self._up_at = max(self._up_at, self.loop.ms + self._latency())
        self.loop.post(self._up_at - self.loop.ms, self._arrive_up)

    def _write(self, piece: tuple[bytes, int] | None) -> None:
        if not self.is_cut:
            self._down.append(piece)
            self._down_at = max(self._down_at, self.loop.ms + self._latency())
            self.loop.post(self._down_at - self.loop.ms, self._arrive_down)

    def _arrive_up(self) -> None:
        if self._up:
            self._up_unread.append(self._up.popleft())
            self.read_up()

    def _arrive_down(self) -> None:
        if self._down:
            self._down_unread.append(self._down.popleft())
            self._read_down()

    def _read_down(self) -> None:
        unread = self._down_unread
        while unread and self._is_reading and not self._is_stalled:
            piece = unread.popleft()
            if piece is None:
                self._tell_client()
                self.loop.post(self._latency(), self._tell_server)
                return
            self._in_socket -= len(piece[0])
            if self._client is not None:
                self._client.received(*piece)
            if self.server is not None and not self.server.is_gone:
                self.pump()
                self.server.taken()

    def _tell_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.ended(self)

    def _tell_server(self) -> None:
        if self.server is not None:
            self.server.gone()

    def _latency(self) -> float:
        return self._random.uniform(self._weather.fast_ms, self._weather.slow_ms)

    def _pieces(self, data: bytes) -> list[bytes]:
        if len(data) < 2 or self._random.random() >= _SPLIT:
            return [data]
        middle = self._random.randrange(1, len(data))
        return [data[:middle], data[middle:]]
