"""What a sender is told who was away: the newest status of each message, at least once (contract section 4)."""

from __future__ import annotations

from mesimqtt.testing import wire
from unit.messaging.world import mid_of


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


def test_statuses_that_are_let_go_while_they_are_read_wait_too(world):
    """A page that comes from the store after the filter went is not sent; who takes statuses again gets it."""
    alice = world.listener("alice", filters=("status/#",))
    alice.disconnect()
    world.connect("alice", "tablet").publish("u/bob/1")
    world.reads.hold()
    alice = world.connect("alice")  # its session takes statuses again
    alice.unsubscribe("status/#")
    world.reads.release()
    world.turn()
    assert [] == alice.received()

    alice.subscribe("status/#")

    assert [("1", 1)] == alice.steps()


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


def test_a_resend_while_the_backlog_is_read_takes_no_step_back(world):
    """A page that was read before DELIVERED is told after a resend of that message: never 2 and then 1."""
    world.listener("alice").disconnect()
    bob = world.listener("bob")
    bob.auto_ack = False
    world.connect("alice", "writer").publish("u/bob/1")
    world.reads.hold_answers()
    alice = world.listener("alice")  # her page is read, and says SENT
    bob.ack(*bob.received("u/"))
    alice.publish("u/bob/1")
    world.reads.release()
    world.advance(1)
    told = [code for cid, code in alice.steps() if cid == "1"]

    assert 2 == told[-1]
    assert sorted(told) == told


def test_a_resend_beside_a_read_mark_tells_no_status_backwards(world):
    """What is sent again in the turn in which it is read is told as read, in the order of the steps, and then again."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    alice.steps()
    mid = mid_of(bob.received("u/")[0])

    bob.connection.receive(wire.publish("m/bob/out/read/u/alice", mid.encode(), qos=1, packet_id=9), world.now())
    alice.publish("u/bob/1")

    assert [("1", 2), ("1", 3), ("1", 3)] == alice.steps()


def work_of_return(world, count):
    """Let a sender come back to so many statuses; return how many he is told, and what SQLite did in hundreds."""
    sender, bob = world.connect("alice", "sender"), world.listener("bob")
    for number in range(count):
        sender.publish(f"u/bob/{count}-{number}", "x")
    assert count == len(bob.payloads("u/"))
    taken = 0

    def step():
        nonlocal taken
        taken += 1

    world.store.read.set_progress_handler(step, 100)
    phone = world.listener("alice")
    told = phone.steps()
    while more := phone.steps():
        told += more
    world.store.read.set_progress_handler(None, 0)
    phone.lose()
    bob.lose()
    return len(told), taken


def test_who_comes_back_to_many_statuses_costs_no_more_for_each(world):
    """Each is read about once: neither for all that wait besides, nor again while there is no room for it."""
    phone = world.listener("alice")
    phone.lose()
    few, work_few = work_of_return(world, 300)
    many, work_many = work_of_return(world, 1_500)

    assert (300, 1_500) == (few, many)
    assert work_many / many < 2 * work_few / few
    assert work_many * 100 / many < 400


def test_a_run_that_is_told_in_two_parts_is_told_whole_though_the_clock_was_set_back(world):
    """Where there is room for a part of a commit's statuses, the rest follows, whatever times its messages have."""
    alice = world.listener("alice", filters=("status/#",))
    laptop = world.connect("alice", "laptop")
    alice.auto_ack = False
    for number in range(330):
        laptop.publish(f"u/nobody/{number}")
    world.commits.hold()
    for number in range(200):
        world.ms -= 50
        laptop.publish(f"u/bob/m{number}")
    world.commits.release()
    while claimed := list(alice.connection.claimed):
        alice.send(*[wire.ack("PUBACK", number) for number in claimed])

    told = {cid for cid, status in alice.steps() if status == 1}

    assert [] == [number for number in range(200) if f"m{number}" not in told]
