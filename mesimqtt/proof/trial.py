"""A trial: one way to break the server on purpose, repeated from a seed, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAILURES_KEPT_MAX = 100  # of one trial: whoever has a hundred needs no more to look at


@dataclass(frozen=True, slots=True)
class Failure:
    """One promise broken: what was seen, and the command that shows it again."""

    what: str
    repeat: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    `tried` counts tries in the trial's own unit (kills, cuts, seeds). `seeds` says from which numbers they were
    made, as `1..50`. `figures` are what was counted or measured, by name, units last (`messages`, `drain_s`).
    `skipped` is why the machine could not run it (a tool is missing), empty if it ran.
    """

    tried: int
    seeds: str
    failures: tuple[Failure, ...] = ()
    failed: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    skipped: str = ""


class Trial(Protocol):
    """One kind of proof. Everything it does follows from `seed`, as far as the machine allows."""

    name: str  # one word, as an option of `selftest` is called: `kills`
    title: str  # one line: what is done, and what must hold
    promises: tuple[str, ...]  # of PROOF.md: `P1`
    unit: str  # what is counted, in the plural: `kills`

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Try `count` times in `folder`, which is empty and goes afterwards; tell `progress` how many are done."""
        ...
