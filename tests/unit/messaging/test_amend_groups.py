"""Edits, recalls and schedules in groups of other kinds: large ones, those that keep nothing, that share work out."""

from __future__ import annotations

import pytest


@pytest.fixture
def team(world):
    """A world with a group of alice, bob and carol."""
    world.group("team", "alice", "bob", "carol")
    return world


def kind(world, name):
    world.do("group_set", address="team", profile={"kind": name})


def send(peer, rest, payload="hi"):
    """Publish a message and return the mid that its SENT names."""
    peer.statuses()
    peer.publish(rest, payload)
    return next(status["mid"] for status in peer.statuses() if status["status"] == 1)


def refusals(peer):
    return [(status["status"], status.get("rule") or status.get("reason")) for status in peer.statuses()]


def test_nothing_is_scheduled_where_nothing_is_kept(team):
    """At once, or, where the group became such a one meanwhile, at its time."""
    alice = team.listener("alice")
    alice.publish("g/team/1/when=5", "before")
    kind(team, "no-storage")
    alice.statuses()
    alice.publish("g/team/2/when=5", "later")
    early = refusals(alice)
    team.advance(8)

    assert [(0x85, "when: this group keeps nothing")] == early
    assert [(0x80, "group-keeps-nothing")] == refusals(alice)


@pytest.mark.parametrize("word", ["edit", "recall"])
def test_work_stays_as_it_was_given(team, word):
    """Somebody may be doing it already: 0x8D with a rule of its own."""
    kind(team, "round-robin")
    alice, bob = team.listener("alice"), team.listener("bob")
    mid = send(alice, "g/team/1", "do this")
    bob.received()
    alice.statuses()
    alice.publish(f"g/team/2/{word}={mid}", b"")

    assert [(0x8D, f"{word}.work")] == refusals(alice)


def test_scheduled_work_is_shared_out_at_its_time(team):
    """Exactly one member gets it."""
    kind(team, "round-robin")
    alice, bob, carol = team.listener("alice"), team.listener("bob"), team.listener("carol")
    send(alice, "g/team/1/when=5", "do this")
    team.advance(8)

    assert ["do this"] == bob.payloads("g/") + carol.payloads("g/")


def test_a_recall_in_a_large_group_is_summed_up(make_world):
    """Above `messaging.group_status_max` members the sender is told the whole's state once a second."""
    world = make_world(messaging={"group_status_max": 1})
    world.group("team", "alice", "bob", "carol")
    alice = world.listener("alice")
    mid = send(alice, "g/team/1")
    alice.publish(f"g/team/2/recall={mid}", b"")
    world.advance(2)

    told = [(status["cid"], status["status"]) for status in alice.statuses()]
    assert [("2", 1), ("1", 0x21)] == [each for each in told if each[1] in (1, 0x21)]
    matrix = world.do("status", mid=mid)["status"]
    assert {("bob", 0x21), ("carol", 0x21)} == {(each["peer"], each["status"]) for each in matrix if "peer" in each}
