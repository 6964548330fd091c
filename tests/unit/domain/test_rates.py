"""Rate limits as windows: how they are written, that all of them hold, and that their memory is bounded."""

from __future__ import annotations

import random

import pytest

from mesimqtt.domain.errors import RateError
from mesimqtt.domain.rates import RateLimit, Window, parse_windows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("0", ()),
        ("60:30", (Window(60, 30),)),
        ("60:30, 600:60", (Window(60, 30), Window(600, 60))),
        ("0.5:10", (Window(0.5, 10),)),
    ],
)
def test_windows_are_seconds_and_how_many(text, expected):
    """`60:30,600:60` is 30 in 60 seconds and 60 in 600; nothing and 0 are no bound."""
    assert expected == parse_windows(text)


@pytest.mark.parametrize(
    "text",
    ["60", "60:", ":30", "60:30,", "60:x", "-1:5", "60:0", "nan:5", "inf:5", "60:1.5", "0:0", "1:1," * 9 + "1:1"],
)
def test_what_is_no_window_is_an_error_that_shows_one(text):
    """The text of the error says what to write instead."""
    with pytest.raises(RateError, match=r"SECONDS:COUNT|at most 8 windows"):
        parse_windows(text)


def test_a_window_is_full_and_leaves_room_again():
    """Three in 1.5 s: three at once, the fourth half a second later, the next three after all of them."""
    limit = RateLimit(parse_windows("1.5:3"))
    at_once = [limit.take("alice", 10.0) for _ in range(4)]
    later = [limit.take("alice", 10.5), limit.take("alice", 10.5)]

    assert [0.0, 0.0, 0.0, 0.5] == pytest.approx(at_once)
    assert [0.0, 0.5] == pytest.approx(later)
    assert [0.0] * 3 == [limit.take("alice", 12.0) for _ in range(3)]


def test_no_window_is_ever_overrun():
    """Whatever the moments: in the long run no more than each window says, and in no span more than twice as many."""
    chance = random.Random(7)
    limit = RateLimit(parse_windows("1:5,10:20"))
    now, taken = 0.0, []
    for _ in range(20_000):
        now += chance.expovariate(20)
        if not limit.take("alice", now):
            taken.append(now)

    assert len(taken) <= 2 * now + 20
    for seconds, most in ((1, 5), (10, 20)):
        spans = [
            sum(start <= at < start + seconds for at in taken[index : index + 3 * most])
            for index, start in enumerate(taken)
        ]
        assert max(spans) <= 2 * most


def test_who_waits_as_told_is_let_through():
    """What `take` returns is enough: nobody is sent away twice."""
    limit = RateLimit(parse_windows("1:3,7:10"))
    now = 0.0
    for _ in range(1_000):
        if wait := limit.take("alice", now):
            now += wait
            assert 0.0 == limit.take("alice", now)


def test_keys_do_not_share():
    """One user's haste is not another's."""
    limit = RateLimit(parse_windows("60:1"))

    assert [0.0, 0.0, 60.0] == [limit.take("alice", 0.0), limit.take("bob", 0.0), limit.take("bob", 0.0)]


def test_a_charge_counts_what_has_happened():
    """More than fits is a debt: the wait lasts until all windows hold again."""
    limit = RateLimit(parse_windows("10:100"))

    assert [0.0, 0.0, 5.0] == pytest.approx(
        [limit.charge("a", 0.0, 60), limit.charge("a", 0.0, 40), limit.charge("a", 0.0, 50)]
    )
    assert pytest.approx(0.0) == limit.charge("a", 5.0, 0)


def test_memory_is_bounded():
    """Beyond the bound the key that was quiet longest is forgotten, and it alone."""
    limit = RateLimit(parse_windows("60:1"), keys_max=100)
    limit.take("first", 0.0)
    for number in range(99):
        limit.take(f"k{number}", 0.0)
    limit.charge("first", 0.0, 0)
    limit.take("one more", 0.0)

    assert 100 == len(limit)
    assert (60.0, 0.0) == (limit.wait_s("first", 0.0), limit.wait_s("k0", 0.0))


def test_no_windows_are_no_bound_and_no_memory():
    """A limit that is off lets everything pass and keeps nothing."""
    limit = RateLimit(())

    assert {0.0} == {limit.take("alice", 0.0) for _ in range(1_000)}
    assert (0, False) == (len(limit), bool(limit))


def test_a_state_can_be_taken_elsewhere():
    """What `state` gives, `restore` takes up; of other windows it is ignored."""
    before, after, other = (RateLimit(parse_windows(text)) for text in ("60:2", "60:2", "60:2,600:9"))
    before.charge("alice", 0.0, 2)
    for limit in (after, other):
        limit.restore("alice", before.state("alice"))

    assert (30.0, 0.0) == (after.wait_s("alice", 0.0), other.wait_s("alice", 0.0))
    assert (True, False) == (after.forget("alice"), after.forget("alice"))


def test_a_window_reads_as_people_say_it():
    """As the bench prints it."""
    assert "60/s, 200 at once" == str(parse_windows("3.3333:200")[0])
