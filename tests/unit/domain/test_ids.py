"""Mids: 42 bits of milliseconds, 8 of node, 14 of counter; never twice, never backwards (contract section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesimqtt.domain.ids import EPOCH_MS, MidFactory, first_mid_at, format_mid


class Clock:
    """A clock that says what it is told."""

    def __init__(self, ms: int = EPOCH_MS + 1_000_000) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


def test_a_mid_says_when_it_was_drawn():
    """Its first 42 bits are the milliseconds since 2020."""
    clock = Clock()
    mid = MidFactory(clock, node=7).draw()

    assert (clock.ms, 7, 0) == ((mid >> 22) + EPOCH_MS, mid >> 14 & 0xFF, mid & 0x3FFF)
    assert 1_000_000 << 22 | 7 << 14 == mid


@given(st.lists(st.integers(-5_000, 5_000), min_size=1, max_size=50), st.integers(1, 40))
def test_mids_only_grow(jumps, per_moment):
    """Whatever the clock does, back too, every mid is larger than all before it."""
    clock = Clock()
    factory = MidFactory(clock)
    drawn = []
    for jump in jumps:
        clock.ms += jump
        drawn += [factory.draw() for _ in range(per_moment)]

    assert sorted(set(drawn)) == drawn


def test_a_full_counter_goes_on_in_the_next_millisecond():
    """More than 16 384 in one millisecond are still apart and in order, under the same node."""
    factory = MidFactory(Clock(), node=255)
    drawn = [factory.draw() for _ in range(40_000)]

    assert sorted(set(drawn)) == drawn
    assert {255} == {mid >> 14 & 0xFF for mid in drawn}


def test_a_restart_goes_on_above_the_last_mid_of_the_store():
    """Also where the clock was set back meanwhile."""
    clock = Clock()
    last = [MidFactory(clock).draw() for _ in range(3)][-1]
    clock.ms -= 86_400_000

    again = MidFactory(clock, after=last)

    assert last < again.draw() < again.draw()


@pytest.mark.parametrize("offset", [-1000, 0, 1, 86_400_000])
def test_drawing_at_a_given_time_keeps_the_order(offset):
    """A moment that is already known need not be asked for again."""
    clock = Clock()
    factory = MidFactory(clock)
    first = factory.draw()

    assert first < factory.draw_at(clock.ms + offset) < factory.draw()


@given(st.integers(0, 2**63 - 1))
def test_text_and_number_are_the_same_mid(mid):
    """16 hex digits, lower case, in the order of the numbers."""
    text = format_mid(mid)

    assert (16, mid, text) == (len(text), int(text, 16), text.lower())


def test_the_first_mid_of_a_moment():
    """It is not larger than any mid drawn then, and larger than all of the moment before."""
    clock = Clock()
    mid = MidFactory(clock).draw()

    assert first_mid_at(clock.ms) <= mid < first_mid_at(clock.ms + 1)
    assert 0 == first_mid_at(0)
