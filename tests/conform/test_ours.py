"""The kit against our own server, in virtual time: nothing is broken, and a restart is tried, too."""

from __future__ import annotations

from conform.virtual import CAP, Hall
from mesimqtt.proof.conform.runner import State, broken

# What the virtual server does not have, or nobody can see: see docs/conformance.md.
LEFT_OUT = [
    "C1.12",
    "C2.67",
    "C3.34",
    "C3.35",
    "C4.15",
    "C4.17",
    "C4.23",
    "C4.44",
    "C4.45",
    "C4.56",
    "C5.5",
    "C5.10",
    "C5.12",
    "C5.16",
]


def test_ours_keeps_the_contract(tmp_path):
    """All that a few seconds show is kept, and what is left out is known."""
    hall = Hall(tmp_path)
    results = hall.play()
    hall.close()

    assert [] == broken(results)
    assert LEFT_OUT == [each.statement.number for each in results if each.state is State.UNCHECKED]


def test_ours_keeps_its_cap(tmp_path):
    """The checks of a full inbox are kept where one is configured."""
    hall = Hall(tmp_path, messaging={"inbox_messages_max": CAP})
    results = hall.play("C3.34", "C4.17", inbox_cap=CAP)
    hall.close()

    assert [State.KEPT] * 2 == [each.state for each in results]
