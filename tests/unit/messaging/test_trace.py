"""Where a message is and how it got there, as `mesimqtt trace` tells it."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import OperationError


def sent(world, topic="u/bob/1", payload="hi"):
    """Let alice send a message; return its mid."""
    alice = world.connect("alice", "laptop")
    alice.subscribe("#")
    alice.publish(topic, payload)
    mid = alice.statuses()[0]["mid"]
    alice.disconnect()
    return mid


def devices(world, mid, **more):
    """Return user, device, whether it is online, and the state of each device."""
    return [
        (each["user"], each["device"], each["online"], each["state"])
        for each in world.do("trace", mid=mid, **more)["devices"]
    ]


def test_the_whole_way_of_a_message(world):
    """Sent, delivered by a named device, read: each with its time; and who sent it from where."""
    mid = sent(world)
    world.advance(2)
    bob = world.listener("bob", "phone")
    world.advance(3)
    bob.publish("read/u/alice", mid)

    trace = world.do("trace", mid=mid)

    assert ("alice", "laptop", "bob", "1", 1) == tuple(trace[key] for key in ("from", "device", "to", "cid", "seq"))
    assert [("sent", None), ("delivered", "phone"), ("read", None)] == [
        (step["name"], step.get("device")) for step in trace["steps"]
    ]
    times = [step["ts"] for step in trace["steps"]]
    assert (times[0] + 2000, times[0] + 5000) == (times[1], times[2])
    assert [("bob", "phone", True, "acknowledged")] == devices(world, mid)


def test_a_message_that_waits_for_somebody_who_never_came(world):
    """The recipient has no device yet, and the trace says so."""
    assert [("bob", None, False, "no-device")] == devices(world, sent(world))


def test_each_device_has_its_own_state(world):
    """One has it, one was sent it and is silent, one selects other conversations, one is away."""
    has, silent = world.listener("bob", "has"), world.listener("bob", "silent")
    other = world.listener("bob", "other", filters=("u/carol/#",))
    away = world.listener("bob", "away")
    silent.auto_ack = False
    away.disconnect()

    mid = sent(world)

    assert {
        "has": (True, "acknowledged"), "silent": (True, "in-flight"), "other": (True, "not-selected"),
        "away": (False, "waits-for-its-return"),
    } == {name: (online, state) for _, name, online, state in devices(world, mid)}  # fmt: skip
    assert not has.is_closed
    assert [] == other.received("u/")


def test_what_waits_for_room(world):
    """Beyond the window a message waits for what is before it to be acknowledged."""
    bob = world.listener("bob", "phone")
    bob.auto_ack = False
    alice = world.listener("alice", "laptop")
    for number in range(60):
        alice.publish(f"u/bob/{number}")
    mids = [status["mid"] for status in alice.statuses()]

    assert {"in-flight", "waits-for-room"} == {devices(world, mid)[0][3] for mid in mids}
    assert "waits-for-room" == devices(world, mids[-1])[0][3]


def test_a_group_by_pages(make_world):
    """Each member's devices are listed in the order of the addresses; `next` leads to those after the page."""
    world = make_world()
    members = [f"u{number:03}" for number in range(130)]
    world.user(*members)
    world.group("team", "alice", *members)
    mid = sent(world, "g/team/1")

    first = world.do("trace", mid=mid)
    rest = world.do("trace", mid=mid, after=first["next"])

    assert (100, "u099", 30, None) == (len(first["devices"]), first["next"], len(rest["devices"]), rest["next"])
    assert members == [each["user"] for each in first["devices"] + rest["devices"]]


def test_a_refused_step_has_its_reason(world):
    """A message that nobody confirmed ends in a verdict that the trace shows."""
    bob = world.listener("bob", "phone", qos=0)
    mid = sent(world, "u/bob/1/expiry=5")
    world.advance(6)

    steps = world.do("trace", mid=mid)["steps"]

    assert [("sent", None), ("failed", "unconfirmed")] == [(step["name"], step.get("reason")) for step in steps]
    assert 1 == len(bob.received("u/"))


@pytest.mark.parametrize(("mid", "code"), [("f" * 16, "no-such-message"), ("x", "bad-argument")])
def test_what_cannot_be_traced(world, mid, code):
    """An unknown mid and what is no mid are two errors."""
    with pytest.raises(OperationError) as refusal:
        world.do("trace", mid=mid)

    assert code == refusal.value.code


def test_a_message_that_waits_for_its_time_and_one_that_was_cancelled(world):
    """Both have a story: what it had when, and when it is due; nobody's device is concerned yet."""
    alice = world.listener("alice", "laptop")
    alice.publish("u/bob/1/when=60", "later")
    mid = alice.statuses()[0]["mid"]
    waiting = world.do("trace", mid=mid)
    world.advance(2)
    alice.publish(f"u/bob/2/recall={mid}", "")
    ended = world.do("trace", mid=mid)

    assert waiting["ts"] + 60_000 == waiting["due"]
    assert ("alice", "laptop", "bob", "1", "when=60") == tuple(
        waiting[key] for key in ("from", "device", "to", "cid", "params")
    )
    assert [("sent", "bob")] == [(step["name"], step["peer"]) for step in waiting["steps"]]
    assert [("sent", 0), ("deleted", 2_000)] == [(step["name"], step["ts"] - waiting["ts"]) for step in ended["steps"]]
    assert ([], None) == (ended["devices"], ended["next"])


def test_a_message_that_is_not_there(world):
    """An operator is told so; a user hears the same of another's message."""
    mid, missing = sent(world), "0000000000000001"
    with pytest.raises(OperationError, match=f"^there is no message {missing}$"):
        world.do("trace", mid=missing)
    with pytest.raises(OperationError, match=f"^there is no message {missing}$"):
        world.do("status", mid=missing)

    told = [world.listener("bob").rpc("status", mid=each)[0]["message"] for each in (mid, missing)]
    assert [f"no message {mid} of yours", f"no message {missing} of yours"] == told
