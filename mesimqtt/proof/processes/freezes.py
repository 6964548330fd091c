"""SIGSTOP, a while of nothing, SIGCONT: nobody is cut off for a silence that was the server's, nothing is lost (P13).

What a suspended laptop, a paused virtual machine or a debugger does to a server.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

from mesimqtt.bench.machine import Process
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.proof.processes.standstill import ASKED, is_still, plugins
from mesimqtt.proof.processes.wards import LIMITS, Wards, until
from mesimqtt.proof.trial import Outcome
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ERA: Final = 10  # freezes of one server
REST_AFTER: Final = 3  # freezes under load comes one at rest, and at the end of so many one of a server that stops
MESSAGES: Final = 1_000
FREEZE_S: Final = (2.0, 2.6)  # longer than all that the wards may take: keep alive, CONNECT, reading, expiry
TRIES: Final = 8  # in which a busy machine has to bring everybody to his place in time
LOAD_S: Final = 0.3
STOPPING_S: Final = 0.1
SETTLE_S: Final = 1.0
STORM_CPU_S: Final = 0.4  # more of the processor than in the second before: no timers that came due together


class Freezes:
    """SIGSTOP and SIGCONT as a trial."""

    name = "freezes"
    title = (
        "a server stands still (SIGSTOP) for longer than every deadline: nobody is cut off for it, nothing is lost, "
        "nothing is delivered too late"
    )
    promises = ("P13", "P7", "P1")
    unit = "freezes"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Freeze servers `count` times, `ERA` times each. Skipped where it cannot be seen that they stand still."""
        if sys.platform != "linux":
            return Outcome(0, "", skipped="whether a process stands still is read in /proc: Linux only")
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Freeze one server `count` times under load, once at rest and once while it stops, then read everything back."""

    async def story(stage: Stage) -> None:
        await stage.cast.come(stage.server.port, MESSAGES, away=0)
        wards = await Wards.of(stage)
        try:
            for number in range(count):
                await asyncio.sleep(stage.chance.uniform(0, LOAD_S))
                await _freeze(stage, wards, is_within=number % 2 == 0)
                if number == REST_AFTER - 1:
                    await _rest(stage)
                stage.cast.go_on(MESSAGES)
                done()
        finally:
            await wards.close()
        if count >= REST_AFTER:
            await _stop(stage)

    return play(Stage(seed, folder, config=LIMITS + plugins()), story)


async def _freeze(stage: Stage, wards: Wards, *, is_within: bool) -> None:
    """Stop the server once everybody is where only it can wrong him, and see after SIGCONT whether it does.

    `is_within`: amid a turn of its loop; else wherever it is.
    """
    server, cast = stage.server, stage.cast
    before = {one: one.connection for one in cast.everybody}
    for attempt in range(TRIES):
        await wards.gather()
        if is_within:
            wards.warden.write(stream.publish(f"{ASKED}{wards.number}", b""))
        else:
            server.send_signal(signal.SIGSTOP)
        await until(lambda: is_still(server.pid))
        await wards.act()
        await asyncio.sleep(stage.chance.uniform(*FREEZE_S))
        if is_judged := wards.were_in_time():
            returning = stage.chance.choice(cast.receivers)
            await returning.close()
            coming = asyncio.ensure_future(returning.connect(server.port))
            before[returning] += 1
        server.send_signal(signal.SIGCONT)
        if is_judged:
            await wards.judge()
            await coming
            returning.again()
        await wards.dismiss()
        if is_judged:
            break
        stage.count("late_by_themselves")
        if attempt == TRIES - 1:
            raise LinkError(f"in {TRIES} freezes somebody was late by himself: the machine is too busy to say anything")
    stage.count("frozen_within" if is_within else "frozen_anywhere")
    for one, connection in before.items():
        if one.lost.is_set() or one.connection != connection:
            stage.complain(f"cut off: {one.device}, when the server stood still")
            await one.close()
            await one.connect(server.port)
            one.again()


async def _rest(stage: Stage) -> None:
    """Freeze the server while nothing happens, and see how much it does afterwards."""
    server, process = stage.server, Process(stage.server.pid)
    await stage.cast.complete()
    began = process.cpu_s() or 0.0
    await asyncio.sleep(SETTLE_S)
    before = (process.cpu_s() or 0.0) - began
    server.send_signal(signal.SIGSTOP)
    await asyncio.sleep(FREEZE_S[1])
    began = process.cpu_s() or 0.0
    server.send_signal(signal.SIGCONT)
    await asyncio.sleep(SETTLE_S)
    used = (process.cpu_s() or 0.0) - began
    stage.worst("idle_cpu_before_s", before)
    stage.worst("idle_cpu_after_s", used)
    if used > before + STORM_CPU_S:
        stage.complain(
            f"a storm: {used:.2f} s of the processor in {SETTLE_S:g} s after a freeze, {before:.2f} s before"
        )


async def _stop(stage: Stage) -> None:
    """Freeze the server between SIGTERM and its end, for longer than it would have taken for that."""
    server, cast = stage.server, stage.cast
    cast.go_on(MESSAGES)
    server.send_signal(signal.SIGTERM)
    await asyncio.sleep(stage.chance.uniform(0, STOPPING_S))
    server.send_signal(signal.SIGSTOP)
    await asyncio.sleep(FREEZE_S[1])
    server.send_signal(signal.SIGCONT)
    if code := await asyncio.to_thread(server.wait, 30.0):
        stage.complain(f"SIGTERM, and a freeze before it had ended: exit code {code}: {server.printed}")
    await cast.lost()
