"""MQTT 5.0, sections 3.1.2.11.2, 4.1 and 4.4: sessions over reconnects and restarts, and what is sent again."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import (
    disconnect,
    option,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    unsuback,
    unsubscribe,
)

EXPIRIES = [1, 10, 100]


@pytest.mark.sockets
@pytest.mark.parametrize("clean", [True, False])
def test_without_expiry_a_session_ends_with_its_connection(five, clean):
    """Session Expiry Interval 0 or absent: the session ends with the connection, whatever Clean Start.

    [MQTT-3.1.2-23] [MQTT-3.2.2-3] [MQTT-4.1.0-2]
    """
    peer = five.connected("k", clean=clean)
    peer.send(subscribe(("a", 1))).expect(suback(1))
    peer.leave()
    five.connected("p").say("a", b"x", qos=1)

    five.gone("k").expect_nothing()


@pytest.mark.parametrize("expiry", EXPIRIES)
@pytest.mark.parametrize("clean", [True, False])
def test_a_session_lives_for_its_expiry(world, five, expiry, clean):
    """Until the interval has passed the session is there, whatever Clean Start made it.

    [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-4.1.0-1] [MQTT-4.1.0-2]
    """
    five.kept("k", ("a", 1), expiry=expiry, clean=clean).cut()
    world.pass_time(expiry - 0.5)
    five.back("k", expiry=expiry).cut()
    world.pass_time(expiry - 0.5)

    five.back("k", expiry=expiry).cut()


@pytest.mark.parametrize("expiry", EXPIRIES)
def test_a_session_ends_after_its_expiry(world, five, expiry):
    """When the interval has passed the session is gone, subscriptions and messages with it.

    [MQTT-3.2.2-3] [MQTT-4.1.0-2]
    """
    five.kept("k", ("a", 1), expiry=expiry).cut()
    five.connected("p", keep_alive=1000).say("a", b"x", qos=1)
    world.pass_time(expiry + 1)

    five.gone("k").expect_nothing()


def test_an_open_connection_keeps_its_session(world, five):
    """While the connection is open the session does not expire [MQTT-4.1.0-1]."""
    peer = five.kept("k", ("a", 1), expiry=1, keep_alive=1000)
    world.pass_time(100)
    five.connected("p").say("a", b"x", qos=1)

    peer.hear("a", b"x", qos=1)


def test_the_expiry_of_the_last_connect_counts(world, five):
    """Each CONNECT sets the Session Expiry Interval anew; absent, it is 0 [MQTT-3.1.2-23] [MQTT-4.1.0-2]."""
    five.kept("k", expiry=1000).cut()
    five.back("k", expiry=5).cut()
    world.pass_time(6)
    five.gone("k").cut()
    five.kept("k", expiry=1000).cut()
    five.connected("k", clean=False, resumed=True).cut()

    five.gone("k").cut()


def test_disconnect_changes_the_expiry(world, five):
    """A Session Expiry Interval in DISCONNECT outranks that of CONNECT: longer, shorter and 0.

    [MQTT-3.1.2-23] [MQTT-4.1.0-2]
    """
    five.kept("k", expiry=5).leave(0, session_expiry_interval=100)
    world.pass_time(50)
    five.back("k", expiry=100).leave(0, session_expiry_interval=5)
    world.pass_time(6)
    five.gone("k").cut()
    five.kept("k", expiry=100).leave(0, session_expiry_interval=0)

    five.gone("k").cut()


def test_disconnect_cannot_make_a_session_last(five):
    """After a CONNECT with expiry 0, another one in DISCONNECT is a Protocol Error [MQTT-4.1.0-2] [MQTT-4.13.1-1]."""
    for values in ({}, {"session_expiry_interval": 0}):
        five.connected("k", **values).send(disconnect(0, session_expiry_interval=1)).expect_closed(disconnect(0x82))
        five.gone("k").cut()
        five.connected("k").leave(0, session_expiry_interval=0)


@pytest.mark.limits(session_expiry_s=100)
def test_an_expiry_over_the_limit_is_lowered(world, five):
    """Expiry "never" is lowered to the server's limit, which CONNACK told, also in DISCONNECT [MQTT-4.1.0-2]."""
    told = {"session_expiry_interval": 100}
    five.kept("k", expiry=0xFFFFFFFF, told=told).cut()
    world.pass_time(99)
    five.back("k", expiry=0xFFFFFFFF, told=told).leave(0, session_expiry_interval=0xFFFFFFFF)
    world.pass_time(101)

    five.gone("k").cut()


