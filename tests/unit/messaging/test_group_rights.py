"""Rights in groups: who may send, who receives, live and later, and what the kinds change (docs/groups.md)."""

from __future__ import annotations

import json

import pytest

from unit.messaging.world import seq_of


@pytest.fixture
def team(world):
    """A group of alice (its owner), bob and carol; dave is somebody else."""
    world.user("dave")
    world.do("group_add", address="team", owner="alice")
    world.do("group_join", address="team", users=["bob", "carol"])
    return world


def set_group(world, **profile):
    world.do("group_set", address="team", profile={key.replace("__", ":"): value for key, value in profile.items()})


def told(peer):
    """Return the statuses since the last look, without SENT, as (cid, peer, code, reason)."""
    return [
        (each["cid"], each.get("peer"), each["status"], each.get("reason"))
        for each in peer.statuses()
        if each["status"] != 1
    ]


def events(peer):
    return [json.loads(message.payload)["event"] for message in peer.received("event/")]


def test_receive_off_stops_live_delivery_and_the_backlog(team):
    """What waits is withdrawn and its sender told; nothing of the time without the right ever comes, on no device."""
    alice, bob = team.listener("alice"), team.listener("bob")
    alice.publish("g/team/1", "before")
    assert ["before"] == bob.payloads("g/")
    bob.disconnect()
    alice.publish("g/team/2", "waits")
    told(alice)
    set_group(team, receive__bob="off")
    assert [("2", "bob", 0x8D, "group.receive")] == told(alice)
    alice.publish("g/team/3", "without him")
    bob = team.listener("bob")
    tablet = team.listener("bob", "tablet")
    alice.publish("g/team/4", "live without him")
    assert ([], []) == (bob.payloads("g/"), tablet.payloads("g/"))
    set_group(team, receive__bob="on")
    alice.publish("g/team/5", "with him")

    assert (["with him"], ["with him"]) == (bob.payloads("g/"), tablet.payloads("g/"))
    assert ["bob"] == [peer for _, peer, code, _ in told(alice) if peer == "bob" and code == 2]
    team.restart()
    assert ([], []) == (team.listener("bob").payloads("g/"), team.listener("bob", "new").payloads("g/"))


@pytest.mark.parametrize("gap", [1, 100])
def test_the_time_without_the_right_is_a_legal_gap(team, gap):
    """Seqs go on above it, nothing is stuck behind it, and what it held cannot be read."""
    alice, bob = team.listener("alice"), team.listener("bob")
    set_group(team, receive__bob="off")
    for number in range(gap):
        alice.publish(f"g/team/x{number}")
    mid = alice.statuses()[-1]["mid"]
    set_group(team, receive__bob="on")
    bob.received()
    for number in range(100):
        alice.publish(f"g/team/y{number}", str(number))
    found = bob.received("g/")
    bob.publish("read/g/team", mid)

    assert [str(number) for number in range(100)] == [message.payload.decode() for message in found]
    assert list(range(seq_of(found[0]), seq_of(found[0]) + 100)) == [seq_of(message) for message in found]
    assert [] == [each for each in alice.statuses() if each["cid"].startswith("x") and each.get("peer") == "bob"]
    assert 0 == team.do("inbox", address="bob")["messages"]
    team.restart()
    assert [] == team.listener("bob", "new device").received("g/")


