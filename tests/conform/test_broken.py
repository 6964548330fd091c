"""The kit against servers that are broken on purpose, each in one way: it must find just that, under its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from conform import proven
from conform.broken.between import Broken, with_password
from conform.virtual import Hall
from mesimqtt.proof.conform import report
from mesimqtt.proof.conform.runner import State

TALK = "C4.9"  # a message and its statuses, for the laws to look at
PAGE = Path(__file__).resolve().parents[2] / "docs/conformance.md"


@pytest.mark.parametrize("broken", proven.ALL, ids=lambda each: each.__name__)
def test_it_is_noticed(tmp_path, broken):
    """Each check that a broken server concerns says so: the statement, what was expected, and what came instead."""
    numbers = proven.ALL[broken].split()

    results, mishaps = proven.noticed(broken, tmp_path, TALK, *numbers)

    found = {
        each.statement.number: bool(each.expected and each.came)
        for each in results
        if each.state in {State.BROKEN, State.DIFFERS} and each.statement.number in numbers
    }
    assert (dict.fromkeys(numbers, True), []) == (found, mishaps)


class Deaf(Broken):
    """Lets everybody in, and delivers nothing."""

    def told(self, link, publish, raw):
        return []


class Locked(Broken):
    """Lets nobody in."""

    def greeted(self, link, raw):
        return with_password(raw, link.password, "no")


@pytest.mark.parametrize(("broken", "why"), [(Deaf, "C2.6"), (Locked, "C5.4")])
def test_a_closed_road_is_said_once(tmp_path, broken, why):
    """Where no message arrives, or nobody gets in, that is broken, and what needs a message is not reached."""
    results, mishaps = proven.noticed(broken, tmp_path, why, "C4.6", "C4.1", "C3.9")

    found = {each.statement.number: (each.state, each.why.partition(" ")[0]) for each in results}
    unreached = dict.fromkeys(("C4.6", "C4.1", "C3.9"), (State.UNREACHED, why))
    assert ({why: (State.BROKEN, ""), **unreached}, []) == (found, mishaps)


@pytest.mark.parametrize(
    ("only", "code", "last"),
    [
        ("C4.6", 2, "nothing was checked; not reached: C4.6"),
        ("C2.6", 1, "0 of 1 statements that were checked are kept; broken: C2.6"),
        ("C2.2", 0, "1 of 1 statements that were checked are kept"),
        ("C1.12", 2, "nothing was checked"),
        ("C9.9", 2, "nothing was checked"),
    ],
)
def test_what_could_not_be_tried_is_no_success(tmp_path, only, code, last):
    """On a closed road, where all is left out, and where nothing has that number, it ends with 2 and says so."""
    hall = Hall(tmp_path)
    results = hall.play(only, broken=Deaf(hall))
    hall.close()

    assert (code, last) == (report.exit_code(results), report.verdict(results))


def test_every_check_can_fail():
    """There is a broken server for each check of the kit: none is kept whatever a server does."""
    assert [] == proven.unseen()


def test_the_page_names_the_broken_servers():
    """docs/conformance.md has them as they are: PYTHONPATH=tests python -m conform.proven docs/conformance.md."""
    text = PAGE.read_text("utf-8")

    assert proven.renewed(text) == text
