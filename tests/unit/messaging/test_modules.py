"""Server-side modules: what they say of a message holds before it is committed, and every message has one verdict."""

from __future__ import annotations

import asyncio

import pytest

from mesimqtt.hooks import CONSUMED, FAIL, PASS
from unit.messaging import five
from unit.messaging.world import mid_of


class Slow:
    """A module that answers when the test says so, and keeps what it was asked."""

    def __init__(self):
        self.asked = []
        self.answers = []

    async def __call__(self, message):
        self.asked.append(message.text)
        answer = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer

    def say(self, world, said):
        self.answers.pop(0).set_result(said)
        world.turn()


@pytest.fixture
def two(world):
    """Return alice, who hears of her statuses, and bob, who listens."""
    return world.listener("alice"), world.listener("bob")


def test_a_message_that_passes_is_like_any_other(world, two):
    """PASS: SENT and DELIVERED come as without a module, and it saw who, what, to whom and how."""
    alice, bob = two
    seen = []
    world.messaging.modules.add("watch", lambda message: seen.append(message) or PASS)

    assert alice.publish("u/bob/1/type=7&colour=red", "hi")

    assert ["hi"] == bob.payloads()
    assert [("1", 1), ("1", 2)] == alice.steps()
    (message,) = seen
    assert ("alice", "bob", None, "hi", 7, "phone", "1") == (
        message.sender, message.peer, message.group, message.text, message.type, message.device, message.cid,
    )  # fmt: skip
    assert {"type": "7", "colour": "red"} == message.params


def test_a_refused_message_reaches_nobody(world, two):
    """FAIL(code, reason): that status, at once; the message is not in the store, and its cid is free again."""
    alice, bob = two
    world.messaging.modules.add("no", lambda message: FAIL(0x8D, "rude") if message.text == "darn" else PASS)

    assert alice.publish("u/bob/1", "darn")
    (status,) = alice.statuses()
    alice.publish("u/bob/1", "dear")

    assert (0x8D, "rude", "module:no", "bob") == (status["status"], status["reason"], status["rule"], status["peer"])
    assert ["dear"] == bob.payloads()
    assert [("1", 1), ("1", 2)] == alice.steps()
    assert [(1,)] == [tuple(row) for row in world.rows("SELECT count(*) FROM message")]


def test_a_client_of_5_0_is_told_by_a_reason_code(world):
    """A refusal by a module has the reason code of its status, with the status in the Reason String."""
    alice = five.listener(world, "alice")
    world.messaging.modules.add("no", lambda message: FAIL(0x8D, "rude"))

    assert (0x87, "0x8D rude") == alice.publish("u/bob/1", "darn")


def test_a_consumed_message_has_one_status(world, two):
    """CONSUMED: nobody gets it, and its sender has one status, `delivered` to the module; a resend has the same."""
    alice, bob = two
    asked = []
    world.messaging.modules.add("weather", lambda message: asked.append(message.text) or CONSUMED)

    assert alice.publish("u/bob/1", "rain?")
    (first,) = alice.statuses()
    alice.publish("u/bob/1", "rain?")
    again = alice.statuses()
    alice.publish("u/bob/1", "snow?")
    (other,) = alice.statuses()

    assert (2, "module:weather", "bob") == (first["status"], first["device"], first["peer"])
    assert [first] == again
    assert (0x85, "cid-reused") == (other["status"], other["reason"])
    assert [] == bob.payloads()
    assert ["rain?"] == asked
    world.advance(61)
    alice.publish("u/bob/1", "snow?")
    assert ["rain?", "snow?"] == asked