@pytest.mark.sockets
def test_clean_start_discards(five):
    """Clean Start 1 discards session, subscriptions and waiting messages.

    [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2]
    """
    five.kept("k", ("a", 2)).cut()
    five.connected("p").say("a", b"x", qos=2)
    peer = five.kept("k")

    peer.expect_nothing()
    peer.cut()
    five.back("k").expect_nothing()


@pytest.mark.disk
@pytest.mark.sockets
def test_messages_wait_for_a_session(five):
    """What was published while the client was away at QoS 1 and 2 waits for it, in order, at the granted QoS.

    [MQTT-3.1.2-5] [MQTT-4.5.0-1] [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    """
    five.kept("k", ("a", 2), ("b", 1)).cut()
    sender = five.connected("p")
    for number in range(1, 6):
        sender.say("a", b"%d" % number, qos=number % 2 + 1, packet_id=number)
    sender.say("b", b"6", qos=2, packet_id=6)
    peer = five.back("k")
    for number in range(1, 6):
        peer.hear("a", b"%d" % number, qos=number % 2 + 1)
    peer.hear("b", b"6", qos=1)

    peer.expect_nothing()
    peer.cut()
    five.back("k").expect_nothing()


@pytest.mark.disk
def test_an_unacknowledged_publish_is_sent_again(five):
    """At a reconnect, and only then, an unacknowledged PUBLISH comes again with DUP 1 and its packet id.

    [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.4.0-1]
    """
    peer = five.kept("k", ("a", 2))
    sender = five.connected("p")
    sender.say("a", b"one", qos=1)
    sender.say("a", b"two", qos=2, packet_id=2)
    first = peer.hear("a", b"one", qos=1, answers=False)
    second = peer.hear("a", b"two", qos=2, answers=False)
    peer.expect_nothing()
    peer.cut()
    peer = five.back("k")

    assert first.packet_id == peer.hear("a", b"one", qos=1, dup=True).packet_id
    assert second.packet_id == peer.hear("a", b"two", qos=2, dup=True).packet_id
    peer.expect_nothing()
    peer.cut()
    five.back("k").expect_nothing()


def test_an_unanswered_pubrel_is_sent_again(five):
    """Once PUBREC came, PUBREL is what is sent again, never the PUBLISH.

    [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1]
    """
    peer = five.kept("k", ("a", 2))
    five.connected("p").say("a", b"x", qos=2)
    number = peer.hear("a", b"x", qos=2, answers=False).packet_id
    peer.send(pubrec(number)).expect(pubrel(number))
    peer.cut()
    peer = five.back("k").expect(pubrel(number))
    peer.expect_nothing()
    peer.send(pubcomp(number)).cut()

    five.back("k").expect_nothing()


@pytest.mark.disk
@pytest.mark.sockets
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_acknowledged_is_not_sent_again(five, qos):
    """A client that acknowledges, leaves and is back at once gets nothing again.

    [MQTT-4.3.2-3] [MQTT-4.3.3-5] [MQTT-4.4.0-1]
    """
    peer = five.kept("k", ("a", qos))
    sender = five.connected("p")
    for number in (1, 2, 3):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number)
        peer.hear("a", b"%d" % number, qos=qos)
    peer.leave()

    five.back("k").expect_nothing()


