"""A message that cannot be written, whatever the disk does, is refused alone; who wrote beside it is acknowledged."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from unit.messaging.world import World

END = 2**63 - 1


@pytest.fixture
def world(tmp_path):
    """A server on which the conversation of alice and carol has come to the end of its numbers, by damage."""
    world = World(tmp_path / "data")
    with closing(world):
        world.user("alice", "bob", "carol", "dora")
        world.connect("alice").publish("u/carol/0", "before")
        world.advance(1)
        world.store.read.execute("UPDATE conversation SET last_seq = ?", (END,))
        world.restart()
        yield world


def test_it_is_refused_and_the_others_are_not(world):
    """All in one commit: the one is told `failed`, `unwritable`, and acknowledged, as it never can be kept."""
    alice, dora, bob = world.listener("alice"), world.listener("dora"), world.listener("bob")
    world.commits.hold()
    sent = [(dora, "u/bob/1", 71), (alice, "u/carol/2", 72), (alice, "u/bob/3", 73), (dora, "u/alice/4", 74)]
    before = [peer.publish(place, place, packet_id=number) for peer, place, number in sent]
    world.commits.release()
    world.advance(1)
    told = [(each["cid"], each["status"], each.get("reason")) for each in alice.statuses() if each["cid"] in {"2", "3"}]

    assert [False] * 4 == before
    assert [True] * 4 == [peer.took("PUBACK", number) for peer, _, number in sent]
    assert (["u/bob/1", "u/bob/3"], ["u/alice/4"]) == (bob.payloads("u/"), alice.payloads("u/"))
    assert [("2", 128, "unwritable")] == [each for each in told if each[0] == "2"]
    assert [("3", 1, None), ("3", 2, None)] == [each for each in told if each[0] == "3"]


def test_one_that_was_scheduled_ends(world):
    """It is not tried for ever: its sender is told, and nothing of the schedule waits behind it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/carol/later/when=60", "for carol")
    alice.publish("u/bob/later2/when=60", "for bob")
    world.advance(65)

    assert ["for bob"] == bob.payloads("u/")
    told = [(each["status"], each.get("reason")) for each in alice.statuses() if each["cid"] == "later"]
    assert [(1, None), (128, "unwritable")] == told
    assert [] == world.rows("SELECT 1 FROM scheduled WHERE due IS NOT NULL")


def test_a_change_of_a_group_beside_it(world):
    """What somebody does to a group in the same commit is done, once, and what he is told is so."""
    world.group("team", "alice", "bob")
    world.do("group_set", address="team", profile={"role:alice": "owner"})
    alice, bob = world.listener("alice"), world.listener("bob", filters=("#",))
    world.commits.hold()
    alice.publish("u/carol/2", "never")
    alice.publish("rpc/group_join/9", json.dumps({"address": "team", "users": ["dora"]}))
    alice.publish("g/team/3", "to all")
    world.commits.release()
    world.advance(1)

    assert [["dora"]] == [json.loads(each.payload)["result"]["joined"] for each in alice.received("rpc/9")]
    assert ["to all"] == bob.payloads("g/")
    assert 1 == len(world.rows("SELECT 1 FROM member WHERE user_id = 4"))
