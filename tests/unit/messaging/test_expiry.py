"""Deadlines: exact, over restarts, for what is in flight, and after everybody has judged (contract section 4)."""

from __future__ import annotations

import pytest

from unit.messaging.world import YEAR_S


@pytest.mark.parametrize(("offset", "expected"), [(-0.001, ["hi"]), (0, []), (0.001, [])])
def test_the_deadline_is_exact(world, offset, expected):
    """A millisecond before its deadline a message is delivered, at it and after it never."""
    world.connect("alice").publish("u/bob/1/expiry=5")
    world.ms += round((5 + offset) * 1000)

    assert expected == world.listener("bob").payloads()


def test_expired_is_told(world):
    """0x84 within a second or so of the deadline, once, also repeated for a resend."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=5")
    world.advance(4.75)
    assert [("1", 1)] == alice.steps()
    world.advance(1.75)
    assert [("1", 0x84)] == alice.steps()
    world.advance(60)
    assert [] == alice.steps()

    alice.publish("u/bob/1/expiry=5")

    assert [("1", 0x84)] == alice.steps()


@pytest.mark.parametrize(("seconds", "expected"), [(0, 1), (2, 0)])
def test_a_copy_of_what_expired_during_its_commit_is_not_given(world, seconds, expected):
    """A device that takes the copies of what its user sends, and not the conversation, gets none that is too late."""
    copies = world.listener("alice", "tablet", filters=["sent/#"])
    world.user("bob")
    world.commits.hold_answers()
    world.connect("alice").publish("u/bob/1/expiry=1")
    world.ms += 1000 * seconds
    world.commits.release()
    world.turn()

    assert expected == len(copies.received("sent/"))


def test_a_message_expires_while_the_server_is_down(world):
    """The verdict comes after the restart, and the message is not delivered."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=5")
    alice.steps()
    world.restart()
    world.ms += 10_000
    bob = world.listener("bob")
    world.advance(1.5)

    assert [] == bob.payloads()
    assert [("1", 0x84)] == world.listener("alice").steps()


def test_a_delivered_message_does_not_expire(world):
    """After DELIVERED the deadline means nothing."""
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/expiry=5")
    world.advance(10)

    assert [("1", 1), ("1", 2)] == alice.steps()


def test_a_device_that_comes_late_does_not_get_what_expired(world):
    """Delivered to the phone in time, expired for the tablet: a legal gap."""
    world.listener("bob", "tablet").disconnect()
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/expiry=5")
    alice.publish("u/bob/2")
    world.advance(10)

    tablet = world.listener("bob", "tablet")

    assert ["seq=2"] == [message.topic.rpartition("/")[2] for message in tablet.received("u/")]


def test_in_flight_at_the_deadline_is_judged_by_the_acknowledgement(world):
    """It was sent in time; its acknowledgement within 30 s after the deadline is DELIVERED."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1/expiry=5")
    world.advance(30)
    assert [("1", 1)] == alice.steps()

    bob.ack(*bob.received("u/"))

    assert [("1", 2)] == alice.steps()
    world.advance(60)
    assert [] == alice.steps()


def test_in_flight_at_the_deadline_is_judged_by_the_end_of_the_connection(world):
    """When the connection ends without an answer, the message has expired."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1/expiry=5")
    world.advance(10)
    alice.steps()
    bob.lose()
    world.advance(1.25)

    assert [("1", 0x84)] == alice.steps()
    assert [] == world.listener("bob").payloads()


def test_in_flight_at_the_deadline_is_judged_after_30_seconds(world):
    """At the latest then; an acknowledgement after the verdict raises nothing."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1/expiry=5")
    alice.steps()
    world.advance(34.5)
    assert [] == alice.steps()
    world.advance(2)
    assert [("1", 0x84)] == alice.steps()

    bob.ack(*bob.received("u/"))
    world.advance(2)

    assert [] == alice.steps()


def test_what_waits_for_the_window_is_not_sent_after_its_deadline(world):
    """Behind 56 unacknowledged messages one expires: it is judged, and not delivered when there is room."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(56):
        alice.publish(f"u/bob/{number}")
    alice.publish("u/bob/late/expiry=5")
    alice.publish("u/bob/after")
    world.advance(7)
    assert ("late", 0x84) in alice.steps()

    bob.auto_ack = True
    bob.ack(*bob.received("u/"))

    assert ["seq=58"] == [message.topic.rpartition("/")[2] for message in bob.received("u/")]


@pytest.mark.parametrize(("ms", "expected"), [(-1, ["late"]), (0, [])])
def test_the_deadline_is_exact_in_the_window_too(world, ms, expected):
    """Room that comes a millisecond before the deadline is used; what comes with it is too late, judged or not."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(56):
        alice.publish(f"u/bob/{number}")
    alice.publish("u/bob/late/expiry=5", "late")
    world.ms += 5000 + ms
    bob.ack(*bob.received("u/"))

    assert expected == bob.payloads()


def test_the_default_is_a_year(world):
    """Without `expiry` a message lives for a year; then it is judged too, also unconfirmed."""
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    world.listener("carol", qos=0).received()
    alice.publish("u/carol/2")
    alice.steps()
    world.jump(YEAR_S - 10)
    assert [] == alice.steps()
    world.jump(3700)

    assert [("1", 0x84), ("2", 0x80)] == alice.steps()


def test_a_year_old_crowd_is_judged_whole(world):
    """However many messages came of age together, each gets its verdict."""
    alice = world.listener("alice")
    world.commits.hold()
    for number in range(1200):
        alice.publish(f"u/bob/{number}", qos=0)
    world.commits.release()
    world.turn()
    alice.steps()
    world.jump(YEAR_S)
    world.jump(3700)
    world.advance(10)

    assert {str(number): 0x84 for number in range(1200)} == dict(alice.steps())


def test_every_member_has_a_verdict_of_his_own(world):
    """In a group one member got the message and one did not: one DELIVERED, one 0x84."""
    world.group("team", "alice", "bob", "carol")
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.publish("g/team/1/expiry=5")
    world.advance(7)

    assert [(1, None), (2, "bob"), (0x84, "carol")] == [
        (status["status"], status.get("peer")) for status in alice.statuses()
    ]


def test_who_is_in_flight_keeps_no_other_member_from_his_verdict(world):
    """One was sent it and has not answered at the deadline: the others are judged then, not 30 seconds later."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/1/expiry=5")
    world.advance(7)

    assert [(1, None), (0x84, "carol")] == [(status["status"], status.get("peer")) for status in alice.statuses()]


def test_a_failure_of_the_first_message_survives_a_restart(world):
    """The lane keeps what failed from seq 1 on: reading it later does not turn the verdict round."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=5", "too late")
    world.jump(10)
    mid = alice.statuses()[0]["mid"]
    world.restart()
    bob = world.listener("bob")
    bob.publish("read/u/alice", f"<={mid}")

    assert [("bob", 0x84)] == [(row["peer"], row["status"]) for row in world.do("status", mid=mid)["status"]]


def test_a_note_of_a_deleted_user_ends_once(make_world):
    """Who wrote to himself and is deleted is one party also after a restart: his note has one verdict in the store."""
    world = make_world()
    alice = world.connect("alice", "phone")
    alice.publish("u/alice/1/expiry=60", "note")
    alice.disconnect()
    world.do("user_delete", addresses=["alice"])
    world.restart()
    world.advance(120)

    ends = world.store.read.execute("SELECT count(*) FROM step WHERE status >= 0x80").fetchone()[0]
    assert 1 == ends
