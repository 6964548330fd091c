"""Rules about how a message is handed over: a history that breaks each, and one beside it that breaks nothing."""

from __future__ import annotations

from dataclasses import replace

from unit.proof.stories import good, rules_of


def test_what_comes_for_the_first_time_is_no_duplicate():
    """DUP=1 on what was made after the device had subscribed is told; on what is older it may be right."""
    history = good()
    history.got[0] = replace(history.got[0], dup=True)

    assert {"marked again"} == rules_of(history)
    history.online[1] = replace(history.online[1], at=1_016, written=1_015)
    assert set() == rules_of(history)
