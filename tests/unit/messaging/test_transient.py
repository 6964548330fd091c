"""Expiry 0 and flag 4: only to who is online now, never stored, with a verdict all the same (contract section 4)."""

from __future__ import annotations

import pytest

from unit.messaging.world import mid_of


@pytest.mark.parametrize("params", ["expiry=0", "flags=7"])
def test_a_transient_message_is_handed_over_and_not_stored(world, params):
    """No SENT, no seq, no commit: DELIVERED is the first status, and the parameters are carried."""
    alice, bob = world.listener("alice"), world.listener("bob")
    commits = world.store.committer.commits
    assert alice.publish(f"u/bob/1/{params}&k=v")

    (message,) = bob.received("u/")
    (status,) = alice.statuses()
    assert f"m/bob/in/u/alice/{status['mid']}/{params}&k=v" == message.topic
    assert (2, "delivered", "bob", "phone") == (status["status"], status["name"], status["peer"], status["device"])
    assert ([(0,)], commits) == (world.rows("SELECT count(*) FROM message"), world.store.committer.commits)


def test_nobody_online_is_told_at_once(world):
    """0x81 `user-offline`, and nothing comes later."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=0")

    assert [("1", 0x81)] == alice.steps()
    assert [] == world.listener("bob").payloads()


def test_who_is_online_and_does_not_select_it_gets_nothing(world):
    """A device that takes statuses alone is nobody whom it could be handed to: 0x81."""
    alice, bob = world.listener("alice"), world.listener("bob", filters=("status/#",))
    alice.publish("u/bob/1/expiry=0")

    assert ([("1", 0x81)], []) == (alice.steps(), bob.received())


def test_no_answer_is_user_offline_after_10_seconds(world):
    """An acknowledgement after the verdict raises nothing."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1/expiry=0")
    world.advance(9.75)
    assert [] == alice.steps()
    world.advance(0.5)
    assert [("1", 0x81)] == alice.steps()

    bob.ack(*bob.received("u/"))

    assert [] == alice.steps()


def test_only_qos_0_devices_are_unconfirmed(world):
    """Written to somebody who cannot confirm: 0x80 `unconfirmed`; READ may follow."""
    alice, bob = world.listener("alice"), world.listener("bob", qos=0)
    alice.publish("u/bob/1/expiry=0")
    (status,) = alice.statuses()
    assert (0x80, "unconfirmed") == (status["status"], status["reason"])

    bob.publish("read/u/alice", mid_of(bob.received("u/")[0]))

    assert [("1", 3)] == alice.steps()


def test_the_first_confirming_device_delivers(world):
    """With a QoS 0 and a QoS 1 device online the acknowledgement counts; it is told once."""
    alice, _, tablet = world.listener("alice"), world.listener("bob", qos=0), world.listener("bob", "tablet")
    third = world.listener("bob", "third")
    alice.publish("u/bob/1/expiry=0")

    assert (["hi"], ["hi"], [("1", 2)]) == (tablet.payloads(), third.payloads(), alice.steps())


def test_read_of_a_transient_message(world):
    """READ within the minute is told, DELIVERED before it where that was not yet; once."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1/expiry=0")
    number = mid_of(bob.received("u/")[0])
    bob.publish("read/u/alice", number)
    bob.publish("read/u/alice", number)

    assert [("1", 2), ("1", 3)] == alice.steps()


def test_a_resend_within_a_minute_is_no_second_message(world):
    """The same cid: the verdict again, byte for byte; other content is `cid-reused`."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/expiry=0")
    told = alice.received()[0].payload
    world.advance(50)
    alice.publish("u/bob/1/expiry=0")
    alice.publish("u/bob/1/expiry=0", "other")

    repeated, refused = alice.received()
    assert (["hi"], told) == (bob.payloads(), repeated.payload)
    assert b'"reason":"cid-reused"' in refused.payload


def test_after_a_minute_the_cid_is_free(world):
    """Its memory is 60 s."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/expiry=0")
    world.advance(60.5)
    alice.publish("u/bob/1/expiry=0")

    assert ["hi", "hi"] == bob.payloads()


def test_flags_suppress_delivered_of_a_transient_message(world):
    """Without bit 1 nothing is told of a delivery, not for a resend either; a failure is told."""
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/expiry=0&flags=0")
    alice.publish("u/bob/1/expiry=0&flags=0")
    alice.publish("u/carol/2/expiry=0&flags=0")

    assert [("2", 0x81)] == alice.steps()


def test_a_transient_message_to_a_group(world):
    """Each other member has a verdict of his own, and the topic names group and sender."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("g/team/1/expiry=0")

    (message,) = bob.received("g/")
    assert message.topic.startswith("m/bob/in/g/team/alice/")
    assert {("bob", 2), ("carol", 0x81)} == {(status["peer"], status["status"]) for status in alice.statuses()}


def test_no_copies_of_transient_messages(world):
    """What is never stored is not copied to own other devices as something that was said."""
    alice, laptop, _ = world.listener("alice"), world.listener("alice", "laptop"), world.listener("bob")
    alice.publish("u/bob/1/expiry=0")

    assert [] == laptop.received("sent/")


def test_no_payload_is_kept_in_memory(world):
    """For a minute cid and verdict are remembered, and nothing else: neither what was sent nor its connection."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/expiry=0", b"x" * 1000)
    (delivery,) = world.messaging._transients._by_mid.values()

    assert 1 == len(bob.received("u/"))
    assert (b"", None) == (delivery.message.payload, delivery.message.connection)


def test_a_read_mark_counts_in_its_own_conversation(world):
    """A transient message is read where it was received, and nowhere else."""
    world.group("team", "alice", "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("g/team/1/expiry=0")
    mid = mid_of(bob.received("g/")[0])
    assert [("1", 2)] == alice.steps()

    bob.publish("read/u/alice", mid)
    assert [] == alice.steps()
    bob.publish("read/g/team", mid)

    assert [("1", 3)] == alice.steps()
