"""Modules and a sender's bounds: each message counts once, and what may not be sent is not, however it is judged."""

from __future__ import annotations

import pytest

from mesimqtt.hooks import PASS
from unit.messaging.test_modules import Slow

TWO = {"messages": "3600:2"}


def asked(world):
    """Give a world a module that answers when the test says so; return it with alice and bob, who listen."""
    slow = Slow()
    world.messaging.modules.add("slow", slow)
    return slow, world.listener("alice"), world.listener("bob")


def pass_all(world, slow):
    """Let everything pass that a module was asked about."""
    world.turn()
    while slow.answers:
        slow.say(world, PASS)


def codes(peer):
    return [(cid, code) for cid, code in peer.steps() if code != 2]


def test_a_message_counts_once_whatever_changes_meanwhile(make_world):
    """Somebody else is made while a module thinks: what it may do is looked at again, its rate is not taken again."""
    world = make_world(rates=TWO)
    slow, alice, bob = asked(world)
    alice.publish("u/bob/1", "one")
    world.user("zoe")
    pass_all(world, slow)
    alice.publish("u/bob/2", "two")
    pass_all(world, slow)
    alice.publish("u/bob/3", "three")
    pass_all(world, slow)

    assert ["one", "two"] == bob.payloads()
    assert [("1", 1), ("2", 1), ("3", 0x8C)] == codes(alice)


def test_a_message_to_somebody_who_goes_meanwhile_counts_once(make_world):
    """It is refused then, and there is room for another."""
    world = make_world(rates=TWO)
    slow, alice, bob = asked(world)
    alice.publish("u/carol/1", "one")
    world.do("user_delete", addresses=["carol"])
    pass_all(world, slow)
    alice.publish("u/bob/2", "two")
    pass_all(world, slow)

    assert [("1", 0x83), ("2", 1)] == codes(alice)
    assert ["two"] == bob.payloads()


@pytest.mark.parametrize("param", ["edit", "recall"])
def test_a_change_of_a_scheduled_message_counts_once(make_world, param):
    """As one without modules."""
    world = make_world(rates={"messages": "3600:3"})
    slow, alice, bob = asked(world)
    alice.publish("u/bob/1/when=60", "later")
    pass_all(world, slow)
    (mid,) = {status["mid"] for status in alice.statuses()}
    alice.publish(f"u/bob/2/{param}={mid}", "changed" if param == "edit" else "")
    pass_all(world, slow)
    alice.publish("u/bob/3", "now")
    pass_all(world, slow)

    assert ["now"] == bob.payloads()
    assert ("3", 1) in codes(alice)


def test_a_policy_that_changes_meanwhile_holds(make_world):
    """Who may send nothing any more sends nothing; that is looked at again."""
    world = make_world(rates=TWO)
    slow, alice, bob = asked(world)
    alice.publish("u/bob/1", "one")
    world.do("user_set", address="alice", rules={"outgoing": "off"})
    pass_all(world, slow)

    assert ([], [("1", 0x8D)]) == (bob.payloads(), codes(alice))


def test_a_scheduled_message_that_a_module_sends_now_is_looked_at(make_world):
    """What it may do would have been looked at when it was due: so it is now, and it counts."""
    world = make_world(rates={"messages": "3600:1"})
    alice, bob = world.listener("alice"), world.listener("bob")
    world.messaging.modules.add("now", lambda message: message.changed(when=None))
    world.do("block_add", user="bob", peers=["alice"])
    alice.publish("u/bob/1/when=60", "one")
    alice.publish("u/carol/2/when=60", "two")

    assert ([], [("1", 0x88), ("2", 0x8C)]) == (bob.payloads(), codes(alice))
