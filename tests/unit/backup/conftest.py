"""Fixtures of the backups' tests: a data folder as a server leaves it, and what time it is."""

from __future__ import annotations

import pytest

from mesimqtt.store.layout import SECRET_NAME
from unit.messaging.world import SECRET, START_MS, World

NOW_S = START_MS / 1000 + 3600


@pytest.fixture
def world(tmp_path):
    """A server with alice and bob, who have a few messages."""
    world = World(tmp_path / "data")
    (tmp_path / "data" / SECRET_NAME).write_bytes(SECRET)
    (tmp_path / "data" / SECRET_NAME).chmod(0o600)
    world.user("alice", "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(3):
        alice.publish(f"u/bob/{number}", f"message {number}")
    bob.lose()
    alice.publish("u/bob/waits", "waits")
    world.advance(2)
    yield world
    world.close()


@pytest.fixture
def data(world):
    """The data folder of that server, which has it open."""
    return world.folder


@pytest.fixture
def shelf(tmp_path):
    """A folder for backups, which is not there yet."""
    return tmp_path / "backups"
