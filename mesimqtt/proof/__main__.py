"""One trial alone: `python -m mesimqtt.proof kills --count 50 --seed 1`; exit code 1 if a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.proof.trial import Interrupted, terminable
from mesimqtt.proof.trials import TRIALS, trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.proof.trial import Outcome, Trial

INTERRUPTED = 130  # the exit code, as a shell has it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one trial and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m mesimqtt.proof", description="Run one trial of the proof.")
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--count", type=_number, default=1, help="how often (default: once)")
    parser.add_argument("--seed", type=_number, default=1, help="from which number everything follows")
    asked = parser.parse_args(arguments)
    chosen = trial(asked.trial)
    try:
        with terminable(), tempfile.TemporaryDirectory(prefix="mesimqtt-proof-") as folder:
            outcome = chosen.run(asked.count, seed=asked.seed, folder=Path(folder), progress=lambda _: None)
    except Interrupted as stopped:
        print(f"{chosen.name}: interrupted: this is what was tried until then", file=sys.stderr)
        _print(chosen, stopped.outcome)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"{chosen.name}: interrupted: nothing is said of it", file=sys.stderr)
        return INTERRUPTED
    if outcome.skipped:
        print(f"{chosen.name}: skipped: {outcome.skipped}")
        return 0
    _print(chosen, outcome)
    return 1 if outcome.failed else 0


def _print(chosen: Trial, outcome: Outcome) -> None:
    print(f"{chosen.name}: {outcome.tried} {chosen.unit}, seeds {outcome.seeds}: {outcome.failed} failed")
    for name, value in outcome.figures.items():
        print(f"  {name}: {value:g}")
    for failure in outcome.failures:
        print(f"  {failure.what}\n    again: {failure.repeat}")


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
