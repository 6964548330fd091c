"""Numbers that damage has brought near 2^63: found and put right at the start, and nobody's messages stop for them."""

from __future__ import annotations

import itertools
import logging
from contextlib import closing

import pytest

from mesimqtt.store import ends
from mesimqtt.testing import wire5
from unit.messaging import five
from unit.messaging.world import CheckedWorld, World

HIGH = 1 << 62


def made(kind, folder):
    """A server with something of each number that grows: messages, statuses, devices, sessions, a scheduled one."""
    world = kind(folder)
    world.user("alice", "bob", "carol")
    bob = world.listener("bob")
    bob.subscribe("free/#")
    alice = world.listener("alice")
    alice.publish("u/bob/1", "one")
    alice.publish("u/carol/2", "two")
    alice.publish("u/bob/later/when=3600", "later")
    world.advance(2)
    for peer in (alice, bob):
        peer.lose()
    world.advance(2)
    return world


def goes_on(world):
    """Return what is told of a message to bob, and what he gets of it; he has had the first one."""
    bob, alice = world.listener("bob"), world.listener("alice")
    alice.publish("u/bob/3", "three")
    world.advance(2)
    return sorted(status for cid, status in alice.steps() if cid == "3"), bob.payloads("u/alice")


def raised(world, table, column):
    """Set the highest bit of the highest number, as a flipped bit does; return how many rows there were."""
    statement = "UPDATE {0} SET {1} = {1} + ? WHERE {1} = (SELECT max({1}) FROM {0})"
    return world.store.read.execute(statement.format(table, column), (HIGH,)).rowcount


def values(world, table, column):
    return world.rows(f"SELECT {column} FROM {table} ORDER BY 1")  # noqa: S608 - names of ours


FILLED = [place for place in ends.COUNTED if place[0] not in {"will", "outbox", "dead_letter", "webhook"}]


@pytest.mark.parametrize(("table", "column"), FILLED)
def test_it_is_put_right_at_the_start(tmp_path, caplog, table, column):
    """It is what it was before, the log says so, and everything goes on behind it."""
    world = made(CheckedWorld, tmp_path / "data")
    with closing(world), caplog.at_level(logging.ERROR):
        world.store.read.execute("INSERT INTO counter (name, value) VALUES ('other', ?)", (1 << 40,))
        before = values(world, table, column)
        assert raised(world, table, column) > 0
        assert before != values(world, table, column)
        world.restart()

        assert before == values(world, table, column)
        assert [] == ends.survey(world.store.read)
        assert f"column {column} of {table} had come to their end" in caplog.text
        assert ([1, 2], ["three"]) == goes_on(world)


@pytest.mark.parametrize(
    ("table", "column"), [("message", "id"), ("scheduled", "id"), ("device", "id"), ("session", "id")]
)
def test_nobody_waits_for_it_where_nobody_has_looked(tmp_path, table, column):
    """A database that is too large for a look at the start: what is new goes on from the highest number that can be."""
    world = made(World, tmp_path / "data")
    with closing(world):
        raised(world, table, column)
        world.restart()

        told, got = goes_on(world)

        assert ([1, 2], "three") == (told, got[-1])
        assert {"carol"} == {peer.user for peer in [world.listener("carol", "new")] if not peer.is_closed}


def test_the_highest_will_of_all_keeps_no_other_from_being_kept(tmp_path):
    """Who comes with a will after that has it kept, and nobody's message fails for it."""
    world = made(World, tmp_path / "data")
    with closing(world):
        left = wire5.will("m/carol/out/u/alice/w", b"gone", qos=1)
        five.connect(world, "carol", "sensor", will=left)
        world.advance(2)
        world.store.read.execute("UPDATE will SET id = ?", (2 * HIGH - 1,))
        world.restart()
        world.advance(2)
        five.connect(world, "carol", "sensor", will=left)
        told, got = goes_on(world)

        assert ([1, 2], "three") == (told, got[-1])
        assert [(1,)] == world.rows("SELECT count(*) FROM will")


def test_a_session_that_is_what_it_was_is_not_said_to_be_lost(tmp_path, caplog):
    """Its number is part of its checksum, which tells what it was."""
    world = made(CheckedWorld, tmp_path / "data")
    with closing(world), caplog.at_level(logging.ERROR):
        world.store.read.execute("DROP TRIGGER session_changed")
        before = values(world, "session", "id")
        raised(world, "session", "id")
        world.restart()

        assert before == values(world, "session", "id")
        assert f"is put right: id is {before[-1][0]} again" in caplog.text
        assert "its client subscribes again" not in caplog.text
        assert "had come to their end" not in caplog.text


def test_it_is_put_right_beside_the_work(tmp_path, caplog):
    """Where the look goes on beside the work, it is mended by a commit of the server's."""
    world = made(World, tmp_path / "data")
    with closing(world), caplog.at_level(logging.INFO):
        raised(world, "conversation", "last_seq")
        counters = ((f"many/{number}",) for number in range(20_000))
        world.store.read.execute("BEGIN")
        world.store.read.executemany("INSERT INTO counter (name, value) VALUES (?, 0)", counters)
        world.store.read.execute("COMMIT")
        clock = itertools.count()
        world.restart()
        world.store.check(lambda: next(clock))
        world.advance(2)

        assert "is checked beside the work" in caplog.text
        assert "column last_seq of conversation had come to their end" in caplog.text
        assert [] == ends.survey(world.store.read)


def test_a_number_that_another_row_has_stays_and_is_said(tmp_path, caplog):
    """Nothing is overwritten by it."""
    world = made(World, tmp_path / "data")
    with closing(world), caplog.at_level(logging.ERROR):
        read = world.store.read
        read.execute(f"INSERT INTO step SELECT sender_id, change + {HIGH}, 1, 2, 9, 9, 2, 1, '', '' FROM step")  # noqa: S608 - a number of ours
        (count,) = read.execute("SELECT count(*) FROM step").fetchone()
        read.execute("BEGIN")
        ends.put_right(read, ends.survey(read))
        read.execute("COMMIT")

        assert [(count,)] == world.rows("SELECT count(*) FROM step")
        assert "stay, for others have their numbers" in caplog.text