def test_the_right_is_taken_with_what_is_in_flight(team):
    """A message on its way is judged by its answer: DELIVERED if it is acknowledged."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/1")
    told(alice)
    set_group(team, receive__bob="off")
    bob.ack(*bob.received("g/"))

    assert [("1", "bob", 2, None)] == told(alice)


def test_who_may_not_receive_is_told_of_his_own_end(team):
    """Without the right he is still a member, who sends; when he is removed he is told so, and of nothing between."""
    alice, bob = team.listener("alice"), team.listener("bob")
    bob.received()
    set_group(team, receive__bob="off")
    assert ["rights"] == events(bob)
    bob.publish("g/team/b1", "he still sends")
    set_group(team, name="Renamed")
    team.do("group_leave", address="team", users=["bob"])

    assert ["he still sends"] == alice.payloads("g/")
    assert ["left"] == events(bob)


def test_in_a_broadcast_group_only_selected_send(team):
    """Its owner, admins, and whom they let; all others read. Muted members stay muted when it becomes normal again."""
    alice, bob, carol = (team.listener(name) for name in ("alice", "bob", "carol"))
    set_group(team, send__carol="off")
    set_group(team, kind="broadcast")
    alice.publish("g/team/1", "news")
    bob.publish("g/team/2")
    assert [("2", None, 0x8D, None)] == told(bob)
    set_group(team, send__bob="on")
    bob.publish("g/team/3", "selected")
    set_group(team, kind="normal")
    carol.publish("g/team/4")

    assert ["news", "selected"] == carol.payloads("g/")
    assert [0x8D] == [code for cid, _, code, _ in told(carol) if cid == "4"]


def test_only_selected_receive(team):
    """A drop box: all send, the owner and whom he selects receive; who joins later is no exception."""
    alice, bob = team.listener("alice"), team.listener("bob")
    set_group(team, flags="0x10")
    team.do("group_join", address="team", users=["dave"])
    set_group(team, receive__carol="on")
    carol, dave = team.listener("carol"), team.listener("dave")
    dave.publish("g/team/1", "for the desk")

    assert (["for the desk"], [], ["for the desk"], []) == (
        alice.payloads("g/"),
        bob.payloads("g/"),
        carol.payloads("g/"),
        dave.payloads("g/"),
    )
    assert {"alice", "carol"} == {peer for _, peer, code, _ in told(dave) if code == 2}
    set_group(team, flags="0")
    dave.publish("g/team/2", "for all")
    assert ["for all"] == bob.payloads("g/")


def test_a_public_room_is_listed_and_entered_by_anybody(team):
    """Who is no member learns its name and kind, may join, and nothing else: 0x91 tells him what he lacks."""
    set_group(team, kind="public", name="Lobby")
    alice, dave = team.listener("alice"), team.listener("dave")
    (listed,) = dave.rpc("group_list", public=True)
    (shown,) = dave.rpc("group_show", address="team")
    dave.publish("g/team/1")
    dave.publish("presence/g/team", "typing")

    assert [{"address": "team", "name": "Lobby", "kind": "public"}] == listed["result"]["groups"]
    assert {"address": "team", "name": "Lobby", "kind": "public"} == shown["result"]
    assert [0x91, 0x91] == [status["status"] for status in dave.statuses()]
    assert [] == alice.received("presence/")
    assert ["dave"] == dave.rpc("group_enter", address="team")[0]["result"]["joined"]
    dave.publish("g/team/2", "hello")
    assert ["hello"] == alice.payloads("g/")


def test_a_group_to_which_anybody_sends(team):
    """A letter box: who is no member sends, gets his statuses, and receives nothing."""
    set_group(team, flags="2")
    alice, dave = team.listener("alice"), team.listener("dave")
    dave.publish("g/team/1", "from outside")
    alice.publish("g/team/2", "inside")

    assert ["from outside"] == alice.payloads("g/")
    assert [("1", "alice", 2, None)] == told(dave)
    assert [] == dave.received("g/")
    assert "no-such-group" == dave.rpc("group_show", address="team")[0]["code"]


def test_a_group_that_keeps_nothing(team):
    """As expiry 0: who is online gets it, nobody else ever, and the sender is told at once."""
    set_group(team, kind="no-storage")
    alice, bob = team.listener("alice"), team.listener("bob")
    alice.publish("g/team/1", "now")

    assert ["now"] == bob.payloads("g/")
    assert [("1", "bob", 2, None), ("1", "carol", 0x81, None)] == sorted(told(alice))
    assert [] == team.listener("carol").payloads("g/")
    assert [(0,)] == team.rows("SELECT count(*) FROM message WHERE kind = 0")


@pytest.mark.parametrize("flags", ["0x80", "0xC0"])
def test_loop_back_gives_the_sender_his_own_message(team, flags):
    """On the device that sent it too, as anybody gets it; it raises no status and no copy. With and without storage."""
    set_group(team, flags=flags)
    phone, tablet, bob = team.listener("alice"), team.listener("alice", "tablet"), team.listener("bob")
    for peer in (phone, tablet, bob):
        peer.received()
    phone.publish("g/team/1", "echo")

    assert (["echo"], ["echo"], ["echo"]) == (phone.payloads("g/"), tablet.payloads("g/"), bob.payloads("g/"))
    assert [] == tablet.received("sent/")
    assert {"bob", "carol", None} >= {status.get("peer") for status in phone.statuses()}


def test_a_group_ends_at_its_time(world):
    """As if it were deleted: what waits gets its verdict, members are told, and a send after it finds nothing."""
    world.do("group_add", address="fair", owner="alice", expiry=60)
    world.do("group_join", address="fair", users=["bob"])
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.disconnect()
    alice.publish("g/fair/1")
    told(alice)
    alice.received()
    world.ms += 60_000
    alice.publish("g/fair/2")
    assert [("2", None, 0x83, None)] == told(alice)
    world.advance(1.5)

    assert [("1", "bob", 0x80, "group-deleted")] == told(alice)
    assert ["deleted"] == events(alice)
    assert ["deleted"] == events(world.listener("bob"))[-1:]
    assert [] == world.do("group_list")["groups"]


def test_an_end_survives_a_restart_and_can_be_put_off(world):
    """A group whose time is over while the server is down ends at the start; one that lives on does not."""
    for name in ("fair", "club"):
        world.do("group_add", address=name, owner="alice", expiry=60)
    world.do("group_set", address="club", profile={"expiry": "never"})
    world.restart()
    world.jump(61)

    assert ["club"] == [group["address"] for group in world.do("group_list")["groups"]]


def test_a_pause_holds_for_all_and_what_was_sent_before_still_comes(team):
    """0x90 to members, owner included; the backlog is delivered all the same."""
    alice = team.listener("alice")
    alice.publish("g/team/1", "before")
    set_group(team, paused="on")
    alice.publish("g/team/2")

    assert [0x90] == [code for cid, _, code, _ in told(alice) if cid == "2"]
    assert ["before"] == team.listener("bob").payloads("g/")


def test_who_may_not_leave_stays(team):
    """NOSELFDELETE, of the group or of one member: only an admin takes him out."""
    bob, carol = team.listener("bob"), team.listener("carol")
    set_group(team, stay__bob="on")
    assert "not-allowed" == bob.rpc("group_leave", address="team")[0]["code"]
    assert carol.rpc("group_leave", address="team")[0]["ok"]
    set_group(team, stay__bob="off", flags="0x40000")
    assert "not-allowed" == bob.rpc("group_leave", address="team")[0]["code"]
    assert ["bob"] == team.do("group_leave", address="team", users=["bob"])["left"]


def test_a_crash_between_a_removal_and_its_verdicts_loses_none(team):
    """What waited for who was removed gets its verdict after the start."""
    alice, bob = team.listener("alice"), team.listener("bob")
    alice.received()
    bob.disconnect()
    alice.publish("g/team/1")
    assert [] == told(alice)
    committer = team.store.committer
    group = team.messaging.groups.group("team")
    team.commits.hold()
    alice.publish("rpc/group_leave/1", '{"address":"team","users":["bob"]}')
    assert group.members.keys() == {1, 3}
    team.commits.step()  # the removal is committed, its verdicts are not
    assert committer.commits
    team.restart()
    alice = team.listener("alice")
    team.advance(2)

    assert [("1", "bob", 0x91, None)] == [each for each in told(alice) if each[1] == "bob"]
