"""The disk: threads of the store whose work takes virtual time, and commits that fail for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from mesimqtt.proof.sim.loop import VirtualLoop


@dataclass
class Disk:
    """How the disk is at the moment: milliseconds that a job takes, and how often one takes much longer."""

    fast_ms: float = 0.0
    slow_ms: float = 4.0
    hiccup: float = 0.02
    hiccup_ms: float = 300.0


class DiskRunner:
    """A thread of the store in virtual time: one job after the other, its answer a while after its work.

    Between a job's work and its answer everything else may happen; so it may between its submission and its work.
    """

    def __init__(self, loop: VirtualLoop, random: Random, disk: Disk) -> None:
        self._loop = loop
        self._random = random
        self._disk = disk
        self._jobs: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()
        self._answers: deque[Callable[[], None]] = deque()
        self._answer_at = 0.0
        self._is_dead = False

    def submit(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Queue a job."""
        self._jobs.append((work, done))
        if len(self._jobs) == 1:
            self._loop.post(self._duration(), self._work)

    def abandon(self) -> None:
        """Let go of what is queued."""
        self._jobs.clear()

    def kill(self) -> None:
        """Die with the process: what is queued is not done, what is done is not answered."""
        self._is_dead = True
        self._jobs.clear()
        self._answers.clear()

    def close(self, last: Callable[[], None]) -> None:
        """Do what is queued, then `last`, without time passing: the caller waits for it."""
        while self._jobs:
            self._work()
        last()
        self._is_dead = True

    def _work(self) -> None:
        if self._is_dead or not self._jobs:
            return
        work, done = self._jobs[0]
        work()
        if not self._jobs:  # it killed its own process
            return
        self._jobs.popleft()
        self._answers.append(done)
        self._answer_at = max(self._answer_at, self._loop.ms + self._duration() / 4)
        self._loop.post(self._answer_at - self._loop.ms, self._answer)
        if self._jobs:
            self._loop.post(self._duration(), self._work)

    def _answer(self) -> None:
        if self._answers:
            self._answers.popleft()()

    def _duration(self) -> float:
        disk, draw = self._disk, self._random.random()
        if draw < disk.hiccup:
            return disk.hiccup_ms * self._random.random()
        return disk.fast_ms + (disk.slow_ms - disk.fast_ms) * self._random.random()
