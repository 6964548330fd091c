"""The wall clock steps by a day, under a running server and between two: nobody is cut off, nothing is lost (P13)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.proof.trial import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

ERA: Final = 4
MESSAGES: Final = 300
LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")
STEPS: Final = ("-1d", "+1d", "-1h", "+1h", "+0")
SETTLE_S: Final = 1.0


class Clock:
    """A stepping clock, by libfaketime, as a trial."""

    name = "clock"
    title = "the wall clock steps by a day under load, and again before a restart: nobody is cut off, nothing is lost"
    promises = ("P13",)
    unit = "steps"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Step the clock `count` times. Skipped where there is no libfaketime: it cannot be done honestly otherwise."""
        if not library():
            return Outcome(0, "", skipped="another time for one process needs libfaketime: apt-get install faketime")
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def library() -> str:
    """Return where libfaketime is, '' where it is not installed."""
    root = Path("/")
    found = [path for pattern in LIBRARIES for path in root.glob(pattern.removeprefix("/"))]
    return str(found[0]) if found else ""


class Now:
    """The server's wall clock: what libfaketime reads at each look at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step("+0")

    def step(self, offset: str) -> None:
        """Let it be so far from the machine's; in one piece, as it may be read at any moment."""
        self.offset = offset
        new = self.path.with_suffix(".new")
        new.write_text(offset, encoding="ascii")
        new.replace(self.path)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Step one server's clock `count` times, and kill it at every second one."""
    now = Now(folder / "now")
    wrapper = (
        "env",
        f"LD_PRELOAD={library()}",
        f"FAKETIME_TIMESTAMP_FILE={now.path}",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )
    stage = Stage(seed, folder, wrapper=wrapper)

    async def story(stage: Stage) -> None:
        await stage.cast.come(stage.server.port, MESSAGES, away=0)
        for number in range(count):
            await _step(stage, now)
            if number % 2:
                await asyncio.to_thread(stage.server.kill)
                await stage.cast.lost()
                now.step(stage.chance.choice(STEPS))
                await stage.start()
                await asyncio.to_thread(stage.cast.take_new_tokens, stage.server)
                await stage.cast.come(stage.server.port, MESSAGES, away=0)
            done()

    return play(stage, story)


async def _step(stage: Stage, now: Now) -> None:
    connections = {one: one.connection for one in stage.cast.everybody}
    now.step(stage.chance.choice(STEPS))
    stage.cast.go_on(MESSAGES)
    await asyncio.sleep(SETTLE_S)
    for one, connection in connections.items():
        if one.lost.is_set() or one.connection != connection:
            stage.complain(f"cut off: {one.device}, when the clock stepped to {now.offset}")
    await stage.cast.complete()
