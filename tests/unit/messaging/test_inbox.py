"""The inbox: conversations with their last message, what is unread and what waits."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.testing.faults import FaultyDatabase
from unit.messaging.world import World, mid_of


def lines(answer):
    """Return conversation, waiting, unread and last text of each line."""
    return [
        (each.get("peer") or each.get("group"), each["messages"], each["unread"], (each["last"] or {}).get("text"))
        for each in answer["conversations"]
    ]


def test_the_last_active_comes_first(world):
    """Each conversation stands there once, with its last message, whoever sent that."""
    alice, bob = world.connect("alice"), world.connect("bob")
    alice.publish("u/bob/1", "one")
    world.advance(1)
    world.connect("carol").publish("u/bob/1", "two")
    world.advance(1)
    bob.publish("u/alice/1", "three")

    answer = world.do("inbox", address="bob")

    assert [("alice", 1, 1, "three"), ("carol", 1, 1, "two")] == lines(answer)
    assert (2, 2, 6) == (answer["messages"], answer["unread"], answer["bytes"])
    assert ("1", 1) == tuple(answer["conversations"][0]["last"][key] for key in ("cid", "status"))


def test_waiting_ends_with_an_acknowledgement_and_unread_with_reading(world):
    """A device's acknowledgement leaves a message unread; its reading, or all up to it, does not."""
    alice, bob = world.connect("alice"), world.listener("bob")
    for number in range(5):
        alice.publish(f"u/bob/{number}", "x")
    assert [("alice", 0, 5, "x")] == lines(world.do("inbox", address="bob"))
    found = bob.received("u/")
    bob.publish("read/u/alice", mid_of(found[3]))
    assert [("alice", 0, 4, "x")] == lines(world.do("inbox", address="bob"))
    bob.publish("read/u/alice", f"<={mid_of(found[2])}")
    assert [("alice", 0, 1, "x")] == lines(world.do("inbox", address="bob"))


def test_what_failed_is_not_counted(world):
    """An expired message neither waits nor is unread, nor is it the last of its conversation."""
    alice = world.connect("alice")
    alice.publish("u/bob/1", "stays")
    alice.publish("u/bob/2/expiry=5", "goes")
    world.jump(10)

    assert [("alice", 1, 1, "stays")] == lines(world.do("inbox", address="bob"))


def test_events_are_not_counted(world):
    """Members who come and go leave nothing to read; a former member's line ends with his time."""
    world.group("team", "alice", "bob")
    alice = world.connect("alice")
    world.listener("carol")
    alice.publish("g/team/1", "one")
    world.do("group_join", address="team", users=["carol"])
    alice.publish("g/team/2", "two")
    world.do("group_leave", address="team", users=["carol"])
    world.advance(5)
    alice.publish("g/team/3", "three")

    assert [("team", 3, 3, "three")] == lines(world.do("inbox", address="bob"))
    assert [("team", 0, 1, "two")] == lines(world.do("inbox", address="carol"))
    (line,) = world.do("inbox", address="carol")["conversations"]
    assert line["ts"] < world.ms - 4_000


def test_paging(world):
    """Pages follow each other; what came meanwhile stands on the first page anew and moves nothing else."""
    alice = world.connect("alice")
    others = [f"user{number}" for number in range(7)]
    world.user(*others)
    for other in others:
        alice.publish(f"u/{other}/{other}", other)
        world.advance(0.25)
    first = world.do("inbox", address="alice", limit=3)
    world.connect("user0").publish("u/alice/1", "again")
    second = world.do("inbox", address="alice", limit=3, cursor=first["next"])

    assert ["user6", "user5", "user4"] == [each["peer"] for each in first["conversations"]]
    assert ["user3", "user2", "user1"] == [each["peer"] for each in second["conversations"]]
    assert second["next"] is None
    with pytest.raises(OperationError, match="cursor is the `next`"):
        world.do("inbox", address="alice", cursor=first["next"][:-2])


def test_a_long_message_is_a_preview(world):
    """The last message is shown with its first 256 characters and its size; bytes that are no text in base64."""
    alice = world.connect("alice")
    alice.publish("u/bob/1", "ä" * 3_000)
    alice.publish("u/carol/2", b"\xff" * 1_000)

    (last,) = [line["last"] for line in world.do("inbox", address="bob")["conversations"]]
    (raw,) = [line["last"] for line in world.do("inbox", address="carol")["conversations"]]

    assert ("ä" * 256, 6_000) == (last["text"], last["size"])
    assert (344, 1_000) == (len(raw["payload"]), raw["size"])


def test_the_counts_survive_a_crash(world):
    """What one sent just before the server was killed is neither unread nor waiting for oneself."""
    alice = world.listener("alice", filters=("rpc/#",))
    alice.publish("u/bob/1", "mine")
    world.commits.hold()  # the commit of her lane
    world.advance(1)
    world.commits.jobs.clear()
    world.restart()

    assert [("bob", 0, 0, "mine")] == lines(world.do("inbox", address="alice"))
    assert [("alice", 1, 1, "mine")] == lines(world.do("inbox", address="bob"))


class Cramped(World):
    """A server whose disk may be full when it starts."""

    code = 0

    def open_store(self):
        store = super().open_store()
        self.disk = store._database = FaultyDatabase(store._database)
        self.disk.at, self.disk.code = "UPDATE lane", self.code
        return store


def test_it_starts_on_a_full_disk_after_a_crash(tmp_path, caplog):
    """Killed while the disk was full, the server starts, says what counts wrong, and puts it right once there is room.

    Everybody has what is his meanwhile. What is no failure of the disk ends the start.
    """
    world = Cramped(tmp_path / "data")
    world.user("alice", "bob")
    alice = world.listener("alice", filters=("rpc/#",))
    alice.publish("u/bob/1", "mine")
    world.commits.hold()  # the commit of her lane
    world.advance(1)
    world.commits.jobs.clear()
    world.code = sqlite3.SQLITE_ERROR
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        world.restart()
    world.code = sqlite3.SQLITE_FULL
    world.restart()

    assert "counts as unread until it can be written: database or disk is full" in caplog.text
    assert [b"mine"] == [each.payload for each in world.listener("bob").received("u/")]
    assert [] == world.listener("alice").received()
    world.advance(2)
    world.disk.code = 0
    world.advance(2)
    assert [("bob", 0, 0, "mine")] == lines(world.do("inbox", address="alice"))
    world.close()


def test_notes_to_oneself(world):
    """A message to oneself waits for a device like any other, and is unread until it is read."""
    world.connect("alice").publish("u/alice/1", "note")

    assert [("alice", 1, 1, "note")] == lines(world.do("inbox", address="alice"))
