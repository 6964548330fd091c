"""Groups: members only, events, joining and leaving in the order of seq (contract sections 2 to 4)."""

from __future__ import annotations

import json

import pytest

from unit.messaging.world import mid_of, seq_of


@pytest.fixture
def team(world):
    """A group of alice, bob and carol; the events of its making are past."""
    world.group("team", "alice", "bob", "carol")
    return world


def events(peer):
    return [json.loads(message.payload) for message in peer.received("event/")]


def test_every_other_member_gets_it_and_the_sender_is_told_by_member(team):
    """One SENT without `peer`, then a status per member and step."""
    alice, bob, carol = team.listener("alice"), team.listener("bob"), team.listener("carol")
    alice.publish("g/team/1", "all")

    (message,) = bob.received("g/")
    assert (f"m/bob/in/g/team/alice/{mid_of(message)}/seq={seq_of(message)}", b"all") == (
        message.topic,
        message.payload,
    )
    assert ["all"] == carol.payloads("g/")
    assert [(1, None, "team"), (2, "bob", "team"), (2, "carol", "team")] == [
        (status["status"], status.get("peer"), status["group"]) for status in alice.statuses()
    ]
    assert [] == alice.received("g/")


def test_offline_members_get_it_later(team):
    """And their receipts come then."""
    alice = team.listener("alice")
    alice.publish("g/team/1")
    assert [("1", 1)] == alice.steps()

    assert ["hi"] == team.listener("carol").payloads("g/")
    assert [("carol", 2)] == [(status["peer"], status["status"]) for status in alice.statuses()]


def test_read_in_a_group_is_by_member(team):
    """`<=mid` reads what all senders wrote; each sender is told of his own."""
    alice, bob, carol = team.listener("alice"), team.listener("bob"), team.listener("carol")
    alice.publish("g/team/1")
    bob.publish("g/team/2")
    last = carol.received("g/")[-1]
    alice.statuses()
    bob.statuses()
    carol.publish("read/g/team", f"<={mid_of(last)}")

    assert [("1", "carol", 3)] == [(status["cid"], status["peer"], status["status"]) for status in alice.statuses()]
    assert [("2", "carol", 3)] == [(status["cid"], status["peer"], status["status"]) for status in bob.statuses()]


def test_copies_go_to_the_senders_other_devices(team):
    """As `in/sent/g/{group}`."""
    phone, laptop = team.listener("alice"), team.listener("alice", "laptop")
    laptop.received()
    phone.publish("g/team/1")

    assert ["m/alice/in/sent/g/team"] == [message.topic.rsplit("/", 2)[0] for message in laptop.received("sent/")]


def test_no_member_and_no_group_are_the_same_answer(world):
    """Who may not know of a group cannot tell whether it exists."""
    world.group("team", "bob", "carol")
    alice = world.listener("alice")
    alice.publish("g/team/1")
    alice.publish("g/nowhere/1")

    first, second = alice.statuses()
    for status, name in ((first, "team"), (second, "nowhere")):
        assert ("1", name, 0x83, None) == (status["cid"], status["group"], status["status"], status.get("reason"))
    assert first.keys() == second.keys()


def test_a_member_without_the_right_to_send_is_denied(team):
    """0x8D with the rule; the right comes back when it is given again."""
    alice, bob = team.listener("alice"), team.listener("bob")
    alice.publish("g/team/0")
    alice.statuses()
    team.do("group_set", address="team", profile={"send:alice": "off"})
    alice.publish("g/team/1")
    (status,) = alice.statuses()
    assert (0x8D, "group.send", "team") == (status["status"], status["rule"], status["group"])

    team.do("group_set", address="team", profile={"send:alice": "on"})
    alice.publish("g/team/1")

    assert ["hi", "hi"] == bob.payloads("g/")


