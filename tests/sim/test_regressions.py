"""Seeds of the simulation that once broke a rule, each with what it found.

A seed lives another life when the simulation changes, so the fault itself has a test where it was mended; what is
kept here is the life that found it, as far as it goes today.
"""

from __future__ import annotations

import pytest

from mesimqtt.proof.sim.run import Plan, run

USUAL, ROUGH = Plan(minutes=3, messages_per_hour=2_000), Plan(minutes=4, messages_per_hour=2_500, harm=8)
FOUND = {
    4: (USUAL, "a read mark in the wrong conversation marked a transient message as read"),
    24: (USUAL, "what was only written at QoS 0 to a user who was deleted then never had a verdict"),
    3_022: (ROUGH, "what was scheduled before a crash, and due after it, had DUP=1 for the first time"),
    3_066: (Plan(minutes=3), "after visits in which nothing was handed over, and a stop, what was in flight had DUP=0"),
}


@pytest.mark.parametrize("seed", sorted(FOUND))
def test_a_seed_that_found_something_finds_nothing_any_more(tmp_path, seed):
    """No rule is broken any more in what these seeds live through."""
    plan, what = FOUND[seed]
    result = run(seed, tmp_path, plan)

    assert [] == result.complaints, what
