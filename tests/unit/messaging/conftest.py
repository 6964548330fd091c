"""Fixtures of the messaging tests: a server in virtual time, with alice and bob."""

from __future__ import annotations

import pytest

from unit.messaging.world import World


@pytest.fixture
def make_world(tmp_path):
    """Return a maker of worlds with settings of their own; alice, bob and carol are users of each."""
    made = []

    def make(**settings):
        world = World(tmp_path / f"data{len(made)}", **settings)
        made.append(world)
        world.user("alice", "bob", "carol")
        return world

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world):
    """A server with default settings."""
    return make_world()
