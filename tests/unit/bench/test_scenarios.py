"""Names and choice of scenarios."""

from __future__ import annotations

import pytest

from mesimqtt.bench.loop import BenchError
from mesimqtt.bench.scenarios import all_scenarios, select_scenarios, users


def names(patterns: list[str], *, quick: bool = False) -> list[str]:
    return [one.name for one in select_scenarios(patterns, quick=quick)]


def test_names_are_unique() -> None:
    """Every scenario has a name of its own."""
    found = [one.name for one in all_scenarios()]

    assert len(found) == len(set(found))


def test_a_group_of_scenarios() -> None:
    """A pattern selects what it names, what begins with it, or what it matches."""
    assert ["messaging-w100", "messaging-w20", "messaging-open"] == names(["messaging"])
    assert ["relay-q1-1", "relay-q1-50", "relay-q1-500"] == names(["relay-q1"])
    assert ["relay-q1-50"] == names(["relay-q1-50"])
    assert ["relay-q0-500", "relay-q1-500", "relay-q2-500"] == names(["relay-*-500"])


def test_quick_is_a_part_of_all() -> None:
    """`--quick` runs some of the scenarios, unless they are named."""
    assert set(names([], quick=True)) < set(names([]))
    assert ["relay-q2-500"] == names(["relay-q2-500"], quick=True)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """A wrong name yields one line with all names."""
    with pytest.raises(BenchError, match=r"no scenario is called 'fanuot'; there are: relay-q0-1, "):
        select_scenarios(["fanuot"], quick=False)


def test_every_user_once() -> None:
    """Pairs, connects and the inbox have their users, none of them twice."""
    found = users()

    assert {"alice", "bob", "a0", "b49", "c0000"} <= set(found)
    assert len(found) == len(set(found))
