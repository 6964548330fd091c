"""SIGTERM under load: the server ends in good order and in time, and nothing is lost or doubled by it (P10)."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import Bystander, Device
from mesimqtt.proof.processes.stage import Stage, play

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

ERA: Final = 20  # stops of one data folder
MESSAGES: Final = 1_500
LOAD_S: Final = 0.3
END_S: Final = 3.0
CROWD: Final = 20  # who is connected and says nothing
CROWD_LARGE: Final = 1_000  # in the first stop of each folder
LARGE_FROM: Final = 5  # stops: fewer, as in the suite, are not for a thousand clients


class Drains:
    """SIGTERM as a trial."""

    name = "drains"
    title = (
        "stops by SIGTERM under load, with a crowd and a reader who does not read: exit code 0 in 3 s, nothing is lost"
    )
    promises = ("P10", "P1")
    unit = "stops"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Stop servers `count` times, `ERA` times each data folder, on all cores."""
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Stop one server `count` times, then read everything back."""

    async def story(stage: Stage) -> None:
        for number in range(count):
            await _stop(stage, CROWD_LARGE if number == 0 and count >= LARGE_FROM else CROWD)
            done()

    return play(Stage(seed, folder), story)


async def _stop(stage: Stage, size: int) -> None:
    cast = stage.cast
    server = stage.server if stage.server.is_running else await stage.start()
    crowd = [Bystander(Device("r1", f"crowd-{number}", cast.tokens["r1"])) for number in range(size)]
    for first in range(0, size, 50):
        await asyncio.gather(*(one.connect(server.port) for one in crowd[first : first + 50]))
    await cast.come(server.port, MESSAGES)
    slow = stage.chance.choice(cast.receivers)
    slow.hold(True)
    await asyncio.sleep(stage.chance.uniform(0, LOAD_S))
    allowed_s = stage.deadline(END_S)
    stage.worst("allowed_max_s", allowed_s)
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(server.wait, allowed_s)
    took = time.monotonic() - began
    stage.worst("stop_max_s", took)
    if code or took > allowed_s:
        stage.complain(f"SIGTERM: exit code {code} after {took:.2f} s, with {size} idle clients: {server.printed}")
    slow.hold(False)
    await cast.lost()
    await asyncio.gather(*(one.lost.wait() for one in crowd))
