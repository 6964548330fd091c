"""A message that is committed while the store cannot be read reaches who is online all the same, in its order."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.testing.faults import FaultyDatabase


@pytest.mark.parametrize("at", ["SELECT floor", "SELECT u.user_id"])
@pytest.mark.parametrize("to", ["u/bob", "g/team"])
def test_the_next_message_is_not_the_first(world, to, at):
    """What could not be handed over is read again, before what comes next.

    Found by the trial `disk-faults`, number 390: the next message counted as the first, and this one as passed over.
    """
    world.user("alice", "bob")
    world.group("team", "alice", "bob")
    bob = world.listener("bob", filters=("u/#", "g/#"))
    alice = world.listener("alice", filters=("status/#",))
    database = world.store._database = FaultyDatabase(world.store._database)
    database.at, database.code = at, sqlite3.SQLITE_IOERR_READ
    alice.publish(f"{to}/1", "one")
    database.code = 0
    alice.publish(f"{to}/2", "two")
    world.advance(1.5)

    assert ["one", "two"] == bob.payloads(to[0])
    assert {("1", 2), ("2", 2)} <= set(alice.steps())
