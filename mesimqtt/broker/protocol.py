"""The sockets' side of a connection: bytes to the engine, and one write per connection and loop turn.

System calls are the cost and batching is the cure (architecture, rule 6): a read is handed to the engine
whole; what the engine put out for anybody is written once, after all reads of that turn. Nothing here
happens per message, and a connection costs no task, no future and no timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from mesimqtt.broker.peers import LOCAL
from mesimqtt.broker.tls import certificate_user
from mesimqtt.broker.unwritten import rest_of
from mesimqtt.broker.wire import TURN_BYTES_MAX, Blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesimqtt.broker.unwritten import Chunk
    from mesimqtt.broker.upgrade import Policy
    from mesimqtt.broker.wire import Wire
    from mesimqtt.engine.connection import Connection

# One client's input is taken in slices, and after so much time the others have their turn: who sends as fast
# as the network allows (a read may hold 10,000 packets) would else keep everybody waiting for seconds.
# A slice is small until the ones before were cheap.
SLICE_MIN = 4 * 1024
SLICE_MAX = 64 * 1024
CHEAP_S = 0.001
SHARE_S = 0.005


class Accepted(Protocol):
    """A protocol that a listener makes for a connection, and that takes back what `admit` counted at its end."""

    @property
    def is_made(self) -> bool:
        """Tell whether `connection_made` was called, so that `connection_lost` will be."""


class Listener:
    """What the connections of one listener share. `connections_max` 0 or less means no bound.

    `policy` is what a WebSocket asks of its request, `certificate_names` which name of a client's certificate
    is the user's address: none, `cn` or `san`. `wrap` makes what stands before a connection's protocol; None: nothing.
    """

    __slots__ = (
        "certificate_names", "connections", "connections_max", "is_local", "is_plain", "kind", "name", "policy", "wire",
        "wrap",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        wire: Wire,
        *,
        connections_max: int,
        is_plain: bool,
        is_local: bool = False,
        kind: Callable[[Listener, str | None], Any] | None = None,
        policy: Policy | None = None,
        certificate_names: str = "",
        wrap: Callable[[Listener, str | None], Any] | None = None,
    ) -> None:
        self.name = name
        self.wire = wire
        self.connections_max = connections_max
        self.is_plain = is_plain
        self.is_local = is_local
        self.kind: Callable[[Listener, str | None], Any] = kind or ClientProtocol
        self.policy = policy
        self.certificate_names = certificate_names
        self.wrap = wrap
        self.connections = 0

    def protocol(self, address: str | None = None) -> Any:  # noqa: ANN401 - an asyncio.Protocol that is `Accepted`
        """Make the protocol of one accepted connection, for an `address` that was admitted, if one is given."""
        return self.kind(self, address) if self.wrap is None else self.wrap(self, address)

    def admit(self, address: str) -> bool:
        """Count a connection; False where this listener or the address has enough of them."""
        if 0 < self.connections_max <= self.connections or not self.wire.admit(address):
            return False
        self.connections += 1
        return True

    def leave(self, address: str) -> None:
        """Take back what `admit` counted."""
        self.connections -= 1
        self.wire.leave(address)


class Input(Protocol):
    """What takes the bytes of a connection, if not the engine itself."""

    def receive(self, data: bytes, now: float) -> None:
        """Take what a read returned."""


class ClientProtocol(asyncio.Protocol):
    """One accepted connection: asyncio's transport on one side, the engine's Connection on the other.

    `descriptor` is the socket's while it may be written directly; -1 while the transport has output to
    write first, and always where the transport is more than a socket (TLS, adapters).
    `_input` stands between the bytes and the engine; None: nothing does.
    """

    __slots__ = (
        "_address",
        "_blocked",
        "_connection",
        "_input",
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

    def __init__(self, listener: Listener, address: str | None = None) -> None:
        self._address = address
        self._input: Input | None = None
        self._listener = listener
        self._wire = listener.wire
        self._blocked: Blocked | None = None
        self._rest: bytes | None = None  # of a read, while others have their turn
        self._spent_s = 0.0  # since others had theirs
        self._slice = SLICE_MIN
        self.descriptor = -1

    @property
    def is_made(self) -> bool:
        """Tell whether `connection_made` was called, so that `connection_lost` will be."""
        return hasattr(self, "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the engine's connection, unless there are too many of this listener or address."""
        self.transport = cast("asyncio.Transport", transport)
        listener, wire = self._listener, self._wire
        if self._address is None:
            peer = transport.get_extra_info("peername")
            address = LOCAL if listener.is_local else str(peer[0]) if peer else ""
            if not listener.admit(address):
                self.transport.abort()
                return
            self._address = address
        if listener.is_plain:
            self.descriptor = transport.get_extra_info("socket").fileno()
        unwritten_max = wire.limits.unwritten_max
        self.transport.set_write_buffer_limits(high=unwritten_max, low=unwritten_max // 4)
        self._connection = wire.engine.open(self._address, listener.name, wire.clock())
        if listener.certificate_names:
            self._connection.certificate_user = certificate_user(transport, listener.certificate_names)
        wire.protocols[self._connection] = self

    def data_received(self, data: bytes) -> None:
        """Hand one read to the engine."""
        wire = self._wire
        if self._rest is not None:
            self._rest += data
        elif len(data) > SLICE_MIN or self._input is not None or self._connection.paused or wire.traffic is not None:
            self._take(data)
        else:  # `_take` for what is one slice: the usual read, and others have their turn before the next
            connection = self._connection
            connection.receive(data, wire.clock())
            wire.received += len(data)
            if wire.received > TURN_BYTES_MAX:
                wire.flush()
            if connection.paused:
                self._may_read()

    def _take(self, data: bytes) -> bool:
        """Take input in slices, up to this client's share of time; tell whether to read on."""
        connection = self._connection
        receive = connection.receive if self._input is None else self._input.receive
        wire = self._wire
        traffic = wire.traffic
        if traffic is not None:
            traffic.begin()
        position, size = 0, len(data)
        now = wire.clock()
        while position < size and self._spent_s <= SHARE_S:
            # What an answer is awaited for goes on whole: the engine keeps it, within its bounds.
            after = size if connection.paused else min(position + self._slice, size)
            receive(data if after - position == size else data[position:after], now)
            wire.received += after - position
            position = after
            if wire.received > TURN_BYTES_MAX:
                wire.flush()
            began, now = now, wire.clock()
            self._spent_s += now - began
            self._slice = min(2 * self._slice, SLICE_MAX) if now - began < CHEAP_S else SLICE_MIN
        held_s = traffic.end(connection, now) if traffic is not None else 0.0
        if held_s or self._spent_s > SHARE_S:
            self._rest = data[position:]
            self.pause_reading()
            wire.loop.call_later(held_s, self._go_on) if held_s else wire.loop.call_soon(self._go_on)
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
        self._listener.leave(self._address or "")
        self._wire.remove(self, connection)
        connection.lost(self._wire.clock())
        self._wire.on_closed(connection)

    def close(self) -> None:
        """End the connection once everything is written."""
        self.transport.close()

    def finish(self) -> None:
        """End the connection with its last words: closing on what a client still sends could take them away."""
        transport = self.transport
        if not transport.can_write_eof():
            transport.close()
        elif not transport.is_closing():
            try:
                transport.write_eof()
            except OSError:  # the client is gone already, and asyncio has not noticed yet
                transport.abort()
            else:
                transport.resume_reading()

    def linger(self) -> None:
        """End the connection from our side: what a client still sends is dropped for a moment, and it reads why."""
        if not self.transport.is_closing():
            self._rest = None  # of what it has sent before
            self.finish()
            self._wire.linger(self)

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

    def write(self, chunks: Sequence[Chunk], written: int = 0) -> None:
        """Leave `chunks`, of which the first `written` bytes are written, to the transport behind what it has to write.

        The large ones stay the same bytes for all who wait for them.
        """
        transport = self.transport
        if transport.is_closing():
            return
        rest = rest_of(chunks, written)
        if self._blocked is None:
            self.descriptor = -1
            self._blocked = self._wire.blocked[self] = Blocked(self._wire.clock())
        self._blocked.given += sum(map(len, rest))
        transport.writelines(rest)

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
