"""Who is online: versions, grace, who may see it, and what followers are told (docs/presence.md)."""

from __future__ import annotations

import json

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.presence import STRIDE
from unit.messaging.world import START_MS

GRACE_S = 5.0


def states(peer, of="bob"):
    """Return the states that a peer was told of somebody since the last look."""
    return [json.loads(each.payload) for each in peer.received(f"presence/u/{of}")]


def words(peer, of="bob"):
    return [state["state"] for state in states(peer, of)]


def seen(world, asker, of="bob"):
    """Return what an asker is told when he asks."""
    (answer,) = world.do("presence", user=asker, addresses=[of])["presence"]
    assert of == answer.pop("address")
    return answer


@pytest.fixture
def friends(world):
    """Bob has alice among his contacts, so that she may see him; she follows him."""
    world.do("contact_add", user="bob", contacts={"alice": ""})
    world.do("presence_follow", user="alice", addresses=["bob"])
    return world


def test_a_follower_sees_come_and_go(friends):
    """Online at once, offline after the grace time, each with a higher version."""
    alice = friends.listener("alice")
    friends.advance(1)
    assert [("offline", STRIDE)] == [(state["state"], state["version"]) for state in states(alice)]
    bob = friends.listener("bob")
    friends.advance(0.25)
    (online,) = states(alice)
    assert ("online", friends.ms) == (online["state"], online["ts"])
    friends.advance(2)
    bob.lose()
    friends.advance(GRACE_S - 0.5)
    assert [] == states(alice)
    friends.advance(0.75)
    (offline,) = states(alice)

    assert "offline" == offline["state"]
    assert STRIDE < online["version"] < offline["version"]
    assert 0 == offline["last_seen"] % 300_000
    assert 0 <= friends.ms - offline["last_seen"] < 306_000


def test_a_second_device_changes_nothing(friends):
    """A user is online while any of his devices is."""
    alice, phone = friends.listener("alice"), friends.listener("bob")
    friends.advance(1)
    states(alice)
    friends.listener("bob", "tablet")
    phone.lose()
    friends.advance(60)

    assert [] == states(alice)


def test_a_flapping_connection_is_told_as_one_state(friends):
    """Who comes back within the grace time was never away: nothing is told, however often it happens."""
    alice = friends.listener("alice")
    bob = friends.listener("bob")
    friends.advance(2)
    assert ["online"] == words(alice)
    for _ in range(50):
        bob.lose()
        friends.advance(0.5)
        bob = friends.listener("bob")
        friends.advance(0.5)

    assert [] == states(alice)


def test_changes_without_grace_are_one_a_second(make_world):
    """Where no grace time holds a flapping user back, a second does."""
    world = make_world(presence={"grace_s": 0.0})
    world.do("contact_add", user="bob", contacts={"alice": ""})
    world.do("presence_follow", user="alice", addresses=["bob"])
    alice = world.listener("alice")
    world.advance(1)
    states(alice)
    for _ in range(20):
        world.listener("bob").lose()
        world.advance(0.25)
        bob = world.listener("bob")
        world.advance(0.25)
        bob.lose()

    assert len(states(alice)) <= 11


def test_versions_grow_over_a_restart(friends):
    """What is told after a restart, even of who was not heard of since, is newer than all before; also after a kill."""
    alice = friends.listener("alice")
    friends.listener("bob")
    friends.advance(1)
    before = states(alice)[-1]
    friends.restart()
    alice = friends.listener("alice")
    friends.advance(1)
    (offline,) = states(alice)
    friends.listener("bob")
    friends.advance(1)
    (online,) = states(alice)

    assert ("online", "offline", "online") == (before["state"], offline["state"], online["state"])
    assert before["version"] < offline["version"] < online["version"]


def test_the_state_of_followed_people_comes_at_each_connect(friends):
    """One state for each whom alice follows; a device that does not listen to presence gets none."""
    friends.do("presence_follow", user="alice", addresses=["carol", "nobody"])
    friends.listener("bob")
    friends.advance(1)
    alice = friends.listener("alice")
    friends.listener("alice", "mute", filters=("u/#",))
    friends.advance(1)
    assert (["online"], ["unknown"], ["unknown"]) == (
        words(alice),
        words(alice, "carol"),
        words(alice, "nobody"),
    )
    alice.lose()
    alice = friends.listener("alice")
    friends.advance(1)

    assert ["online"] == words(alice)
    assert [] == friends.peers[-2].received("presence/")


def test_who_is_not_a_contact_learns_nothing(friends):
    """By default contacts see it: for others the answer is that of nobody, whether bob is online or not."""
    friends.do("presence_follow", user="carol", addresses=["bob"])
    carol = friends.listener("carol")
    friends.advance(1)
    assert [{"state": "unknown"}] == states(carol)
    friends.listener("bob")
    friends.advance(1)

    assert {"unknown"} >= set(words(carol))
    assert {"state": "unknown"} == seen(friends, "carol") == seen(friends, "carol", "nobody")
    assert "online" == seen(friends, "alice")["state"] == seen(friends, "bob")["state"]


@pytest.mark.parametrize(("audience", "who"), [("all", {"alice", "carol"}), ("contacts", {"alice"}), ("nobody", set())])
def test_the_audience_is_the_users_choice(friends, audience, who):
    """All, contacts or nobody."""
    friends.listener("bob")
    friends.advance(1)
    friends.do("privacy_set", user="bob", privacy={"presence": audience})

    assert who == {asker for asker in ("alice", "carol") if seen(friends, asker)["state"] == "online"}


