"""What webhooks are told: the events, their forms, and who is told which."""

from __future__ import annotations

import base64

from mesimqtt.domain.events import EVENTS
from mesimqtt.services.webhooks.ports import Reply
from unit.messaging.world import mid_of


def kinds(events):
    return [event["type"] for event in events]


def test_a_message_is_told_from_accepted_to_read(hooked):
    """accepted, delivered and read come in this order, with the names and numbers of the message."""
    world = hooked({})
    world.user("alice", "bob")
    alice, bob = world.listener("alice", "laptop"), world.listener("bob")
    world.receivers.events()
    alice.publish("u/bob/42", "hello")
    (message,) = bob.received("u/")
    bob.publish("read/u/alice", mid_of(message))
    accepted, delivered, read = world.receivers.events()

    mid, ts = mid_of(message), world.ms
    assert {
        "type": "message.accepted", "ts": ts, "from": "alice", "to": "bob", "device": "laptop", "mid": mid, "cid": "42",
        "seq": 1, "bytes": 5,
    } == accepted  # fmt: skip
    assert {
        "type": "message.delivered", "ts": ts, "from": "alice", "to": "bob", "status": 2, "name": "delivered",
        "device": "phone", "mid": mid, "cid": "42", "seq": 1,
    } == delivered  # fmt: skip
    assert ("message.read", mid, 3) == (read["type"], read["mid"], read["status"])


def test_payloads_are_told_only_where_asked_for(hooked):
    """Without `payload` no word of a message leaves; with it text is text and bytes are base64."""
    world = hooked(
        {"events": ("message.accepted",)},
        {"name": "all", "url": "https://all.example.org/", "events": ("message.accepted",), "payload": True},
    )
    world.user("alice", "bob")
    alice = world.connect("alice")
    alice.publish("u/bob/1", 'a "quoted" \N{SNOWMAN}')
    alice.publish("u/bob/2", b"\xff\x00")
    plain, full = world.receivers.events(), world.receivers.events("https://all.example.org/")

    assert [] == [event for event in plain if {"text", "base64"} & event.keys()]
    assert 'a "quoted" \N{SNOWMAN}' == full[0]["text"]
    assert b"\xff\x00" == base64.b64decode(full[1]["base64"])


def test_a_repeated_or_refused_message_is_no_event(hooked):
    """The same cid again is not accepted again, and a refusal is nothing that was accepted."""
    world = hooked({"events": ("message.*",)})
    world.user("alice", "bob")
    alice = world.connect("alice")
    for payload in ("one", "one", "other"):
        alice.publish("u/bob/1", payload)
    alice.publish("u/nobody/2", "x")

    assert ["message.accepted"] == kinds(world.receivers.events())


def test_parameters_come_as_an_object(hooked):
    """What stands in the parameter level is told decoded."""
    world = hooked({"events": ("message.accepted",)})
    world.user("alice", "bob")
    world.connect("alice").publish("u/bob/1/type=3&x=a%20b", "x")
    (event,) = world.receivers.events()

    assert {"type": "3", "x": "a b"} == event["params"]


def test_an_expired_message_is_told_as_failed(hooked):
    """The verdict at the deadline is message.failed with its status and name."""
    world = hooked({"events": ("message.failed",)})
    world.user("alice", "bob")
    world.connect("alice").publish("u/bob/1/expiry=5", "x")
    world.advance(10)
    (event,) = world.receivers.events()

    assert ("alice", "bob", 132, "expired", "1") == tuple(event[key] for key in ("from", "to", "status", "name", "cid"))


def test_a_group_is_told_with_its_recipients(hooked):
    """A message to a group is accepted once and delivered per member; who joins and leaves changes the group."""
    world = hooked({})
    world.user("alice", "bob", "carol")
    for each in ("bob", "carol"):
        world.listener(each)
    world.receivers.events()
    world.do("group_add", address="team", owner="alice")
    world.do("group_join", address="team", users=["bob", "carol"])
    world.connect("alice").publish("g/team/1", "hi")
    world.do("group_leave", address="team", users=["carol"])
    world.do("group_delete", addresses=["team"])
    world.advance(2)
    events = [event for event in world.receivers.events() if not event["type"].startswith("user.")]
    changes = [event["change"]["event"] for event in events if event["type"] == "group.changed"]
    accepted = [event for event in events if event["type"] == "message.accepted"]
    delivered = [event for event in events if event["type"] == "message.delivered"]

    assert {"created", "joined", "left", "deleted"} <= set(changes)
    assert [("alice", "team")] == [(event["from"], event["group"]) for event in accepted]
    assert {("bob", "team"), ("carol", "team")} == {(event["to"], event["group"]) for event in delivered}


