"""Filters under `in/`: which are legal, what they select, and what they leave pending (contract section 2)."""

from __future__ import annotations

import pytest

from unit.messaging.world import seq_of

REFUSED = [
    "u", "u/alice", "u/alice/+", "u/+/#", "u/ALICE%2/#", "u/%61lice/#", "nothing/#", "session/#", "status/1",
    "g/team", "", "u/alice/x/#", "U/#",
]  # fmt: skip


@pytest.mark.parametrize("rest", REFUSED)
def test_any_other_filter_is_refused(world, rest):
    """Only `#`, a class, a conversation and `session` are filters; an address has one spelling."""
    assert [0x80] == world.connect("bob").subscribe(rest)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "m/alice/in/#",
        "m/+/in/#",
        "m/bob/in/+/#",
        "m/#",
        "m/%62ob/in/#",
        "m/bob/out/#",
        "m/bob/#",
        "m",
        "$share/x/m/bob/in/#",
    ],
)
def test_nothing_of_another_user_can_be_subscribed(world, topic_filter):
    """Outside the own `in/` every filter under the root is refused, however it is spelled."""
    assert [0x80] == world.connect("bob").subscribe(topic_filter)


def test_a_free_filter_never_sees_messages(world):
    """Not even `#` matches the root level."""
    bob = world.connect("bob")
    bob.send(b"\x82\x06\x00\x05\x00\x01#\x01")
    world.listener("alice").publish("u/bob/1")

    assert [] == bob.inbox


def test_only_the_forbidden_of_several_filters_are_refused(world):
    """Each filter of a SUBSCRIBE has its own code, and the others work."""
    bob = world.connect("bob")

    assert [1, 0x80, 0x80] == bob.subscribe("u/#", "m/alice/in/#", "bad/#")
    world.connect("alice").publish("u/bob/1")
    assert ["hi"] == bob.payloads()


@pytest.mark.parametrize(("asked", "granted"), [(0, 0), (1, 1), (2, 1)])
def test_at_most_qos_1_is_granted(world, asked, granted):
    """And delivery is at that QoS, whatever the publisher used."""
    bob = world.connect("bob")

    assert [granted] == bob.subscribe("#", qos=asked)
    world.connect("alice").publish("u/bob/1", qos=2)
    assert [granted] == [message.qos for message in bob.received("u/")]


def test_overlapping_filters_deliver_once_at_the_highest_qos(world):
    """A message comes once, however many filters select it."""
    bob = world.connect("bob")
    bob.subscribe("#", qos=0)
    bob.subscribe("u/alice/#", qos=1)
    world.connect("alice").publish("u/bob/1")

    assert [1] == [message.qos for message in bob.received("u/")]


def test_a_conversation_that_no_filter_selects_stays_pending(world):
    """A device that follows carol alone gets alice's messages, all and in order, once it selects them."""
    bob = world.listener("bob", filters=("u/carol/#",))
    alice, carol = world.listener("alice"), world.connect("carol")
    for number in range(3):
        alice.publish(f"u/bob/{number}")
        carol.publish(f"u/bob/{number}")

    assert (["hi"] * 3, []) == (bob.payloads("u/carol"), bob.payloads("u/alice"))
    assert [1, 1, 1] == [step for _, step in alice.steps()]
    bob.subscribe("u/alice/#")
    assert [1, 2, 3] == [seq_of(message) for message in bob.received("u/alice")]


def test_what_is_unsubscribed_stays_pending(world):
    """After an UNSUBSCRIBE a conversation waits again, and nothing of it is passed over."""
    bob, alice = world.listener("bob", filters=("u/#",)), world.connect("alice")
    alice.publish("u/bob/1")
    bob.unsubscribe("u/#")
    alice.publish("u/bob/2")
    alice.publish("u/bob/3")
    assert [1] == [seq_of(message) for message in bob.received()]

    bob.subscribe("u/alice/#")
    alice.publish("u/bob/4")

    assert [2, 3, 4] == [seq_of(message) for message in bob.received()]


def test_what_waits_for_room_when_its_filter_goes_stays_pending(world):
    """Behind a full window some wait: not selected any more, they are not sent when there is room, nor passed over."""
    bob, alice = world.listener("bob", filters=("u/#",)), world.connect("alice")
    bob.auto_ack = False
    for number in range(70):
        alice.publish(f"u/bob/{number}")
    bob.unsubscribe("u/#")
    bob.auto_ack = True
    first = bob.received()
    bob.ack(*first)
    assert ([*range(1, 57)], []) == ([seq_of(message) for message in first], bob.received())

    bob.subscribe("u/#")

    assert [*range(57, 71)] == [seq_of(message) for message in bob.received()]


def test_unsubscribed_stays_so_after_a_restart(world):
    """The filters of a persistent session are kept as they are now."""
    bob = world.listener("bob", filters=("u/#", "sent/#"))
    bob.unsubscribe("u/#")
    world.advance(2)
    world.restart()
    world.connect("alice").publish("u/bob/1")

    assert [] == world.connect("bob").received()


@pytest.mark.parametrize("qos", [0, 1])
def test_copies_alone_can_be_selected(world, qos):
    """A device that selects `sent` alone gets copies live; with the conversation they come again, under their mid."""
    copies = world.listener("alice", "archive", filters=("sent/#",), qos=qos)
    phone, bob = world.listener("alice"), world.listener("bob")
    phone.publish("u/bob/1", "mine")
    bob.publish("u/alice/1", "his")

    assert ["mine"] == copies.payloads("")
    copies.subscribe("u/#")
    assert ["mine", "his"] == copies.payloads("")


def test_copies_that_no_filter_selects_are_a_legal_gap(world):
    """A device that does not select `sent` gets the peer's messages in order without them."""
    laptop = world.listener("alice", "laptop", filters=("u/#",))
    phone, bob = world.listener("alice"), world.listener("bob")
    for number in range(3):
        phone.publish(f"u/bob/{number}")
        bob.publish(f"u/alice/{number}")

    assert [2, 4, 6] == [seq_of(message) for message in laptop.received()]


def test_statuses_alone_can_be_selected(world):
    """A device that selects `status` alone gets statuses and no messages; those stay pending."""
    alice, bob = world.listener("alice", filters=("status/#",)), world.listener("bob")
    bob.publish("u/alice/1", "waits")
    alice.publish("u/bob/1")

    assert ["status", "status"] == [message.topic.split("/")[3] for message in alice.received()]
    assert ["waits"] == world.listener("alice").payloads()


@pytest.mark.parametrize("qos", [0, 1])
def test_group_events_alone_pass_no_message_over(world, qos):
    """A device that selects `event` alone gets events live; the group's messages stay pending for it."""
    world.group("team", "alice", "bob")
    bob = world.listener("bob", filters=("event/#",), qos=qos)
    bob.received()
    world.connect("alice").publish("g/team/1", "text")
    world.do("group_join", address="team", users=["carol"])

    assert ["event"] == [message.topic.split("/")[3] for message in bob.received()]
    bob.subscribe("g/#")
    assert ["text"] == bob.payloads("g/")
