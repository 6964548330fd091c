"""The last seq of a conversation is damaged in the store: what waits is given, and no seq is given twice."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from unit.messaging.world import CheckedWorld, seq_of


@pytest.fixture
def world(tmp_path):
    """A server on which three messages wait for bob."""
    world = CheckedWorld(tmp_path / "data")
    world.user("alice", "bob", "carol")
    world.listener("bob").lose()
    alice = world.connect("alice")
    for number in (1, 2, 3):
        alice.publish(f"u/bob/{number}", str(number))
    world.advance(2)
    yield world
    world.close()


def set_back(world, seq=1):
    world.store.read.execute("UPDATE conversation SET last_seq = ?", (seq,))


def test_what_waits_beyond_it_is_given(world, caplog):
    """A start puts it right, and says so: what was accepted waits for nobody to write first."""
    set_back(world)
    with caplog.at_level(logging.ERROR):
        world.restart()

    assert ["1", "2", "3"] == world.connect("bob").payloads()
    assert "the last seq of conversation 1 was damaged" in caplog.text


@pytest.mark.parametrize("seq", [0, 1, -5])
def test_no_seq_is_given_twice(world, seq):
    """Found while nobody has looked: the next message goes behind the others, and hinders nobody else's."""
    set_back(world, seq)
    world.settings = replace(world.settings, store=replace(world.settings.store, check_s=0))
    world.restart()
    alice, carol = world.connect("alice"), world.connect("carol")
    alice.publish("u/bob/4", "4")
    carol.publish("u/bob/c", "of carol")
    found = world.listener("bob").received("u/")

    assert [(1, "1"), (1, "of carol"), (2, "2"), (3, "3"), (4, "4")] == sorted(
        (seq_of(message), message.payload.decode()) for message in found
    )


def test_it_is_put_right_beside_the_work(world):
    """Where the start had no time for a look, who comes after the look gets what waits."""
    set_back(world, 0)
    world.store.odd.strays.append(1)
    world.advance(2)

    assert ["1", "2", "3"] == world.connect("bob").payloads()
