"""What the kill loop found: states that only real load and real deaths reached, each made again step by step."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mesimqtt.testing import wire
from unit.messaging.world import mid_of


def test_a_member_who_writes_much_himself_still_gets_what_came_before(world):
    """His own messages count as acknowledged; however many they are, what he has not acknowledged comes again."""
    for user in ("alice", "bob"):
        world.user(user)
    world.group("team", "alice", "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/a1", "before")
    for number in range(100):
        bob.publish(f"g/team/b{number}")
    assert ["before"] == bob.payloads("g/")
    bob.lose()
    alice.publish("g/team/a2", "after")
    world.restart()

    assert ["before", "after"] == world.listener("bob").payloads("g/")


@pytest.mark.parametrize("room", [1, 100])
def test_a_repeat_does_not_overtake_the_steps_that_are_about_to_be_told(make_world, room):
    """A message comes again after the commit of its DELIVERED and READ and before they are told: the order stays.

    Also where its recipient's inbox is full by now, which is looked at before the commit.
    """
    world = make_world(messaging={"inbox_messages_max": room})
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    (message,) = bob.received("u/")
    world.commits.hold_answers()
    bob.send(wire.publish("m/bob/out/read/u/alice", mid_of(message).encode(), qos=1, packet_id=9))
    alice.send(wire.publish("m/alice/out/u/bob/1", b"hi", qos=1, packet_id=9, dup=True))
    world.commits.release()
    world.turn()

    steps = [step for _, step in alice.steps()]
    assert steps == sorted(steps)
    assert {1, 2, 3} == set(steps)


def test_a_device_that_caught_up_is_not_told_an_older_step_afterwards(world):
    """It returns after the commit of DELIVERED and READ and before they are told: it read READ in the store."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.auto_ack = bob.auto_ack = False
    alice.publish("u/bob/1")
    (message,) = bob.received("u/")
    alice.lose()
    world.reads.hold()
    alice = world.listener("alice")
    world.commits.hold_answers()
    bob.send(wire.publish("m/bob/out/read/u/alice", mid_of(message).encode(), qos=1, packet_id=9))
    world.reads.release()
    world.turn()
    world.commits.release()
    world.turn()

    assert [3] == [step for _, step in alice.steps()]


@pytest.mark.parametrize("seed", [130, 132, 133])
def test_what_was_taken_back_is_not_overtaken(world, seed):
    """A device leaves the first message out until much is acknowledged above it: all comes, once and in order."""
    chance = random.Random(seed)
    people = {user: world.listener(user) for user in ("alice", "carol")}
    bob = world.listener("bob")
    bob.auto_ack = False
    sent, got, waiting = Counter(), {"alice": [], "carol": []}, []
    share = chance.choice([0.02, 0.05, 0.1, 0.2, 0.3])
    for number in range(300):
        sender = "carol" if chance.random() < share else "alice"
        people[sender].publish(f"u/bob/{sender}{number}", str(sent[sender]))
        sent[sender] += 1

    def look():
        for message in bob.received("u/"):
            got[message.topic.split("/")[4]].append(message)
            waiting.append(message)

    look()
    first = got["alice"][0]
    while chosen := [each for each in waiting if each is not first and "/alice/" in each.topic]:
        chance.shuffle(chosen)
        del chosen[chance.randint(1, 6) :]
        waiting[:] = [each for each in waiting if each not in chosen]
        bob.ack(*chosen)
        look()
    bob.auto_ack = True
    bob.ack(*waiting)
    look()

    for sender, messages in got.items():
        assert [str(number) for number in range(sent[sender])] == [each.payload.decode() for each in messages]
