"""A third world for 5.0: the engine on the real store, whose process can end and begin again in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.peer import EngineWire, EngineWorld
from mesimqtt.settings import Store as StoreSettings
from mesimqtt.store.sessions import SessionKeeper
from mesimqtt.store.store import Store
from unit.engine.both_ends import Network
from unit.messaging.world import FakeLoop

if TYPE_CHECKING:
    from pathlib import Path

EPOCH_MS = 1_790_000_000_000


class DiskKeeper:
    """The real keeper on a real file. It commits when it is told to, which here is after every event."""

    def __init__(self, folder: Path, world: StoreWorld) -> None:
        self._folder = folder
        self._world = world
        self.open()

    def open(self) -> None:
        """Open the file."""
        self._loop = FakeLoop()
        self._store = Store(
            self._folder,
            StoreSettings(ballast_bytes=0),
            loop=self._loop,
            now=lambda: self._world.now,
            now_ms=lambda: EPOCH_MS + int(self._world.now * 1000),
            on_fatal=print,
            inline=True,
        )
        self._keeper = SessionKeeper(self._store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keeper, name)

    def run(self) -> None:
        """Commit what was given so far, and go on with what waits for it or for a page."""
        self._store.committer.wake()
        self._loop.run()

    def crash(self) -> list[Any]:
        """Forget what was not committed; return what a restarted server restores."""
        self.close()
        self.open()
        return list(self._keeper.restore())

    @property
    def retained(self) -> dict[str, Any]:
        """Return the retained messages by topic."""
        return {message.topic: message for message in self._keeper.restore_retained()}

    def close(self) -> None:
        """Close the file."""
        self._store._database.close()


class StoreWire(EngineWire):
    """Into the engine, and through every commit that follows."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self._network.keeper.run()

    def cut(self) -> None:
        super().cut()
        self._network.keeper.run()


class StoreWorld(EngineWorld):
    """The engine on the real store; `restart` ends the process without notice and begins another."""

    now = 1000.0  # until there is a network

    def __init__(self, folder: Path, **limits: Any) -> None:
        super().__init__()
        self.disk = DiskKeeper(folder, self)
        self.network = Network(keeper=self.disk, **limits)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for engine and store."""
        while seconds > 0:
            step = min(seconds, 1.0)
            self.network.pass_time(step)
            self.now = self.network.now
            self.disk.run()
            seconds -= step

    def restart(self) -> None:
        """End the process and begin another on the same file; every connection is gone."""
        self.network.restart()

    def _wire(self) -> StoreWire:
        return StoreWire(self.network)


class FakeStoreWorld(EngineWorld):
    """The same with a store in memory that commits at once."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        super().__init__(is_stored=True, **limits)

    def restart(self) -> None:
        """End the process and begin another."""
        self.settle()
        self.network.restart()
