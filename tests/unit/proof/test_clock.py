"""The trial of the stepping clock: it holds only where the clock did step."""

from __future__ import annotations

import json
import random
import time

import pytest

from mesimqtt.proof.processes.clock import STEPS, Clock, Now

DAY_MS = 86_400_000


def test_a_clock_that_does_not_step_proves_nothing(tmp_path):
    """Where the library does nothing for a process, the trial is skipped and says so."""
    outcome = Clock(str(tmp_path / "libnothing.so")).run(1, seed=1, folder=tmp_path, progress=print)

    assert (0, True) == (outcome.tried, outcome.skipped.startswith("the clock did not step:"))


def test_without_env_it_is_skipped_and_says_so(monkeypatch, tmp_path):
    """Where PATH has no `env`, which gives one process another clock, nothing is tried and the reason is told."""
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = Clock("libfaketime.so").run(1, seed=1, folder=tmp_path, progress=print)

    assert (0, "another time for one process needs the command env: it is nowhere in PATH") == (
        outcome.tried,
        outcome.skipped,
    )


def test_each_step_leads_elsewhere(tmp_path):
    """No step is drawn that leads to where the clock is."""
    now, chance, found = Now(tmp_path / "now"), random.Random(1), set()
    for _ in range(200):
        before = now.offset
        now.step_away(chance)
        found.add((before, now.path.read_text("ascii")))

    assert {(old, new) for old in STEPS for new in STEPS if old != new} == found


@pytest.mark.parametrize(("started", "off_ms", "is_its"), [("+1d", DAY_MS, True), ("+1d", 0, False), ("+0", 0, True)])
def test_a_status_is_of_the_clock_at_the_start(tmp_path, started, off_ms, is_its):
    """A running server does not follow a step; a restarted one has the clock as it is then, and no other will do."""
    now = Now(tmp_path / "now")
    now.started = started
    now.step("-1h")

    assert is_its is now.is_in([json.dumps({"cid": "1", "ts": int(time.time() * 1000) + off_ms})])
