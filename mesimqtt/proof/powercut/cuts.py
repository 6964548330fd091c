"""The trial `cuts`: the power goes at a seeded write, again and again, and everything accepted is read back."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from mesimqtt.proof.powercut import jobs
from mesimqtt.proof.powercut.chat import Chat
from mesimqtt.proof.powercut.disk import PowerCut
from mesimqtt.proof.powercut.jobs import Done

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.powercut.template import Template
    from mesimqtt.proof.trial import Outcome

CHAIN = 25  # cuts in one life of a server, one after the other
_AHEAD = (5, 40, 100, 250, 600)  # at most so many changes of the disk until the next cut


class Cuts:
    """Power cuts at seeded writes of a busy server, also while it starts again."""

    name = "cuts"
    title = "the power goes at any write, unsynced sectors are lost, torn or reordered: nothing accepted is missing"
    promises = ("P2", "P3", "P4", "P5", "N2")
    unit = "power cuts"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Cut the power `count` times."""
        return jobs.run(self.name, work, count, CHAIN, seed=seed, folder=folder, progress=progress)


def work(seed: int, tries: int, folder: Path) -> Done:
    """Lead one life with so many cuts."""
    return live(template_of(folder), seed, tries)


@lru_cache(maxsize=1)
def template_of(folder: Path) -> Template:
    """Return the disk with people on it, made once in each process."""
    from mesimqtt.proof.powercut.template import Template  # noqa: PLC0415 - needs apsw, which may not be installed

    return Template(folder)


def live(template: Template, seed: int, cuts: int) -> Done:
    """Lead one life of a server with so many power cuts, then read everything back."""
    chance = random.Random(seed)
    world = template.world(chance, history={"search": False})
    try:
        chat = Chat(world, chance)
        disk, pages = world.power.disk, chance.choice((4, 20, 100, 2000))
        while disk.powered <= cuts:
            world.store.read.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            disk.cut_at = disk.changes + chance.randint(1, chance.choice(_AHEAD))
            try:
                chat.gather()
                while True:
                    chat.step()
            except PowerCut:
                again = chance.randint(1, 30) if chance.random() < 0.3 else 0  # perhaps while it starts
                disk.next_cut = again if disk.powered < cuts else 0
                chat.cut()
        disk.cut_at = 0
        found = chat.finish()
        figures = {
            "accepted_messages": float(len(chat.sent.keys() & world.notes.taken)),
            "deliveries": float(len(world.notes.deliveries)),
            "disk_changes": float(disk.changes),
        }
        return Done(seed, cuts, found, figures)
    finally:
        world.close()
        world.power.close()
