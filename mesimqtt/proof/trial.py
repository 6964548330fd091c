"""A trial: one way to break the server on purpose, repeated from a seed, and what came of it."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

# A figure whose name ends so is a measurement, of which the worst counts; any other is a count, which adds up.
MEASURED = ("_s", "_ms", "_us", "_mb", "_mib", "_kb", "_max", "_ratio", "_percent")
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
    made, as `1..50`. `figures` are what was counted or measured, by name, units last (`messages`, `drain_s`): counts
    add up, of measurements the largest is the worst, and so it is of those that `largest` names, which are the same
    however often one tries (`targets`). `skipped` is why the machine could not run it (a tool is missing), empty if it
    ran. `interrupted`: somebody ended it before it had tried as often as was asked.
    """

    tried: int
    seeds: str
    failures: tuple[Failure, ...] = ()
    failed: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    skipped: str = ""
    largest: frozenset[str] = frozenset()
    interrupted: bool = False


class Interrupted(KeyboardInterrupt):
    """A trial was interrupted; `outcome` is what it had tried until then."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = replace(outcome, interrupted=True)


@contextmanager
def keeping(outcome: Callable[[], Outcome]) -> Iterator[None]:
    """Where somebody interrupts a trial, let what it has tried until then count. Raises Interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(outcome()) from None


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM interrupt what runs meanwhile, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def merged(parts: Iterable[Mapping[str, float]], largest: Collection[str] = frozenset()) -> dict[str, float]:
    """Return the figures of several parts as those of one: measurements and `largest` by the largest, others added."""
    figures: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            before = figures.get(name)
            if before is None:
                figures[name] = value
            else:
                figures[name] = max(before, value) if name in largest or name.endswith(MEASURED) else before + value
    return figures


def broke(error: Exception) -> str:
    """Say that a trial broke by itself, and where: it has shown nothing."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"the trial itself broke: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


@contextmanager
def quiet(level: int = logging.CRITICAL) -> Iterator[None]:
    """Keep off the screen what servers in trouble log up to a level meanwhile; NOTSET: let all of it be heard."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


class Trial(Protocol):
    """One kind of proof. Everything it does follows from `seed`, as far as the machine allows."""

    name: str  # one word, as an option of `selftest` is called: `kills`
    title: str  # one line: what is done, and what must hold
    promises: tuple[str, ...]  # of PROOF.md: `P1`
    unit: str  # what is counted, in the plural: `kills`

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Try `count` times in `folder`, which is empty and goes afterwards; tell `progress` how many are done."""
        ...
