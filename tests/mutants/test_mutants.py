"""The planted bugs themselves: each can still be planted, and whoever plants one is told the truth about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mutants.catalogue import Bug, BugError, read, read_all
from mutants.copies import HOME, Copy, CopyError
from mutants.planted import BUGS, KILLED, SURVIVED, checked, judge

if TYPE_CHECKING:
    from pathlib import Path

PROMISES = {f"P{number}" for number in (*range(1, 14), 15, 17, 18, 20)} | {"N1", "N2"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree."""
    return Copy(tmp_path_factory.mktemp("mutants") / "copy")


@pytest.fixture
def bug() -> Bug:
    """A planted bug whose tests need little."""
    return replace(read(BUGS / "mid-counter-overflows.toml"), wider=("tests/unit/domain/test_ids.py",))


def test_every_bug_can_be_planted() -> None:
    """What a bug replaces stands once in its file, what comes of it is Python, and its tests exist.

    Where the code changed under one, bring its `old` and `new` up to date: it still attacks the same promise.
    """
    bugs = checked(read_all(BUGS))

    assert len(bugs) >= 36


def test_every_promise_is_attacked() -> None:
    """Each promise that the suite is to keep has a bug that breaks it."""
    attacked = {promise for each in read_all(BUGS) for promise in each.promise}

    assert set() == PROMISES - attacked


def test_a_bug_is_killed_and_a_harmless_change_survives(copy, bug) -> None:
    """A bug that a test notices is killed by that test; what changes nothing is reported as what it is: survived."""
    verdict = judge(copy, bug)
    harmless = replace(bug, old=bug.old, new=f"{bug.old}                # nothing else\n")
    other = judge(copy, harmless)

    assert (KILLED, bug.killed_by, "") == (verdict.outcome, verdict.by, verdict.but)
    assert (SURVIVED, ()) == (other.outcome, other.by)
    assert (HOME / bug.file).read_bytes() == (copy.folder / bug.file).read_bytes()


def test_a_process_of_a_test_has_the_copy(copy) -> None:
    """What a test starts imports the copy; a copy without the package is found out, not passed over."""
    copy.prove()
    (copy.folder / "mesimqtt").rename(copy.folder / "elsewhere")
    try:
        with pytest.raises(CopyError, match="would import mesimqtt from"):
            copy.prove()
        with pytest.raises(CopyError, match="which is not in the copy"):
            copy.pytest(["tests/unit/domain/test_ids.py"], timeout_s=60)
    finally:
        (copy.folder / "elsewhere").rename(copy.folder / "mesimqtt")


@pytest.mark.parametrize("old", ["no such text\n", "\n"])
def test_a_patch_that_does_not_fit_says_so(bug, old) -> None:
    """A text that is not there, or more than once, plants nothing."""
    with pytest.raises(BugError, match=r"stands \d+ times in mesimqtt/domain/ids.py, not once"):
        replace(bug, old=old).planted((HOME / bug.file).read_text(encoding="utf-8"))


def test_a_patch_that_is_no_python_says_so(bug) -> None:
    """A bug that no interpreter would run would be killed by anything."""
    with pytest.raises(BugError, match="no Python any more"):
        replace(bug, new="def (\n").planted((HOME / bug.file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title =", "Invalid value"),
        ('title = "x"', "should have"),
        (
            'title = "x"\npromise = ["P99"]\nsuffers = "x"\nfile = "x"\nold = "a"\nnew = "b"\nkilled_by = ["x"]',
            "unknown promises: \\['P99'\\]",
        ),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text, told) -> None:
    """What is wrong with a file is one sentence with its name."""
    (tmp_path / "wrong.toml").write_text(text)

    with pytest.raises(BugError, match=f"wrong.toml: .*{told}"):
        read(tmp_path / "wrong.toml")


def test_names_choose_bugs() -> None:
    """Bugs can be chosen by name; one that is not there is named."""
    assert ["window-65"] == [each.name for each in read_all(BUGS, ["window-65"])]
    with pytest.raises(BugError, match="no planted bug called nonsense"):
        read_all(BUGS, ["nonsense"])
