"""Names and choice of scenarios."""

from __future__ import annotations

import pytest

from mesimqtt.bench.scenarios import all_scenarios, select_scenarios
from mesimqtt.domain.errors import MesimqttError


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
    assert ["fanout-1000", "fanin-50-q0", "fanin-50-q1"] == names(["fan"])
    assert ["relay-q0-500", "relay-q1-500", "relay-q2-500"] == names(["relay-*-500"])


def test_quick_is_a_part_of_all() -> None:
    """`--quick` runs some of the scenarios, unless they are named."""
    assert set(names([], quick=True)) < set(names([]))
    assert ["relay-q2-500"] == names(["relay-q2-500"], quick=True)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """A wrong name yields one line with all names."""
    with pytest.raises(MesimqttError, match=r"no scenario is called 'fanuot'; there are: relay-q0-1, "):
        select_scenarios(["fanuot"], quick=False)


def test_a_scenario_names_its_users() -> None:
    """What needs tokens says for whom, so that only those are made."""
    found = {one.name: len(one.users) for one in all_scenarios() if one.users}

    assert {
        "connect": 4_000,
        "reconnect": 4_000,
        "inbox-20000": 2,
        "messaging-w100": 100,
        "messaging-w20": 100,
        "messaging-open": 100,
        "group": 100,
        "webhooks": 100,
        "webhooks-each-step": 100,
    } == found
