"""The trial `every-write`: fifty messages, and the power goes after every single change of the disk, one by one."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from mesimqtt.proof.powercut import jobs
from mesimqtt.proof.powercut.chat import Chat
from mesimqtt.proof.powercut.cuts import template_of
from mesimqtt.proof.powercut.disk import PowerCut
from mesimqtt.proof.powercut.jobs import Done

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

MESSAGES = 50
_PER_JOB = 50  # cuts
_PAGES = 40  # of the log, after which SQLite moves them into the database: often, for those writes are cut too


class EveryWrite:
    """Tells one story again and again, and cuts it one change later each time; then the next story."""

    name = "every-write"
    title = f"the power goes after every single change of the disk while {MESSAGES} messages are sent: none is missing"
    promises = ("P2", "P4", "P5", "N2")
    unit = "power cuts"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Cut the power after `count` changes, beginning with change `seed` of all stories."""
        return jobs.run(self.name, work, count, _PER_JOB, seed=seed, folder=folder, progress=progress)


def work(seed: int, tries: int, folder: Path) -> Done:
    """Cut the power after so many changes in turn, the first of which is number `seed` of all stories."""
    found: list[str] = []
    whole = 0
    for number in range(seed, seed + tries):
        story, change = place_of(number, folder)
        failures, _ = tell(story, folder, change)
        whole += change == _length(story, folder)
        found += [f"story {story}, after change {change}: {each}" for each in failures]
    return Done(seed, tries, found, {"whole_stories": float(whole)})


def place_of(number: int, folder: Path) -> tuple[int, int]:
    """Return which story, and which change of it, is number `number` of all."""
    story = 1
    while number > (length := _length(story, folder)):
        number -= length
        story += 1
    return story, number


@lru_cache(maxsize=1000)
def _length(story: int, folder: Path) -> int:
    return tell(story, folder, 0)[1]


def tell(story: int, folder: Path, change: int) -> tuple[list[str], int]:
    """Tell a story with a cut after one of its changes (0: none).

    Return what is not as promised afterwards, and at how many changes it ended.
    """
    chance = random.Random(story)
    world = template_of(folder).world(random.Random(f"{story}/{change}"), history={"search": False})
    try:
        chat, disk = Chat(world, chance), world.power.disk
        world.store.read.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
        before = disk.changes
        disk.cut_at = before + change if change else 0
        try:
            chat.gather()
            while len(chat.sent) < MESSAGES:
                chat.step()
        except PowerCut:
            chat.cut()
        length, disk.cut_at = disk.changes - before, 0
        return chat.finish(), length
    finally:
        world.close()
        world.power.close()
