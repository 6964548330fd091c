"""MQTT 5.0, section 3.3: PUBLISH, its properties and its retained form."""

from __future__ import annotations

import pytest

from conformance.wire5 import disconnect, option, packet, properties, puback, pubcomp, publish, pubrec, pubrel, suback, subscribe, text

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
    """What the publisher says of its message arrives unaltered, user properties in their order. [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]"""
    values = ALL if name == "all" else {name: ALL[name]}
    peer = five.subscribed(("a/+", qos))
    five.connected("p").say("a/b", b"x", qos=qos, **values)

    peer.hear("a/b", b"x", qos=qos, **values)


@pytest.mark.parametrize("values", [{"payload_format_indicator": 0}, {"content_type": ""}, {"correlation_data": b""}])
def test_empty_properties_are_forwarded_too(five, values):
    """A property that says nothing was said all the same. [MQTT-3.3.2-4] [MQTT-3.3.2-16] [MQTT-3.3.2-20]"""
    peer = five.subscribed(("a", 0))
    five.connected("p").say("a", b"x", **values)

    peer.hear("a", b"x", **values)


@pytest.mark.parametrize("qos", [1, 2])
def test_properties_are_kept_for_who_is_away(five, qos):
    """A message that waited arrives with its properties. [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]"""
    five.kept("k", ("a", qos)).cut()
    five.connected("p").say("a", b"x", qos=qos, **ALL)

    five.back("k").hear("a", b"x", qos=qos, **ALL)


def test_properties_are_kept_with_a_retained_message(five):
    """A retained message arrives with its properties. [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-4] [MQTT-3.3.1-5]"""
    five.connected("p").say("a", b"x", qos=1, retain=True, **ALL)

    five.subscribed(("a", 1)).hear("a", b"x", qos=1, retain=True, **ALL)


@pytest.mark.parametrize("count", [1, 100])
def test_many_user_properties(five, count):
    """User Properties may be many, and the same ones may come again. [MQTT-3.3.2-17] [MQTT-3.3.2-18]"""
    pairs = [(f"name{number % 7}", f"value{number}") for number in range(count)]
    peer = five.subscribed(("a", 0))
    five.connected("p").say("a", b"x", user_property=pairs)

    peer.hear("a", b"x", user_property=pairs)


def test_mixed_properties_keep_the_order_of_user_properties(five):
    """User Properties keep their order also where other properties stand between them. [MQTT-3.3.2-18]"""
    from conformance.wire5 import one

    raw = one("user_property", ("b", "1")) + one("content_type", "t") + one("user_property", ("a", "2"))
    peer = five.subscribed(("a", 0))
    five.connected("p").send(publish("a", b"x", raw=raw))

    peer.hear("a", b"x", content_type="t", user_property=[("b", "1"), ("a", "2")])


@pytest.mark.sockets
@pytest.mark.parametrize("topic", ["a/#", "#", "+", "a/+/b", "a+", "a#b"])
def test_wildcards_in_a_topic_are_refused(five, topic):
    """A Topic Name with wildcards costs the connection. [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.13.1-1]"""
    five.connected().send(publish(topic, b"x")).expect_refused(0x81, 0x82, 0x90)


@pytest.mark.parametrize("topic", ["a/#", "+/b"])
def test_wildcards_in_a_response_topic_are_refused(five, topic):
    """A Response Topic with wildcards costs the connection. [MQTT-3.3.2-14] [MQTT-4.13.1-1]"""
    five.connected().send(publish("a", b"x", response_topic=topic)).expect_refused(0x81, 0x82, 0x90)


def test_an_empty_topic_is_refused(five):
    """A Topic Name of no characters without alias is a Protocol Error. [MQTT-4.7.3-1] [MQTT-4.13.1-1]"""
    five.connected().send(publish("", b"x")).expect_refused(0x82, 0x90)


@pytest.mark.parametrize("first", [0x36, 0x37, 0x3E, 0x3F])
def test_qos_3_is_malformed(five, first):
    """A PUBLISH with both QoS bits is malformed. [MQTT-3.3.1-4] [MQTT-4.13.1-1]"""
    body = text("a") + b"\0\1\0x"

    five.connected().send(packet(first, body)).expect_refused(0x81)


