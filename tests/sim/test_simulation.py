"""The simulation: the same seed lives the same life, and a few virtual minutes of some seeds are as promised."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mesimqtt.proof.sim.receipts import forge
from mesimqtt.proof.sim.run import Plan, run
from mesimqtt.proof.sim.seeds import Receipts, Seeds
from mesimqtt.proof.sim.wills import Life, Wills, live
from mesimqtt.proof.trials import trial
from mesimqtt.testing.world import World

SHORT = Plan(minutes=4, messages_per_hour=2_000)
ROUGH = Plan(minutes=3, messages_per_hour=2_500, harm=8)
_AGAIN = """
import json, sys
from pathlib import Path
from mesimqtt.proof.sim.run import Plan, run
result = run(7, Path(sys.argv[1]), Plan(minutes=2, messages_per_hour=2_000))
print(json.dumps([result.digest, result.complaints]))
"""


def test_the_same_seed_has_the_same_trace(tmp_path):
    """Every byte that a client read and when, twice over, in another process whose hashes differ; another seed not."""
    plan = Plan(minutes=2, messages_per_hour=2_000)
    first, other = run(7, tmp_path, plan), run(8, tmp_path, plan)
    again = subprocess.run(
        [sys.executable, "-c", _AGAIN, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )

    assert [first.digest, first.complaints] == json.loads(again.stdout)
    assert first.digest != other.digest


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_doubled_inverted_or_forged(tmp_path, seed):
    """Cuts, stalls, crashes, restarts, clock jumps, a failing disk, and people who come and go: no rule is broken."""
    result = run(seed, tmp_path, SHORT)

    assert [] == result.complaints
    assert result.figures["messages"] > 50
    assert result.figures["deliveries"] > 100


@pytest.mark.parametrize("seed", [1, 2, 5, 6])
def test_minutes_in_which_hardly_anything_goes_right(tmp_path, seed):
    """Eight times as much harm, so that much comes again: no rule is broken, and no message has the wrong DUP."""
    result = run(seed, tmp_path, ROUGH)

    assert [] == result.complaints
    assert result.figures["cuts"] > 20


def test_no_forged_receipt_is_believed(tmp_path):
    """A thousand receipts at random, all of them sent, and crashes between: nobody is told what did not happen."""
    complaints, figures = forge(1, 1_000, tmp_path)

    assert [] == complaints
    assert (1_000, 3) == (figures["receipts"], figures["crashes"])
    assert figures["told"] > 20


def test_the_trials_are_listed_and_count_what_they_did(tmp_path):
    """`seeds` and `receipts` are trials like the others, and say what was sent, delivered and broken."""
    outcome = Seeds(plan=Plan(minutes=1, messages_per_hour=2_000), jobs=1).run(
        2, seed=5, folder=tmp_path, progress=lambda _: None
    )

    assert (Seeds, Receipts) == (type(trial("seeds")), type(trial("receipts")))
    assert (2, "5..6", 0, ()) == (outcome.tried, outcome.seeds, outcome.failed, outcome.failures)
    assert outcome.figures["messages"] > 20


def test_every_will_comes_once_or_not_at_all(tmp_path):
    """Sixty wills of two servers that are killed and stopped: those that fell due have come, and no other."""
    outcome = Wills().run(60, seed=3, folder=tmp_path, progress=lambda _: None)

    assert (60, "3..4", 0, ()) == (outcome.tried, outcome.seeds, outcome.failed, outcome.failures)
    assert outcome.figures["kills"] > 5
    assert outcome.figures["sent"] > 20


class Forgetful(World):
    """A server that forgets at its start what a device left."""

    def open_store(self):
        store = super().open_store()
        store.read.execute("DELETE FROM will")
        return store


class Stubborn(World):
    """A server that sends at its start whatever anybody left."""

    def open_store(self):
        store = super().open_store()
        store.read.execute("UPDATE will SET due = 1")
        return store


@pytest.mark.parametrize(("kind", "told"), [(Forgetful, "was due and never came"), (Stubborn, "was not to be sent")])
def test_the_trial_of_wills_sees_a_server_that_is_wrong(tmp_path, kind, told):
    """What never comes is said, and so is what comes too early."""
    made = type("WrongLife", (Life,), {"world_type": kind})
    found = [complaint for seed in range(4) for complaint in live(seed, 50, tmp_path / str(seed), made)[1]]

    assert any(told in complaint for complaint in found)