def test_a_changed_message_is_delivered_changed_and_known_as_it_was_sent(world, two):
    """Receivers and the sender's other devices get the changed one; a resend of what was sent is the same message."""
    alice, bob = two
    tablet = world.listener("alice", "tablet", filters=("sent/#",))
    world.messaging.modules.add("stars", lambda message: message.changed(payload="d**n", colour="blue", type=None))

    alice.publish("u/bob/1/type=7", "darn")
    (received,) = bob.received("u/")
    alice.publish("u/bob/1/type=7", "darn")

    assert b"d**n" == received.payload
    assert received.topic.endswith("/seq=1&colour=blue")
    assert b"d**n" == tablet.received("sent/")[0].payload
    assert [("1", 1), ("1", 2), ("1", 2)] == alice.steps()
    assert [] == bob.payloads()


def test_several_modules_are_asked_in_their_order(world, two):
    """Each sees what the one before made of it; one that refuses ends it; the same may stand twice."""
    alice, bob = two
    seen = []

    def add(letter):
        return lambda message: seen.append(letter) or message.changed(payload=message.text + letter)

    modules = world.messaging.modules
    modules.add("first", add("a"))
    modules.add("second", add("b"))
    modules.add("third", lambda message: FAIL(0x80, "long") if len(message.payload) > 3 else PASS)
    modules.add("first", add("c"))

    alice.publish("u/bob/1", "x")
    alice.publish("u/bob/2", "xx")

    assert ["xabc"] == bob.payloads()
    assert ["a", "b", "c", "a", "b"] == seen
    assert [("1", 1), ("1", 2), ("2", 0x80)] == alice.steps()


def test_later_messages_of_a_sender_wait_for_the_verdict_and_others_do_not(world, two):
    """While a module thinks about alice's first message, her second waits, unacknowledged; carol's goes on."""
    alice, bob = two
    carol, slow = world.connect("carol"), Slow()
    world.messaging.modules.add("slow", lambda message: slow(message) if message.text == "think" else PASS)

    assert not alice.publish("u/bob/1", "think", packet_id=11)
    assert not alice.publish("u/bob/2", "next", packet_id=12)
    assert carol.publish("u/bob/1", "from carol")
    before = bob.payloads()
    slow.say(world, PASS)

    assert ["from carol"] == before
    assert ["think", "next"] == bob.payloads()
    assert alice.took("PUBACK", 11)
    assert alice.took("PUBACK", 12)
    assert {("1", 1), ("1", 2), ("2", 1), ("2", 2)} == set(alice.steps())


def test_a_refusal_that_comes_later_is_answered_then(world, two):
    """An awaited FAIL is told as a status and acknowledged; of 5.0, with its reason code."""
    alice, slow = two[0], Slow()
    carol = five.listener(world, "carol")
    world.messaging.modules.add("slow", slow)

    alice.publish("u/bob/1", "a", packet_id=11)
    slow.say(world, FAIL(0x88))
    told = carol.publish("u/bob/1", "b", packet_id=12)
    slow.say(world, FAIL(0x80, "spam"))
    puback = carol._take("PUBACK", 12)

    assert alice.took("PUBACK", 11)
    assert [("1", 0x88)] == alice.steps()
    assert told is None
    assert (0x83, "0x80 spam") == (puback.code, puback.reason_string)


@pytest.mark.parametrize(("on_error", "expected"), [("fail", [("1", 0x80)]), ("pass", [("1", 1), ("1", 2)])])
def test_a_module_that_does_not_answer_in_time_is_answered_for(make_world, on_error, expected):
    """After `answer_s` the default holds: refused with 0x80 `module`, or passed; and the next message is judged."""
    world = make_world(modules={"on_error": on_error, "answer_s": 2.0})
    alice, slow = world.listener("alice"), Slow()
    world.listener("bob")
    world.messaging.modules.add("slow", slow)

    alice.publish("u/bob/1", "a")
    alice.publish("u/bob/2", "b")
    world.advance(1.5)
    assert [] == alice.steps()
    world.advance(1)
    first = alice.steps()

    assert expected == first
    assert ["a", "b"] == slow.asked


