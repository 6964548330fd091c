"""The server of a simulation: the real store, messaging, engine and wire, started, stopped and killed in one run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mesimqtt.app import TICK_S
from mesimqtt.broker.drain import Drain
from mesimqtt.broker.protocol import Listener
from mesimqtt.broker.wire import Wire
from mesimqtt.messaging import operations
from mesimqtt.messaging.messaging import Messaging
from mesimqtt.proof.sim.disk import Disk, DiskRunner
from mesimqtt.record.outside import Clock
from mesimqtt.store.database import Database
from mesimqtt.store.store import Store
from mesimqtt.testing.faults import FaultyDatabase
from mesimqtt.testing.world import SECRET, make_engine
from mesimqtt.tokens import TokenSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from random import Random

    from mesimqtt.domain.chance import Chance
    from mesimqtt.proof.sim.loop import VirtualLoop
    from mesimqtt.settings import Settings

_IDLE_TICK_S = 1.0  # while nothing happens nobody notices that ticks are rarer


class Process:
    """What a server asks of the loop. When its process is dead nothing of it runs any more."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.is_alive = True
        self.tasks: set[asyncio.Task[Any]] = set()

    def call_soon(self, call: Callable[..., object], *args: object) -> object:
        """Run `call` in this turn of the loop, after what is there already."""
        return self.loop.call_soon(self._run, call, args)

    call_soon_threadsafe = call_soon

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> object:
        """Run `call` after a while."""
        return self.loop.call_later(delay_s, self._run, call, args)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine until its end or the process'."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _run(self, call: Callable[..., object], args: tuple[object, ...]) -> None:
        if self.is_alive:
            call(*args)


class Server:
    """A server on a folder. `listener` is None while it does not run."""

    def __init__(
        self, folder: Path, settings: Settings, *, loop: VirtualLoop, random: Random, chance: Chance,
        wall_s: Callable[[], float],
    ) -> None:  # fmt: skip
        self.folder = folder
        self.settings = settings
        self.loop = loop
        self.chance = chance
        self.disk = Disk()
        self.listener: Listener | None = None
        self.on_fatal: Callable[[str], None] = _ignore
        self._random = random
        self._wall_s = wall_s
        self._runners: list[DiskRunner] = []
        self._commit_code = 0

    # ---- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start on what the store kept, with nothing in memory."""
        self._process = process = Process(self.loop)
        self._clock = Clock(wall_s=self._wall_s, monotonic_s=self.loop.time)
        self._runners = []
        self.store = self.open_store()
        self.messaging = Messaging(
            self.settings, self.store, TokenSigner(SECRET, issuer=self.settings.tokens.issuer),
            now=self.loop.time, now_ms=self._clock.now_ms, spawn=process.spawn, chance=self.chance,
        )  # fmt: skip
        self.engine = make_engine(self.messaging)
        self.wire = Wire(self.engine, self.settings.limits, process, self.loop.time)  # type: ignore[arg-type] # all it asks
        self.engine.wake = self.wire.wake
        self.listener = Listener("default", self.wire, connections_max=0, is_plain=False)
        self._posted = -1
        self._tick()

    def open_store(self) -> Store:
        """Open the store; a power cut's has another database."""
        process: Any = self._process
        self.database = FaultyDatabase(self.make_database())
        self.database.code = self._commit_code
        database: Any = self.database
        store = Store(
            self.folder, self.settings.store, loop=process, now=self.loop.time, now_ms=self._clock.now_ms,
            on_fatal=self._fatal, database=database, make_runner=self._make_runner,
        )  # fmt: skip
        store.read.execute("PRAGMA synchronous = OFF")  # what survives here survives in the same process
        return store

    def make_database(self) -> Database:
        """Return the database of the next start."""
        return Database(self.folder)

    def kill(self) -> None:
        """Die at once: memory is gone, and what was not committed."""
        process = self._process
        self.listener = None
        process.is_alive = False
        for runner in self._runners:
            runner.kill()
        for task in list(process.tasks):
            task.cancel()
        self.store.abandon()

    async def stop(self) -> None:
        """Stop in good order, as `mesimqtt serve` does at SIGTERM."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        drain = Drain(self.wire, self.settings.drain, clock=self.loop.time, chance=self.chance)
        drain.begin()
        self.messaging.close()
        await drain.let_go()
        self.wire.stop_reading()
        await asyncio.wait([self.loop.create_task(self.store.committer.drain())], timeout=min(1.0, drain.left_s))
        self.engine.goodbye([connection for connection in self.wire.protocols if connection.is_open])
        await self.wire.close(drain.left_s)
        if self._process.is_alive:
            await self.store.close()
            self._process.is_alive = False
            for task in list(self._process.tasks):
                task.cancel()

    @property
    def is_running(self) -> bool:
        """Tell whether anybody can connect."""
        return self.listener is not None

    @property
    def tasks(self) -> int:
        """How many coroutines of the server are not at their end."""
        return len(self._process.tasks)

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - the operation's
        """Do an operation as the operator. Raises OperationError, or CancelledError where the server dies meanwhile."""
        task = self._process.spawn(operations.perform(self.messaging, op, arguments))
        answer: dict[str, Any] = await task
        return answer

    def fail_commits(self, code: int) -> None:
        """Let every COMMIT fail with an SQLite error code; 0: no more."""
        self._commit_code = self.database.code = code

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _make_runner(self, _name: str) -> DiskRunner:
        runner = DiskRunner(self.loop, self._random, self.disk)
        self._runners.append(runner)
        return runner

    def _fatal(self, reason: str) -> None:
        self.loop.post(0, lambda: self.on_fatal(reason))

    def _tick(self) -> None:
        """Do what the tickers of the broker and of the application do."""
        is_idle, self._posted = self._posted == self.loop.posted, self.loop.posted
        self._process.call_later(_IDLE_TICK_S if is_idle else TICK_S, self._tick)
        now = self.loop.time()
        self.engine.tick(now)
        self.wire.tick(now)
        self.messaging.tick(now)
        self.wire.wake()


def _ignore(_reason: str) -> None:
    """Do nothing: a server that nobody restarts."""
