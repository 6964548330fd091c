"""Fixtures of the services' tests."""

from __future__ import annotations

import pytest

from unit.services.hooked import Hooked


@pytest.fixture
def hooked(tmp_path):
    """Give what makes a server with webhooks; each is closed at the end."""
    made = []

    def make(*endpoints, **sections):
        world = Hooked(tmp_path, *endpoints, **sections)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()
