"""What shows only when a scheduled message is due, its bounds, and the operations on it."""

from __future__ import annotations

import json

import pytest

DELETED = 0x21


def schedule(peer, rest="u/bob/1/when=60", payload="later"):
    """Schedule a message and return the mid that its SENT names."""
    peer.publish(rest, payload)
    return next(status["mid"] for status in peer.statuses() if status["status"] == 1)


def levels(peer, part="u/"):
    """Return parameters and payload of what came since the last look."""
    return [(message.topic.rpartition("/")[2], message.payload.decode()) for message in peer.received(part)]


# ---- what shows only at its time -----------------------------------------------------------------------------------


def verdict(peer):
    return [(status["cid"], status["status"], status.get("reason")) for status in peer.statuses()]


def test_a_full_inbox_then(make_world):
    """Not at acceptance, but at its time."""
    world = make_world(messaging={"inbox_messages_max": 1})
    alice = world.listener("alice")
    alice.publish("u/bob/0", "fills it")
    alice.statuses()
    schedule(alice)
    world.advance(62)

    assert [("1", 0x82, None)] == verdict(alice)


def test_a_note_to_oneself_leaves_the_count_of_the_inbox_as_it_is(make_world):
    """What is due while nobody has counted the inbox yet is no beginning of the count."""
    world = make_world(messaging={"inbox_messages_max": 2})
    alice = world.listener("alice", filters=("status/#",))
    schedule(alice, "u/alice/note/when=60")
    bob = world.listener("bob")
    for cid in ("1", "2"):
        bob.publish(f"u/alice/{cid}")
    world.restart()
    world.advance(62)
    bob = world.listener("bob")
    bob.steps()
    bob.publish("u/alice/3")

    assert [("3", 0x82)] == bob.steps()


def test_a_user_deleted_meanwhile(world):
    """0x80 `user-deleted`, also to a sender who comes back later; a new user of that name does not get it."""
    alice = world.listener("alice")
    schedule(alice)
    world.do("user_delete", addresses=["bob"])
    world.user("bob")
    alice.lose()
    world.advance(62)

    assert [("1", 0x80, "user-deleted")] == verdict(world.listener("alice"))
    assert [] == world.listener("bob").received("u/")


def leave(world):
    world.do("group_leave", address="team", users=["alice"])


def delete(world):
    world.do("group_delete", addresses=["team"])


def pause(world):
    world.do("group_set", address="team", profile={"paused": "on"})


@pytest.mark.parametrize(
    ("change", "code", "reason"), [(leave, 0x91, None), (delete, 0x80, "group-deleted"), (pause, 0x90, None)]
)
def test_a_group_meanwhile(world, change, code, reason):
    """Left, deleted or paused: the status of that, then."""
    world.group("team", "alice", "bob")
    alice = world.listener("alice")
    schedule(alice, "g/team/1/when=60")
    change(world)
    world.advance(62)

    assert [("1", code, reason)] == verdict(alice)


def test_who_is_a_member_then_gets_it(world):
    """Who joined meanwhile does, who left does not."""
    world.group("team", "alice", "bob")
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    schedule(alice, "g/team/1/when=60")
    world.do("group_join", address="team", users=["carol"])
    world.do("group_leave", address="team", users=["bob"])
    world.advance(62)

    assert ([], ["later"]) == (bob.payloads("g/"), carol.payloads("g/"))


def test_expiry_counts_from_its_time(world):
    """60 seconds after it was due, not after it was given; missed altogether, it is 0x84."""
    alice = world.listener("alice")
    schedule(alice, "u/bob/1/when=60&expiry=30")
    world.advance(75)
    (level,) = [level for level, _ in levels(world.listener("bob"))]
    schedule(alice, "u/bob/2/when=60&expiry=30")
    world.restart()
    world.ms += 100_000
    world.advance(2)

    seconds = int(level.rpartition("=")[2])
    assert 10 < seconds <= 30
    assert [("2", 0x84, None)] == verdict(world.listener("alice"))


def test_a_sender_who_was_deleted(world):
    """Nothing of his is sent."""
    schedule(world.listener("alice"))
    world.do("user_delete", addresses=["alice"])
    bob = world.listener("bob")
    world.advance(120)

    assert ([], [(None,)]) == (bob.received("u/"), world.rows("SELECT min(due) FROM scheduled"))


def test_it_is_bounded(make_world):
    """`messaging.scheduled_max`: 0x8D with the rule; the cid is free again."""
    world = make_world(messaging={"scheduled_max": 1})
    alice = world.listener("alice")
    schedule(alice)
    alice.publish("u/bob/2/when=60", "more")

    assert [("2", 0x8D, "when.limit")] == [(s["cid"], s["status"], s["rule"]) for s in alice.statuses()]
    world.advance(62)
    alice.publish("u/bob/2/when=60", "more")
    assert ("2", 1) in alice.steps()


@pytest.mark.parametrize("params", ["when=60&expiry=0", "when=60&flags=7"])
def test_transient_and_scheduled_exclude_each_other(world, params):
    """What is stored until then cannot be what is never stored: 0x85."""
    alice = world.listener("alice")
    alice.publish(f"u/bob/1/{params}")

    assert [0x85] == [status["status"] for status in alice.statuses()]


def test_a_user_who_does_not_exist(world):
    """Refused at once, as any message."""
    alice = world.listener("alice")
    alice.publish("u/nobody/1/when=60")

    assert [("1", 0x83)] == alice.steps()


# ---- operations -----------------------------------------------------------------------------------------------------


def test_the_list_of_what_is_scheduled(world):
    """One's own, by time, in pages."""
    alice = world.listener("alice")
    late = schedule(alice, "u/bob/1/when=90")
    soon = schedule(alice, "u/bob/2/when=60&type=5")
    first = world.do("message_scheduled", address="alice", limit=1)
    second = world.do("message_scheduled", address="alice", limit=1, cursor=first["next"])

    (entry,) = first["messages"]
    assert (soon, "2", "bob", "later", "when=60&type=5") == tuple(
        entry[key] for key in ("mid", "cid", "to", "text", "params")
    )
    third = world.do("message_scheduled", address="alice", limit=1, cursor=second["next"])
    assert ([late], []) == ([each["mid"] for each in second["messages"]], third["messages"])
    assert {"messages": [], "next": None} == world.do("message_scheduled", address="bob")


def test_cancel_by_operation(world):
    """By mid alone; afterwards it says what it is."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = schedule(alice)
    (answer,) = alice.rpc("message_cancel", mid=mid)
    (again,) = bob.rpc("message_cancel", mid=mid)
    told = alice.steps()
    world.advance(120)

    assert (True, mid) == (answer["ok"], answer["result"]["mid"])
    assert ("no-such-message", [("1", DELETED)], []) == (again["code"], told, bob.received("u/"))


def test_send_by_operation_with_a_time(world):
    """`send` answers SENT with the mid."""
    alice = world.listener("alice")
    (answer,) = alice.rpc("send", to="bob", text="later", when=60)

    assert (True, 1) == (answer["ok"], answer["result"]["status"])
    assert json.dumps(answer["result"]["mid"]) in json.dumps(world.do("message_scheduled", address="alice"))
