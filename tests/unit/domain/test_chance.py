"""Chance: the system's, and a seed's that can be repeated."""

from mesimqtt.domain.chance import SYSTEM, SeededChance


def test_the_same_seed_draws_the_same():
    """A seed gives bytes, hex, numbers and letters again; another seed gives others."""

    def drawn(seed):
        chance = SeededChance(seed)
        return [
            chance.draw(8), chance.hex(4), chance.below(10**8), chance.letters("abc", 12), chance.fraction()
        ]  # fmt: skip

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_the_system_never_draws_the_same():
    """Of a hundred draws of 12 bytes no two are equal, each of its length."""
    drawn = {SYSTEM.hex(12) for _ in range(100)}

    assert (100, {24}) == (len(drawn), {len(each) for each in drawn})


def test_numbers_stay_below_their_bound():
    """Every number below a small bound comes, the bound itself never; a fraction is below one."""
    chance = SeededChance(7)

    assert {0, 1, 2} == {chance.below(3) for _ in range(200)}
    assert all(0 <= chance.fraction() < 1 for _ in range(200))
    assert set("xyz") == set(chance.letters("xyz", 200))
