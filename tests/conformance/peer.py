"""A client that speaks bytes, and the worlds it plays in: the bare engine in virtual time, or a broker behind TCP.

A test asks for the fixture `world` (conftest.py) and never sees which one it got:

    peer = world.connected("c")            # CONNECT, and CONNACK 20 02 00 00 taken
    peer.send(publish("a", b"x", qos=1))
    peer.expect(puback(1))                 # exactly these bytes are next
    peer.expect_closed()                   # nothing more, and the server closed

At the end of a test nothing that the server sent may be left unread. Every test runs on the engine, once with
sessions in memory and (unless `stateless`) once with a store that commits at once; one marked `sockets` also over
TCP, one marked `disk` over TCP with a real store; `world.pass_time` does not exist there.
`@pytest.mark.limits(topic_max=65535)` changes limits for one test.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from conformance.wire311 import (
    CONNECTED,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    RESUMED,
    connect,
    packet_id_of,
    publish,
    suback,
    subscribe,
)
from integration.raw_client import settings_of
from integration.server import wait_until
from mesimqtt.app import running
from mesimqtt.broker.broker import Broker
from mesimqtt.broker.loop import loop_factory
from mesimqtt.settings import Http
from unit.engine.both_ends import Network
from unit.engine.fake_keeper import FakeKeeper

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

DEADLINE_S = 60.0


def shown(raw: bytes) -> str:
    """Show bytes in a message: hex, in full only if they are few."""
    return raw.hex(" ") if len(raw) <= 64 else f"{raw[:48].hex(' ')} … ({len(raw)} bytes)"


class Wire(Protocol):
    """How bytes reach the server and come back."""

    @property
    def is_closed(self) -> bool:
        """Tell whether the server has closed; over a socket this is known once `read` returned b''."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the server."""

    def read(self) -> bytes:
        """Return some bytes, waiting for them over a socket; b'' if there are none."""

    def cut(self) -> None:
        """Break the network connection."""


