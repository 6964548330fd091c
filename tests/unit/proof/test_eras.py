"""A trial in parts: what one of them does to itself takes nothing from the others, and only tries count as tried."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mesimqtt.proof.processes.eras import Era, in_eras, main
from mesimqtt.proof.trial import Interrupted

TESTS = Path(__file__).parents[2]


def fine(seed, count, folder, done):
    """Try all that is asked for."""
    assert folder.is_dir()
    for _ in range(count):
        done()
    return Era([], {"messages": count, "took_ms": seed})


def stuck(seed, count, folder, done):
    """Come no further than the first try, in every second part."""
    if seed % 2:
        return fine(seed, count, folder, done)
    done()
    return Era(["stuck: no answer"], {"messages": 1, "took_ms": seed})


def breaking(seed, count, folder, done):
    """Break after the first try, in every second part."""
    if seed % 2:
        return fine(seed, count, folder, done)
    done()
    raise LookupError("nobody takes this")


def tried(part, count, tmp_path):
    """Run a part in eras of two tries."""
    told = []
    found = in_eras("kills", part, count, seed=1, size=2, folder=tmp_path, progress=told.append)
    assert list(range(1, found.tried + 1)) == told
    return found


def test_of_an_interrupted_trial_the_parts_that_are_over_count(tmp_path, monkeypatch):
    """The one that was running is left out: what it did was not looked at in the end."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))

    def progress(done):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        in_eras("kills", fine, 6, seed=1, size=2, folder=tmp_path, progress=progress, jobs=1)

    outcome = stopped.value.outcome
    assert (2, "1", 0, True) == (outcome.tried, outcome.seeds, outcome.failed, outcome.interrupted)
    assert {"messages": 2, "took_ms": 1} == outcome.figures


def test_what_was_tried_is_counted_not_what_was_asked_for(tmp_path, monkeypatch):
    """A part that is stuck after its first try has tried one; figures of all are put together as in a report."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    found = tried(stuck, 5, tmp_path)

    assert (4, 1, "1..3") == (found.tried, found.failed, found.seeds)
    assert {"messages": 4, "took_ms": 3} == found.figures
    assert "python -m mesimqtt.proof kills --count 2 --seed 2" == found.failures[0].repeat


def test_a_part_that_breaks_is_a_complaint_and_the_others_count(tmp_path, monkeypatch):
    """In a process of its own or in this one: the report says what broke where, and keeps what the rest has shown."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    beside = tried(breaking, 5, tmp_path)
    (tmp_path / "here").mkdir()
    here = in_eras(
        "kills", breaking, 2, seed=2, size=2, folder=tmp_path / "here", progress=lambda _: None
    )  # fmt: skip

    assert (4, 1) == (beside.tried, beside.failed)
    assert {"messages": 3, "took_ms": 3} == beside.figures
    assert (1, 1) == (here.tried, here.failed)
    for found in (beside, here):
        said = r"the trial itself broke: LookupError: nobody takes this \(test_eras\.py:\d+\)"
        assert re.fullmatch(said, found.failures[0].what)


def test_a_part_in_its_process_prints_what_broke(tmp_path, capsys):
    """Dots for tries, then one line of JSON, whatever came of it."""
    code = main([f"{__name__}:breaking", "2", "2", str(tmp_path)])
    dot, last = capsys.readouterr().out.splitlines()

    assert (0, ".") == (code, dot)
    assert json.loads(last)["complaints"][0].startswith("the trial itself broke: LookupError")
