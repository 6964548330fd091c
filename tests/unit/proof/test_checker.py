"""The checker of the kill loop: it passes what is right and finds each kind of wrong, so that a pass has a meaning."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesimqtt.proof.checker import Accepted, Delivery, StatusStep, check

ONE = Accepted("alice", "bob", "a1")
TWO = Accepted("alice", "bob", "a2", "SENT")
GOT_ONE = Delivery("bob", 1, "alice", "a1", "mid1", 1)
GOT_TWO = Delivery("bob", 1, "alice", "a2", "mid2", 2)


def told(cid: str, code: int, *, connection: int = 1, text: str = "", reason: str = "") -> StatusStep:
    """Return a status that alice was told of her message to bob."""
    return StatusStep("alice", connection, cid, cid.replace("a", "mid"), "bob", code, text or str(code), reason)


GOOD_STEPS = [told("a1", 1), told("a2", 1), told("a1", 2), told("a2", 2)]

GOOD = {
    "the usual": ([ONE, TWO], [GOT_ONE, GOT_TWO], GOOD_STEPS),
    "repeats after a crash": (
        [ONE, ONE, TWO],
        [GOT_ONE, replace(GOT_ONE, connection=2, dup=True), replace(GOT_TWO, connection=2)],
        [*GOOD_STEPS, told("a2", 2, connection=2)],
    ),
    "accepted unheard": ([ONE], [GOT_ONE, GOT_TWO], GOOD_STEPS),
    "steps missed while away": ([ONE], [GOT_ONE], [told("a1", 3, connection=2)]),
    "read after unconfirmed": (
        [],
        [GOT_ONE],
        [told("a1", 1), told("a1", 0x80, reason="unconfirmed"), told("a1", 3)],
    ),
    "two conversations": (
        [ONE, replace(TWO, receiver="carol")],
        [replace(GOT_TWO, receiver="carol", seq=1), GOT_ONE],
        GOOD_STEPS,
    ),
}

BAD = {
    "lost: a2 of alice for bob, accepted by SENT": ([ONE, TWO], [GOT_ONE], GOOD_STEPS),
    "doubled: a1": ([ONE], [GOT_ONE, replace(GOT_ONE, mid="mid9", seq=2)], GOOD_STEPS[:1]),
    "one mid for two": ([ONE], [GOT_ONE, replace(GOT_TWO, mid="mid1")], GOOD_STEPS[:1]),
    "repeated without a lost link": ([ONE], [GOT_ONE, GOT_ONE], GOOD_STEPS[:1]),
    "out of order": ([ONE, TWO], [GOT_TWO, GOT_ONE], GOOD_STEPS),
    "got seq 1 of alice after 2": ([ONE, TWO], [GOT_TWO, replace(GOT_ONE, connection=2)], GOOD_STEPS),
    "gap: bob never got seq [1]": ([TWO], [GOT_TWO], [told("a2", 2)]),
    "as seq 1 and as 3": ([ONE], [GOT_ONE, replace(GOT_ONE, connection=2, seq=3)], GOOD_STEPS[:1]),
    "is two messages": ([ONE], [GOT_ONE, replace(GOT_TWO, connection=2, seq=1)], GOOD_STEPS[:1]),
    "backward: a1 of alice went from 2 to 1": ([ONE], [GOT_ONE], [told("a1", 2), told("a1", 1)]),
    "went from 3 to 2": ([ONE], [GOT_ONE], [told("a1", 3), told("a1", 2)]),
    "went from 132 to 2": ([ONE], [GOT_ONE], [told("a1", 0x84), told("a1", 2)]),
    "went from 2 to 132": ([ONE], [GOT_ONE], [told("a1", 2), told("a1", 0x84)]),
    "went from 128 to 3": ([ONE], [GOT_ONE], [told("a1", 0x80, reason="store"), told("a1", 3)]),
    "a repeat differs": ([ONE], [GOT_ONE], [told("a1", 2), told("a1", 2, text="2 again")]),
    "is mid1 and midx": ([ONE], [GOT_ONE], [told("a1", 2), replace(told("a1", 2), mid="midx")]),
    "guessed: a2": ([ONE], [GOT_ONE], GOOD_STEPS),
    "mixed up: mid2": ([ONE], [GOT_ONE, replace(GOT_TWO, cid="a7")], GOOD_STEPS),
    "no verdict: a1": ([ONE], [GOT_ONE], [told("a1", 1)]),
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_a_good_history_passes(history: tuple[list[Accepted], list[Delivery], list[StatusStep]]) -> None:
    """Repeats after a crash, steps missed while away and acknowledgements that were never heard are no faults."""
    assert [] == check(*history)


@pytest.mark.parametrize(("complaint", "history"), BAD.items(), ids=BAD)
def test_a_bad_history_is_found_out(
    complaint: str, history: tuple[list[Accepted], list[Delivery], list[StatusStep]]
) -> None:
    """Each kind of wrong is named."""
    assert [] != [found for found in check(*history) if complaint in found]
