"""A flipped bit in a text of the store, of which no structure tells, hinders neither a start nor anybody else.

A bit makes a text no UTF-8, no number, no JSON, or, in front of the row, bytes in place of a text.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing

import pytest

from unit.messaging.world import World
from unit.store.rows import unsealed

NO_UTF8 = "CAST({0} || x'ff' AS TEXT)"
BYTES = "CAST({0} AS BLOB)"
OTHER = "replace(replace({0}, '\"', '#'), '-', '=')"
COLUMNS = [
    ("lane", "acked_above"), ("lane", "delivered_above"), ("lane", "read_above"), ("lane", "failed"), ("lane", "gaps"),
    ("lane", "read_payload"), ("cursor", "acked_above"), ("device", "filters"), ("user", "profile"),
    ('"group"', "profile"), ("step", "device"), ("step", "reason"),
]  # fmt: skip


@pytest.fixture
def world(tmp_path):
    """A server on which something waits for bob, of two and of a group, and which has each kind of row."""
    world = World(tmp_path / "data")
    with closing(world):
        fill(world)
        yield world


def fill(world):
    world.user("alice", "bob", "carol", "dora")
    world.do("user_set", address="bob", profile={"name": "Bob"}, rules={"outgoing": "on"})
    world.do("privacy_set", user="bob", privacy={"last_seen": "nobody"})
    world.do("policy_set", name="shop", rules={"outgoing": "on"})
    world.listener("bob").lose()
    world.group("team", "alice", "bob")
    world.connect("alice").publish("u/bob/1", "for bob")
    world.connect("alice", "laptop").publish("g/team/2", "for the team")
    world.advance(2)
    statement = "UPDATE {0} SET {1} = '7-9' WHERE {1} = ''"
    for column in ("acked_above", "delivered_above", "read_above", "failed"):
        world.store.read.execute(statement.format("lane", column))
    world.store.read.execute(statement.format("cursor", "acked_above"))


@pytest.mark.parametrize("change", [NO_UTF8, BYTES, OTHER])
@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_it_hinders_nobody_else(world, table, column, change, caplog):
    """It starts, who waits gets what is his, whoever writes is acknowledged, and no mistake of ours is logged."""
    statement = "UPDATE {} SET {} = {}"
    world.store.read.execute(statement.format(table, column, change.format(column)))
    with caplog.at_level(logging.ERROR):
        world.restart()
        carol, alice, dora = world.connect("carol"), world.connect("alice"), world.listener("dora")
        assert [True] * 4 == [
            carol.publish("u/dora/1", "for dora"), carol.publish("u/bob/2", "also for bob"),
            alice.publish("u/dora/3", "of alice"), alice.publish("g/team/4", "to all"),
        ]  # fmt: skip
        world.advance(2)
        bob = world.connect("bob")
        world.advance(2)

    assert ["for dora", "of alice"] == dora.payloads("u/")
    assert {"for bob", "also for bob"} <= set(bob.payloads("u/"))
    assert [] == [record.getMessage() for record in caplog.records if record.exc_info]


SEALED = [
    ("user", "rules"), ("user", "privacy"), ("user", "policy"), ("user", "active"), ("user", "address"),
    ("member", "role"), ("policy", "rules"), ("policy", "name"), ("token", "scope"), ("token", "user_id"),
]  # fmt: skip


@pytest.mark.parametrize("change", [NO_UTF8, BYTES, OTHER])
@pytest.mark.parametrize(("table", "column"), SEALED)
def test_whoever_is_damaged_himself_hinders_nobody_else(world, table, column, change, caplog):
    """Of the first row of each table: he and what is his is left out, and the log says so; all others go on."""
    statement = "UPDATE {} SET {} = {} || 'x' WHERE {}"
    first = {"user": "id = 1", "member": "user_id = 1", "policy": "name = 'shop'", "token": "user_id = 1"}[table]
    with closing(sqlite3.connect(world.store.where + "/mesimqtt.db", isolation_level=None)) as connection:
        unsealed(connection)
        connection.execute(statement.format(table, column, change.format(column), first))
    with caplog.at_level(logging.ERROR):
        world.restart()
        carol, dora, alice = world.connect("carol"), world.listener("dora"), world.connect("alice")
        if not alice.is_closed:
            alice.publish("u/dora/3", "of alice")
        assert [True] * 2 == [carol.publish("u/dora/1", "for dora"), carol.publish("u/bob/2", "also for bob")]
        world.advance(2)
        bob = world.connect("bob")
        world.advance(2)

    assert "for dora" in dora.payloads("u/")
    assert "also for bob" in bob.payloads("u/")
    assert [] == [record.getMessage() for record in caplog.records if record.exc_info]
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    ("column", "value"), [("status", 5), ("status", "x"), ("device", b"phone"), ("reason", b""), ("ts", b"\x01")]
)
def test_a_status_that_is_none_is_not_told(world, column, value):
    """What a sender missed behind it he is told all the same; it holds up none of his devices, and no repetition."""
    alice = world.listener("alice")
    alice.statuses()
    alice.lose()
    world.connect("alice", "laptop").publish("u/carol/7", "for carol")
    world.listener("carol").lose()
    world.advance(2)
    statement = "UPDATE step SET {} = ? WHERE change = (SELECT min(change) FROM step WHERE status = 2)"
    world.store.read.execute(statement.format(column), (value,))
    world.connect("alice", "laptop").publish("u/dora/8", "for dora")
    world.advance(2)
    world.restart()

    told = world.listener("alice").steps()

    assert ("8", 1) in told
    assert world.connect("alice", "laptop").publish("u/carol/7", "for carol")


def test_a_part_that_fails_holds_up_no_other(world):
    """What time has made due is done, whatever became of something before it; that it failed is raised all the same."""
    told = []

    class Failing:
        def tick(self, now):
            raise ValueError("damaged")

    class Later:
        def tick(self, now):
            told.append(now)

    world.messaging.search, world.messaging.webhooks = Failing(), Later()
    with pytest.raises(ValueError, match="damaged"):
        world.messaging.tick(world.now())

    assert [world.now()] == told
