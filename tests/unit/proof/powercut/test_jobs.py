"""Tries in jobs: each is repeated by the command that a failure names, and the log is left as it was."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from mesimqtt.proof.powercut import jobs
from mesimqtt.proof.powercut.jobs import Done
from mesimqtt.proof.trial import quiet


@pytest.fixture
def level():
    """Logging as somebody else has left it: up to DEBUG nothing is said."""
    before = logging.root.manager.disable
    logging.disable(logging.DEBUG)
    yield logging.DEBUG
    logging.disable(before)


def work(seed, tries, folder):
    """Fail once, and say what was logged meanwhile."""
    assert folder.is_dir()
    return Done(seed, tries, ["lost"], {"silent": float(logging.root.manager.disable == logging.CRITICAL)})


def test_the_command_of_a_failure_is_of_its_job(tmp_path, level):
    """The last job may be shorter than the others, and so is what is repeated; nothing of the job is logged."""
    found = jobs.run("cuts", work, 7, 3, seed=5, folder=tmp_path, progress=lambda _: None)

    again = [each.repeat.removeprefix("python -m mesimqtt.proof cuts ") for each in found.failures]
    assert ["--count 3 --seed 5", "--count 3 --seed 8", "--count 1 --seed 11"] == again
    assert {"silent": 3.0} == found.figures
    assert level == logging.root.manager.disable


def test_what_is_silenced_is_as_loud_as_before(level):
    """Also within one another, and after an error."""
    with quiet():
        with quiet(logging.NOTSET):
            assert logging.NOTSET == logging.root.manager.disable
        assert logging.CRITICAL == logging.root.manager.disable
    assert level == logging.root.manager.disable
    with pytest.raises(LookupError), quiet():
        raise LookupError

    assert level == logging.root.manager.disable


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "raise ImportError('undefined symbol:\\n no_such_thing')",
            jobs.BROKEN_APSW.format("undefined symbol: no_such_thing"),
        ),
        (
            "",
            jobs.BROKEN_APSW.format("module 'apsw' has no attribute 'SQLITE_ERROR'"),
        ),
        ("raise ModuleNotFoundError('no apsw', name='apsw')", "needs apsw: pip install 'mesimqtt[proof]'"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_said_in_a_sentence(tmp_path, source, reason):
    """A broken wheel, half of one and none: the trial is skipped, and says what to do; a mistake of ours is none."""
    (tmp_path / "apsw.py").write_text(source)
    alone = subprocess.run(
        [sys.executable, "-m", "mesimqtt.proof", "cuts"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, f"cuts: skipped: {reason}\n", "") == (alone.returncode, alone.stdout, alone.stderr)
