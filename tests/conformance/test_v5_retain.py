"""MQTT 5.0, sections 3.3.1.3 and 3.8.3.1: retained messages."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import (
    option,
    suback,
    subscribe,
)


@pytest.mark.sockets
def test_a_retained_message_is_replaced(five):
    """The last retained message of a topic is the one that new subscribers get, with RETAIN 1.

    [MQTT-3.3.1-5] [MQTT-3.3.1-9]
    """
    sender = five.connected("p")
    sender.say("a", b"old", qos=1, retain=True)
    sender.say("a", b"new", qos=1, packet_id=2, retain=True)
    peer = five.subscribed(("a", 0))

    peer.hear("a", b"new", retain=True)
    peer.expect_nothing()


@pytest.mark.sockets
def test_an_empty_payload_clears_and_is_delivered(five):
    """RETAIN 1 without payload removes the retained message; who is subscribed gets it as a message.

    [MQTT-3.3.1-6] [MQTT-3.3.1-7]
    """
    watcher = five.subscribed(("a", 0))
    sender = five.connected("p")
    sender.say("a", b"x", retain=True)
    sender.say("a", b"", retain=True)

    watcher.hear("a", b"x")
    watcher.hear("a", b"")
    five.subscribed(("a", 0), client_id="late").expect_nothing()


def test_without_retain_nothing_is_kept_or_removed(five):
    """RETAIN 0 stores nothing, and leaves what is stored [MQTT-3.3.1-8]."""
    sender = five.connected("p")
    sender.say("none", b"x")
    sender.say("a", b"kept", retain=True)
    sender.say("a", b"other")
    sender.say("a", b"")
    peer = five.subscribed(("#", 0))

    peer.hear("a", b"kept", retain=True)
    peer.expect_nothing()


@pytest.mark.parametrize("handling", [0, 1, 2])
def test_retain_handling(five, handling):
    """0: always; 1: if the subscription is new; 2: never.

    [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]
    """
    five.connected("p").say("a", b"x", retain=True)
    peer = five.connected("s")
    for is_new in (True, False):
        peer.send(subscribe(("a", option(0, retain_handling=handling)))).expect(suback(0))
        if handling == 0 or (handling == 1 and is_new):
            peer.hear("a", b"x", retain=True)
        peer.expect_nothing()


def test_retain_handling_1_knows_the_session(five):
    """A subscription that the session kept did exist; after an UNSUBSCRIBE it did not [MQTT-3.3.1-10]."""
    from mesimqtt.testing.wire5 import unsuback, unsubscribe

    five.connected("p").say("a", b"x", retain=True)
    request = subscribe(("a", option(0, retain_handling=1)))
    peer = five.kept("k").send(request).expect(suback(0))
    peer.hear("a", b"x", retain=True)
    peer.cut()
    peer = five.back("k").send(request).expect(suback(0))
    peer.expect_nothing()
    peer.send(unsubscribe("a")).expect(unsuback(0)).send(request).expect(suback(0))

    peer.hear("a", b"x", retain=True)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_retain_as_published(five, published, kept):
    """A live message has RETAIN as published where the subscription asks for it, else 0.

    [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    """
    peer = five.subscribed(("a", option(0, as_published=kept)))
    five.connected("p").say("a", b"x", retain=published)

    peer.hear("a", b"x", retain=published and kept)


@pytest.mark.parametrize("kept", [False, True])
def test_retain_as_published_for_who_is_away(five, kept):
    """The same for a message that waited [MQTT-3.3.1-12] [MQTT-3.3.1-13]."""
    five.kept("k", ("a", option(1, as_published=kept))).cut()
    five.connected("p").say("a", b"x", qos=1, retain=True)

    five.back("k").hear("a", b"x", qos=1, retain=kept)


@pytest.mark.parametrize("kept", [False, True])
def test_a_retained_message_says_so_to_new_subscribers(five, kept):
    """A retained message that answers a SUBSCRIBE has RETAIN 1 whatever Retain As Published [MQTT-3.3.1-9]."""
    five.connected("p").say("a", b"x", retain=True)

    five.subscribed(("a", option(0, as_published=kept))).hear("a", b"x", retain=True)


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("said", [0, 1, 2])
def test_retained_messages_have_the_lower_qos(five, granted, said):
    """A retained message is delivered at the lower QoS, too [MQTT-3.3.1-9] [MQTT-3.8.4-8]."""
    five.connected("p").say("a", b"x", qos=said, retain=True)

    five.subscribed(("a", granted)).hear("a", b"x", qos=min(granted, said), retain=True)


def test_retained_messages_of_a_wildcard(five):
    """Every retained message that matches is sent, each once [MQTT-3.3.1-9] [MQTT-4.7.2-1]."""
    sender = five.connected("p")
    for topic in ("a", "a/b", "a/b/c", "b", "/a", "a/"):
        sender.say(topic, topic.encode(), retain=True)
    peer = five.subscribed(("a/#", 0))
    found = {message.topic for message in peer.messages(4)}

    assert {"a", "a/b", "a/b/c", "a/"} == found
    peer.expect_nothing()
