"""Receipts and statuses: who is told what, in which order, now and at his return (contract section 4)."""

from __future__ import annotations

import pytest
from unit.messaging.world import mid_of


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
    """Neither the recipient nor anybody else is told."""
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    alice.publish("u/bob/1")
    bob.publish("read/u/alice", mid(bob))

    assert ([], []) == (bob.statuses(), carol.statuses())
    assert 3 == len(alice.statuses())


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


# ---- read marks ------------------------------------------------------------------------------------------------------


def test_a_mark_upto_reads_all_before_it(world):
    """`<=mid` reads everything of the conversation up to that seq, and nothing after it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(4):
        alice.publish(f"u/bob/{number}")
    got = bob.received("u/")
    alice.statuses()

    assert bob.publish("read/u/alice", f"<={mid_of(got[2])}")

    assert [("0", 3), ("1", 3), ("2", 3)] == alice.steps()


def test_reading_twice_is_told_once(world):
    """READ is a step: a second mark of the same message raises nothing."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    number = mid(bob)
    for payload in (number, number, f"<={number}"):
        bob.publish("read/u/alice", payload)

    assert [1, 2, 3] == [step for _, step in alice.steps()]


def test_a_read_waits_for_its_commit(world):
    """The PUBACK of a read mark, and READ, come after the commit."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    number = mid(bob)
    alice.statuses()
    world.commits.hold()

    assert not bob.publish("read/u/alice", number, packet_id=99)
    assert [] == alice.statuses()
    world.commits.release()
    world.turn()
    assert bob.took("PUBACK", 99)
    assert [("1", 3)] == alice.steps()


def test_other_devices_of_the_reader_are_told(world):
    """They get the same payload under `in/read`, the marking one does not."""
    alice, phone, tablet = world.listener("alice"), world.listener("bob"), world.listener("bob", "tablet")
    alice.publish("u/bob/1")
    number = mid(phone)
    phone.publish("read/u/alice", f"<={number}")

    assert [("m/bob/in/read/u/alice", f"<={number}".encode())] == [
        (message.topic, message.payload) for message in tablet.received("read/")
    ]
    assert [] == phone.received("read/")


def test_a_returning_device_gets_the_newest_mark_of_each_conversation(world):
    """One per conversation, the newest, once; also over a restart."""
    alice, carol, phone = world.connect("alice"), world.connect("carol"), world.listener("bob")
    world.listener("bob", "tablet").disconnect()
    mids = []
    for number in range(2):
        alice.publish(f"u/bob/{number}")
        mids.append(mid(phone))
        phone.publish("read/u/alice", f"<={mids[-1]}")
    carol.publish("u/bob/9")
    mids.append(mid(phone))
    phone.publish("read/u/carol", mids[-1])
    world.advance(2)
    world.restart()

    tablet = world.listener("bob", "tablet")
    assert [("m/bob/in/read/u/alice", f"<={mids[1]}"), ("m/bob/in/read/u/carol", mids[2])] == [
        (message.topic, message.payload.decode()) for message in tablet.received("read/")
    ]
    world.advance(2)
    tablet.disconnect()
    assert [] == world.listener("bob", "tablet").received("read/")


def test_a_mark_that_was_not_acknowledged_comes_again(world):
    """A device that lost its link before the PUBACK of a read mark gets the mark at its return."""
    alice, phone, tablet = world.connect("alice"), world.listener("bob"), world.listener("bob", "tablet")
    alice.publish("u/bob/1")
    number = mid(phone)
    tablet.auto_ack = False
    phone.publish("read/u/alice", number)
    assert [number] == tablet.payloads("read/")
    tablet.lose()

    assert [number] == world.listener("bob", "tablet").payloads("read/")


def test_marks_go_on_counting_after_a_restart(world):
    """A mark made after a restart still reaches a device that returns later, whoever came online first."""
    alice, phone = world.listener("alice"), world.listener("bob")
    world.listener("alice", "tablet").disconnect()
    phone.publish("u/alice/1")
    first = mid(alice)
    for _ in range(3):
        alice.publish("read/u/bob", first)
    alice.publish("u/bob/1")
    world.listener("alice", "tablet").disconnect()
    alice.publish("u/bob/2/flags=3")
    world.advance(2)
    world.restart()
    world.listener("bob")  # his acknowledgements and marks are statuses to alice, who is away
    world.connect("bob", "b").publish("u/alice/2", "news")
    world.advance(2)
    alice = world.listener("alice")
    second = mid(alice)
    alice.publish("read/u/bob", second)

    assert [second] == world.listener("alice", "tablet").payloads("read/")


@pytest.mark.parametrize(
    "payload", ["", "1", "<=", "0123456789ABCDEF", "0123456789abcde", "<=0123456789abcdefg", "all", "\xff\xfe", ">=0123456789abcdef"]
)
def test_a_malformed_mark_is_a_bad_request(world, payload):
    """The payload is a mid or `<=mid`, nothing else: 0x85 to the reader, acknowledged."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    assert bob.publish("read/u/alice", payload)

    assert [0x85] == [status["status"] for status in bob.statuses()]
    assert [1, 2] == [step for _, step in alice.steps()]


