"""What a socket has not taken: the bytes in their order, the large ones once for all who wait for them."""

from __future__ import annotations

import random

import pytest

from mesimqtt.broker.unwritten import CHUNKS_MAX, SHARED_MIN, Unwritten, rest_of

LARGE = b"L" * SHARED_MIN


def drained(unwritten: Unwritten, sizes: random.Random) -> bytes:
    """Take everything as a socket does: some bytes of what is offered, again and again."""
    taken = b""
    while unwritten.size:
        offered = b"".join(unwritten.first())
        written = min(len(offered), sizes.choice((1, 5, 700, SHARED_MIN - 1, SHARED_MIN, 3 * SHARED_MIN)))
        taken += offered[:written]
        unwritten.advance(written)
    return taken


@pytest.mark.parametrize("seed", range(20))
def test_bytes_keep_their_order(seed):
    """Small and large chunks of every kind, added and taken in turn, come out as they went in."""
    rng = random.Random(seed)
    unwritten, wanted, taken = Unwritten(), b"", b""
    for _ in range(60):
        data = rng.randbytes(rng.choice((1, 3, 100, SHARED_MIN - 1, SHARED_MIN, 2 * SHARED_MIN + 7)))
        unwritten.add(rng.choice((bytes, bytearray, memoryview))(data))
        wanted += data
        if rng.random() < 0.5:
            offered = b"".join(unwritten.first())
            written = rng.randrange(len(offered) + 1)
            taken += offered[:written]
            unwritten.advance(written)
        assert len(wanted) - len(taken) == unwritten.size

    assert wanted == taken + drained(unwritten, rng)
    assert [] == unwritten.first()


def test_large_bytes_are_shared():
    """Two who wait for the same large bytes hold the same object, from wherever on each of them wants it."""
    ann, ben = Unwritten(), Unwritten()
    for unwritten in (ann, ben):
        unwritten.add(b"head")
        unwritten.add(LARGE)
    ben.advance(4 + 10)

    assert ann.first()[1] is LARGE
    (left,) = ben.first()
    assert isinstance(left, memoryview)
    assert left.obj is LARGE
    assert LARGE[10:] == left


def test_what_may_change_is_copied():
    """A large buffer that its owner uses again afterwards is written as it was."""
    unwritten, buffer = Unwritten(), bytearray(LARGE)
    unwritten.add(buffer)
    unwritten.add(memoryview(buffer))
    buffer[:] = b"x" * len(buffer)

    assert LARGE + LARGE == b"".join(unwritten.first())


def test_small_chunks_are_one():
    """A thousand small chunks are one buffer; after a large one another begins."""
    unwritten = Unwritten()
    for _ in range(1_000):
        unwritten.add(b"small")
    unwritten.add(LARGE)
    unwritten.add(b"s")
    unwritten.add(b"s")

    assert [5_000, SHARED_MIN, 2] == [len(chunk) for chunk in unwritten.first()]


def test_the_socket_is_offered_a_bounded_number():
    """However many large chunks wait, the system is given no more than it takes."""
    unwritten = Unwritten()
    for _ in range(3 * CHUNKS_MAX):
        unwritten.add(LARGE)

    assert CHUNKS_MAX == len(unwritten.first())
    assert 3 * CHUNKS_MAX * SHARED_MIN == unwritten.size


@pytest.mark.parametrize("written", range(7))
def test_the_rest_of_chunks(written):
    """What is left after so many bytes: whole chunks as they are, the one in which it ends from there on."""
    assert b"abcdef"[written:] == b"".join(rest_of([b"ab", b"c", b"def"], written))
