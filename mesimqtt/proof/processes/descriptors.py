"""No descriptors left: newcomers wait, who is there is served, a SIGHUP changes nothing, and it ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import Bystander, Device, LinkError
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.proof.trial import Outcome
from mesimqtt.settings import default_broker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ERA: Final = 5  # famines of one server
FILES: Final = 64
MESSAGES: Final = 200
NOT_LET_IN_S: Final = 1.0
LET_IN_S: Final = 3.0
ACL: Final = "mesimqtt_plugins.acl.FolderAccess"
TOPIC: Final = "lamp/1"
RULES: Final = f"rules:\n  - {{allow: publish, topic: '{TOPIC}'}}\n  - {{allow: subscribe, topic: '{TOPIC}'}}\n"


class Descriptors:
    """A server with few descriptors as a trial."""

    name = "descriptors"
    title = "more clients than descriptors: who is there is served, newcomers wait, SIGHUP changes nothing"
    promises = ("P8", "P9")
    unit = "famines"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Starve servers `count` times, `ERA` times each. Skipped where one may not limit another process."""
        if not hasattr(resource, "prlimit"):
            return Outcome(0, "", skipped="descriptors of a running server can be limited on Linux only")
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Starve one server `count` times, then read everything back."""
    rules = folder / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    plugins = default_broker()["plugins"] | {ACL: {"rules_file": str(rules)}}
    acl = f"broker: {json.dumps({'plugins': plugins})}\n"

    async def story(stage: Stage) -> None:
        resource.prlimit(stage.server.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        await stage.cast.come(stage.server.port, MESSAGES, away=0)
        for _ in range(count):
            await _starve(stage)
            done()

    return play(Stage(seed, folder, config=acl), story)


async def _starve(stage: Stage) -> None:
    cast, server = stage.cast, stage.server
    lamp = Bystander(Device("s0", "lamp", cast.tokens["s0"]), [(TOPIC, 1)])
    await lamp.connect(server.port)
    crowd: list[Bystander] = []
    waiting = 0
    while not waiting:
        one = Bystander(Device("r1", f"crowd-{len(crowd)}", cast.tokens["r1"]))
        crowd.append(one)
        if not await _is_let_in(one, server.port, NOT_LET_IN_S):
            waiting += 1
        if len(crowd) > FILES:
            stage.complain(f"{len(crowd)} clients were let in with {FILES} descriptors")
            return
    stage.worst("let_in_max", len(crowd) - 1)
    server.send_signal(signal.SIGHUP)  # and there is no descriptor to read the rules with
    cast.go_on(MESSAGES)
    await cast.complete()
    if cast.is_missing():
        stage.complain("who was there was not served while there were no descriptors left")
    if not await lamp.round_trip(TOPIC):
        stage.complain("the rules from before SIGHUP do not hold any more")
    for one in crowd:
        await one.close()
    began = time.monotonic()
    newcomer = Bystander(Device("r1", "newcomer", cast.tokens["r1"]))
    if not await _is_let_in(newcomer, server.port, stage.deadline(LET_IN_S)):
        stage.complain(f"nobody was let in within {LET_IN_S:g} s of there being descriptors again")
    stage.worst("let_in_again_max_s", time.monotonic() - began)
    await newcomer.close()
    await lamp.close()
    if lost := [str(one.device) for one in cast.everybody if one.lost.is_set()]:
        stage.complain(f"cut off for want of descriptors: {lost}")


async def _is_let_in(one: Bystander, port: int, seconds: float) -> bool:
    with contextlib.suppress(LinkError, OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            await one.connect(port)
            return True
    return False