@pytest.mark.parametrize("retain", [0, 1])
def test_dup_at_qos_0_is_refused_or_passed_over(five, retain):
    """DUP at QoS 0 is the publisher's offence; it is never forwarded. [MQTT-3.3.1-2] [MQTT-3.3.1-3]"""
    watcher = five.subscribed(("a", 0))
    peer = five.connected("p").send(packet(0x38 | retain, text("a") + b"\0x"))

    peer.expect_refused(0x81, 0x82)
    watcher.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_dup_is_not_forwarded(five, qos):
    """DUP of a delivery says whether that delivery is a second one, whatever the publisher said. [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]"""
    peer = five.subscribed(("a", 2))
    five.connected("p").say("a", b"x", qos=qos, dup=True)

    peer.hear("a", b"x", qos=qos)


@pytest.mark.sockets
@pytest.mark.parametrize("asked", [0, 1, 2])
@pytest.mark.parametrize("said", [0, 1, 2])
def test_delivery_is_at_the_lower_qos(five, asked, said):
    """A delivery is at the lower of the message's and the subscription's QoS, and the exchange as that QoS says. [MQTT-3.8.4-8] [MQTT-3.3.4-1] [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-4] [MQTT-4.3.3-1] [MQTT-4.3.3-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11]"""
    peer = five.subscribed(("a", asked))
    five.connected("p").say("a", b"x", qos=said)

    peer.hear("a", b"x", qos=min(asked, said))
    peer.expect_nothing()


# --- retained messages ---


@pytest.mark.sockets
def test_a_retained_message_is_replaced(five):
    """The last retained message of a topic is the one that new subscribers get, with RETAIN 1. [MQTT-3.3.1-5] [MQTT-3.3.1-9]"""
    sender = five.connected("p")
    sender.say("a", b"old", qos=1, retain=True)
    sender.say("a", b"new", qos=1, packet_id=2, retain=True)
    peer = five.subscribed(("a", 0))

    peer.hear("a", b"new", retain=True)
    peer.expect_nothing()


@pytest.mark.sockets
def test_an_empty_payload_clears_and_is_delivered(five):
    """RETAIN 1 without payload removes the retained message; who is subscribed gets it as a message. [MQTT-3.3.1-6] [MQTT-3.3.1-7]"""
    watcher = five.subscribed(("a", 0))
    sender = five.connected("p")
    sender.say("a", b"x", retain=True)
    sender.say("a", b"", retain=True)

    watcher.hear("a", b"x")
    watcher.hear("a", b"")
    five.subscribed(("a", 0), client_id="late").expect_nothing()


def test_without_retain_nothing_is_kept_or_removed(five):
    """RETAIN 0 stores nothing, and leaves what is stored. [MQTT-3.3.1-8]"""
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
    """0: always; 1: if the subscription is new; 2: never. [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]"""
    five.connected("p").say("a", b"x", retain=True)
    peer = five.connected("s")
    for is_new in (True, False):
        peer.send(subscribe(("a", option(0, retain_handling=handling)))).expect(suback(0))
        if handling == 0 or (handling == 1 and is_new):
            peer.hear("a", b"x", retain=True)
        peer.expect_nothing()


