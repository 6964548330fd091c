"""What users may do with groups by rpc: make them, let people in and out, and give no more than they have."""

from __future__ import annotations

import json

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.groups import ADMIN_USUAL


def ask(peer, op, **arguments):
    """Ask, and return the result, or the code of the refusal."""
    (answer,) = peer.rpc(op, **arguments)
    return answer["result"] if answer["ok"] else answer["code"]


def events(peer):
    return [json.loads(message.payload) for message in peer.received("event/")]


@pytest.fixture
def team(world):
    """The group `team`, which alice made, of alice, bob and carol; dave is somebody else."""
    world.user("dave")
    world.do("group_add", address="team", owner="alice")
    world.do("group_join", address="team", users=["bob", "carol"])
    return world


def test_a_user_makes_a_group_and_is_its_owner(world):
    """He may do everything there, and alone may; it is listed for him and for nobody else."""
    alice, bob = world.listener("alice"), world.listener("bob")
    made = ask(alice, "group_add", address="friends", profile={"name": "Friends"})
    shown = ask(alice, "group_show", address="friends")

    assert {"address": "friends", "owner": "alice", "kind": "normal", "flags": 0} == made
    assert [{"event": "created", "group": "friends", "users": ["alice"], "role": "owner"}] == events(alice)
    assert ("owner", 0xFFFF, "Friends") == (shown["you"]["role"], shown["you"]["admin"], shown["name"])
    assert (["friends"], []) == tuple(
        [each["address"] for each in ask(peer, "group_list")["groups"]] for peer in (alice, bob)
    )
    assert ask(alice, "group_add")["address"].startswith("g-")


def test_who_may_not_make_groups_is_told_so(make_world):
    """The operator may keep that to the backend, and bound how many groups a user owns."""
    closed = make_world(groups={"users_create": False}).listener("alice")
    bounded = make_world(groups={"owned_max": 1}).listener("alice")

    assert "not-allowed" == ask(closed, "group_add", address="friends")
    assert ["one", "too-many-groups"] == [
        ask(bounded, "group_add", address="one")["address"],
        ask(bounded, "group_add", address="two"),
    ]
    assert "not-allowed" == ask(bounded, "group_add", address="three", owner="bob")


def test_no_group_and_no_member_are_the_same_answer(team):
    """Whatever a stranger asks about a group, it is as if there were none."""
    dave = team.listener("dave")
    asked = [
        ("group_show", {}),
        ("group_members", {}),
        ("group_set", {"profile": {"name": "x"}}),
        ("group_join", {"users": ["dave"]}),
        ("group_leave", {}),
        ("group_pin_list", {}),
        ("group_pin_add", {}),
        ("group_pin_remove", {"id": 1}),
        ("group_enter", {}),
        ("group_enter", {"pin": "12345678"}),
    ]
    for op, arguments in asked:
        (known,), (unknown,) = (dave.rpc(op, address=name, **arguments) for name in ("team", "maet"))
        assert known["code"] == unknown["code"] in ("no-such-group", "bad-pin"), op
        assert known["message"].replace("team", "maet") == unknown["message"]
    (known,), (unknown,) = (dave.rpc("group_delete", addresses=[name]) for name in ("team", "maet"))
    assert known["message"].replace("team", "maet") == unknown["message"]


@pytest.mark.parametrize("op", ["group_leave", "group_join"])
def test_who_may_not_list_members_learns_of_none(team, op):
    """What he may not do is refused in the same words for an owner, an admin, a member, a stranger and nobody."""
    team.do("group_set", address="team", profile={"flags": "0x10000", "role:bob": "admin"})
    team.user("erin")
    team.do("group_join", address="team", users=["erin"])
    carol = team.listener("carol")
    answers = {}
    for name in ("alice", "bob", "erin", "dave", "zoe"):
        (answer,) = carol.rpc(op, address="team", users=[name])
        answers[name] = (answer["code"], answer["message"].replace(name, "X"))

    assert "not-allowed" == ask(carol, "group_members", address="team")
    assert {"not-allowed"} == {code for code, _ in answers.values()}
    assert 1 == len(set(answers.values()))