@pytest.mark.parametrize(
    "judge",
    [
        lambda message: 1 / 0,
        lambda message: None,
        lambda message: message.changed(payload=b"x" * 300_000),
        lambda message: message.changed(seq=7),
        lambda message: message.changed(flags="many"),
        lambda message: FAIL(2),
    ],
    ids=["raises", "says nothing", "too large", "the server's key", "no number", "no failure"],
)
@pytest.mark.parametrize(("on_error", "expected"), [("fail", [("1", 0x80)]), ("pass", [("1", 1), ("1", 2)])])
def test_a_module_that_fails_is_answered_for(world, two, judge, on_error, expected):
    """What a module may not say counts as no answer: its own setting decides, and its fault stops nothing."""
    alice, _ = two
    world.messaging.modules.add("broken", judge, on_error=on_error)

    alice.publish("u/bob/1", "a")

    assert expected == alice.steps()


def test_nothing_but_payload_and_parameters_can_be_changed(world, two):
    """A module cannot make a message somebody else's, or send it elsewhere."""
    from dataclasses import replace

    alice, bob = two
    world.messaging.modules.add("thief", lambda message: replace(message, sender="carol"))

    alice.publish("u/bob/1", "a")

    assert [("1", 0x80)] == alice.steps()
    assert [] == bob.payloads()


def test_waiting_is_bounded(make_world):
    """Above `waiting_per_sender` a sender is told to come again; above `waiting_max` everybody is."""
    world = make_world(modules={"waiting_per_sender": 2, "waiting_max": 4, "answer_s": 100.0})
    alice, carol, slow = world.listener("alice"), world.listener("carol"), Slow()
    world.messaging.modules.add("slow", slow)

    for number in range(4):
        alice.publish(f"u/bob/{number}", "a")
    carol.publish("u/bob/c1", "a")
    carol.publish("u/bob/c2", "a")

    (refused,) = alice.statuses()
    assert ("3", 0x8C, 1) == (refused["cid"], refused["status"], refused["retry_after"])
    assert [("c2", 0x8C)] == carol.steps()


def test_who_was_disabled_meanwhile_sends_nothing(world, two):
    """A message that is still being judged when its sender is disabled is not accepted."""
    alice, bob = two
    slow = Slow()
    world.messaging.modules.add("slow", slow)

    alice.publish("u/bob/1", "a")
    world.do("user_disable", addresses=["alice"])
    slow.say(world, PASS)

    assert [] == bob.payloads()
    assert 0 == world.rows("SELECT count(*) FROM message")[0][0]


def test_what_changed_meanwhile_is_looked_at_again(world):
    """Who left the group while a module was thinking is not a member any more when it has thought."""
    world.group("team", "alice", "bob")
    alice, bob, slow = world.listener("alice"), world.listener("bob"), Slow()
    world.messaging.modules.add("slow", slow)

    alice.publish("g/team/1", "a")
    world.do("group_leave", address="team", users=["alice"])
    slow.say(world, PASS)

    assert [("1", 0x83)] == alice.steps()
    assert [] == bob.payloads("g/")


def test_a_resend_while_the_first_is_being_judged_is_one_message(world, two):
    """The resend waits behind the first, and is then known: one message, and the module was asked once."""
    alice, bob = two
    slow = Slow()
    world.messaging.modules.add("slow", slow)

    alice.publish("u/bob/1", "a", packet_id=11)
    world.commits.hold()
    alice.publish("u/bob/1", "a", packet_id=12)
    slow.say(world, PASS)
    if slow.answers:  # the first is not committed yet: it may be asked again, and the store knows better
        slow.say(world, PASS)
    world.commits.release()
    world.turn()

    assert ["a"] == bob.payloads()
    assert alice.took("PUBACK", 11)
    assert alice.took("PUBACK", 12)


