"""Full inboxes in groups: 0x82 for each member who has no room, however many are away (contract section 3)."""

from __future__ import annotations

import pytest

from mesimqtt.store import members
from mesimqtt.store.members import MEMBER


def full(peer):
    """Return whose inbox was full, as (cid, peer), of the statuses since the last look."""
    return [(each["cid"], each["peer"]) for each in peer.statuses() if each["status"] == 0x82]


@pytest.fixture
def small(make_world):
    """Inboxes of three messages, and the group `team`."""
    world = make_world(messaging={"inbox_messages_max": 3})
    world.group("team", "alice", "bob", "carol")
    return world


def test_an_absent_member_is_full_and_the_others_are_not(small):
    """Each message above the cap has its verdict, before any other is judged; what fits is still his."""
    alice, bob = small.listener("alice"), small.listener("bob")
    for number in range(6):
        alice.publish(f"g/team/{number}", str(number))

    assert [("3", "carol"), ("4", "carol"), ("5", "carol")] == full(alice)
    assert 6 == len(bob.payloads("g/"))
    assert ["0", "1", "2"] == small.listener("carol").payloads("g/")
    alice.publish("g/team/again")
    assert [] == full(alice)


def test_what_came_otherwise_counts(small):
    """Messages of one peer fill the same inbox as those of a group, whichever was first."""
    alice = small.listener("alice")
    alice.publish("u/carol/a")
    alice.publish("u/carol/b")
    alice.publish("g/team/1")
    alice.publish("g/team/2")
    assert [("2", "carol")] == full(alice)
    alice.publish("u/carol/c")
    assert [0x82] == [status["status"] for status in alice.statuses() if status["cid"] == "c"]


def test_it_holds_over_a_restart(small):
    """The counts are the store's."""
    alice = small.connect("alice")
    for number in range(3):
        alice.publish(f"g/team/{number}")
    small.restart()
    alice = small.listener("alice")
    alice.publish("g/team/more")

    assert [("more", "bob"), ("more", "carol")] == sorted(full(alice))


def test_what_comes_while_the_store_is_asked_is_judged_by_its_answer(small):
    """Messages go on meanwhile; the newest above the cap get their verdict when the answer is there, none twice."""
    alice = small.listener("alice")
    small.reads.hold()
    for number in range(5):
        alice.publish(f"g/team/{number}")
    assert [] == full(alice)
    small.reads.release()
    small.turn()

    assert [("3", "bob"), ("3", "carol"), ("4", "bob"), ("4", "carol")] == sorted(full(alice))


def test_a_new_member_with_a_full_inbox(small):
    """Who joins is measured before he counts as having room."""
    alice = small.listener("alice")
    small.user("dave")
    for number in range(3):
        alice.publish(f"u/dave/d{number}")
    small.restart()
    alice = small.listener("alice")
    alice.publish("g/team/1")
    small.do("group_join", address="team", users=["dave"])
    alice.publish("g/team/2")

    assert [("2", "dave")] == full(alice)


def test_bytes_count_too(make_world):
    """Two messages of 100 bytes fill an inbox of 250."""
    world = make_world(messaging={"inbox_bytes_max": 250})
    world.group("team", "alice", "bob")
    alice = world.listener("alice")
    for number in range(4):
        alice.publish(f"g/team/{number}", "x" * 100)

    assert [("2", "bob"), ("3", "bob")] == full(alice)


def test_who_reads_has_room_again(small):
    """Acknowledged is gone from the inbox; the room is known at once, and measured again when it is used up."""
    alice = small.listener("alice")
    for _ in range(4):
        for number in range(3):
            alice.publish(f"g/team/{number}x{_}")
        for name in ("bob", "carol"):
            peer = small.listener(name)
            small.advance(1)
            peer.disconnect()

    assert [] == full(alice)


def test_five_thousand_absent_members_are_not_touched(world):
    """Nobody of them is loaded, neither when a message comes nor when their inboxes are measured."""
    connection = world.store.read
    world.group("crowd", "alice")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO user (id, address, active, created_at, profile) VALUES (?, ?, 1, 0, '{}')",
        [(number, f"member{number}") for number in range(10_000, 14_999)],
    )
    members.enter(connection, 1, 1, range(10_000, 14_999), MEMBER, 2, 0)
    connection.execute("COMMIT")
    world.restart()
    alice = world.listener("alice")
    for number in range(3):
        alice.publish(f"g/crowd/{number}")
    directory = world.messaging._hub.directory

    assert 5_000 == len(directory.group("crowd").members)
    assert {"alice"} == {user for user in directory._users if user.startswith(("member", "alice"))}
    assert [("0", 1), ("1", 1), ("2", 1)] == alice.steps()