def test_retain_handling_1_knows_the_session(five):
    """A subscription that the session kept did exist; after an UNSUBSCRIBE it did not. [MQTT-3.3.1-10]"""
    from conformance.wire5 import unsuback, unsubscribe

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
    """A live message has RETAIN as published where the subscription asks for it, else 0. [MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
    peer = five.subscribed(("a", option(0, as_published=kept)))
    five.connected("p").say("a", b"x", retain=published)

    peer.hear("a", b"x", retain=published and kept)


@pytest.mark.parametrize("kept", [False, True])
def test_retain_as_published_for_who_is_away(five, kept):
    """The same for a message that waited. [MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
    five.kept("k", ("a", option(1, as_published=kept))).cut()
    five.connected("p").say("a", b"x", qos=1, retain=True)

    five.back("k").hear("a", b"x", qos=1, retain=kept)


@pytest.mark.parametrize("kept", [False, True])
def test_a_retained_message_says_so_to_new_subscribers(five, kept):
    """A retained message that answers a SUBSCRIBE has RETAIN 1 whatever Retain As Published. [MQTT-3.3.1-9]"""
    five.connected("p").say("a", b"x", retain=True)

    five.subscribed(("a", option(0, as_published=kept))).hear("a", b"x", retain=True)


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("said", [0, 1, 2])
def test_retained_messages_have_the_lower_qos(five, granted, said):
    """A retained message is delivered at the lower QoS, too. [MQTT-3.8.4-8] [MQTT-3.3.1-9]"""
    five.connected("p").say("a", b"x", qos=said, retain=True)

    five.subscribed(("a", granted)).hear("a", b"x", qos=min(granted, said), retain=True)


def test_retained_messages_of_a_wildcard(five):
    """Every retained message that matches is sent, each once. [MQTT-3.3.1-9] [MQTT-4.7.2-1]"""
    sender = five.connected("p")
    for topic in ("a", "a/b", "a/b/c", "b", "/a", "a/"):
        sender.say(topic, topic.encode(), retain=True)
    peer = five.subscribed(("a/#", 0))
    found = {message.topic for message in peer.messages(4)}

    assert {"a", "a/b", "a/b/c", "a/"} == found
    peer.expect_nothing()


# --- message expiry ---


@pytest.mark.parametrize("waited", [0, 3, 9])
def test_a_waiting_message_counts_its_expiry_down(world, five, waited):
    """The Message Expiry Interval that is delivered is what is left of it. [MQTT-3.3.2-6]"""
    five.kept("k", ("a", 1)).cut()
    five.connected("p", keep_alive=1000).say("a", b"x", qos=1, message_expiry_interval=10)
    world.pass_time(waited)
    got = five.back("k").take()

    assert 10 - waited == got.message_expiry_interval


def test_an_expired_message_is_not_delivered(world, five):
    """A message whose expiry has passed is deleted for who was away; others are not. [MQTT-3.3.2-5]"""
    five.kept("k", ("a", 1)).cut()
    sender = five.connected("p", keep_alive=1000)
    sender.say("a", b"short", qos=1, message_expiry_interval=10)
    sender.say("a", b"long", qos=1, packet_id=2, message_expiry_interval=1000)
    sender.say("a", b"never", qos=1, packet_id=3)
    world.pass_time(11)
    peer = five.back("k")

    assert (b"long", 989) == ((got := peer.take()).payload, got.message_expiry_interval)
    peer.send(puback(got.packet_id)).hear("a", b"never", qos=1)
    peer.expect_nothing()


def test_a_message_without_delay_keeps_its_expiry(five):
    """Delivered at once, the interval is what was sent, the largest too. [MQTT-3.3.2-6]"""
    peer = five.subscribed(("a", 0))
    sender = five.connected("p")
    for seconds in (1, 60, 0xFFFFFFFF):
        sender.say("a", b"x", message_expiry_interval=seconds)
        peer.hear("a", b"x", message_expiry_interval=seconds)


def test_a_retained_message_expires(world, five):
    """A retained message counts down, too, and is not sent when it has expired. [MQTT-3.3.2-5] [MQTT-3.3.2-6]"""
    five.connected("p").say("a", b"x", retain=True, message_expiry_interval=10)
    world.pass_time(4)
    five.subscribed(("a", 0)).hear("a", b"x", retain=True, message_expiry_interval=6)
    world.pass_time(7)

    five.subscribed(("a", 0), client_id="late").expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_waits_for_quota_expires(world, five, qos):
    """Who has no room gets no message whose expiry passed meanwhile. [MQTT-3.3.2-5] [MQTT-3.3.2-6]"""
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
    """Once delivery has begun expiry is not applied: the exchange is completed, and the PUBLISH sent again. [MQTT-4.3.3-7] [MQTT-4.3.3-13] [MQTT-4.4.0-1]"""
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
    """A publisher's QoS 2 exchange is completed although its message expired meanwhile. [MQTT-4.3.3-13]"""
    peer = five.connected("p", keep_alive=1000).send(publish("a", b"x", qos=2, message_expiry_interval=1))

    assert "PUBREC" == peer.take().kind
    world.pass_time(10)
    peer.send(pubrel(1)).expect(pubcomp(1))


def test_expiry_0_is_over_at_once(world, five):
    """An interval of 0 may reach who is here, never who is away. [MQTT-3.3.2-5]"""
    five.kept("k", ("a", 1)).cut()
    five.connected("p").say("a", b"x", qos=1, message_expiry_interval=0)
    world.pass_time(1)

    five.back("k").expect_nothing()


# --- subscription identifiers and overlap ---


@pytest.mark.sockets
def test_overlapping_subscriptions(five):
    """One copy at the highest QoS with the identifiers of all that match; those without have none. [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5] [MQTT-3.3.2-3]"""
    peer = five.connected("s")
    for number, (name, qos) in enumerate([("a/#", 0), ("a/+", 2), ("+/b", 1), ("c", 2)], start=1):
        peer.send(subscribe((name, qos), subscription_identifier=number, packet_id=number))
        peer.expect(suback(qos, packet_id=number))
    peer.send(subscribe(("#", 0))).expect(suback(0))
    five.connected("p").say("a/b", b"x", qos=2)

    peer.hear("a/b", b"x", qos=2, subscription_identifier=[1, 2, 3])
    peer.expect_nothing()


def test_the_same_identifier_may_stand_twice(five):
    """Two matching subscriptions of one SUBSCRIBE share its identifier. [MQTT-3.3.4-3] [MQTT-3.3.4-4]"""
    peer = five.connected("s").send(subscribe(("a", 0), ("+", 0), subscription_identifier=5)).expect(suback(0, 0))
    five.connected("p").say("a", b"x")

    assert {5} == set(peer.take().subscription_identifier)
    peer.expect_nothing()


def test_identifiers_with_retained_messages(five):
    """A retained message carries the identifier of the subscription that it answers. [MQTT-3.3.4-3]"""
    five.connected("p").say("a", b"x", retain=True)

    five.subscribed(("a", 0), identifier=9).hear("a", b"x", retain=True, subscription_identifier=[9])


def test_a_replaced_subscription_has_its_new_identifier(five):
    """The same filter again replaces options and identifier; without one, there is none. [MQTT-3.8.4-3] [MQTT-3.3.4-3]"""
    peer = five.subscribed(("a", 0), identifier=1)
    sender = five.connected("p")
    peer.send(subscribe(("a", 1), subscription_identifier=2)).expect(suback(1))
    sender.say("a", b"1", qos=1)
    peer.hear("a", b"1", qos=1, subscription_identifier=[2])
    peer.send(subscribe(("a", 0))).expect(suback(0))
    sender.say("a", b"2", qos=1)

    peer.hear("a", b"2")


def test_each_client_has_its_own_identifiers(five):
    """Identifiers are a client's own: nobody sees those of another. [MQTT-3.3.4-3]"""
    one, two = (five.subscribed(("a", 0), client_id=f"s{number}", identifier=number) for number in (1, 2))
    five.connected("p").say("a", b"x")

    one.hear("a", b"x", subscription_identifier=[1])
    two.hear("a", b"x", subscription_identifier=[2])


def test_a_client_may_not_send_an_identifier(five):
    """A Subscription Identifier in a client's PUBLISH is a Protocol Error. [MQTT-3.3.4-6] [MQTT-4.13.1-1]"""
    peer = five.connected().send(publish("a", b"x", subscription_identifier=1))

    peer.expect_closed(disconnect(0x82))


@pytest.mark.extra
def test_the_property_block_of_a_publish_may_be_empty():
    """The builders write a Property Length of 0 where nothing is said."""
    assert b"\x00" == properties()
