"""The world of a replay: time, chance and answers are those of the recording, and nothing else is asked."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mesimqtt.broker.unbound import UnboundListeners
from mesimqtt.domain.chance import Chance
from mesimqtt.record.outside import Outside
from mesimqtt.record.runners import NAMES, SEARCH, Pin, ReplayedRunner
from mesimqtt.record.tape import Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

    from mesimqtt.broker.wire import Wire
    from mesimqtt.record.core import Core
    from mesimqtt.record.outside import Perform
    from mesimqtt.settings import Settings
    from mesimqtt.store.store import Store

    Fact = Callable[[Kind], tuple[Any, ...]]

T = TypeVar("T")


class Replayed(Chance):
    """The draws of a recording."""

    def __init__(self, fact: Fact, job: threading.local) -> None:
        self._fact = fact
        self._job = job

    def draw(self, size: int) -> bytes:
        """Return what was drawn then, here or in a job."""
        drawn: Iterator[bytes] | None = getattr(self._job, "drawn", None)
        data: bytes = next(drawn, b"") if drawn is not None else self._fact(Kind.DREW)[0]
        return data if len(data) == size else bytes(size)


class ReplayedWorld(Outside):
    """The world as a recording says it was. `fact` gives what the server looked up then, in its order."""

    def __init__(self, core: Core, *, anchor_us: int, fact: Fact, tls_names: frozenset[str] = frozenset()) -> None:
        self.core = core
        self.pin = Pin()
        self.job = threading.local()
        self.now = lambda: self._now_us() / 1_000_000
        self.now_ms = lambda: (anchor_us + self._now_us()) // 1000
        self.wall_s = lambda: (anchor_us + self._now_us()) / 1_000_000
        self.chance = Replayed(fact, self.job)
        self.make_runner = self._make_runner
        self.runners: dict[int, ReplayedRunner] = {}
        self._tls_names = tls_names
        self.listeners: UnboundListeners | None = None
        self.make_listeners = self._make_listeners
        self.perform: Perform | None = None
        self.questions: dict[int, asyncio.Future[Any]] = {}
        self._fact = fact
        self._asked = 0
        self._store: Store | None = None

    def _now_us(self) -> int:
        frozen: int | None = getattr(self.job, "at", None)
        return self.core.now_us if frozen is None else frozen

    @property
    def job_us(self) -> int:
        """Return what time it is for what is submitted to a thread now."""
        return self.core.now_us

    def _make_runner(self, name: str) -> ReplayedRunner:
        runner = self.runners[NAMES.index(name)] = ReplayedRunner(self, name)
        return runner

    def _make_listeners(self, wire: Wire, settings: Settings, outside: Outside) -> UnboundListeners:
        self.listeners = UnboundListeners(wire, settings, outside, tls_names=self._tls_names)
        return self.listeners

    def opened(self, store: Store) -> None:
        """Take note of the open store."""
        self._store = store
        self.pin.connection = store.read
        store.where = self.see(str)
        store.size = lambda: self.see(int)

    def close(self) -> None:
        """Let go of the data; nothing more is committed."""
        store, self._store = self._store, None
        if store is None:
            return
        for number, runner in sorted(self.runners.items(), reverse=True):
            runner.close(partial(store.close_thread, has_index=NAMES[number] == SEARCH))
        store.abandon()

    def see(self, look: Callable[[], T]) -> T:  # noqa: ARG002 - what was seen then counts
        """Return what was seen then."""
        return cast("T", self._fact(Kind.SAW)[0])

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - what was answered then counts
        """Wait for what was answered then."""
        self._asked += 1
        answered: asyncio.Future[T] = self.core.create_future()
        self.questions[self._asked] = answered
        return await answered

    def operation(self, perform: Perform) -> Perform:
        """Keep what performs operations: those of the recording are called in."""
        self.perform = perform
        return perform

    def apart(self, call: Callable[[], None]) -> None:
        """Do nothing: there are no sockets."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the core: there are no sockets to watch."""
        return self.core