def test_a_paused_group_refuses(team):
    """0x90 until it goes on."""
    alice = team.listener("alice")
    alice.publish("g/team/0")
    alice.statuses()
    team.do("group_set", address="team", profile={"paused": "on"})
    alice.publish("g/team/1")
    team.do("group_set", address="team", profile={"paused": "off"})
    alice.publish("g/team/2")

    assert [("1", 0x90), ("2", 1)] == alice.steps()


# ---- coming and going --------------------------------------------------------------------------------------


def test_members_are_told_who_joined_and_left(team):
    """As events of the conversation, with a mid and a seq, to who is a member then."""
    team.user("dave")
    bob = team.listener("bob")
    bob.received()
    team.do("group_join", address="team", users=["dave"])
    team.do("group_leave", address="team", users=["alice"])

    assert [
        {"event": "joined", "group": "team", "users": ["dave"]},
        {"event": "left", "group": "team", "users": ["alice"]},
    ] == events(bob)


def test_an_event_waits_for_who_is_offline(team):
    """In order with the messages, and it raises no status."""
    team.listener("bob").disconnect()
    team.user("dave")
    alice = team.listener("alice")
    alice.publish("g/team/1")
    team.do("group_join", address="team", users=["dave"])
    alice.publish("g/team/2")
    bob = team.listener("bob")

    kinds = [message.topic.split("/")[3] for message in bob.received()]
    assert ["g", "event", "g"] == kinds
    assert {1, 2} == {step for _, step in alice.steps()}


def test_a_new_member_sees_nothing_of_before(team):
    """Messages from before the join are not delivered and cannot be read."""
    team.user("dave")
    alice, dave = team.listener("alice"), team.listener("dave")
    alice.publish("g/team/1", "before")
    before = alice.statuses()[0]["mid"]
    team.do("group_join", address="team", users=["dave"])
    alice.publish("g/team/2", "after")
    alice.statuses()
    dave.publish("read/g/team", before)

    assert ["after"] == dave.payloads("g/")
    assert [] == alice.statuses()


def test_who_leaves_gets_nothing_more_and_what_waits_is_withdrawn(team):
    """0x91 with `peer` for each message that waited for him; a sender after him is refused no one else."""
    alice = team.listener("alice")
    alice.publish("g/team/1")
    alice.publish("g/team/2")
    alice.statuses()
    team.do("group_leave", address="team", users=["bob"])
    alice.publish("g/team/3")

    assert [("1", "bob", 0x91), ("2", "bob", 0x91), ("3", None, 1)] == [
        (status["cid"], status.get("peer"), status["status"]) for status in alice.statuses()
    ]
    assert [] == team.listener("bob").received("g/")


def test_who_left_cannot_send(team):
    """0x83, as for who never was a member."""
    bob = team.listener("bob")
    bob.publish("g/team/1")
    bob.statuses()
    team.do("group_leave", address="team", users=["bob"])
    bob.publish("g/team/2")

    assert [("2", 0x83)] == bob.steps()


def test_what_is_in_flight_to_who_leaves_is_judged_by_its_answer(team):
    """An acknowledgement within 30 s is DELIVERED."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/1")
    alice.statuses()
    team.do("group_leave", address="team", users=["bob"])
    assert [] == alice.statuses()

    bob.ack(*bob.received("g/"))

    assert [("bob", 2)] == [(status["peer"], status["status"]) for status in alice.statuses()]
    team.advance(40)
    assert [] == alice.statuses()


def test_what_is_in_flight_to_who_leaves_is_judged_by_the_end_of_his_connection(team):
    """0x91 when the connection ends, or after 30 s."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/1")
    alice.statuses()
    team.do("group_leave", address="team", users=["bob"])
    team.advance(2)
    assert [] == alice.statuses()
    bob.lose()
    team.advance(1.5)

    assert [("bob", 0x91)] == [(status["peer"], status["status"]) for status in alice.statuses()]


