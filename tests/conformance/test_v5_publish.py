"""MQTT 5.0, section 3.3: PUBLISH, its properties and its retained form."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import (
    disconnect,
    packet,
    properties,
    publish,
    suback,
    subscribe,
    text,
)

ALL = {
    "payload_format_indicator": 1,
    "content_type": "text/plain; charset=utf-8",
    "response_topic": "answers/here",
    "correlation_data": b"\x00\x01\xff",
    "user_property": [("z", "1"), ("a", "2"), ("z", "1"), ("", "")],
}


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("name", [*ALL, "all"])
def test_properties_are_forwarded_unaltered(five, qos, name):
    """What the publisher says of its message arrives unaltered, user properties in their order.

    [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    """
    values = ALL if name == "all" else {name: ALL[name]}
    peer = five.subscribed(("a/+", qos))
    five.connected("p").say("a/b", b"x", qos=qos, **values)

    peer.hear("a/b", b"x", qos=qos, **values)


@pytest.mark.parametrize("values", [{"payload_format_indicator": 0}, {"content_type": ""}, {"correlation_data": b""}])
def test_empty_properties_are_forwarded_too(five, values):
    """A property that says nothing was said all the same [MQTT-3.3.2-4] [MQTT-3.3.2-16] [MQTT-3.3.2-20]."""
    peer = five.subscribed(("a", 0))
    five.connected("p").say("a", b"x", **values)

    peer.hear("a", b"x", **values)


@pytest.mark.parametrize("qos", [1, 2])
def test_properties_are_kept_for_who_is_away(five, qos):
    """A message that waited arrives with its properties [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]."""
    five.kept("k", ("a", qos)).cut()
    five.connected("p").say("a", b"x", qos=qos, **ALL)

    five.back("k").hear("a", b"x", qos=qos, **ALL)


def test_properties_are_kept_with_a_retained_message(five):
    """A retained message arrives with its properties [MQTT-3.3.1-5] [MQTT-3.3.2-4] [MQTT-3.3.2-17] [MQTT-3.3.2-18]."""
    five.connected("p").say("a", b"x", qos=1, retain=True, **ALL)

    five.subscribed(("a", 1)).hear("a", b"x", qos=1, retain=True, **ALL)


@pytest.mark.parametrize("count", [1, 100])
def test_many_user_properties(five, count):
    """User Properties may be many, and the same ones may come again [MQTT-3.3.2-17] [MQTT-3.3.2-18]."""
    pairs = [(f"name{number % 7}", f"value{number}") for number in range(count)]
    peer = five.subscribed(("a", 0))
    five.connected("p").say("a", b"x", user_property=pairs)

    peer.hear("a", b"x", user_property=pairs)


def test_mixed_properties_keep_the_order_of_user_properties(five):
    """User Properties keep their order also where other properties stand between them [MQTT-3.3.2-18]."""
    from mesimqtt.testing.wire5 import one

    raw = one("user_property", ("b", "1")) + one("content_type", "t") + one("user_property", ("a", "2"))
    peer = five.subscribed(("a", 0))
    five.connected("p").send(publish("a", b"x", raw=raw))

    peer.hear("a", b"x", content_type="t", user_property=[("b", "1"), ("a", "2")])


@pytest.mark.sockets
@pytest.mark.parametrize("topic", ["a/#", "#", "+", "a/+/b", "a+", "a#b"])
def test_wildcards_in_a_topic_are_refused(five, topic):
    """A Topic Name with wildcards costs the connection [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.13.1-1]."""
    five.connected().send(publish(topic, b"x")).expect_refused(0x81, 0x82, 0x90)


@pytest.mark.parametrize("topic", ["a/#", "+/b"])
def test_wildcards_in_a_response_topic_are_refused(five, topic):
    """A Response Topic with wildcards costs the connection [MQTT-3.3.2-14] [MQTT-4.13.1-1]."""
    five.connected().send(publish("a", b"x", response_topic=topic)).expect_refused(0x81, 0x82, 0x90)


def test_an_empty_topic_is_refused(five):
    """A Topic Name of no characters without alias is a Protocol Error [MQTT-4.7.3-1] [MQTT-4.13.1-1]."""
    five.connected().send(publish("", b"x")).expect_refused(0x82, 0x90)


@pytest.mark.parametrize("first", [0x36, 0x37, 0x3E, 0x3F])
def test_qos_3_is_malformed(five, first):
    """A PUBLISH with both QoS bits is malformed [MQTT-3.3.1-4] [MQTT-4.13.1-1]."""
    body = text("a") + b"\0\1\0x"

    five.connected().send(packet(first, body)).expect_refused(0x81)


@pytest.mark.parametrize("retain", [0, 1])
def test_dup_at_qos_0_is_refused_or_passed_over(five, retain):
    """DUP at QoS 0 is the publisher's offence; it is never forwarded [MQTT-3.3.1-2] [MQTT-3.3.1-3]."""
    watcher = five.subscribed(("a", 0))
    peer = five.connected("p").send(packet(0x38 | retain, text("a") + b"\0x"))

    peer.expect_refused(0x81, 0x82)
    watcher.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_dup_is_not_forwarded(five, qos):
    """DUP of a delivery says whether that delivery is a second one, whatever the publisher said.

    [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
    """
    peer = five.subscribed(("a", 2))
    five.connected("p").say("a", b"x", qos=qos, dup=True)

    peer.hear("a", b"x", qos=qos)


@pytest.mark.sockets
@pytest.mark.parametrize("asked", [0, 1, 2])
@pytest.mark.parametrize("said", [0, 1, 2])
def test_delivery_is_at_the_lower_qos(five, asked, said):
    """A delivery is at the lower of the message's and the subscription's QoS, and the exchange as that QoS says.

    [MQTT-3.3.4-1] [MQTT-3.8.4-8] [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-4] [MQTT-4.3.3-1] [MQTT-4.3.3-4]
    [MQTT-4.3.3-8] [MQTT-4.3.3-11]
    """
    peer = five.subscribed(("a", asked))
    five.connected("p").say("a", b"x", qos=said)

    peer.hear("a", b"x", qos=min(asked, said))
    peer.expect_nothing()


@pytest.mark.sockets
def test_overlapping_subscriptions(five):
    """One copy at the highest QoS with the identifiers of all that match; those without have none.

    [MQTT-3.3.2-3] [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]
    """
    peer = five.connected("s")
    for number, (name, qos) in enumerate([("a/#", 0), ("a/+", 2), ("+/b", 1), ("c", 2)], start=1):
        peer.send(subscribe((name, qos), subscription_identifier=number, packet_id=number))
        peer.expect(suback(qos, packet_id=number))
    peer.send(subscribe(("#", 0))).expect(suback(0))
    five.connected("p").say("a/b", b"x", qos=2)

    peer.hear("a/b", b"x", qos=2, subscription_identifier=[1, 2, 3])
    peer.expect_nothing()


def test_the_same_identifier_may_stand_twice(five):
    """Two matching subscriptions of one SUBSCRIBE share its identifier [MQTT-3.3.4-3] [MQTT-3.3.4-4]."""
    peer = five.connected("s").send(subscribe(("a", 0), ("+", 0), subscription_identifier=5)).expect(suback(0, 0))
    five.connected("p").say("a", b"x")

    assert {5} == set(peer.take().subscription_identifier)
    peer.expect_nothing()


def test_identifiers_with_retained_messages(five):
    """A retained message carries the identifier of the subscription that it answers [MQTT-3.3.4-3]."""
    five.connected("p").say("a", b"x", retain=True)

    five.subscribed(("a", 0), identifier=9).hear("a", b"x", retain=True, subscription_identifier=[9])


def test_a_replaced_subscription_has_its_new_identifier(five):
    """The same filter again replaces options and identifier; without one, there is none.

    [MQTT-3.3.4-3] [MQTT-3.8.4-3]
    """
    peer = five.subscribed(("a", 0), identifier=1)
    sender = five.connected("p")
    peer.send(subscribe(("a", 1), subscription_identifier=2)).expect(suback(1))
    sender.say("a", b"1", qos=1)
    peer.hear("a", b"1", qos=1, subscription_identifier=[2])
    peer.send(subscribe(("a", 0))).expect(suback(0))
    sender.say("a", b"2", qos=1)

    peer.hear("a", b"2")


def test_each_client_has_its_own_identifiers(five):
    """Identifiers are a client's own: nobody sees those of another [MQTT-3.3.4-3]."""
    one, two = (five.subscribed(("a", 0), client_id=f"s{number}", identifier=number) for number in (1, 2))
    five.connected("p").say("a", b"x")

    one.hear("a", b"x", subscription_identifier=[1])
    two.hear("a", b"x", subscription_identifier=[2])


def test_a_client_may_not_send_an_identifier(five):
    """A Subscription Identifier in a client's PUBLISH is a Protocol Error [MQTT-3.3.4-6] [MQTT-4.13.1-1]."""
    peer = five.connected().send(publish("a", b"x", subscription_identifier=1))

    peer.expect_closed(disconnect(0x82))


@pytest.mark.extra
def test_the_property_block_of_a_publish_may_be_empty():
    """The builders write a Property Length of 0 where nothing is said."""
    assert b"\x00" == properties()
