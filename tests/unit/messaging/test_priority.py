"""The offline backlog by priority: which conversation a returning device gets first, never inside one (feature 7)."""

from __future__ import annotations

import pytest


def backlog(world, *sends):
    """Let each (sender, parameters) send a message to bob, who is away."""
    world.listener("bob").lose()
    for number, (sender, params) in enumerate(sends):
        world.connect(sender).publish(f"u/bob/{number}{params}", f"{sender} {number}")


def test_the_most_urgent_conversation_comes_first(world):
    """0 before the default, 15 after it."""
    backlog(world, ("alice", "/priority=15"), ("carol", ""), ("carol", "/priority=0"))

    assert ["carol 1", "carol 2", "alice 0"] == world.listener("bob").payloads()


@pytest.mark.parametrize("params", ["", "/priority=7", "/priority=0"])
def test_inside_a_conversation_seq_decides(world, params):
    """An urgent message does not overtake those before it."""
    backlog(world, ("alice", ""), ("alice", "/priority=9"), ("alice", params))

    assert ["alice 0", "alice 1", "alice 2"] == world.listener("bob").payloads()


def test_over_a_restart(world):
    """The store knows it."""
    backlog(world, ("alice", ""), ("carol", "/priority=1"))
    world.restart()

    assert ["carol 1", "alice 0"] == world.listener("bob").payloads()


def test_a_long_backlog_is_finished_before_the_next(make_world):
    """Also where a conversation needs many pages, and the device has room for few at a time."""
    world = make_world(store={"page_messages": 8})
    world.listener("bob").lose()
    alice, carol = world.connect("alice"), world.connect("carol")
    for number in range(200):
        alice.publish(f"u/bob/{number}", f"alice {number}")
        carol.publish(f"u/bob/{number}/priority=3", f"carol {number}")

    expected = [f"{who} {number}" for who in ("carol", "alice") for number in range(200)]
    assert expected == world.listener("bob").payloads()


@pytest.mark.parametrize("params", ["/priority=16", "/priority=high", "/priority=-1"])
def test_what_is_no_priority_is_the_applications_own(world, params):
    """Carried like any other key, and without an effect."""
    backlog(world, ("alice", ""), ("carol", params))
    bob = world.listener("bob")

    messages = bob.received("u/")
    assert ["alice 0", "carol 1"] == [message.payload.decode() for message in messages]
    assert messages[1].topic.endswith(params.replace("/", "&"))