class EngineWire:
    """Straight into the engine: whatever is sent has been answered when `write` returns."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.connection = network.engine.open("192.0.2.1", "default", network.now)

    @property
    def is_closed(self) -> bool:
        return self.connection.closing

    def write(self, data: bytes) -> None:
        self.connection.receive(data, self._network.now)

    def read(self) -> bytes:
        data = b"".join(self.connection.out)
        self.connection.out.clear()
        if self.connection in self._network.engine.dirty:
            self._network.engine.dirty.remove(self.connection)
        return data

    def cut(self) -> None:
        self.connection.lost(self._network.now)


class SocketWire:
    """A blocking TCP socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_closed = False

    def write(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # what the server said before it closed is still to be read
            self._socket.sendall(data)

    def read(self) -> bytes:
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return b""
        except ConnectionError:
            data = b""
        self.is_closed = not data
        return data

    def cut(self) -> None:
        self._socket.close()


class Peer:
    """One connection, as its client sees it."""

    def __init__(self, wire: Wire, world: World) -> None:
        self.wire = wire
        self.is_entered = False  # the server has sent a CONNACK that accepts
        self.is_over = False
        self._world = world
        self._unread = b""

    @property
    def has_unread(self) -> bool:
        """Tell whether something that came was not yet expected or taken."""
        return bool(self._unread)

    def send(self, *packets: bytes) -> Self:
        """Send packets as one segment."""
        self.wire.write(b"".join(packets))
        return self

    def dribble(self, *packets: bytes) -> Self:
        """Send packets byte by byte."""
        for byte in b"".join(packets):
            self.wire.write(bytes([byte]))
        return self

    def expect(self, *packets: bytes) -> Self:
        """Assert that exactly these bytes are next; more may follow them."""
        wanted = b"".join(packets)
        got = self._take(len(wanted))
        self.is_over |= wanted != got  # what failed once is not looked at again when the test ends
        self.is_entered |= got[:1] == b"\x20" and got[3:4] == b"\0"

        assert wanted == got, f"expected {shown(wanted)}, got {shown(got)}"
        return self

    def expect_publish(self, topic: str | bytes, payload: bytes = b"", *, qos: int, **flags: bool) -> int:
        """Assert that a 3.1.1 PUBLISH at QoS 1 or 2 is next, byte for byte but for its packet id, and return that."""
        got = self.take()
        packet_id = packet_id_of(got)
        wanted = publish(topic, payload, qos=qos, packet_id=packet_id, **flags)
        self.is_over |= wanted != got

        assert wanted == got, f"expected {shown(wanted)}, got {shown(got)}"
        assert packet_id > 0
        return packet_id

    def expect_any_order(self, *packets: bytes) -> Self:
        """Assert that exactly these packets are next, in whatever order."""
        got = [self.take() for _ in packets]
        self.is_over |= sorted(packets) != sorted(got)

        assert sorted(packets) == sorted(got), f"got {[shown(one) for one in got]}"
        return self

    def expect_nothing(self) -> Self:
        """Assert that nothing is unread, wherever it was on its way, and that the connection still works."""
        self._world.settle()

        assert b"" == self._unread, f"unread: {shown(self._unread)}"
        return self.send(PINGREQ).expect(PINGRESP)

    def expect_nothing_yet(self) -> Self:
        """Assert that nothing is unread while a packet is only half sent; in the engine's world alone."""
        got = self._unread + self.wire.read()

        assert b"" == got, f"unread: {shown(got)}"
        assert not self.wire.is_closed
        return self

    def expect_closed(self, *packets: bytes) -> Self:
        """Assert that the server sent exactly these bytes, and closed."""
        self.expect(*packets)
        self.is_over = True

        rest = self._unread + self.wire.read()
        assert b"" == rest, f"unread: {shown(rest)}"
        assert self.wire.is_closed, "the server did not close"
        return self

    def take(self) -> bytes:
        """Return the next packet whole, where a test cannot know all of its bytes."""
        head = self._take(2)

        assert len(head) == 2, "the server sent nothing"
        while head[-1] & 0x80:
            head += self._take(1)
        size = sum((byte & 127) << 7 * place for place, byte in enumerate(head[1:]))
        return head + self._take(size)

    def cut(self) -> None:
        """Break the network connection, without DISCONNECT; the server has noticed when this returns."""
        self.is_over = True
        self.wire.cut()
        self._world.wait_for_ends()

    def leave(self) -> None:
        """Send DISCONNECT; the server closes without an answer."""
        self.send(DISCONNECT).expect_closed()
        self.wire.cut()

    def gather(self) -> None:
        """Wait for a PINGRESP and keep what came before it unread: the server has processed all that was sent."""
        self.send(PINGREQ)
        before = b""
        while (packet_ := self.take()) != PINGRESP:
            before += packet_
        self._unread = before + self._unread

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size and (more := self.wire.read()):
            self._unread += more
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken


class World:
    """Where a test plays; what all worlds have in common."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []

    def open(self) -> Peer:
        """Open a connection that has said nothing yet."""
        peer = Peer(self._wire(), self)
        self._peers.append(peer)
        return peer

    def entered(self, greeting: bytes, answer: bytes = CONNECTED) -> Peer:
        """Open a connection, send this CONNECT, whatever its version, and expect this CONNACK."""
        return self.open().send(greeting).expect(answer)

    def connected(self, client_id: str | bytes = "c", *, resumed: bool = False, **options: Any) -> Peer:
        """Open a connection and connect with 3.1.1; `resumed` is the Session Present expected."""
        return self.entered(connect(client_id, **options), RESUMED if resumed else CONNECTED)

    def subscribed(self, *filters: tuple[str | bytes, int], client_id: str = "s", **options: Any) -> Peer:
        """Connect with 3.1.1 and subscribe; every QoS asked for must be granted."""
        peer = self.connected(client_id, **options)
        return peer.send(subscribe(*filters)).expect(suback(*(qos for _, qos in filters)))

    def settle(self) -> None:
        """Wait until all that any peer has sent is processed."""

    def wait_for_ends(self) -> None:
        """Wait until the server has noticed every connection that a peer has cut."""

    def finish(self) -> None:
        """Assert that nothing is left unread, and cut every connection."""
        try:
            for peer in self._peers:
                if peer.is_entered and not peer.is_over:
                    peer.expect_nothing()
        finally:
            for peer in self._peers:
                peer.wire.cut()

    def _wire(self) -> Wire:
        raise NotImplementedError


class EngineWorld(World):
    """The engine without I/O; `network` is its gate (who may do what), its limits and its clock."""

    def __init__(self, *, is_stored: bool = False, **limits: Any) -> None:
        super().__init__()
        self.keeper = FakeKeeper() if is_stored else None
        if self.keeper is not None:
            self.keeper.is_instant = True
        self.network = Network(keeper=self.keeper, **limits)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with the ticks that belong to it."""
        self.network.pass_time(seconds)

    def settle(self) -> None:
        """Commit what no answer waits for, as a store does soon by itself."""
        if self.keeper is not None:
            self.keeper.commit()

    def _wire(self) -> Wire:
        return EngineWire(self.network)


class LoopThread:
    """An event loop in a thread: brokers run in it while tests block on their sockets."""

    def __init__(self) -> None:
        self.loop = loop_factory()()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def close(self) -> None:
        """Stop the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


class SocketWorld(World):
    """A broker of its own, on a free port, open to everybody, with sessions in memory."""

    listeners: ClassVar[dict[str, dict[str, Any]]] = {}  # besides plain TCP

    def __init__(self, thread: LoopThread, **limits: Any) -> None:
        super().__init__()
        self._thread = thread
        self.broker: Broker = thread.run(self._started(**limits))
        self.port = next(port for name, _, port in self.broker.bound if name == "default")

    def settle(self) -> None:
        for peer in self._peers:
            if peer.is_entered and not peer.is_over:
                peer.gather()

    def wait_for_ends(self) -> None:
        connected = sum(1 for peer in self._peers if peer.is_entered and not peer.is_over)
        counters = self.broker.engine.counters
        wait_until(lambda: counters.connected <= connected, what="the server notices that a client is gone")

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._thread.run(self._ended())

    def _wire(self) -> Wire:
        return SocketWire(self.port)

    async def _started(self, **limits: Any) -> Broker:
        settings = settings_of(**limits)
        settings.broker["listeners"].update(self.listeners)
        broker = Broker(settings)
        await broker.start()
        return broker

    async def _ended(self) -> None:
        await self.broker.shutdown()


class DiskWorld(SocketWorld):
    """The whole server in a folder of its own: sessions are on disk, and answers wait for commits."""

    def __init__(self, thread: LoopThread, data: Path, **limits: Any) -> None:
        self._data = data
        self._stack = AsyncExitStack()
        super().__init__(thread, **limits)

    async def _started(self, **limits: Any) -> Broker:
        app = await self._stack.enter_async_context(
            running(replace(settings_of(**limits), http=Http(bind="off")), self._data)
        )
        assert app.broker is not None
        return app.broker

    async def _ended(self) -> None:
        await self._stack.aclose()