def test_a_forged_mark_is_ignored_and_counted(world):
    """Own messages, unknown mids, mids of other conversations and of other users: acknowledged, nothing told."""
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    alice.publish("u/carol/1")
    foreign = mid(carol)
    bob.publish("u/alice/2")
    own = mid(alice)
    alice.publish("u/bob/3")
    mid(bob)
    before = [alice.steps(), bob.steps()]

    for name, payload in (("alice", foreign), ("alice", f"<={foreign}"), ("carol", foreign), ("alice", own), ("alice", "f" * 16)):
        assert bob.publish(f"read/u/{name}", payload)

    assert [3, 2] == [len(steps) for steps in before] or [4, 2] == [len(steps) for steps in before]
    assert ([], []) == (alice.steps(), bob.steps())
    assert 5 == world.do("stats")["counters"]["read.ignored"]


def test_a_mark_of_an_unknown_user_is_refused(world):
    """0x83, as for a message to him."""
    bob = world.listener("bob")
    bob.publish("read/u/nobody", "f" * 16)

    assert [0x83] == [status["status"] for status in bob.statuses()]


def test_an_acknowledgement_after_read_is_no_step_back(world):
    """A second device that acknowledges after READ raises nothing."""
    alice, phone, tablet = world.listener("alice"), world.listener("bob"), world.listener("bob", "tablet")
    tablet.auto_ack = False
    alice.publish("u/bob/1")
    phone.publish("read/u/alice", mid(phone))
    alice.statuses()

    tablet.ack(*tablet.received("u/"))
    world.advance(2)

    assert [] == alice.statuses()
    alice.publish("u/bob/1")
    assert [("1", 3)] == alice.steps()


def test_acknowledging_what_was_never_sent_is_ignored(world):
    """Unknown packet ids, and one acknowledged twice, move nothing."""
    from unit.engine import both_ends as wire

    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    (message,) = bob.received("u/")
    bob.send(wire.ack("PUBACK", 5), wire.ack("PUBACK", message.packet_id ^ 64))
    assert [("1", 1)] == alice.steps()

    bob.ack(message)
    bob.ack(message)

    assert [("1", 2)] == alice.steps()


def test_an_expired_message_cannot_be_read(world):
    """A verdict is final: READ of an expired message is no revival."""
    alice, bob = world.listener("alice"), world.connect("bob")
    alice.publish("u/bob/1/expiry=5")
    number = alice.statuses()[0]["mid"]
    world.advance(7)
    alice.statuses()

    bob.publish("read/u/alice", number)

    assert [] == alice.statuses()


# ---- the sender's return -----------------------------------------------------------------------------------------------


def test_a_returning_sender_gets_the_newest_status_of_each(world):
    """What happened while he was away, one per message, in the order of change, also after a restart."""
    alice = world.listener("alice")
    for number in range(3):
        alice.publish(f"u/bob/{number}")
    alice.publish("u/carol/3")
    assert 4 == len(alice.statuses())
    alice.disconnect()
    carol = world.listener("carol")
    bob = world.listener("bob")
    got = bob.received("u/")
    bob.publish("read/u/alice", mid_of(got[0]))
    assert 1 == len(carol.received("u/"))
    world.advance(2)
    world.restart()

    alice = world.listener("alice")

    assert [("3", 2), ("1", 2), ("2", 2), ("0", 3)] == alice.steps()
    world.advance(2)
    alice.disconnect()
    assert [] == world.listener("alice").steps()


def test_a_status_that_was_not_acknowledged_comes_again(world):
    """The number of a device moves on PUBACK: at least once, each repeat equal byte for byte."""
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.auto_ack = False
    alice.publish("u/bob/1")
    told = [message.payload for message in alice.received()]
    alice.lose()

    again = [message.payload for message in world.listener("alice").received()]

    assert told[-1:] == again


