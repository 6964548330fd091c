"""The trial `grammar`: random sequences of packets, good and bad, said to our server and to mosquitto at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.grammar.known import DIFFERENCES
from mesimqtt.proof.grammar.play import play
from mesimqtt.proof.grammar.sequences import make_sequence
from mesimqtt.proof.grammar.servers import both
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, keeping

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Grammar:
    """Two clients on each server: A says anything, B watches. After each step both servers must have done the same."""

    name = "grammar"
    title = "packets of 3.1.1 and 5.0, right and wrong, mean the same to us and to mosquitto, but for what is explained"
    promises = ("P9",)
    unit = "sequences"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Play `count` sequences, from `seed` on."""
        failures: list[Failure] = []
        used: Counter[str] = Counter()
        failed = steps = tried = 0

        def outcome() -> Outcome:
            figures = {
                "steps": float(steps),
                "known_differences_seen": float(used.total()),
                "known_kinds_seen": float(len(used)),
                "known_kinds": float(len(DIFFERENCES)),
            }
            largest = frozenset({"known_kinds_seen", "known_kinds"})
            seeds = f"{seed}..{seed + max(tried, 1) - 1}"
            return Outcome(tried, seeds, tuple(failures), failed, figures, largest=largest)

        try:
            with keeping(outcome), both(folder) as (ours, theirs):
                for number in range(seed, seed + count):
                    alike, difference = play(make_sequence(number), ours, theirs, used)
                    steps += alike
                    if difference is not None:
                        failed += 1
                        if len(failures) < FAILURES_KEPT_MAX:
                            again = f"python -m mesimqtt.proof {self.name} --count 1 --seed {number}"
                            failures.append(Failure(str(difference), again))
                    tried += 1
                    progress(tried)
        except MesimqttError as error:
            return Outcome(0, f"{seed}..{seed + count - 1}", skipped=str(error))
        return outcome()
