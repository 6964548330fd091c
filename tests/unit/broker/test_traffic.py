"""What a user sends, charged once a read: who publishes too fast is held, who storms with requests is closed."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.broker.traffic import HELD_MAX_S, Traffic
from mesimqtt.engine.counters import Counters
from mesimqtt.settings import Rates


class Connection:
    """The engine's connection, as far as traffic is counted."""

    def __init__(self, user="alice"):
        self.user = user
        self.is_open = True
        self.seen = 0.0
        self.closed = []

    def close(self, reason, code):
        self.closed.append((reason, code))
        self.is_open = False


class World:
    """Traffic with counters that a test moves."""

    def __init__(self, **rates):
        self.counters = Counters()
        self.counted = []
        self.traffic = Traffic(replace(Rates(), **rates), self.counters, self.counted.append)

    def read(self, connection, messages=0, requests=0, now=100.0):
        """Play one read: so many PUBLISHes came, and so many packets that ask for something."""
        self.traffic.begin()
        self.counters.messages_in += messages
        self.counters.requests_in += requests
        return self.traffic.end(connection, now)


def test_a_fast_publisher_is_held_as_long_as_his_window_needs():
    """Within the window nothing happens; above it the wait is what is too much, and he does not count as silent."""
    world, alice = World(publishes="10:100"), Connection()

    assert 0.0 == world.read(alice, 100)
    assert 0.5 == round(world.read(alice, 5), 6)
    assert (100.5, ["publishes.held"]) == (round(alice.seen, 6), world.counted)
    assert 0.0 == world.read(alice, 5, now=101.0)
    assert [] == alice.closed


def test_the_devices_of_a_user_share_and_users_do_not():
    """A second connection of the same user is held, too; another user is not."""
    world = World(publishes="10:100")
    world.read(Connection(), 100)

    assert world.read(Connection(), 10) > 0
    assert 0.0 == world.read(Connection("bob"), 10)


def test_no_wait_is_longer_than_a_keep_alive_bears():
    """A great debt is paid in turns."""
    world = World(publishes="10:100")

    assert world.read(Connection(), 100_000) == HELD_MAX_S


def test_a_storm_of_requests_ends_the_connection():
    """PINGREQ, SUBSCRIBE and the like beyond the window: 0x96, and the count says so."""
    world, alice = World(requests="10:100"), Connection()
    world.read(alice, requests=100)
    assert [] == alice.closed
    world.read(alice, requests=1)

    assert [("too many requests", 0x96)] == alice.closed
    assert ["requests.flooded"] == world.counted


def test_messages_are_no_requests():
    """However many messages a client sends, its window of requests is as it was."""
    world, alice = World(requests="10:100"), Connection()
    world.read(alice, 100_000)

    assert [] == alice.closed


def test_off_costs_nothing():
    """Without windows there is no traffic to ask."""
    assert not World().traffic
    assert World(publishes="1:1").traffic


def test_who_is_gone_is_not_charged():
    """A read that ended the connection, or before CONNECT was accepted, charges nobody."""
    world, alice = World(publishes="10:1"), Connection()
    alice.is_open = False

    assert 0.0 == world.read(alice, 1_000)
    assert 0.0 == world.read(Connection(), 1)
