"""Trials that go try by try: interrupted after some, they tell what these have shown."""

from __future__ import annotations

import pytest

from mesimqtt.proof.fuzz.trial import Parsers
from mesimqtt.proof.powercut import jobs
from mesimqtt.proof.powercut.jobs import Done
from mesimqtt.proof.trial import Interrupted


def after(tries):
    """Return a progress that somebody follows who presses Ctrl-C after so many tries."""

    def progress(done):
        if done >= tries:
            raise KeyboardInterrupt

    return progress


def job(seed, tries, folder):
    return Done(seed, tries, [f"lost in {seed}"], {"messages": 5.0})


def test_jobs(tmp_path):
    """Those that are over count, with what they found."""
    with pytest.raises(Interrupted) as stopped:
        jobs.run("cuts", job, 40, 10, seed=7, folder=tmp_path, progress=after(20))
    outcome = stopped.value.outcome

    assert (20, "7..26", 2, {"messages": 10.0}) == (outcome.tried, outcome.seeds, outcome.failed, outcome.figures)
    assert "python -m mesimqtt.proof cuts --count 10 --seed 17" == outcome.failures[1].repeat
    assert outcome.interrupted


def test_parsers(tmp_path):
    """So many inputs as were tried."""
    with pytest.raises(Interrupted) as stopped:
        Parsers().run(50, seed=3, folder=tmp_path, progress=after(20))
    outcome = stopped.value.outcome

    assert (20, "3..22", 0, True) == (outcome.tried, outcome.seeds, outcome.failed, outcome.interrupted)