def test_who_may_not_add_uses_up_no_invitations(team):
    """Refused more often than anybody may be invited: whoever may add somebody still can."""
    alice, carol = team.listener("alice"), team.listener("carol")
    for _ in range(10):
        assert "not-allowed" == ask(carol, "group_join", address="team", users=["dave"])

    assert ["dave"] == ask(alice, "group_join", address="team", users=["dave"])["joined"]


def test_a_member_can_leave_and_no_more(team):
    """He removes nobody, adds nobody, changes nothing; his leaving is told to all, and to him as the last thing."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.received()
    for op, arguments in (
        ("group_join", {"users": ["dave"]}),
        ("group_leave", {"users": ["carol"]}),
        ("group_set", {"profile": {"name": "Mine"}}),
        ("group_set", {"profile": {"role:bob": "admin"}}),
        ("group_set", {"profile": {"role:bob": "owner"}}),
        ("group_set", {"profile": {"send:carol": "off"}}),
        ("group_pin_add", {}),
        ("group_pin_list", {}),
    ):
        assert "not-allowed" == ask(bob, op, address="team", **arguments), (op, arguments)
    assert "not-allowed" == ask(bob, "group_delete", addresses=["team"])
    alice.received()
    assert ["bob"] == ask(bob, "group_leave", address="team")["left"]
    alice.publish("g/team/1", "after")

    told = {"event": "left", "group": "team", "users": ["bob"]}
    assert ([told], [told]) == (events(alice), events(bob))
    assert [] == bob.received("g/")


def test_an_owner_makes_admins_who_give_no_more_than_they_have(team):
    """An admin adds and removes members; he makes no admins without that right, and none with more than his own."""
    alice, bob, carol = (team.listener(name) for name in ("alice", "bob", "carol"))
    ask(alice, "group_set", address="team", profile={"role:bob": "admin"})
    assert {
        "event": "role",
        "group": "team",
        "users": ["bob"],
        "role": "admin",
        "admin": ADMIN_USUAL,
        "by": "alice",
    } == (events(carol)[-1])
    assert ["dave"] == ask(bob, "group_join", address="team", users=["dave"])["joined"]
    assert {"event": "joined", "group": "team", "users": ["dave"], "by": "bob"} == events(carol)[-1]
    assert "not-allowed" == ask(bob, "group_set", address="team", profile={"role:dave": "admin"})
    assert "not-allowed" == ask(bob, "group_leave", address="team", users=["alice"])

    ask(alice, "group_set", address="team", profile={"admin:bob": "0x71"})  # MODIFY, ADDUSER, REMUSER, ADDADMIN
    assert "cannot-grant" == ask(bob, "group_set", address="team", profile={"admin:dave": "0x2001"})
    assert ask(bob, "group_set", address="team", profile={"admin:dave": "0x11"})["members"]
    assert "not-allowed" == ask(bob, "group_leave", address="team", users=["dave"])  # takes REMADMIN too
    assert ["carol"] == ask(bob, "group_leave", address="team", users=["carol"])["left"]
    assert {"event": "removed", "group": "team", "users": ["carol"], "by": "bob"} == events(carol)[-1]


def test_an_admin_gives_no_right_that_he_lacks(team):
    """Who may not send himself cannot let others send; what he has he can give."""
    alice, bob = team.listener("alice"), team.listener("bob")
    ask(alice, "group_set", address="team", profile={"admin:bob": "1", "send:bob": "off", "send:carol": "off"})

    assert "cannot-grant" == ask(bob, "group_set", address="team", profile={"send:carol": "on"})
    assert ask(bob, "group_set", address="team", profile={"list:carol": "off"})["address"]
    assert "cannot-grant" == ask(bob, "group_set", address="team", profile={"record:carol": "on"})
    assert "not-allowed" == ask(bob, "group_set", address="team", profile={"send:alice": "off"})  # an owner's


def test_the_last_owner_stays_until_there_is_another(team):
    """He can neither leave nor be less; then he hands over, and goes."""
    alice, bob = team.listener("alice"), team.listener("bob")

    assert "last-owner" == ask(alice, "group_leave", address="team")
    assert "last-owner" == ask(alice, "group_set", address="team", profile={"role:alice": "member"})
    assert "last-owner" == ask(alice, "group_leave", address="team", users=["bob", "alice"])
    ask(alice, "group_set", address="team", profile={"role:bob": "owner"})
    assert ["alice"] == ask(alice, "group_leave", address="team")["left"]
    assert "last-owner" == ask(bob, "group_leave", address="team")
    assert ["team"] == ask(bob, "group_delete", addresses=["team"])["deleted"]


def test_two_owners_who_leave_at_once_do_not_both_get_away(team):
    """The second is refused in the transaction, whatever was known when he asked; his membership stands as before."""
    team.do("group_set", address="team", profile={"role:bob": "owner"})
    alice, bob = team.listener("alice"), team.listener("bob")
    team.commits.hold()
    alice.publish("rpc/group_leave/1", '{"address":"team"}')
    bob.publish("rpc/group_leave/1", '{"address":"team"}')
    team.commits.release()
    team.turn()

    answers = [json.loads(peer.received("rpc/")[0].payload) for peer in (alice, bob)]
    assert [True, "last-owner"] == [answer["ok"] or answer["code"] for answer in answers]
    bob.publish("g/team/1", "still here")
    assert [("1", 1)] == bob.steps()


def test_the_backend_may_do_everything(team):
    """It removes the last owner, gives any right, and in a user's name it may do what he may."""
    team.do("group_leave", address="team", users=["alice"])
    team.do("group_set", address="team", profile={"role:bob": "owner"})
    with pytest.raises(OperationError, match="takes the right ADDUSER"):
        team.do("group_join", address="team", users=["dave"], by="carol")

    assert ["dave"] == team.do("group_join", address="team", users=["dave"], by="bob")["joined"]