def test_last_seen_has_an_audience_of_its_own(friends):
    """Hidden, it is left out; the state stays."""
    friends.listener("bob").lose()
    friends.advance(10)
    assert {"state", "version", "ts", "last_seen"} == set(seen(friends, "alice"))
    friends.do("privacy_set", user="bob", privacy={"last_seen": "nobody"})

    assert {"state", "version", "ts"} == set(seen(friends, "alice"))


def test_who_loses_sight_is_told(friends):
    """Out of the contacts, privacy to nobody, blocked, deleted: all look the same, and say nothing of the state."""
    alice = friends.listener("alice")
    friends.listener("bob")
    friends.advance(1)
    states(alice)
    for hide, show in (
        (("contact_remove", {"contacts": ["alice"]}), ("contact_add", {"contacts": {"alice": ""}})),
        (("privacy_set", {"privacy": {"presence": "nobody"}}), ("privacy_set", {"privacy": {"presence": ""}})),
        (("block_add", {"peers": ["alice"]}), ("block_remove", {"peers": ["alice"]})),
    ):
        friends.do(hide[0], user="bob", **hide[1])
        friends.advance(0.5)
        hidden = states(alice)
        friends.do(show[0], user="bob", **show[1])
        friends.advance(0.5)
        assert ([{"state": "unknown"}], ["online"]) == (hidden, words(alice))
    friends.do("user_delete", addresses=["bob"])
    friends.advance(0.5)

    assert [{"state": "unknown"}] == states(alice)


def test_follows_are_bounded(make_world):
    """More than the policy allows are refused as a whole."""
    world = make_world()
    world.do("policy_set", name="few", rules={"follows_max": "2"})
    world.do("user_set", address="alice", policy="few")
    world.do("presence_follow", user="alice", addresses=["bob", "carol"])
    with pytest.raises(OperationError, match="at most 2"):
        world.do("presence_follow", user="alice", addresses=["dave"])

    assert ["bob", "carol"] == world.do("presence_following", user="alice")["following"]


def test_who_is_followed_no_more_is_told_no_more(friends):
    """Unfollow takes effect at once."""
    alice = friends.listener("alice")
    friends.advance(1)
    states(alice)
    assert ["bob"] == friends.do("presence_unfollow", user="alice", addresses=["bob", "carol"])["removed"]
    friends.listener("bob")
    friends.advance(1)

    assert [] == states(alice)


def test_a_device_that_does_not_read_gets_each_state_once(friends):
    """What waits for it is one state of each whom it follows, the newest."""
    many = [f"user{number}" for number in range(150)]
    friends.user(*many)
    for each in many:
        friends.do("privacy_set", user=each, privacy={"presence": "all"})
    friends.do("presence_follow", user="alice", addresses=many)
    alice = friends.listener("alice")
    friends.advance(1)
    alice.received()
    alice.auto_ack = False
    for _ in range(3):
        peers = [friends.listener(each) for each in many]
        friends.advance(2)
        for peer in peers:
            peer.lose()
        friends.advance(10)
    alice.auto_ack = True
    alice.ack(*alice.inbox)
    friends.advance(5)
    told = alice.received("presence/")

    assert len(told) < 3 * len(many)
    assert {"offline"} == {json.loads(each.payload)["state"] for each in {each.topic: each for each in told}.values()}


def test_a_user_asks_by_rpc(friends):
    """In his own name only."""
    friends.listener("bob")
    friends.advance(1)
    alice = friends.listener("alice")
    (answer,) = alice.rpc("presence", addresses=["bob", "carol"])
    (other,) = alice.rpc("presence", addresses=["bob"], user="bob")

    assert ["online", "unknown"] == [each["state"] for each in answer["result"]["presence"]]
    assert (False, "forbidden") == (other["ok"], other["code"])


def test_last_seen_survives_a_restart(friends):
    """It is kept, as coarse as before; START_MS is a whole number of minutes."""
    friends.listener("bob").lose()
    friends.advance(10)
    friends.restart(kill=False)

    assert START_MS - START_MS % 300_000 == seen(friends, "alice")["last_seen"]


def test_the_first_who_comes_after_a_start_is_online(world):
    """Who follows somebody that has just come is told that he is online, and not before that he is not."""
    bob = world.listener("bob", filters=("rpc/#",))
    bob.rpc("contact_add", contacts={"alice": ""})
    alice = world.listener("alice", filters=("presence/#", "rpc/#"))
    alice.rpc("presence_follow", addresses=["bob"])
    world.advance(1)

    assert ["online"] == words(alice)


def test_when_everybody_goes_at_once_it_takes_some_ticks(friends, monkeypatch):
    """A thousand at a time: nobody's messages wait for the rest."""
    monkeypatch.setattr("mesimqtt.messaging.presence.LEFT_PER_TICK", 1)
    alice = friends.listener("alice")
    carol, bob = friends.listener("carol"), friends.listener("bob")
    friends.advance(2)
    alice.received()
    carol.lose()
    bob.lose()
    friends.advance(GRACE_S)
    first = words(alice)
    friends.advance(0.25)

    assert ([], ["offline"]) == (first, words(alice))


def test_whom_a_user_follows_is_not_forgotten_for_an_older_answer_of_the_store(friends):
    """Following takes effect between a device's SUBSCRIBE and the answer to what it asked."""
    friends.do("privacy_set", user="carol", privacy={"presence": "all"})
    alice = friends.listener("alice")
    friends.advance(2)
    friends.reads.hold_answers()
    friends.messaging.presence.begin(alice.connection.claim_state)
    friends.do("presence_follow", user="alice", addresses=["carol"])
    friends.reads.release()
    friends.advance(1)
    alice.received()
    friends.listener("carol")
    friends.advance(1)

    assert ["online"] == words(alice, of="carol")
