"""What all connections of a broker share: the engine, one flush per loop turn, and who does not read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
import termios
from collections import deque
from typing import TYPE_CHECKING

from mesimqtt.broker.peers import counted_as
from mesimqtt.broker.unwritten import SHARED_MIN

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from mesimqtt.broker.protocol import ClientProtocol
    from mesimqtt.broker.traffic import Traffic
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.settings import Limits

# Output is written, and who does not read is found congested, after so much input even within a turn: else
# a turn in which many clients publish to a slow one would hold all of it in memory.
TURN_BYTES_MAX = 1024 * 1024
# What is written at a time before large output waits for its turn: 100 KB to each of a thousand takes the system 40 ms,
# which everybody else would wait for.
FLUSH_BYTES_MAX = 1024 * 1024
LARGE_MIN = 64 * 1024
LINGER_S = 0.5  # for clients to read everything, and to end their side, too
CUT_S = 0.5  # how long a cut connection may take to be gone

logger = logging.getLogger(__name__)


class Wire:
    """What all connections of a broker share: the engine, the flush, and who is blocked."""

    __slots__ = (
        "_addresses",
        "_drained",
        "_goes_on",
        "_is_hurried",
        "_is_scheduled",
        "_late",
        "_lingering",
        "blocked",
        "clock",
        "engine",
        "is_leaving",
        "is_stopping",
        "limits",
        "loop",
        "on_closed",
        "on_refused",
        "paused",
        "protocols",
        "received",
        "traffic",
    )

    def __init__(
        self, engine: Engine, limits: Limits, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.loop = loop
        self.clock = clock
        self.on_closed: Callable[[Connection], None] = _ignore
        self.on_refused: Callable[[str, str], None] = _ignore  # an address and why it did not get as far as MQTT
        self.protocols: dict[Connection, ClientProtocol] = {}
        self.blocked: dict[ClientProtocol, Blocked] = {}
        self.paused: dict[ClientProtocol, Connection] = {}
        self._addresses: dict[str, int] = {}
        self._drained: asyncio.Event | None = None
        self._is_scheduled = False
        self.is_leaving = False  # the server takes leave of its clients
        self.is_stopping = False  # nothing more is taken from anybody
        self._is_hurried = False
        self._goes_on = False
        self._late: deque[Connection] = deque()  # whose large output is put off
        self._lingering: deque[tuple[float, ClientProtocol]] = deque()  # until when their ends are awaited
        self.received = 0  # bytes since the last flush
        self.traffic: Traffic | None = None  # what limits how much a client sends; None: nothing does

    def wake(self) -> None:
        """See to it that what the engine has put out is written in this loop turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self.flush)

    def begin_turn(self) -> None:
        """Schedule no flush: the caller does it himself when he has read all that there is."""
        self._is_scheduled = True

    def flush(self) -> None:
        """Write the output of every connection that has some; close those that the engine is done with."""
        self._is_scheduled = False
        self.received = 0
        engine = self.engine
        dirty = engine.dirty
        engine.dirty = []
        protocols = self.protocols
        total = 0
        for connection in dirty:
            protocol = protocols.get(connection)
            out = connection.out
            if protocol is None:  # its socket is gone
                out.clear()
                continue
            if out:
                if (total > FLUSH_BYTES_MAX or self._late) and sum(map(len, out)) >= LARGE_MIN:
                    self._late.append(connection)
                    continue
                total += self._write(connection, protocol, out)
            if connection.closing:
                self._close(connection, protocol)
        if self._late:
            total += self._write_late(max(FLUSH_BYTES_MAX - total, 1))
        engine.counters.bytes_out += total
        if self.paused:
            self._resume_reading()
        if engine.replays:
            engine.go_on()

    def _write(self, connection: Connection, protocol: ClientProtocol, out: list[bytes | bytearray]) -> int:
        """Write what the socket takes here and now: that spares a detour through the loop. Return how much it was."""
        data = out[0] if len(out) == 1 else b"".join(out)
        size = len(data)
        chunks = out[:] if size >= SHARED_MIN else None
        out.clear()
        if connection.observed:
            self._observe(connection, bytes(data))
        # A closing transport's descriptor may already be another connection's.
        if protocol.descriptor < 0:
            protocol.write(chunks or [data])
        elif not protocol.transport.is_closing():
            try:
                written = os.write(protocol.descriptor, data)
            except BlockingIOError:
                written = 0
            except OSError:
                protocol.transport.abort()
                return 0
            if written != size:
                protocol.write(chunks or [data], written)
        return size

    def _write_late(self, most: int) -> int:
        """Write large output that was put off, `most` bytes of it now; who chats with little does not wait for it."""
        total = 0
        while self._late and (total < most or self.is_leaving):
            connection = self._late.popleft()
            protocol = self.protocols.get(connection)
            if protocol is None:
                connection.out.clear()
                continue
            total += self._write(connection, protocol, connection.out)
            if connection.closing:
                self._close(connection, protocol)
        if self._late and not self._goes_on:
            self._goes_on = True
            self.loop.call_soon(self._go_on)
        return total

    def _go_on(self) -> None:
        self._goes_on = False
        self.flush()

    def _close(self, connection: Connection, protocol: ClientProtocol) -> None:
        if self.is_leaving:
            protocol.finish()
        elif connection.is_done:
            protocol.close()
        else:
            protocol.linger()

    def linger(self, protocol: ClientProtocol) -> None:
        """Close a connection, whose last words are written, when its client had a moment to read them."""
        self._lingering.append((self.clock() + LINGER_S, protocol))

    def untaken(self, connection: Connection) -> int:
        """Return how many bytes of its output its peer's machine has not taken yet; 0 where the system does not say."""
        protocol = self.protocols.get(connection)
        sock = None if protocol is None else protocol.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):  # it is gone, or its system does not know
                return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return 0

    def tls_of(self, connection: Connection) -> ssl.SSLObject | None:
        """Return the TLS side of a connection, None for one without."""
        protocol = self.protocols.get(connection)
        return None if protocol is None else protocol.transport.get_extra_info("ssl_object")

    def tick(self, now: float) -> None:
        """Cut every connection to which nothing could be written for `limits.stalled_s`; close who lingers."""
        while self._lingering and self._lingering[0][0] <= now:
            self._lingering.popleft()[1].transport.close()
        for protocol, blocked in list(self.blocked.items()):
            unwritten = protocol.transport.get_write_buffer_size()
            written = blocked.given - unwritten
            if not unwritten:
                protocol.unblock()
            elif written > blocked.written:
                blocked.written = written
                blocked.since = now
            elif now - blocked.since >= self.limits.stalled_s:
                protocol.cut("does not read")

    def admit(self, address: str) -> bool:
        """Count a connection from `address`; False where it has enough of them."""
        counted = counted_as(address)
        if not counted:
            return True
        count = self._addresses.get(counted, 0)
        if 0 < self.limits.connections_per_address <= count:
            return False
        self._addresses[counted] = count + 1
        return True

    def leave(self, address: str) -> None:
        """Take back what `admit` counted."""
        counted = counted_as(address)
        count = self._addresses.get(counted, 1) - 1
        if count:
            self._addresses[counted] = count
        else:
            self._addresses.pop(counted, None)

    def _observe(self, connection: Connection, data: bytes) -> None:
        try:
            self.engine.sent(connection, data)
        except Exception:
            logger.exception("a plugin's event could not be fired; the others are still written to")

    def _resume_reading(self) -> None:
        for protocol, connection in list(self.paused.items()):
            if not connection.paused:
                del self.paused[protocol]
                protocol.resume_reading()

    def remove(self, protocol: ClientProtocol, connection: Connection) -> None:
        """Forget a connection whose socket is gone."""
        self.blocked.pop(protocol, None)
        self.paused.pop(protocol, None)
        del self.protocols[connection]
        if self._drained is not None and not self.protocols:
            self._drained.set()

    def stop_reading(self) -> None:
        """Take nothing more from anybody."""
        self.is_stopping = True
        for protocol in self.protocols.values():
            protocol.pause_reading()

    async def close(self, grace_s: float) -> None:
        """Flush and end every connection; those that do not take their output in time are cut."""
        self.is_leaving = self.is_stopping = True
        self.flush()
        for protocol in list(self.protocols.values()):
            protocol.finish()
        linger_s = min(LINGER_S, grace_s)
        await self._gone(linger_s)
        for protocol in list(self.protocols.values()):
            if not protocol.transport.get_write_buffer_size():
                protocol.transport.abort()
        await self._gone(grace_s - linger_s)
        for protocol in list(self.protocols.values()):
            protocol.transport.abort()
        self._is_hurried = False  # what is cut is gone at the end of this turn
        await self._gone(CUT_S)

    def hurry(self) -> None:
        """Wait for nobody from now on."""
        self._is_hurried = True
        if self._drained is not None:
            self._drained.set()

    async def _gone(self, timeout_s: float) -> None:
        """Wait until there is no connection any more."""
        if self.protocols and not self._is_hurried:
            self._drained = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), timeout_s)


class Blocked:
    """The record of a connection whose socket takes no more: bytes given, bytes written, since when."""

    __slots__ = ("given", "since", "written")

    def __init__(self, since: float) -> None:
        self.given = 0
        self.written = 0
        self.since = since


def _ignore(*_about: object) -> None:
    """Do nothing: a wire on its own has nobody to tell."""