def test_members_who_are_not_to_list_see_nobody(team):
    """Neither by asking nor by events about others; what concerns them they are told."""
    team.do("group_set", address="team", profile={"flags": "0x10000", "name": "Quiet"})
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.received()
    alice.received()
    team.do("group_join", address="team", users=["dave"])
    team.do("group_set", address="team", profile={"send:bob": "off", "name": "Quieter"})

    assert ("not-allowed", []) == (
        ask(bob, "group_members", address="team"),
        ask(bob, "group_show", address="team")["members"],
    )
    assert 4 == len(ask(alice, "group_members", address="team")["members"])
    assert ["renamed", "rights"] == [event["event"] for event in events(bob)]
    assert ["joined", "renamed", "rights"] == [event["event"] for event in events(alice)]


def test_each_change_is_an_event_with_who_made_it(team):
    """Renamed, paused, resumed, another kind, an end, rights: in order; nothing is told where nothing changed."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.received()
    for profile in (
        {"name": "The team"},
        {"name": "The team"},
        {"paused": "on"},
        {"paused": "on"},
        {"paused": "off"},
        {"kind": "broadcast"},
        {"expiry": "60"},
        {"send:bob": "on"},
        {"picture": "https://example.org/x.png"},
    ):
        ask(alice, "group_set", address="team", profile=profile)
    found = events(bob)

    assert ["renamed", "paused", "resumed", "kind", "expiry", "rights", "profile"] == [each["event"] for each in found]
    assert {"alice"} == {each["by"] for each in found}
    assert ("The team", 1, {"send": True}) == (found[0]["name"], found[3]["flags"], found[5]["rights"])


def test_caps_of_members_and_groups(make_world):
    """A group holds so many, a user is in so many; who would pass a bound changes nothing."""
    world = make_world(messaging={"group_members_max": 2}, groups={"member_of_max": 2})
    for name in ("one", "two", "three"):
        world.group(name)
    world.do("group_join", address="one", users=["alice", "bob"])
    world.do("group_join", address="two", users=["alice"])
    for name, user, code in (("one", "carol", "group-full"), ("three", "alice", "too-many-groups")):
        with pytest.raises(OperationError) as refused:
            world.do("group_join", address=name, users=[user])
        assert code == refused.value.code
    assert [2, 0, 1] == [group["members"] for group in world.do("group_list")["groups"]]


def test_who_keeps_leaving_is_not_added_for_ever(team):
    """After three times a day the same user is not added to the same group by others; he may come by himself."""
    alice, bob = team.listener("alice"), team.listener("bob")
    answers = []
    for _ in range(4):
        ask(bob, "group_leave", address="team")
        answers.append(ask(alice, "group_join", address="team", users=["bob"]))

    assert "rate-limited" == answers[3]
    assert [["bob"]] * 3 == [answer["joined"] for answer in answers[:3]]