def test_what_no_client_sent_is_judged_too(world, two):
    """An operation `send` passes the modules like a PUBLISH: refused with the module's reason, or consumed."""
    _, bob = two
    world.messaging.modules.add("no", lambda message: FAIL(0x80, "rude") if message.text == "darn" else CONSUMED)

    with pytest.raises(Exception, match="rude"):
        world.do("send", sender="alice", to="bob", text="darn")

    assert 2 == world.do("send", sender="alice", to="bob", text="hi")["status"]
    assert [] == bob.payloads()


def test_modules_are_told_afterwards(world, two):
    """on_status, on_user_online, on_user_offline and on_group_changed see what happened, sync or async."""
    told = []

    async def later(event):
        await asyncio.sleep(0)
        told.append((event.user, event.device, event.is_online, event.devices))

    modules = world.messaging.modules
    modules.observe("log", "on_status", lambda event: told.append((event.sender, event.cid, event.name, event.device)))
    modules.observe("log", "on_user_online", later)
    modules.observe("log", "on_user_offline", later)
    modules.observe("log", "on_group_changed", lambda event: told.append((event.group, event.event["event"])))
    modules.observe("broken", "on_status", lambda event: 1 / 0)

    two[0].publish("u/bob/1", "hi")
    two[0].publish("u/nobody/2", "hi")
    carol = world.connect("carol")
    carol.lose()
    world.group("team", "bob")

    assert ("alice", "1", "sent", None) in told
    assert ("alice", "1", "delivered", "phone") in told
    assert ("alice", "2", "invalid-destination", None) in told
    assert told.index(("carol", "phone", True, 1)) < told.index(("carol", "phone", False, 0))
    assert ("team", "joined") in told


def test_a_status_of_somebody_who_is_not_in_memory_is_told_to_modules(make_world):
    """Nor on the server remembering who the sender is: meanwhile others needed the room."""
    told = []
    world = make_world(store={"cache_users": 1})
    world.group("team", "alice", "bob")
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("g/team/1", "hi")
    alice.disconnect()
    world.messaging.modules.observe("log", "on_status", lambda event: told.append((event.cid, event.name)))
    world.advance(60)
    assert world.messaging._hub.directory.known_user(1) is None
    bob.ack(*bob.received("g/"))

    assert [("1", "delivered")] == told


def test_a_status_of_somebody_away_is_told_to_modules(world):
    """on_status does not depend on the sender being online."""
    told = []
    alice = world.connect("alice")
    alice.publish("u/bob/1", "hi")
    alice.disconnect()
    world.messaging.modules.observe("log", "on_status", lambda event: told.append((event.cid, event.name)))
    bob = world.listener("bob")

    assert 1 == len(bob.inbox)
    assert mid_of(bob.inbox[0])
    assert [("1", "delivered")] == told


def test_the_verdict_of_who_went_away_holds(world, two):
    """A sender who lost his connection while a module was thinking has sent the message, and sees its status later."""
    alice, bob = two
    slow = Slow()
    world.messaging.modules.add("slow", slow)

    alice.publish("u/bob/1", "a", qos=1)
    alice.publish("u/bob/2", "b", qos=2)
    alice.lose()
    slow.say(world, PASS)
    slow.say(world, FAIL(0x80, "no"))

    assert ["a"] == bob.payloads()
    assert [("1", 2)] == world.listener("alice").steps()


def test_edits_recalls_and_scheduled_messages_are_judged_once(world, two):
    """A module sees an edit, and a scheduled message when it is sent, not again when it is due."""
    alice, bob = two
    alice.publish("u/bob/1", "first")
    (message,) = bob.received("u/")
    asked = []
    world.messaging.modules.add("watch", lambda message: asked.append(message.text) or PASS)

    alice.publish(f"u/bob/2/edit={mid_of(message)}", "better")
    alice.publish("u/bob/3/when=60", "later")
    world.advance(62)

    assert ["better", "later"] == asked
    assert ["better", "later"] == bob.payloads()
