"""Two servers on one data folder: one serves, the other refuses with exit code 2, whoever was first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.testing.process import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

ERA: Final = 10
MESSAGES: Final = 300
END_S: Final = 15.0  # it waits 5 s for a command that has the folder for a moment
EXIT: Final = 2
SENTENCE: Final = "is in use by another mesimqtt server"


class SecondServer:
    """Two servers on one folder as a trial."""

    name = "second-server"
    title = "a second server on a data folder, later or at the same moment: one serves, the other ends with exit code 2"
    promises = ("P1",)
    unit = "pairs"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Start `count` pairs, half of them at the same moment."""
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Start `count` pairs on one folder."""

    async def story(stage: Stage) -> None:
        for number in range(count):
            if number % 2:
                await asyncio.to_thread(stage.server.kill)
                await stage.cast.lost()
                await _race(stage)
            else:
                await _come_late(stage)
            done()

    return play(Stage(seed, folder), story)


async def _come_late(stage: Stage) -> None:
    """Start a second server under the first one's load."""
    if not stage.server.is_running:
        await stage.start()
    await stage.cast.come(stage.server.port, MESSAGES)
    second = stage.another()
    await asyncio.to_thread(second.begin)
    _check_refused(stage, second, await asyncio.to_thread(second.wait, END_S))
    if lost := [str(one.device) for one in stage.cast.senders if one.lost.is_set()]:
        stage.complain(f"the second server cost the first one its clients: {lost}")


async def _race(stage: Stage) -> None:
    """Start two servers at the same moment."""
    pair = [stage.another(), stage.another()]
    await asyncio.gather(*(asyncio.to_thread(one.begin) for one in pair))
    ready = await asyncio.gather(*(asyncio.to_thread(_is_ready, one) for one in pair))
    if sum(ready) != 1:
        stage.complain(f"{sum(ready)} of two servers serve one folder")
    for one, is_ready in zip(pair, ready, strict=True):
        if is_ready:
            await stage.cast.come(one.port, MESSAGES)
            await asyncio.to_thread(one.kill)
            await stage.cast.lost()
        else:
            _check_refused(stage, one, await asyncio.to_thread(one.wait, END_S))


def _is_ready(server: Server) -> bool:
    try:
        server.wait_ready()
    except ServerError:
        return False
    return True


def _check_refused(stage: Stage, server: Server, code: int) -> None:
    if code != EXIT or SENTENCE not in server.printed:
        stage.complain(f"a second server ended with {code}: {server.printed}")