def test_nothing_is_sent_again_while_the_connection_lasts(world, five):
    """However long an acknowledgement takes, nothing is sent twice on one connection [MQTT-4.4.0-1]."""
    peer = five.kept("k", ("a", 2), keep_alive=1000)
    sender = five.connected("p", keep_alive=1000)
    sender.say("a", b"one", qos=1)
    sender.say("a", b"two", qos=2, packet_id=2)
    one = peer.hear("a", b"one", qos=1, answers=False).packet_id
    two = peer.hear("a", b"two", qos=2, answers=False).packet_id
    peer.send(pubrec(two)).expect(pubrel(two))
    world.pass_time(300)

    peer.expect_nothing()
    peer.send(puback(one), pubcomp(two)).expect_nothing()


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x97, 0x99])
def test_a_refused_delivery_is_not_sent_again(five, code):
    """PUBACK or PUBREC with an error acknowledges all the same: no PUBREL, no second PUBLISH.

    [MQTT-4.3.3-4] [MQTT-4.4.0-2]
    """
    peer = five.kept("k", ("a", 2))
    sender = five.connected("p")
    sender.say("a", b"one", qos=1)
    sender.say("a", b"two", qos=2, packet_id=2)
    one = peer.hear("a", b"one", qos=1, answers=False).packet_id
    two = peer.hear("a", b"two", qos=2, answers=False).packet_id
    peer.send(puback(one, code), pubrec(two, code)).expect_nothing()
    peer.cut()

    five.back("k").expect_nothing()


@pytest.mark.disk
def test_the_client_finishes_its_qos_2_after_a_reconnect(five):
    """The packet ids of unfinished QoS 2 messages belong to the session: a resend is no second message.

    [MQTT-3.1.2-5] [MQTT-4.3.3-10] [MQTT-4.4.0-1]
    """
    watcher = five.subscribed(("a", 0))
    peer = five.kept("k").send(publish("a", b"x", qos=2, packet_id=7))

    assert "PUBREC" == peer.take().kind
    peer.cut()
    peer = five.back("k").send(publish("a", b"x", qos=2, packet_id=7, dup=True))
    assert ("PUBREC", 7) == ((got := peer.take()).kind, got.packet_id)
    peer.send(pubrel(7)).expect(pubcomp(7))
    watcher.hear("a", b"x")
    watcher.expect_nothing()


def test_a_new_session_does_not_know_old_packet_ids(five):
    """With a new session a packet id is free again: the same bytes are a new message [MQTT-3.1.2-4] [MQTT-4.3.3-12]."""
    watcher = five.subscribed(("a", 0))
    for _ in range(2):
        peer = five.connected("k").send(publish("a", b"x", qos=2, packet_id=7))

        assert "PUBREC" == peer.take().kind
        peer.cut()
        watcher.hear("a", b"x")


@pytest.mark.disk
def test_subscription_options_belong_to_the_session(five):
    """Identifier and options of a subscription are kept over a reconnect.

    [MQTT-3.1.2-5] [MQTT-3.3.1-13] [MQTT-3.3.4-3] [MQTT-3.8.3-3]
    """
    options = option(1, no_local=True, as_published=True)
    peer = five.kept("k").send(subscribe(("a", options), subscription_identifier=77)).expect(suback(1))
    peer.cut()
    peer = five.back("k").say("a", b"own", qos=1)
    five.connected("p").say("a", b"x", qos=1, retain=True)

    peer.hear("a", b"x", qos=1, retain=True, subscription_identifier=[77])
    peer.expect_nothing()


def test_unsubscribed_is_unsubscribed_after_a_reconnect(five):
    """A subscription that was given up does not return [MQTT-3.1.2-5] [MQTT-3.10.4-1]."""
    peer = five.kept("k", ("a", 1)).send(unsubscribe("a")).expect(unsuback(0))
    peer.cut()
    five.connected("p").say("a", b"x", qos=1)

    five.back("k").expect_nothing()
