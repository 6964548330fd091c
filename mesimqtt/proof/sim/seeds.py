"""The trials of the simulation: `seeds`, each a virtual hour with everything going wrong, and `receipts`, forged."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, ClassVar, TypeVar

from mesimqtt.proof.sim.receipts import forge
from mesimqtt.proof.sim.run import Plan, run
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
_SHOWN = 5  # complaints of one seed
RECEIPTS_EACH = 10_000  # of one seed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one seed, as far as it goes from one process to another."""

    seed: int
    complaints: tuple[str, ...]
    figures: dict[str, float]


def live(folder: Path, plan: Plan, seed: int) -> Verdict:
    """Run one seed, for a process of its own."""
    result = run(seed, folder, plan)
    return Verdict(seed, tuple(result.complaints), result.figures)


class Seeds:
    """Virtual hours of a server with everything going wrong; a history of them is judged by every rule there is."""

    name = "seeds"
    title = "virtual hours with cuts, crashes, clock jumps and failing disks: nothing lost, doubled, inverted or forged"
    promises = ("P3", "P4", "P5", "P6", "P7", "P8", "P13", "P18", "N2")
    unit = "seeds"
    plan: ClassVar[Plan] = Plan()

    def __init__(self, *, plan: Plan | None = None, jobs: int | None = None) -> None:
        self._plan = plan or self.plan
        self._jobs = jobs or os.cpu_count() or 1

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Run `count` seeds from `seed` on, some at a time; each is the same whoever runs it."""
        seeds = range(seed, seed + count)
        failures: list[Failure] = []
        failed = 0
        figures: Counter[str] = Counter()
        tried = 0

        def outcome() -> Outcome:
            kept, named = tuple(failures[:FAILURES_KEPT_MAX]), f"{seed}..{seed + max(tried, 1) - 1}"
            return Outcome(tried, named, kept, failed, dict(figures))

        with keeping(outcome):
            for verdict in _each(partial(live, folder, self._plan), seeds, self._jobs):
                figures.update(verdict.figures)
                if verdict.complaints:
                    failed += 1
                    what = "; ".join(verdict.complaints[:_SHOWN])
                    more = len(verdict.complaints) - _SHOWN
                    text = f"seed {verdict.seed}: {what}" + (f"; and {more} more" if more > 0 else "")
                    failures.append(Failure(text, self._plan.command(verdict.seed)))
                tried += 1
                progress(tried)
        return outcome()


class Receipts:
    """Receipts that are forged at random: nobody is told what did not happen, and nothing goes back."""

    name = "receipts"
    title = "random receipts, honest and forged: none believed that is not true, no status ever goes back"
    promises = ("P6",)
    unit = "receipts"

    def __init__(self, *, jobs: int | None = None) -> None:
        self._jobs = jobs or os.cpu_count() or 1

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Send `count` receipts, so many of each seed."""
        parts = [
            (seed + index, min(RECEIPTS_EACH, count - start))
            for index, start in enumerate(range(0, count, RECEIPTS_EACH))
        ]
        failures: list[Failure] = []
        figures: Counter[str] = Counter()
        done, last = 0, seed

        def outcome() -> Outcome:
            kept = tuple(failures[:FAILURES_KEPT_MAX])
            return Outcome(done, f"{seed}..{last}", kept, len(failures), dict(figures))

        with keeping(outcome):
            for result in _each(partial(_forge, folder), parts, self._jobs):
                figures.update(result.figures)
                done, last = done + int(result.figures["receipts"]), result.seed
                for complaint in result.complaints:
                    again = f"python -m mesimqtt.proof receipts --count {RECEIPTS_EACH} --seed {result.seed}"
                    failures.append(Failure(f"seed {result.seed}: {complaint}", again))
                progress(done)
        return outcome()


def _forge(folder: Path, part: tuple[int, int]) -> Verdict:
    complaints, figures = forge(part[0], part[1], folder)
    return Verdict(part[0], tuple(complaints), figures)


def _each(work: Callable[[T], Verdict], parts: Sequence[T], jobs: int) -> Iterator[Verdict]:
    """Do the work on each part, in their order, in so many processes."""
    if jobs == 1 or len(parts) == 1:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(min(jobs, len(parts)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, parts)
