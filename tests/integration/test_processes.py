"""The trials on real processes in their short form: what `mesimqtt selftest` does more often (docs/proof.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesimqtt.proof.trials import TRIALS, trial

if TYPE_CHECKING:
    from pathlib import Path

# They wait for what cannot be hurried: keep alives, stalls, freezes, a second interpreter under libfaketime.
DEAR = {"slow-readers", "links", "clock", "freezes", "sessions"}
PROCESSES = [
    name for name, listed in TRIALS.items() if listed.where.startswith("mesimqtt.proof.processes.") and name not in DEAR
]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_real_server_keeps_its_promises(tmp_path: Path, name: str) -> None:
    """A few tries of each trial: nothing that it looks for, and as many tries as were asked for.

    Not of the dear ones, which take 5 to 18 s each: `make proof-short` tries the same, and runs after the suite.
    """
    done: list[int] = []
    count = TRIALS[name].short

    outcome = trial(name).run(count, seed=1, folder=tmp_path, progress=done.append)

    assert [] == [failure.what for failure in outcome.failures][:10]
    if not outcome.skipped:
        assert (count, list(range(1, count + 1))) == (outcome.tried, done)
