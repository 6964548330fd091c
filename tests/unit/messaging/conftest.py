"""Fixtures of the messaging tests: a server in virtual time, with alice and bob."""

from __future__ import annotations

from contextlib import closing

import pytest

from mesimqtt.domain.findings import Level
from mesimqtt.store.database import FILE_NAME, open_reader
from mesimqtt.store.inspection import consistency
from mesimqtt.store.inspection_base import View
from unit.messaging.world import World


@pytest.fixture
def make_world(tmp_path, request):
    """Return a maker of worlds with settings of their own; alice, bob and carol are users of each.

    Whatever a test did, what it leaves in the store is consistent as `mesimqtt check` sees it, unless it `damages`.
    """
    made = []

    def make(**settings):
        world = World(tmp_path / f"data{len(made)}", **settings)
        made.append(world)
        world.user("alice", "bob", "carol")
        return world

    yield make
    for world in made:
        world.close()
        assert request.node.get_closest_marker("damages") or [] == faults(world)


def faults(world):
    """Return what is wrong with what a world leaves behind."""
    view = View(now_ms=world.ms, expiry_default_s=world.settings.messaging.expiry_default_s)
    with closing(open_reader(world.folder / FILE_NAME)) as connection:
        return [each for each in consistency(connection, view) if each.level is not Level.OK]


@pytest.fixture
def world(make_world):
    """A server with default settings."""
    return make_world()
