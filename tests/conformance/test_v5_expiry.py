"""MQTT 5.0, section 3.3.2.3.3: the Message Expiry Interval, counted down and over."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import (
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
)


@pytest.mark.parametrize("waited", [0, 3, 9])
def test_a_waiting_message_counts_its_expiry_down(world, five, waited):
    """The Message Expiry Interval that is delivered is what is left of it [MQTT-3.3.2-6]."""
    five.kept("k", ("a", 1)).cut()
    five.connected("p", keep_alive=1000).say("a", b"x", qos=1, message_expiry_interval=10)
    world.pass_time(waited)
    got = five.back("k").take()

    assert 10 - waited == got.message_expiry_interval


def test_an_expired_message_is_not_delivered(world, five):
    """A message whose expiry has passed is deleted for who was away; others are not [MQTT-3.3.2-5]."""
    five.kept("k", ("a", 1)).cut()
    sender = five.connected("p", keep_alive=1000)
    sender.say("a", b"short", qos=1, message_expiry_interval=10)
    sender.say("a", b"long", qos=1, packet_id=2, message_expiry_interval=1000)
    sender.say("a", b"never", qos=1, packet_id=3)
    world.pass_time(11)
    peer = five.back("k")

    got = peer.take()
    assert (b"long", 989) == (got.payload, got.message_expiry_interval)
    peer.send(puback(got.packet_id)).hear("a", b"never", qos=1)
    peer.expect_nothing()


def test_a_message_without_delay_keeps_its_expiry(five):
    """Delivered at once, the interval is what was sent, the largest too [MQTT-3.3.2-6]."""
    peer = five.subscribed(("a", 0))
    sender = five.connected("p")
    for seconds in (1, 60, 0xFFFFFFFF):
        sender.say("a", b"x", message_expiry_interval=seconds)
        peer.hear("a", b"x", message_expiry_interval=seconds)


def test_a_retained_message_expires(world, five):
    """A retained message counts down, too, and is not sent when it has expired [MQTT-3.3.2-5] [MQTT-3.3.2-6]."""
    five.connected("p").say("a", b"x", retain=True, message_expiry_interval=10)
    world.pass_time(4)
    five.subscribed(("a", 0)).hear("a", b"x", retain=True, message_expiry_interval=6)
    world.pass_time(7)

    five.subscribed(("a", 0), client_id="late").expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_waits_for_quota_expires(world, five, qos):
    """Who has no room gets no message whose expiry passed meanwhile [MQTT-3.3.2-5] [MQTT-3.3.2-6]."""
    peer = five.subscribed(("a", qos), receive_maximum=1, keep_alive=1000)
    sender = five.connected("p", keep_alive=1000)
    sender.say("a", b"first", qos=qos)
    sender.say("a", b"gone", qos=qos, packet_id=2, message_expiry_interval=5)
    sender.say("a", b"last", qos=qos, packet_id=3, message_expiry_interval=50)
    number = peer.hear("a", b"first", qos=qos, answers=False).packet_id
    world.pass_time(10)
    if qos == 1:
        peer.send(puback(number))
    else:
        peer.send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number))

    peer.hear("a", b"last", qos=qos, message_expiry_interval=40)
    peer.expect_nothing()


def test_what_was_sent_does_not_expire(world, five):
    """Once delivery has begun expiry is not applied: the exchange is completed, and the PUBLISH sent again.

    [MQTT-4.3.3-7] [MQTT-4.3.3-13] [MQTT-4.4.0-1]
    """
    peer = five.kept("k", ("a", 2), keep_alive=1000)
    five.connected("p").say("a", b"x", qos=2, message_expiry_interval=5)
    number = peer.hear("a", b"x", qos=2, answers=False, message_expiry_interval=5).packet_id
    world.pass_time(10)
    peer.cut()
    peer = five.back("k", keep_alive=1000)
    got = peer.take()

    assert ("PUBLISH", number, True, b"x") == (got.kind, got.packet_id, got.dup, got.payload)
    peer.send(pubrec(number)).expect(pubrel(number))
    world.pass_time(10)
    peer.send(pubcomp(number)).expect_nothing()


def test_the_receiving_side_finishes_in_any_case(world, five):
    """A publisher's QoS 2 exchange is completed although its message expired meanwhile [MQTT-4.3.3-13]."""
    peer = five.connected("p", keep_alive=1000).send(publish("a", b"x", qos=2, message_expiry_interval=1))

    assert "PUBREC" == peer.take().kind
    world.pass_time(10)
    peer.send(pubrel(1)).expect(pubcomp(1))


def test_expiry_0_is_over_at_once(world, five):
    """An interval of 0 may reach who is here, never who is away [MQTT-3.3.2-5]."""
    five.kept("k", ("a", 1)).cut()
    five.connected("p").say("a", b"x", qos=1, message_expiry_interval=0)
    world.pass_time(1)

    five.back("k").expect_nothing()
