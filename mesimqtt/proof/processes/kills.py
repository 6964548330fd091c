"""kill -9 at any moment, again and again: what was accepted is delivered, once, in order, with its verdict (P1)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.broker.loop import loop_factory
from mesimqtt.proof.processes.cast import Cast, quiet
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.testing.nursery import Nursery
from mesimqtt.testing.process import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

ERA: Final = 25  # kills of one data folder: then all is read back, and the next seed begins with an empty one
FRESH_EVERY: Final = 25  # starts, of which one is by a new interpreter: the others are forked from one that waits
LOAD_S: Final = 0.3
START_S: Final = 0.15
GREETING_S: Final = 0.08
STOP_S: Final = 0.12
MESSAGES: Final = 1_500  # of each sender and round, at most

# When the server is killed -> how often, of ten
_MOMENTS: Final = {"load": 6, "greeting": 1, "start": 2, "stop": 1}


class Kills:
    """The kill loop as a trial."""

    name = "kills"
    title = "kill -9 at any moment of start, load and stop: all that was accepted is delivered, once and in order"
    promises = ("P1",)
    unit = "kills"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Kill servers `count` times, `ERA` times each data folder, on all cores."""
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Kill one server `count` times, then read everything back."""
    with Nursery() as nursery:
        loop = _KillLoop(seed, folder, nursery, done)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(loop.run(count))


class _KillLoop:
    def __init__(self, seed: int, folder: Path, nursery: Nursery, done: Callable[[], None]) -> None:
        self._chance = random.Random(seed)
        self._folder = folder
        self._nursery = nursery
        self._done = done
        self._starts = 0
        self._figures: dict[str, float] = {}

    async def run(self, count: int) -> Era:
        config = quiet(self._folder)
        self._forked = Server(self._folder / "data", config=config, nursery=self._nursery)
        self._fresh = Server(self._folder / "data", config=config)
        cast = await asyncio.to_thread(Cast.made, self._forked, self._chance)
        try:
            server = await self._started()
            await cast.settle(server.port)
            await asyncio.to_thread(server.stop)
            for _ in range(count):
                await self._kill(cast)
                self._done()
            server = await self._started()
            began = time.monotonic()
            await cast.read_back(server.port)
            self._figures["read_back_max_s"] = time.monotonic() - began
            if code := await asyncio.to_thread(server.stop):
                cast.ledger.complaints.append(f"the last stop ended with {code}: {server.printed}")
        except (ServerError, OSError) as error:
            cast.ledger.complaints.append(f"stuck: {type(error).__name__}: {error}")
        finally:
            await cast.close()
            for server in (self._forked, self._fresh):
                server.kill()
        self._figures["messages"] = len(cast.ledger.accepted)
        return Era(cast.check(self._folder / "data"), self._figures)

    async def _kill(self, cast: Cast) -> None:
        moment = self._chance.choices(list(_MOMENTS), list(_MOMENTS.values()))[0]
        if moment == "start":
            server = self._next()
            await asyncio.to_thread(server.begin)
            await asyncio.sleep(self._chance.uniform(0, START_S if server is self._forked else START_S * 4))
        else:
            server = await self._started()
            coming = asyncio.ensure_future(cast.come(server.port, MESSAGES))
            if moment == "greeting":  # while everybody comes back and is given what has waited
                await asyncio.sleep(self._chance.uniform(0, GREETING_S))
            else:
                await coming
                await asyncio.sleep(self._chance.uniform(0, LOAD_S))
            if moment == "stop":
                server.send_signal(signal.SIGTERM)
                await asyncio.sleep(self._chance.uniform(0, STOP_S))
        await asyncio.to_thread(server.kill)
        if moment != "start":
            with contextlib.suppress(LinkError, OSError):
                await coming
        await cast.lost()
        self._count(moment)

    async def _started(self) -> Server:
        server = self._next()
        began = time.monotonic()
        await asyncio.to_thread(server.start)
        self._figures["start_max_s"] = max(self._figures.get("start_max_s", 0), time.monotonic() - began)
        return server

    def _next(self) -> Server:
        self._starts += 1
        return self._fresh if self._starts % FRESH_EVERY == 1 else self._forked

    def _count(self, moment: str) -> None:
        self._figures[f"kills_at_{moment}"] = self._figures.get(f"kills_at_{moment}", 0) + 1
