"""When all was well in a history, and by when what was under way was done."""

from __future__ import annotations

from mesimqtt.proof.calm import Calm
from mesimqtt.proof.history import EVER_MS, Harmed

SLOW = Harmed(100_000, 110_000, "slow disk")


def test_all_is_well_where_nothing_was_harmed():
    """Harm to the server counts for all connections, harm to one for that one."""
    calm = Calm([SLOW, Harmed(200_000, 210_000, "stall", 3)])

    assert [True, False, False, True] == [
        calm.covers(*times, 3) for times in ((0, 99_999), (0, 100_000), (109_000, 300_000), (111_000, 199_000))
    ]
    assert [True, False] == [calm.covers(205_000, 206_000, connection) for connection in (2, 3)]


def test_what_is_under_way_is_done_in_seconds_of_calm():
    """At once where all is well; else when it has been well for half a minute and these seconds."""
    calm = Calm([SLOW, Harmed(140_000, 150_000, "busy"), Harmed(10_000, 300_000, "stall", 3)])

    assert [58_000, 188_001, 188_001, 208_000] == [calm.done_by(at) for at in (50_000, 95_000, 145_000, 200_000)]
    assert [208_000, 338_001] == [calm.done_by(200_000, connection) for connection in (2, 3)]


def test_a_cut_makes_nothing_late_it_loses_it():
    """What was on its way over a link that was cut, or to a server that died, is lost; a slow disk loses nothing."""
    calm = Calm([SLOW, Harmed(120_000, EVER_MS, "cut", 3), Harmed(200_000, 201_000, "no server")])

    assert 188_000 == calm.done_by(180_000, 3)
    assert [False, False, True] == [calm.loses(105_000, 130_000, connection) for connection in (0, 2, 3)]
    assert calm.loses(195_000, 205_000, 2)
