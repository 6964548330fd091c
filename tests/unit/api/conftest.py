"""Fixtures of the API's tests: a server in virtual time with alice, bob and carol, and who asks it over HTTP."""

from __future__ import annotations

import pytest

from unit.api.asking import Asker
from unit.messaging.world import World


@pytest.fixture
def make_asker(tmp_path):
    """Return a maker of askers, each of a world with settings of its own."""
    made = []

    def make(**settings):
        world = World(tmp_path / f"data{len(made)}", **settings)
        made.append(world)
        world.user("alice", "bob", "carol", "shop", "root")
        asker = Asker(world)
        for user, scope in (("shop", "backend"), ("root", "admin")):
            world.tokens[user] = asker.token(user, scope)
        return asker

    yield make
    for world in made:
        world.close()


@pytest.fixture
def ask(make_asker):
    """Ask a server with default settings; shop has a token of scope backend, root one of scope admin."""
    return make_asker()
