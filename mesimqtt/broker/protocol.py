"""The sockets' side of a connection: bytes to the engine, and one write per connection and loop turn.

System calls are the cost and batching is the cure (architecture, rule 6): a read is handed to the engine
whole; what the engine put out for anybody is written once, after all reads of that turn. Nothing here
happens per message, and a connection costs no task, no future and no timer of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.settings import Limits

# Output is written, and who does not read is found congested, after so much input even within a turn: else
# a turn in which many clients publish to a slow one would hold all of it in memory.
TURN_BYTES_MAX = 1024 * 1024
CUT_S = 0.5  # how long a cut connection may take to be gone
# One client's input is taken in slices, and after so much time the others have their turn: who sends as fast
# as the network allows (a read may hold 10,000 packets) would else keep everybody waiting for seconds.
# A slice is small until the ones before were cheap.
SLICE_MIN = 4 * 1024
SLICE_MAX = 64 * 1024
CHEAP_S = 0.001
SHARE_S = 0.005

logger = logging.getLogger(__name__)


class Wire:
    """What all connections of a broker share: the engine, the flush, and who is blocked."""

    __slots__ = (
        "_addresses",
        "_drained",
        "_is_scheduled",
        "blocked",
        "clock",
        "engine",
        "is_stopping",
        "limits",
        "loop",
        "on_closed",
        "paused",
        "protocols",
        "received",
    )

    def __init__(
        self, engine: Engine, limits: Limits, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.loop = loop
        self.clock = clock
        self.on_closed: Callable[[Connection], None] = _ignore
        self.protocols: dict[Connection, ClientProtocol] = {}
        self.blocked: dict[ClientProtocol, Blocked] = {}
        self.paused: dict[ClientProtocol, Connection] = {}
        self._addresses: dict[str, int] = {}
        self._drained: asyncio.Event | None = None
        self._is_scheduled = False
        self.is_stopping = False
        self.received = 0  # bytes since the last flush

    def wake(self) -> None:
        """See to it that what the engine has put out is written in this loop turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the output of every connection that has some; close those that the engine is done with."""
        self._is_scheduled = False
        self.received = 0
        engine = self.engine
        dirty = engine.dirty
        engine.dirty = []
        protocols = self.protocols
        write = os.write
        join = b"".join
        total = 0
        for connection in dirty:
            protocol = protocols.get(connection)
            out = connection.out
            if protocol is None:  # its socket is gone
                out.clear()
                continue
            if out:
                data = out[0] if len(out) == 1 else join(out)
                out.clear()
                size = len(data)
                total += size
                if connection.observed:
                    self._observe(connection, bytes(data))
                # What the socket takes is written here and now: that spares a detour through the loop.
                # A closing transport's descriptor may already be another connection's.
                if protocol.descriptor < 0:
                    protocol.write(data)
                elif not protocol.transport.is_closing():
                    try:
                        written = write(protocol.descriptor, data)
                    except BlockingIOError:
                        written = 0
                    except OSError:
                        protocol.transport.abort()
                        continue
                    if written != size:
                        protocol.write(memoryview(data)[written:])
            if connection.closing:
                protocol.transport.close()
        engine.counters.bytes_out += total
        if self.paused:
            self._resume_reading()

    def tick(self, now: float) -> None:
        """Cut every connection to which nothing could be written for `limits.stalled_s`."""
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
        count = self._addresses.get(address, 0)
        if 0 < self.limits.connections_per_address <= count:
            return False
        self._addresses[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        """Take back what `admit` counted."""
        count = self._addresses.get(address, 1) - 1
        if count:
            self._addresses[address] = count
        else:
            self._addresses.pop(address, None)

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
        self.leave(connection.remote_address)
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
        """Flush and close every connection; those that do not take their output in time are cut."""
        self.flush()
        for protocol in list(self.protocols.values()):
            protocol.transport.close()
        for seconds in (grace_s, CUT_S):
            if not self.protocols:
                return
            self._drained = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), seconds)
            for protocol in list(self.protocols.values()):
                protocol.transport.abort()


class Blocked:
    """The record of a connection whose socket takes no more: bytes given, bytes written, since when."""

    __slots__ = ("given", "since", "written")

    def __init__(self, since: float) -> None:
        self.given = 0
        self.written = 0
        self.since = since


class Listener:
    """What the connections of one listener share. `connections_max` 0 or less means no bound."""

    __slots__ = ("connections", "connections_max", "is_plain", "name", "wire")

    def __init__(self, name: str, wire: Wire, *, connections_max: int, is_plain: bool) -> None:
        self.name = name
        self.wire = wire
        self.connections_max = connections_max
        self.is_plain = is_plain
        self.connections = 0

    def protocol(self) -> ClientProtocol:
        """Make the protocol of one accepted connection."""
        return ClientProtocol(self)


class ClientProtocol(asyncio.Protocol):
    """One accepted connection: asyncio's transport on one side, the engine's Connection on the other.

    `descriptor` is the socket's while it may be written directly; -1 while the transport has output to
    write first, and always where the transport is more than a socket (TLS, adapters).
    """

    __slots__ = (
        "_blocked",
        "_connection",
        "_listener",
        "_rest",
        "_slice",
        "_spent_s",
        "_wire",
        "descriptor",
        "transport",
    )

    transport: asyncio.Transport
    _connection: Connection

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._wire = listener.wire
        self._blocked: Blocked | None = None
        self._rest: bytes | None = None  # of a read, while others have their turn
        self._spent_s = 0.0  # since others had theirs
        self._slice = SLICE_MIN
        self.descriptor = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the engine's connection, unless there are too many of this listener or address."""
        self.transport = cast("asyncio.Transport", transport)
        listener, wire = self._listener, self._wire
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if 0 < listener.connections_max <= listener.connections or not wire.admit(address):
            self.transport.abort()
            return
        listener.connections += 1
        if listener.is_plain:
            self.descriptor = transport.get_extra_info("socket").fileno()
        unwritten_max = wire.limits.unwritten_max
        self.transport.set_write_buffer_limits(high=unwritten_max, low=unwritten_max // 4)
        self._connection = wire.engine.open(address, listener.name, wire.clock())
        wire.protocols[self._connection] = self

    def data_received(self, data: bytes) -> None:
        """Hand one read to the engine."""
        if self._rest is None:
            self._take(data)
        else:
            self._rest += data

    def _take(self, data: bytes) -> bool:
        """Take input in slices, up to this client's share of time; tell whether to read on."""
        connection = self._connection
        wire = self._wire
        position, size = 0, len(data)
        now = wire.clock()
        while position < size and self._spent_s <= SHARE_S:
            # What an answer is awaited for goes on whole: the engine keeps it, within its bounds.
            after = size if connection.paused else min(position + self._slice, size)
            connection.receive(data if after - position == size else data[position:after], now)
            wire.received += after - position
            position = after
            if wire.received > TURN_BYTES_MAX:
                wire.flush()
            began, now = now, wire.clock()
            self._spent_s += now - began
            self._slice = min(2 * self._slice, SLICE_MAX) if now - began < CHEAP_S else SLICE_MIN
        if self._spent_s > SHARE_S:
            self._rest = data[position:]
            self.pause_reading()
            wire.loop.call_soon(self._go_on)
            return False
        return self._may_read()

    def _may_read(self) -> bool:
        connection, wire = self._connection, self._wire
        if not connection.paused:
            return True
        if self not in wire.paused:
            wire.paused[self] = connection
            self.pause_reading()
        return False

    def _go_on(self) -> None:
        """Take what was left of a read, now that the others had their turn; then read on."""
        data, self._rest, self._spent_s = self._rest, None, 0.0
        if self._wire.is_stopping or self.transport.is_closing():
            return
        if self._take(data) if data else self._may_read():
            self.resume_reading()

    def eof_received(self) -> None:
        """Let the transport close: MQTT has no half-open connections."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the engine that the socket is gone."""
        connection = getattr(self, "_connection", None)
        if connection is None:  # it was never admitted
            return
        self._listener.connections -= 1
        self._wire.remove(self, connection)
        connection.lost(self._wire.clock())
        self._wire.on_closed(connection)

    def cut(self, reason: str) -> None:
        """End the connection at once; what is unwritten is lost."""
        self._connection.close(reason)
        self.transport.abort()

    def pause_writing(self) -> None:
        """Stop the hand-over: more than `limits.unwritten_max` is unwritten."""
        self._connection.set_congested(True)

    def resume_writing(self) -> None:
        """Let the hand-over go on."""
        self._connection.set_congested(False)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Leave `data` to the transport, behind what it already has to write."""
        transport = self.transport
        if transport.is_closing():
            return
        blocked = self._blocked
        if blocked is None:
            self.descriptor = -1
            blocked = self._blocked = self._wire.blocked[self] = Blocked(self._wire.clock())
        blocked.given += len(data)
        transport.write(data)

    def unblock(self) -> None:
        """Take note that the transport has written everything."""
        self._blocked = None
        del self._wire.blocked[self]
        if self._listener.is_plain and not self.transport.is_closing():
            self.descriptor = self.transport.get_extra_info("socket").fileno()

    def pause_reading(self) -> None:
        """Stop reading until the engine has its answer: what a client sends meanwhile waits in its socket."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self.transport.is_closing():
            self.transport.resume_reading()


def _ignore(_connection: Connection) -> None:
    """Do nothing: a wire on its own has nobody to tell."""
