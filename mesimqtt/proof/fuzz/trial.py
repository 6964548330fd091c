"""The trial `parsers`: every parser of untrusted bytes on inputs drawn from a seed, beside its oracle."""

from __future__ import annotations

from importlib.util import find_spec
from random import Random
from typing import TYPE_CHECKING

from mesimqtt.proof.fuzz.bounds import try_input
from mesimqtt.proof.fuzz.mutate import make_input
from mesimqtt.proof.fuzz.targets import TARGETS
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, keeping, quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.fuzz.target import Target

_SLOW_ONE_IN = 8  # of the inputs of a slow target, one in so many is tried
_SHOWN = 300


class Parsers:
    """Inputs go to the targets in turn; number n is the same whatever was tried before it."""

    name = "parsers"
    title = "every parser of untrusted bytes, beside an oracle: no crash, no hang, no second meaning"
    promises = ("P9",)
    unit = "inputs"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Try `count` inputs."""
        del folder
        failures: list[Failure] = []
        failed = tried = 0
        targets = list(TARGETS.values())

        def outcome() -> Outcome:
            figures = {"targets": float(len(targets)), "second_codec": float(find_spec("mqtt5") is not None)}
            seeds, largest = f"{seed}..{seed + max(tried, 1) - 1}", frozenset(figures)
            return Outcome(tried, seeds, tuple(failures), failed, figures, largest=largest)

        with keeping(outcome), quiet():
            for number in range(seed, seed + count):
                target, data = input_of(number, targets)
                wrong = try_input(target, data)
                if wrong:
                    failed += 1
                    if len(failures) < FAILURES_KEPT_MAX:
                        again = f"python -m mesimqtt.proof {self.name} --count 1 --seed {number}"
                        failures.append(Failure(f"{target.name}: {data!r:.{_SHOWN}}: {wrong}", again))
                tried += 1
                progress(tried)
        return outcome()


def input_of(number: int, targets: list[Target]) -> tuple[Target, bytes]:
    """Return the input of a number, and the target that it is for."""
    chance = Random(number)
    target = targets[number % len(targets)]
    if target.is_slow and chance.randrange(_SLOW_ONE_IN):
        target = chance.choice([each for each in targets if not each.is_slow])
    return target, make_input(target, chance, target.seeds)
