"""kill -9 at any moment, again and again: what was accepted is delivered, once, in order, with its verdict (P1)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.proof.processes.stage import Stage, play

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

ERA: Final = 25  # kills of one data folder: then all is read back, and the next seed begins with an empty one
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

    async def story(stage: Stage) -> None:
        await asyncio.to_thread(stage.server.stop)
        for _ in range(count):
            await _kill(stage)
            done()

    return play(Stage(seed, folder), story)


async def _kill(stage: Stage) -> None:
    chance, cast = stage.chance, stage.cast
    moment = chance.choices(list(_MOMENTS), list(_MOMENTS.values()))[0]
    server = await stage.start(is_awaited=moment != "start")
    if moment == "start":
        await asyncio.sleep(chance.uniform(0, START_S))
        await asyncio.to_thread(server.kill)
    else:
        coming = asyncio.ensure_future(cast.come(server.port, MESSAGES))
        if moment == "greeting":  # while everybody comes back and is given what has waited
            await asyncio.sleep(chance.uniform(0, GREETING_S))
        else:
            await coming
            await asyncio.sleep(chance.uniform(0, LOAD_S))
        if moment == "stop":
            server.send_signal(signal.SIGTERM)
            await asyncio.sleep(chance.uniform(0, STOP_S))
        await asyncio.to_thread(server.kill)
        with contextlib.suppress(LinkError, OSError):
            await coming
        await cast.lost()
    stage.count(f"kills_at_{moment}")