def test_at_qos_0_a_written_status_is_told(world):
    """The number moves on writing."""
    alice = world.listener("alice", qos=0)
    world.listener("bob")
    alice.publish("u/bob/1")
    assert [1, 2] == [step for _, step in alice.steps()]
    alice.lose()

    assert [] == world.listener("alice", qos=0).steps()


def test_the_number_starts_at_the_first_subscription(world):
    """A device that subscribes to statuses for the first time is not told the past."""
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    world.advance(2)
    late = world.listener("alice", "late", filters=("u/#",))
    alice.publish("u/bob/2")

    late.subscribe("status/#")
    alice.publish("u/bob/3")

    assert [("3", 1)] == late.steps()


def test_without_a_client_id_the_number_starts_at_each_subscription(world):
    """Nobody without a device is told the past."""
    alice = world.listener("alice", "", clean=True)
    alice.publish("u/bob/1")
    alice.lose()
    world.listener("bob")

    assert [] == world.listener("alice", "", clean=True).steps()


def test_a_device_that_lets_statuses_go_catches_up_when_it_takes_them_again(world):
    """Statuses that no filter selects for a while wait under the device's number."""
    alice = world.listener("alice", filters=("status/#",))
    alice.publish("u/bob/1")
    alice.unsubscribe("status/#")
    alice.publish("u/bob/2")
    world.listener("bob")
    assert [("1", 1)] == alice.steps()

    alice.subscribe("status/#")

    assert [("1", 2), ("2", 2)] == alice.steps()


def test_numbers_alone_can_be_had_instead(world):
    """A device with `in/s/#` gets the decimal code under `in/s/{cid}`, and no JSON, also with `in/#`."""
    tiny = world.listener("alice", "tiny", filters=("#", "s/#"))
    world.listener("bob")
    tiny.publish("u/bob/ab")
    tiny.publish("u/nobody/cd")

    assert [("m/alice/in/s/ab", b"1"), ("m/alice/in/s/ab", b"2"), ("m/alice/in/s/cd", b"131")] == [
        (message.topic, message.payload) for message in tiny.received()
    ]


def test_a_returning_device_gets_numbers_too(world):
    """The catch-up speaks the class that the device selects."""
    tiny = world.listener("alice", "tiny", filters=("s/#",))
    tiny.publish("u/bob/1")
    tiny.disconnect()
    tiny.received()
    world.listener("bob")

    assert ["2"] == world.listener("alice", "tiny", filters=("s/#",)).payloads("s/")


def test_seven_days_back_at_most(world):
    """What changed more than seven days ago is not told any more."""
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    alice.publish("u/carol/2")
    alice.disconnect()
    world.listener("bob").disconnect()
    world.jump(6.5 * 86_400)
    world.listener("carol").disconnect()
    world.jump(0.6 * 86_400)
    alice.statuses()

    assert [("2", 2)] == world.listener("alice").steps()


def test_thousands_of_statuses_are_told_each_once(world):
    """A sender who returns to far more than his window takes them by pages: none is missing, none comes twice."""
    alice = world.connect("alice", "laptop")
    phone = world.listener("alice", filters=("status/#",))
    phone.disconnect()
    bob = world.listener("bob", filters=("read/#",))
    world.commits.hold()
    for number in range(1500):
        alice.publish(f"u/bob/{number}", qos=0)
    world.commits.release()
    world.turn()
    bob.subscribe("u/#")

    phone = world.listener("alice", filters=("status/#",))

    assert [(str(number), 2) for number in range(1500)] == phone.steps()


def test_a_window_full_of_statuses_loses_none(world):
    """One acknowledgement at a time, while more happens: a device that is slow is told everything all the same."""
    alice = world.listener("alice", filters=("status/#",))
    alice.auto_ack = False
    world.commits.hold()
    alice.publish("u/carol/opens", qos=0)
    for number in range(600):
        alice.publish(f"u/bob/{number}", qos=0)
    world.commits.release()
    world.turn()
    told = []
    for _ in range(2000):
        got = alice.received()
        told += got
        if not got:
            break
        for message in got:
            alice.ack(message)

    cids = [message.topic.rpartition("/")[2] for message in told]
    assert ["opens", *map(str, range(600))] == list(dict.fromkeys(cids))
    assert len(cids) == len(set(cids))


# ---- QoS 0 -----------------------------------------------------------------------------------------------------------


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