def test_what_is_taken_back_or_disappears_is_told_as_deleted(hooked):
    """A recall, and a message whose age is over, are message.deleted for each recipient; an edit is accepted."""
    world = hooked({"events": ("message.accepted", "message.deleted")})
    world.user("alice", "bob")
    bob, alice = world.listener("bob"), world.listener("alice")
    alice.publish("u/bob/1", "x")
    first = mid_of(bob.received("u/")[0])
    alice.publish(f"u/bob/2/edit={first}", "y")
    alice.publish(f"u/bob/3/recall={first}", "")
    alice.publish("u/bob/4/age=5", "z")
    last = mid_of(bob.received("u/")[-1])
    bob.publish("read/u/alice", last)
    world.advance(20)
    events = world.receivers.events()
    deleted = [event for event in events if event["type"] == "message.deleted"]

    assert [{"edit": first}, {"recall": first}, {"age": "5"}] == [each["params"] for each in events if "params" in each]
    assert ("1", first, "alice", "bob", 33) == tuple(deleted[0][key] for key in ("cid", "mid", "from", "to", "status"))
    assert ("4", last, 34, "wiped") == tuple(deleted[-1][key] for key in ("cid", "mid", "status", "name"))


def test_a_scheduled_message_is_told_at_its_time(hooked):
    """It is accepted when it enters its conversation; one that is cancelled before is no event."""
    world = hooked({"events": ("message.*",)})
    world.user("alice", "bob")
    alice = world.listener("alice")
    alice.publish("u/bob/1/when=60", "later")
    alice.publish("u/bob/2/when=60", "never")
    mid = next(status["mid"] for status in alice.statuses() if status["cid"] == "2")
    alice.publish(f"u/bob/3/recall={mid}", "")
    world.advance(30)
    assert [] == world.receivers.events()
    world.advance(60)

    assert [("message.accepted", "1")] == [(event["type"], event["cid"]) for event in world.receivers.events()]


def test_a_full_inbox_is_told_once_a_minute(hooked):
    """inbox.full names the user and what waits."""
    world = hooked({"events": ("inbox.full",)}, messaging={"inbox_messages_max": 2})
    world.user("alice", "bob")
    alice = world.connect("alice")
    for number in range(6):
        alice.publish(f"u/bob/{number}", "x")
    world.advance(2)

    assert [("bob", 2)] == [(event["user"], event["messages"]) for event in world.receivers.events()]


def test_online_and_offline_take_turns(hooked):
    """Several devices are one user, a short absence is none, and a user is offline once until he is back."""
    world = hooked({"events": ("user.*",)}, webhooks={"offline_after_s": 10})
    world.user("alice")
    phone, laptop = world.connect("alice", "phone"), world.connect("alice", "laptop")
    phone.lose()
    laptop.lose()
    world.advance(5)
    again = world.connect("alice", "phone")
    world.advance(60)
    assert ["user.online"] == kinds(world.receivers.events())
    again.lose()
    world.advance(60)
    assert ["user.offline"] == kinds(world.receivers.events())
    world.connect("alice", "phone")
    world.advance(2)

    assert [("user.online", "alice")] == [(event["type"], event["user"]) for event in world.receivers.events()]


def test_who_was_online_before_a_crash_is_offline_after_it(hooked):
    """Users who were connected when the server died are told offline, unless they are soon back."""
    world = hooked({"events": ("user.*",)})
    world.user("alice", "bob")
    world.listener("alice")
    world.listener("bob")
    world.advance(2)
    world.receivers.events()
    world.restart(kill=True)
    world.listener("bob")
    world.advance(30)

    assert [("user.offline", "alice")] == [(event["type"], event["user"]) for event in world.receivers.events()]


def test_nothing_is_recorded_for_nobody(hooked):
    """Without an endpoint, or with none that is active, the outbox stays empty and there is no recorder."""
    world = hooked()
    world.user("alice", "bob")
    world.connect("alice").publish("u/bob/1", "x")

    assert world.store.committer._writer.recorder is None
    assert ([], None) == (world.messaging._hub.observers.online, world.messaging._hub.on_full)
    assert [] == world.rows("SELECT * FROM outbox")


def test_every_event_can_be_chosen_alone(hooked):
    """Each filter chooses its event and no other."""
    world = hooked(
        *[{"name": f"e{n}", "url": f"https://e{n}.example.org/", "events": (e,)} for n, e in enumerate(EVENTS)]
    )
    world.user("alice", "bob")
    world.group("team", "alice")
    bob, alice = world.listener("bob"), world.connect("alice")
    alice.publish("u/bob/1", "x")
    bob.publish("read/u/alice", mid_of(bob.received("u/")[0]))
    world.advance(2)
    found = {kind: {each["type"] for each in world.receivers.events(f"https://e{n}.example.org/")}
             for n, kind in enumerate(EVENTS)}  # fmt: skip

    never = {"message.failed", "message.deleted", "user.offline", "inbox.full"}
    assert {kind: set() if kind in never else {kind} for kind in EVENTS} == found


def test_a_backend_written_for_mesibo_is_told_in_its_form(hooked):
    """`format: mesibo` tells users in Mesibo's body and takes `MESIBO OK` as the answer, nothing else."""
    world = hooked({"events": ("user.*",), "format": "mesibo"})
    url = next(iter(world.messaging.webhooks.endpoints.values())).url
    world.receivers.answers[url] = [Reply(200, b"<html>"), Reply(200, b"MESIBO OK\n")]
    world.user("alice")
    world.connect("alice")
    world.advance(20)
    first, second = world.receivers.take()

    assert first == second
    assert ("mesibo", 2, 1) == (first["server"], first["v"], first["aid"])
    assert [{"type": "user", "user": {"uid": 1, "address": "alice"}, "status": "online"}] == first["events"]
