"""SIGSTOP, a while of nothing, SIGCONT: nobody is cut off for a silence that was the server's, nothing is lost (P13).

What a suspended laptop, a paused virtual machine or a debugger does to a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Final

from mesimqtt.bench.machine import Process
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import ANSWER_S, Bystander, Device
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

ERA: Final = 10  # freezes of one server
REST_AFTER: Final = 3  # freezes under load comes one at rest
MESSAGES: Final = 1_000
KEEP_ALIVE_S: Final = 1
HALF_S: Final = 0.02  # after SIGCONT, until the rest of a CONNECT comes: less than a tick of the server
WELCOME: Final = b"\x20\x02\x00\x00"  # CONNACK of a new session
CONNECT_DEADLINE_S: Final = 1.0
FREEZE_S: Final = (1.8, 2.6)  # longer than 1.5 times the keep alive, and than the deadline of a CONNECT
LOAD_S: Final = 0.3
SETTLE_S: Final = 1.0  # after SIGCONT: who is cut off would be by then
IDLE_CPU_S: Final = 0.4  # of the processor, in that second: no storm of timers that came due together
CONFIG: Final = f"limits: {{connect_deadline_s: {CONNECT_DEADLINE_S}}}\n"


class Freezes:
    """SIGSTOP and SIGCONT as a trial."""

    name = "freezes"
    title = (
        "a server stands still (SIGSTOP) for longer than every keep alive: nobody is cut off for it, nothing is lost"
    )
    promises = ("P13", "P1")
    unit = "freezes"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Freeze servers `count` times, `ERA` times each."""
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Freeze one server `count` times under load and once at rest, then read everything back."""

    async def story(stage: Stage) -> None:
        server = stage.server
        await stage.cast.come(server.port, MESSAGES, away=0)
        alive = asyncio.ensure_future(stage.cast.keep_alive(KEEP_ALIVE_S / 2))
        try:
            for number in range(count):
                await asyncio.sleep(stage.chance.uniform(0, LOAD_S))
                await _freeze(stage)
                if number == REST_AFTER - 1:
                    await _rest(stage)
                stage.cast.go_on(MESSAGES)
                done()
        finally:
            alive.cancel()

    return play(Stage(seed, folder, config=CONFIG, keep_alive_s=KEEP_ALIVE_S), story)


async def _freeze(stage: Stage) -> None:
    cast, server = stage.cast, stage.server
    before = {one: one.connection for one in cast.everybody}
    heard, half = await asyncio.open_connection(server.host, server.port)  # had it time to say who it is?
    greeting = stream.connect("half", "r1", cast.tokens["r1"], keep_alive_s=KEEP_ALIVE_S)
    server.send_signal(signal.SIGSTOP)
    newcomer = Bystander(Device("r1", "newcomer", cast.tokens["r1"], keep_alive_s=KEEP_ALIVE_S))
    coming = asyncio.ensure_future(newcomer.connect(server.port))
    await asyncio.sleep(stage.chance.uniform(*FREEZE_S))
    half.write(greeting[:1])
    server.send_signal(signal.SIGCONT)
    await asyncio.sleep(HALF_S)
    half.write(greeting[1:])
    answer = b""
    with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        async with asyncio.timeout(ANSWER_S):
            answer = await heard.readexactly(4)
    if answer != WELCOME:
        stage.complain(f"cut off: who was about to say who he is got {answer!r}, as the server stood still meanwhile")
    await coming
    await newcomer.close()
    await asyncio.sleep(SETTLE_S)
    half.close()
    for one, connection in before.items():
        if one.lost.is_set() or one.connection != connection:
            stage.complain(f"cut off: {one.device} was silent only because the server stood still")
            await one.close()
            await one.connect(server.port)
            one.again()


async def _rest(stage: Stage) -> None:
    """Freeze the server while nothing happens, and see how much it does afterwards."""
    server = stage.server
    await stage.cast.complete()
    server.send_signal(signal.SIGSTOP)
    await asyncio.sleep(FREEZE_S[1])
    process = Process(server.pid)
    before = process.cpu_s() or 0.0
    server.send_signal(signal.SIGCONT)
    await asyncio.sleep(SETTLE_S)
    used = (process.cpu_s() or 0.0) - before
    stage.worst("idle_cpu_after_s", used)
    if used > IDLE_CPU_S:
        stage.complain(f"a storm: {used:.2f} s of the processor in {SETTLE_S:g} s after a freeze at rest")
