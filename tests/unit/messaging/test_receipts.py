"""Receipts and statuses: who is told what, in which order, now and at his return (contract section 4)."""

from __future__ import annotations

import pytest

from mesimqtt.domain import messages
from unit.messaging.world import YEAR_S, mid_of


def mid(peer):
    return mid_of(peer.received("u/")[-1])


def test_sent_delivered_read(world):
    """The three steps come in order, each once, with mid and peer."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    number = mid(bob)
    bob.publish("read/u/alice", number)

    assert [(number, "bob", 1), (number, "bob", 2), (number, "bob", 3)] == [
        (status["mid"], status["peer"], status["status"]) for status in alice.statuses()
    ]


def test_read_without_delivery_emits_both(world):
    """READ from another connection, before any acknowledgement: DELIVERED and READ, in order."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.publish("read/u/alice", mid(bob))

    assert [("1", 1), ("1", 2), ("1", 3)] == alice.steps()


def test_delivered_and_read_stay_in_order_when_messages_differ(world):
    """One message was delivered before, the next is not: reading both at once tells each its steps in order."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.ack(*bob.received("u/"))
    alice.publish("u/bob/2")
    alice.publish("u/bob/3")
    assert [("1", 1), ("1", 2), ("2", 1), ("3", 1)] == alice.steps()
    bob.publish("read/u/alice", f"<={mid(bob)}")

    steps = alice.steps()
    assert {"1": [3], "2": [2, 3], "3": [2, 3]} == {cid: [step for c, step in steps if c == cid] for cid in "123"}
    for cid in "123":
        alice.publish(f"u/bob/{cid}")
    assert [("1", 3), ("2", 3), ("3", 3)] == alice.steps()


def test_statuses_go_to_the_sender_alone(world):
    """Neither a recipient nor anybody else is told, in a group too."""
    world.group("team", "alice", "bob", "carol")
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    alice.publish("u/bob/1")
    bob.publish("read/u/alice", mid(bob))
    alice.publish("g/team/2")

    assert ([], []) == (bob.statuses(), carol.statuses())
    assert [1, 2, 3, 1, 2, 2] == [status["status"] for status in alice.statuses()]


def test_all_devices_of_the_sender_are_told(world):
    """Also the one that did not send."""
    phone, laptop = world.listener("alice"), world.listener("alice", "laptop")
    world.listener("bob")
    phone.publish("u/bob/1")

    assert ([("1", 1), ("1", 2)], [("1", 1), ("1", 2)]) == (phone.steps(), laptop.steps())


@pytest.mark.parametrize(("flags", "expected"), [(0, [1]), (1, [1, 2]), (2, [1, 3]), (3, [1, 2, 3])])
def test_flags_suppress_delivered_and_read_only(world, flags, expected):
    """Bit 1 asks for DELIVERED, bit 2 for READ; SENT is always told."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish(f"u/bob/1/flags={flags}")
    bob.publish("read/u/alice", mid(bob))

    assert expected == [step for _, step in alice.steps()]


@pytest.mark.parametrize("flags", [0, 3])
def test_flags_do_not_suppress_a_failure(world, flags):
    """A deadline that passes is told whatever was asked for."""
    alice = world.listener("alice")
    alice.publish(f"u/bob/1/flags={flags}&expiry=5")
    world.advance(7)

    assert [("1", 1), ("1", 0x84)] == alice.steps()


def test_at_qos_0_nothing_is_delivered_but_acknowledged(world):
    """Writing counts as acknowledgement and raises no DELIVERED: the message does not come again."""
    alice, bob = world.listener("alice"), world.listener("bob", qos=0)
    alice.publish("u/bob/1")
    assert (["hi"], [("1", 1)]) == (bob.payloads(), alice.steps())
    bob.lose()

    assert [] == world.listener("bob", qos=0).payloads()


def test_unconfirmed_at_the_deadline_and_read_may_follow(world):
    """If no device ever confirms, the verdict is 0x80 `unconfirmed`, after which READ may still come."""
    alice, bob = world.listener("alice"), world.listener("bob", qos=0)
    alice.publish("u/bob/1/expiry=5")
    number = mid(bob)
    world.advance(7)
    (sent, verdict) = alice.statuses()
    assert (1, 0x80, "unconfirmed") == (sent["status"], verdict["status"], verdict["reason"])

    bob.publish("read/u/alice", number)

    assert [("1", 3)] == alice.steps()


def test_what_is_forgotten_unconfirmed_has_its_verdict_by_that(world, monkeypatch):
    """Who answers each message and takes them at QoS 0: the oldest are forgotten, and their sender is told so."""
    monkeypatch.setattr(messages, "RUNS_MAX", 20)
    alice, bob = world.listener("alice"), world.listener("bob", qos=0)
    for number in range(40):
        alice.publish(f"u/bob/{number}")
        bob.publish(f"u/alice/a{number}")
    world.turn()
    told = {name: status for name, status in alice.steps() if status != 1}
    (lane,) = world.messaging._hub.directory.user("bob").lanes.values()
    assert {str(number): 0x80 for number in range(lane.delivered.upto // 2)} == told
    assert len(told) >= 20
    world.jump(YEAR_S + 3700)

    assert {str(number): 0x80 for number in range(len(told), 40)} == dict(alice.steps())


def test_read_without_confirmation_is_delivered_and_read(world):
    """READ implies DELIVERED also where only QoS 0 devices took the message."""
    alice, bob = world.listener("alice"), world.listener("bob", qos=0)
    alice.publish("u/bob/1/expiry=5")
    bob.publish("read/u/alice", mid(bob))
    world.advance(7)

    assert [("1", 1), ("1", 2), ("1", 3)] == alice.steps()


def test_one_confirming_device_is_enough(world):
    """A QoS 0 device took it first, a QoS 1 device confirms: DELIVERED."""
    alice, _ = world.listener("alice"), world.listener("bob", qos=0)
    tablet = world.listener("bob", "tablet")
    alice.publish("u/bob/1")

    assert ([("1", 1), ("1", 2)], ["hi"]) == (alice.steps(), tablet.payloads())
