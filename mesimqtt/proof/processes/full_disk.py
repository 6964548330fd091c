"""A disk runs full and has room again: nothing is acknowledged without its row, and all is well again (P11)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.disks import Tmpfs, missing
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.proof.trial import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ERA: Final = 1  # a disk that was full is thrown away
DISK_BYTES: Final = 8 * 1024 * 1024
FILLER_BYTES: Final = (4 * 1024 * 1024, 5 * 1024 * 1024)  # what goes, when there is to be room again
BALLAST_BYTES: Final = 1024 * 1024
MESSAGES: Final = 3_000
FULL_S: Final = 120.0  # until the disk is full, at most
RECOVERY_S: Final = 5.0
REFUSED: Final = "store"


class FullDisk:
    """A small tmpfs, filled, as a trial."""

    name = "full-disk"
    title = "a disk of 8 MB runs full: nothing is acknowledged without its row, and with room it goes on within 5 s"
    promises = ("P11",)
    unit = "disks"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Fill `count` disks. Skipped where no tmpfs may be mounted, not even in a namespace of one's own."""
        prefix, reason = missing()
        if reason:
            return Outcome(0, "", skipped=reason)
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress, prefix=prefix)


def era(seed: int, _count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Fill one disk under load; half of the time kill the server while it is full."""
    disk = Tmpfs(folder / "disk", DISK_BYTES)
    with disk:
        stage = Stage(seed, disk.folder, config=f"store: {{ballast_bytes: {BALLAST_BYTES}}}\n")

        async def story(stage: Stage) -> None:
            stage.cast.ledger.excused = REFUSED
            await _fill(stage, disk)
            if stage.chance.random() < 0.5:
                await asyncio.to_thread(stage.server.kill)
                await stage.cast.lost()
                await stage.start()
            disk.free()
            await _recover(stage)
            stage.cast.ledger.excused = ""
            done()

        return play(stage, story)


async def _fill(stage: Stage, disk: Tmpfs) -> None:
    """Send until nothing is accepted any more."""
    disk.fill(stage.chance.randint(*FILLER_BYTES))
    await stage.cast.come(stage.server.port, MESSAGES)
    end = time.monotonic() + FULL_S
    while len(stage.cast.ledger.refused) < len(stage.cast.senders):
        if time.monotonic() > end:
            stage.complain(f"the disk was not full within {FULL_S:g} s")
            return
        await asyncio.sleep(0.05)
        for one in stage.cast.senders:
            if one.lost.is_set():  # 3.1.1: closed unacknowledged
                with contextlib.suppress(LinkError, OSError):
                    await one.connect(stage.server.port)
                    one.again()
    for one in stage.cast.senders:
        one.enough()


async def _recover(stage: Stage) -> None:
    """Send again until everybody has something accepted."""
    began = time.monotonic()
    limit = stage.deadline(RECOVERY_S)
    for one in stage.cast.senders:
        before = one.accepted
        while one.accepted == before and time.monotonic() - began < limit:
            if one.lost.is_set():
                with contextlib.suppress(LinkError, OSError):
                    await one.connect(stage.server.port)
                    one.again()
            if not one.waiting:
                one.go_on(1)
            await asyncio.sleep(0.05)
        if one.accepted == before:
            stage.complain(f"{one.device} has nothing accepted {limit:.1f} s after there was room again")
    stage.worst("recovery_max_s", time.monotonic() - began)
