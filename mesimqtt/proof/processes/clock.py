"""The wall clock steps by a day, under a running server and between two: nobody is cut off, nothing is lost (P13)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.proof.trial import Outcome

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

ERA: Final = 4
MESSAGES: Final = 300
LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")
STEPS: Final = {"-1d": -86_400, "+1d": 86_400, "-1h": -3_600, "+1h": 3_600, "+0": 0}  # seconds; all far apart
NEAR_S: Final = 600  # no two of them are so near to each other
LOADED_S: Final = 0.1  # under load when the clock steps
SETTLE_S: Final = 1.0
LOOK: Final = "import time; print(time.time(), time.monotonic(), flush=True)"
LOOKS: Final = f"{LOOK}; input(); {LOOK}"


class Clock:
    """A stepping clock, by libfaketime, as a trial."""

    name = "clock"
    title = "the wall clock steps by a day under load, and again before a restart: nobody is cut off, nothing is lost"
    promises = ("P13",)
    unit = "steps"

    def __init__(self, preload: str | None = None) -> None:
        self._preload = library() if preload is None else preload

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Step the clock `count` times. Skipped where there is no libfaketime: it cannot be done honestly otherwise."""
        if shutil.which("env") is None:
            return Outcome(0, "", skipped="another time for one process needs the command env: it is nowhere in PATH")
        if not self._preload:
            return Outcome(0, "", skipped="another time for one process needs libfaketime: apt-get install faketime")
        if not steps(self._preload, folder):
            return Outcome(0, "", skipped=f"the clock did not step: {self._preload} does nothing for {sys.executable}")
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def library() -> str:
    """Return where libfaketime is, '' where it is not installed."""
    root = Path("/")
    found = [path for pattern in LIBRARIES for path in root.glob(pattern.removeprefix("/"))]
    return str(found[0]) if found else ""


def wrapper(preload: str, now: Now) -> tuple[str, ...]:
    """Return what stands before a command so that its wall clock, and no other, is `now`."""
    return (
        "env",
        f"LD_PRELOAD={preload}",
        f"FAKETIME_TIMESTAMP_FILE={now.path}",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )


def steps(preload: str, folder: Path) -> bool:
    """Look whether a process notices a step while it runs: of its wall clock, and not of its monotonic one."""
    now = Now(folder / "look")
    command = [*wrapper(preload, now), sys.executable, "-S", "-c", LOOKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            return False
        before = process.stdout.readline()
        now.step("+1d")
        after, _ = process.communicate("\n")
    if process.returncode:
        return False
    wall, monotonic = (float(new) - float(old) for old, new in zip(before.split(), after.split(), strict=True))
    return abs(wall - STEPS["+1d"]) < NEAR_S and monotonic < NEAR_S


class Now:
    """The server's wall clock: what libfaketime reads at each look at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step("+0")
        self.started = self.offset  # what a server that runs goes by

    def step(self, offset: str) -> None:
        """Let it be so far from the machine's; in one piece, as it may be read at any moment."""
        self.offset = offset
        new = self.path.with_suffix(".new")
        new.write_text(offset, encoding="ascii")
        new.replace(self.path)

    def step_away(self, chance: random.Random) -> None:
        """Step to another offset than there is."""
        self.step(chance.choice([offset for offset in STEPS if offset != self.offset]))

    def is_in(self, statuses: Iterable[str]) -> bool:
        """Tell whether these statuses, which came just now, are of the clock as it was when the server started."""
        wanted = time.time() + STEPS[self.started]
        return all(abs(json.loads(each)["ts"] / 1000 - wanted) < NEAR_S for each in statuses)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Step one server's clock `count` times, and kill it at every second one."""
    now = Now(folder / "now")
    stage = Stage(seed, folder, wrapper=wrapper(library(), now))

    async def story(stage: Stage) -> None:
        await stage.cast.come(stage.server.port, MESSAGES, away=0)
        for number in range(count):
            await _step(stage, now)
            if number % 2:
                await asyncio.to_thread(stage.server.kill)
                await stage.cast.lost()
                now.step_away(stage.chance)
                now.started = now.offset
                await stage.start()
                await asyncio.to_thread(stage.cast.take_new_tokens, stage.server)
                await stage.cast.come(stage.server.port, MESSAGES, away=0)
                await stage.cast.complete()  # of what was before the restart statuses are of the clock of that time
            done()

    return play(stage, story)


async def _step(stage: Stage, now: Now) -> None:
    connections = {one: one.connection for one in stage.cast.everybody}
    told = len(stage.cast.ledger.steps)
    stage.cast.go_on(MESSAGES)
    await asyncio.sleep(LOADED_S)
    now.step_away(stage.chance)
    await asyncio.sleep(SETTLE_S)
    for one, connection in connections.items():
        if one.lost.is_set() or one.connection != connection:
            stage.complain(f"cut off: {one.device}, when the clock stepped to {now.offset}")
    await stage.cast.complete()
    new = [step.text for step in stage.cast.ledger.steps[told:]]
    if not new or not now.is_in(new):
        stage.complain(
            f"not its clock: it stepped from {now.started} to {now.offset}, and statuses are of another time"
        )
