"""The receipt matrix: for each member of a group the state of one message, and when that was."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import OperationError
from unit.messaging.world import mid_of


def test_each_member_has_a_row(world):
    """Who has it, when, who read it, and who has nothing yet; the counts stand over all of them."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    sent = world.ms
    alice.publish("g/team/1", "hello")
    (message,) = bob.received("g/")
    world.advance(2)
    bob.publish("read/g/team", mid_of(message))

    answer = world.do("status", mid=mid_of(message))

    assert {"members": 2, "delivered": 1, "read": 1, "failed": 0} == answer["counts"]
    assert [
        {"status": 1, "name": "sent", "ts": sent},
        {"peer": "bob", "status": 3, "name": "read", "ts": world.ms, "delivered_at": sent, "read_at": world.ms},
        {"peer": "carol", "status": 1, "name": "sent", "ts": sent},
    ] == answer["status"]


def test_who_came_later_has_no_row_and_who_left_keeps_his(world):
    """The recipients are the members of that moment."""
    world.group("team", "alice", "bob")
    alice = world.listener("alice")
    alice.publish("g/team/1", "hello")
    mid = alice.statuses()[0]["mid"]
    world.do("group_join", address="team", users=["carol"])
    world.do("group_leave", address="team", users=["bob"])

    rows = world.do("status", mid=mid)["status"]

    assert [(None, "sent"), ("bob", "not-member")] == [(row.get("peer"), row["name"]) for row in rows]


def test_five_thousand_members_come_in_pages(world):
    """Every member stands on one page, in pages of up to a thousand; the counts are those of all."""
    names = [f"u{number:04}" for number in range(4_998)]
    for start in range(0, len(names), 1_000):
        world.do("user_add", addresses=names[start : start + 1_000])
    world.group("crowd", "alice", "bob")
    for start in range(0, len(names), 1_000):
        world.do("group_join", address="crowd", users=names[start : start + 1_000])
    alice = world.listener("alice", filters=("status/#",))
    alice.publish("g/crowd/1", "hello")
    mid = alice.statuses()[0]["mid"]
    found, cursor, counts = [], None, []
    while cursor is not None or not found:
        answer = world.do("status", mid=mid, limit=1_000, cursor=cursor)
        found += [row["peer"] for row in answer["status"] if "peer" in row]
        counts.append(answer["counts"])
        cursor = answer["next"]

    assert (4_999, 4_999) == (len(found), len(set(found)))
    assert [{"members": 4_999, "delivered": 0, "read": 0, "failed": 0}] * 5 == counts


def test_a_namesake_does_not_see_them(world):
    """Who was made anew under a deleted user's address has none of his messages."""
    alice = world.listener("alice")
    alice.publish("u/bob/1", "mine")
    mid = alice.statuses()[0]["mid"]
    world.do("user_delete", addresses=["alice"])
    world.user("alice")
    (answer,) = world.listener("alice", "new").rpc("status", mid=mid)

    assert (False, "no-such-message") == (answer["ok"], answer["code"])
    with pytest.raises(OperationError, match="cursor"):
        world.do("status", mid=mid, cursor="nonsense")
