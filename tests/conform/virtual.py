"""The kit in virtual time: its coroutines on a loop with a `World`'s clock, its links at the edge of that server."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.hooks import Decision
from mesimqtt.messaging import operations
from mesimqtt.proof.conform.people import Made
from mesimqtt.proof.conform.runner import run
from mesimqtt.proof.conform.stage import Options, Venue
from mesimqtt.testing.peer import Peer
from mesimqtt.testing.world import TokenGate, World

if TYPE_CHECKING:
    from pathlib import Path

    from mesimqtt.proof.conform.runner import Result

FREE = "free"
CAP = 60
TICK_S = 0.25


class Selector(selectors.SelectSelector):
    """Waits for nothing: where the loop would sleep, the world's time passes."""

    hall: Hall

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            self.hall.rest(timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock is the world's."""

    def __init__(self, hall: Hall) -> None:
        selector = Selector()
        selector.hall = hall
        self.hall = hall
        super().__init__(selector)

    def time(self) -> float:
        return self.hall.now()


class ClosedGate(TokenGate):
    """Lets in who has a token; free topics are closed but for those that begin with `free/`."""

    def decide(self, connection, action, topic):
        shared = topic.removeprefix("$share/").partition("/")[2] if topic.startswith("$share/") else topic
        return Decision(allow=shared.startswith(f"{FREE}/"), rule="closed")


class Hall(World):
    """A world that the kit's coroutines drive: it goes on whenever all of them wait."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.issued: dict[str, str] = {}  # the newest token of each user
        super().__init__(folder, **sections)
        self._asyncio.close()
        self._asyncio = Loop(self)

    def open(self) -> None:
        super().open()
        self.engine.gate = ClosedGate(self.messaging)

    def rest(self, timeout: float | None) -> None:
        """Let the server do what it can; if that wakes nobody, let time pass."""
        self.turn()
        if self._asyncio._ready:
            return
        assert timeout is not None, "everybody waits for nothing"
        self.advance(min(timeout, TICK_S))

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Do an operation, as the operator."""
        answer = await operations.perform(self.messaging, op, arguments)
        self.issued.update({each["address"]: each["token"] for each in answer.get("tokens", []) if op == "token_issue"})
        return answer

    async def dial(self) -> WorldLink:
        """Open a connection."""
        return self.open_link()

    def open_link(self) -> WorldLink:
        """Open a connection, without a coroutine."""
        peer = WorldLink(self, "", "", self.engine.open("192.0.2.1", "default", self.now()))
        self.peers.append(peer)
        return peer

    async def kill(self) -> None:
        """Kill the server and start it again."""
        for peer in self.peers:
            peer.ended()
        self.restart()

    def play(self, *only: str, broken: Any = None, longest_s: float = 4.0, **options: Any) -> list[Result]:
        """Run the kit against this server, or a broken one in its place."""
        played = broken or self
        venue = Venue(
            played.dial,
            Made(played, at_once=500),
            Options(free=FREE, only=only, longest_s=longest_s, **options),
            websocket=getattr(broken, "websocket", None),
            restart=self.kill,
            now_ms=self.now_ms,
        )
        return self._asyncio.run_until_complete(run(venue))


class WorldLink(Peer):
    """The kit's end of a connection: bytes, as a socket would have them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._data = bytearray()
        self._bell = asyncio.Event()
        self._is_ended = False

    def write(self, data: bytes) -> None:
        if not self._is_ended and not self.is_closed:
            self.connection.receive(data, self.world.now())

    async def read(self) -> bytes:
        while not self._data and not self._is_ended:
            self._bell.clear()
            await self._bell.wait()
        data = bytes(self._data)
        self._data.clear()
        return data

    def close(self) -> None:
        if self in self.world.peers and not self._is_ended:
            self.ended()
            self.world.peers.remove(self)
            self.connection.lost(self.world.now())

    def ended(self) -> None:
        self._is_ended = True
        self._bell.set()

    def exchange(self) -> bool:
        out = self.connection.out
        if not out and not self.connection.closing:
            return False
        data = b"".join(out)
        out.clear()
        if self.connection in self.world.engine.dirty:
            self.world.engine.dirty.remove(self.connection)
        self._data += data
        if self.connection.closing and not self._is_ended:
            self.close()
            return True
        if data:
            self._bell.set()
        return bool(data)

    def slip(self, data: bytes) -> None:
        """Add bytes to what the server has sent."""
        self._data += data
        self._bell.set()

    def read_out(self) -> list[Any]:
        self.exchange()
        return []


__all__ = ["CAP", "Hall", "MesimqttError", "WorldLink"]
