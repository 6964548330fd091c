"""Connections that are lost before anything was handed over: what was in flight before them still comes with DUP."""

from __future__ import annotations

import pytest

from mesimqtt.testing import wire5
from mesimqtt.testing.peer import Peer
from unit.messaging import five
from unit.messaging.world import seq_of


class Silent(Peer):
    """Connects and is lost before the server has done anything more than let it in."""

    def send(self, *packets: bytes) -> None:
        """Send packets; what they ask for is not waited for."""
        self.connection.receive(b"".join(packets), self.world.now())


def come_and_go(world):
    """Connect bob's phone, and lose the link before anything was handed over to it."""
    world.peer_type = Silent
    world.connect("bob").lose()
    world.peer_type = Peer


@pytest.mark.parametrize("kill", [True, False])
def test_a_short_visit_does_not_forget_what_was_in_flight(world, kill):
    """A connection that was lost before it was given anything says nothing of what the one before was sent: DUP 1."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.lose()
    come_and_go(world)
    world.advance(2)
    world.restart(kill=kill)

    again = world.connect("bob").received("u/")

    assert [True] == [message.dup for message in again]


@pytest.mark.parametrize("visits", [1, 2])
def test_short_visits_after_a_crash_do_not_forget_it_either(world, visits):
    """Nor after the restart itself, however many there are; what is written afterwards is new."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    world.restart()
    for _ in range(visits):
        come_and_go(world)
    world.advance(0.1)  # of what is written in the millisecond of the visit nobody could tell
    world.connect("alice").publish("u/bob/2")

    again = world.connect("bob").received("u/")

    assert [(1, True), (2, False)] == [(seq_of(message), message.dup) for message in again]


def test_who_had_everything_handed_over_has_nothing_in_flight(world):
    """After a visit in which all was acknowledged, what comes after a restart comes for the first time."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.lose()
    world.connect("bob").lose()
    world.advance(2)
    alice.publish("u/bob/2")
    world.restart(kill=False)

    again = world.connect("bob").received("u/")

    assert [(2, False)] == [(seq_of(message), message.dup) for message in again]


def test_what_was_scheduled_before_a_restart_and_sent_after_it_is_new(world):
    """It was never handed over before, though its mid is older: DUP 0; what was in flight has DUP 1."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    alice.publish("u/bob/2/when=60")
    world.restart()
    world.advance(61)

    again = world.connect("bob").received("u/")

    assert [(1, True), (2, False)] == [(seq_of(message), message.dup) for message in again]


def test_what_was_scheduled_and_in_flight_at_a_restart_has_dup(world):
    """Its time had come before the restart, so it may have been seen."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1/when=60")
    world.advance(61)
    assert [False] == [message.dup for message in bob.received("u/")]
    world.restart()

    again = world.connect("bob").received("u/")

    assert [True] == [message.dup for message in again]


def test_what_waits_behind_a_free_topic_is_not_forgotten_either(world):
    """With room for one, that comes first: the message that was in flight before waits, and still has DUP later."""
    alice = world.connect("alice")
    bob = five.listener(world, "bob", receive_maximum=1)
    bob.subscribe("free/x")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.lose()
    alice.publish("free/x")
    again = five.Peer5(world, "bob", "phone", world.engine.open("192.0.2.1", "default", world.now()))
    again.most, again.auto_ack = 1, False
    world.peers.append(again)
    password = world.tokens["bob"].encode()
    hello = {"user": "bob", "password": password, "session_expiry_interval": 3600, "receive_maximum": 1}
    again.send(wire5.connect("phone", clean=False, keep_alive=0, **hello))
    assert ["free/x"] == [message.topic for message in again.inbox]
    again.lose()
    world.advance(2)
    world.restart()

    assert [True] == [message.dup for message in five.connect(world, "bob").received("u/")]
