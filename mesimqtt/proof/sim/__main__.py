"""One seed of the simulation: `python -m mesimqtt.proof.sim --seed 7 --trace`; exit code 1 if a rule was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.proof.sim.run import Plan, run

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one seed and print what is not as promised."""
    parser = argparse.ArgumentParser(prog="python -m mesimqtt.proof.sim", description="Run one seed of the simulation.")
    parser.add_argument("--seed", type=int, default=1, help="from which number everything follows")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="virtual minutes (default: an hour)")
    parser.add_argument("--rate", type=float, default=Plan.messages_per_hour, help="messages an hour, about")
    parser.add_argument("--harm", type=float, default=Plan.harm, help="how many times as much goes wrong (default: 1)")
    parser.add_argument("--trace", action="store_true", help="print every read and every fault, with its virtual time")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mesimqtt-sim-") as folder:
        result = run(asked.seed, Path(folder), Plan(asked.minutes, asked.rate, asked.harm), is_tracing=asked.trace)
    for line in result.lines:
        print(line)
    print(f"seed {result.seed}: trace {result.digest[:16]}, {len(result.complaints)} complaints")
    for name, value in result.figures.items():
        print(f"  {name}: {value:g}")
    for complaint in result.complaints:
        print(f"  {complaint}")
    return 1 if result.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