def test_what_waits_in_the_window_for_who_leaves_is_not_sent(team):
    """What was handed over but not written yet is withdrawn with the rest."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.auto_ack = False
    bob.received()
    for number in range(80):
        alice.publish(f"g/team/{number}")
    alice.statuses()
    team.do("group_leave", address="team", users=["bob"])
    withdrawn = [cid for cid, step in alice.steps() if step == 0x91]
    before = bob.received("g/")
    bob.ack(*before)

    assert [] == bob.received("g/")
    assert 80 == len(before) + len(withdrawn)


def test_who_comes_back_begins_anew(team):
    """Nothing of the time between, nothing of the time before."""
    alice = team.listener("alice")
    alice.publish("g/team/1", "first")
    team.do("group_leave", address="team", users=["bob"])
    alice.publish("g/team/2", "between")
    team.do("group_join", address="team", users=["bob"])
    alice.publish("g/team/3", "again")

    assert ["again"] == team.listener("bob").payloads("g/")
    team.advance(2)
    team.restart()
    assert [] == team.listener("bob").payloads("g/")


def test_a_deleted_group_tells_its_senders(team):
    """`group-deleted` for each member who still waited, also to a sender who returns later."""
    alice, bob = team.listener("alice"), team.listener("bob")
    alice.publish("g/team/1")
    alice.disconnect()
    alice.received()
    bob.publish("g/team/2")
    bob.statuses()
    team.do("group_delete", addresses=["team"])

    told = [(status["peer"], status["status"], status["reason"], status["group"]) for status in bob.statuses()]
    assert [("alice", 0x80, "group-deleted", "team"), ("carol", 0x80, "group-deleted", "team")] == sorted(told)
    alice = team.listener("alice")
    told = [(status["peer"], status["status"], status.get("reason")) for status in alice.statuses() if "peer" in status]
    assert ("carol", 0x80, "group-deleted") in told
    alice.publish("g/team/3")
    assert [("3", 0x83)] == alice.steps()
    assert [] == team.listener("carol").received("g/")


def test_a_group_of_the_same_name_is_another_group(team):
    """After a deletion the name is free; nothing of the old group is in the new one."""
    alice = team.listener("alice")
    alice.publish("g/team/1", "old")
    team.do("group_delete", addresses=["team"])
    team.group("team", "alice", "bob")
    alice.publish("g/team/2", "new")

    assert ["new"] == team.listener("bob").payloads("g/")


def test_a_send_and_a_removal_at_once(team):
    """A send commits before the removal or is refused after it; who was removed gets nothing of after it."""
    alice, bob = team.listener("alice"), team.listener("bob")
    alice.publish("g/team/0")
    bob.received()
    alice.statuses()
    team.commits.hold()
    alice.publish("g/team/1", "with the removal")
    bob_send = bob.publish("g/team/b", packet_id=50)
    team.commits.release()
    team.turn()
    team.do("group_leave", address="team", users=["bob"])
    bob.publish("g/team/c")

    assert (False, True) == (bob_send, bob.took("PUBACK", 50))
    assert [("b", 1), ("c", 0x83)] == [(cid, step) for cid, step in bob.steps() if step in (1, 0x83)]


def test_groups_survive_a_restart(team):
    """Members, their backlog and their events are in the store."""
    team.connect("alice").publish("g/team/1")
    team.restart()

    assert ["hi"] == team.listener("bob").payloads("g/")
    bob = team.listener("bob", "b")
    bob.publish("g/team/2")
    assert ["hi", "hi"] == team.listener("carol").payloads("g/")


@pytest.mark.parametrize("again", [False, True])
def test_in_flight_when_leaving_and_coming_back_or_at_a_restart(team, again):
    """Neither a return nor a restart leaves a message without its verdict."""
    team.do("group_leave", address="team", users=["bob"])
    team.do("group_join", address="team", users=["bob"])
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/1")
    alice.statuses()
    team.do("group_leave", address="team", users=["bob"])
    if again:
        team.do("group_join", address="team", users=["bob"])
    else:
        team.restart()
        team.advance(2)
        alice = team.listener("alice")

    assert [("bob", 0x91)] == [(each["peer"], each["status"]) for each in alice.statuses() if each["status"] != 1]
