"""MQTT 5.0, sections 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE, and what they are answered."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import (
    disconnect,
    option,
    packet,
    properties,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)

EVERY_OPTION = [
    option(qos, no_local=local, as_published=kept, retain_handling=handling)
    for qos in (0, 1, 2)
    for local in (False, True)
    for kept in (False, True)
    for handling in (0, 1, 2)
]


@pytest.mark.parametrize("options", EVERY_OPTION)
def test_every_combination_of_options(five, options):
    """Each legal combination is granted at its QoS, and does what its bits say.

    [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT-3.8.3-3] [MQTT-3.8.4-1] [MQTT-3.8.4-7]
    """
    qos, no_local, as_published = options & 3, options & 4, bool(options & 8)
    five.connected("r").say("a", b"kept", qos=2, retain=True)
    peer = five.subscribed(("a", options))
    if options >> 4 < 2:
        peer.hear("a", b"kept", qos=qos, retain=True)
    peer.say("a", b"own")
    if not no_local:
        peer.hear("a", b"own")
    five.connected("p").say("a", b"x", qos=2, retain=True)

    peer.hear("a", b"x", qos=qos, retain=as_published)
    peer.expect_nothing()


@pytest.mark.parametrize("options", [0x03, 0x07, 0x30, 0x31, 0x40, 0x41, 0x80, 0xC2, 0xFF, 0x33])
def test_reserved_option_bits_are_malformed(five, options):
    """QoS 3, Retain Handling 3 and bits 6 and 7 make a SUBSCRIBE malformed [MQTT-3.8.3-5] [MQTT-4.13.1-1]."""
    five.connected().send(subscribe(("a", options))).expect_refused(0x81, 0x82)


BROKEN = {
    "no filter": packet(0x82, b"\0\1\0"),
    "empty": packet(0x82),
    "no options": packet(0x82, b"\0\1\0" + text("a")),
    "cut short": packet(0x82, b"\0\1\0\0\5ab"),
    "second without options": packet(0x82, b"\0\1\0" + text("a") + b"\0" + text("b")),
    "unsubscribe without filter": packet(0xA2, b"\0\1\0"),
    "unsubscribe empty": packet(0xA2),
    "unsubscribe cut short": packet(0xA2, b"\0\1\0\0\5ab"),
    "unsubscribe with options": packet(0xA2, b"\0\1\0" + text("a") + b"\0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_payload_is_refused(five, case):
    """At least one filter with its options; anything else costs the connection.

    [MQTT-3.8.3-2] [MQTT-3.10.3-2] [MQTT-4.13.1-1]
    """
    five.connected().send(BROKEN[case]).expect_refused(0x81, 0x82)


BAD_FILTERS = ["", "a/#/b", "a#", "#a", "a/b#", "+a", "a+", "a/+b", "a/b+/c", "##", "#/a", "a\0b"]


@pytest.mark.parametrize("name", BAD_FILTERS)
def test_a_filter_that_is_none_is_refused(five, name):
    """A bad filter is answered 0x8F or costs the connection; it never subscribes.

    [MQTT-3.8.3-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
    """
    peer = five.connected().send(subscribe((name, 0)))
    got = peer.take()

    assert (got.kind, got.code, got.codes) in {
        ("SUBACK", 0, (0x8F,)),
        *(("DISCONNECT", code, ()) for code in (0x81, 0x82, 0x8F)),
    }
    if got.kind == "DISCONNECT":
        peer.peer.expect_closed()


@pytest.mark.parametrize("name", [name for name in BAD_FILTERS if name not in {"", "a\0b"}])
def test_unsubscribing_from_a_filter_that_is_none(five, name):
    """A bad filter in UNSUBSCRIBE is answered 0x11 or 0x8F, or costs the connection [MQTT-3.10.3-1] [MQTT-3.11.3-2]."""
    peer = five.connected().send(unsubscribe(name))
    got = peer.take()

    assert got.kind == "DISCONNECT" or got.codes[0] in {0x11, 0x8F}
    if got.kind == "DISCONNECT":
        peer.peer.expect_closed()


@pytest.mark.sockets
def test_several_filters_have_several_codes(five):
    """One SUBACK with a code per filter, in their order.

    [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1]
    [MQTT-3.9.3-2]
    """
    filters = [("a", 2), ("b/#", 0), ("c/+", 1), ("a", 0), ("#", 1)]

    five.connected().send(subscribe(*filters, packet_id=77)).expect(suback(2, 0, 1, 0, 1, packet_id=77))


def test_a_denied_filter_among_others(world, five):
    """A filter that is denied gets 0x87, the others are granted.

    [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
    """
    world.network.gate.denied = {("subscribe", "no")}
    peer = five.connected().send(subscribe(("a", 1), ("no", 1), ("b", 2))).expect(suback(1, 0x87, 2))
    sender = five.connected("p")
    for topic in ("a", "no", "b"):
        sender.say(topic, topic.encode())

    peer.hear("a", b"a")
    peer.hear("b", b"b")
    peer.expect_nothing()


@pytest.mark.limits(filters_max=3)
def test_too_many_filters_are_refused_by_code(five):
    """What is over the server's limit of filters gets 0x97; the rest works [MQTT-3.8.4-7] [MQTT-3.9.3-2]."""
    filters = [(f"f/{number}", 1) for number in range(5)]

    five.connected().send(subscribe(*filters)).expect(suback(1, 1, 1, 0x97, 0x97)).expect_nothing()


@pytest.mark.sockets
def test_the_same_filter_replaces(five):
    """The same filter again replaces the subscription: one copy, at the new QoS; nothing is lost meanwhile.

    [MQTT-3.8.4-3] [MQTT-3.8.4-4] [MQTT-3.8.4-8]
    """
    peer = five.subscribed(("a", 0))
    sender = five.connected("p")
    sender.say("a", b"1", qos=2)
    peer.send(subscribe(("a", 2))).peer.take()
    peer.peer.take()
    sender.say("a", b"2", qos=2)

    peer.hear("a", b"2", qos=2)
    peer.send(subscribe(("a", 1))).expect(suback(1))
    sender.say("a", b"3", qos=2)
    peer.hear("a", b"3", qos=1)
    peer.expect_nothing()


def test_a_replacement_loses_nothing_in_flight(five):
    """What waits for a client stays with it when its subscription is replaced [MQTT-3.8.4-4] [MQTT-3.10.4-3]."""
    peer = five.subscribed(("a", 1), receive_maximum=1)
    sender = five.connected("p").say("a", b"1", qos=1).say("a", b"2", qos=1)
    peer.send(subscribe(("a", option(0))))
    number = peer.hear("a", b"1", qos=1, answers=False).packet_id
    peer.expect(suback(0)).send(puback(number))

    assert b"2" == peer.take().payload
    sender.expect_nothing()


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_no_local(five, qos):
    """With No Local a client does not get its own messages; others do [MQTT-3.8.3-3]."""
    peer = five.subscribed(("a", option(qos, no_local=True)))
    other = five.subscribed(("a", qos), client_id="o")
    peer.say("a", b"own", qos=qos)

    other.hear("a", b"own", qos=qos)
    peer.expect_nothing()
    other.say("a", b"x", qos=qos)
    other.hear("a", b"x", qos=qos)
    peer.hear("a", b"x", qos=qos)


def test_no_local_and_an_overlapping_subscription(five):
    """Where another subscription of the client matches without No Local, the message comes by that one.

    [MQTT-3.3.4-2] [MQTT-3.8.3-3]
    """
    peer = five.connected("s")
    peer.send(subscribe(("a", option(2, no_local=True)), subscription_identifier=1)).expect(suback(2))
    peer.send(subscribe(("+", 1), subscription_identifier=2)).expect(suback(1))
    peer.say("a", b"own", qos=2)

    peer.hear("a", b"own", qos=1, subscription_identifier=[2])
    peer.expect_nothing()


def test_no_local_is_about_the_client_id(five):
    """A message that a client published on its earlier connection is its own all the same [MQTT-3.8.3-3]."""
    peer = five.kept("k").send(subscribe(("a", option(1, no_local=True)))).expect(suback(1))
    peer.say("a", b"own", qos=1)
    peer.cut()
    five.connected("p").say("a", b"other", qos=1)
    peer = five.back("k")

    peer.hear("a", b"other", qos=1)
    peer.expect_nothing()


def test_an_own_retained_message_comes_with_no_local(five):
    """An own retained message may be sent or left out with No Local, as it is stored and not forwarded; others get it.

    [MQTT-3.3.1-9]
    """
    peer = (
        five.connected("s")
        .say("a", b"own", retain=True)
        .send(subscribe(("a", option(0, no_local=True))))
        .expect(suback(0))
    )
    peer.peer.gather()

    assert peer.peer._unread in {b"", publish("a", b"own", retain=True)}
    peer.peer._unread = b""
    five.subscribed(("a", 0), client_id="o").hear("a", b"own", retain=True)


# --- UNSUBSCRIBE ---


@pytest.mark.sockets
def test_unsuback_has_a_code_for_each_filter(five):
    """0x00 where a subscription was deleted, 0x11 where there was none, in the order of the filters.

    [MQTT-2.2.1-6] [MQTT-3.10.4-1] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
    """
    peer = five.subscribed(("a", 0), ("b/+", 0), ("#", 0))
    request = unsubscribe("x", "a", "b/+", "a", "b/#", packet_id=500)

    peer.send(request).expect(unsuback(0x11, 0, 0, 0x11, 0x11, packet_id=500))
    five.connected("p").say("a", b"x")
    peer.hear("a", b"x")
    peer.expect_nothing()


@pytest.mark.parametrize(
    ("name", "other"), [("a/+", "a/b"), ("a/b", "a/+"), ("#", "a"), ("a", "A"), ("a/", "a"), ("/a", "a")]
)
def test_filters_are_compared_character_by_character(five, name, other):
    """Only the very same filter is deleted [MQTT-3.10.4-1] [MQTT-4.7.3-4]."""
    five.subscribed((name, 0)).send(unsubscribe(other)).expect(unsuback(0x11)).send(unsubscribe(name)).expect(
        unsuback(0)
    )


def test_user_properties_in_subscribe_and_unsubscribe(five):
    """They are allowed and change nothing [MQTT-3.8.4-1] [MQTT-3.10.4-4]."""
    pairs = {"user_property": [("n", "v"), ("n", "v")]}
    peer = five.connected().send(subscribe(("a", 1), **pairs)).expect(suback(1))

    peer.send(unsubscribe("a", **pairs)).expect(unsuback(0))


@pytest.mark.sockets
def test_after_unsubscribe_nothing_new_comes(five):
    """After UNSUBACK no new message is added [MQTT-3.10.4-2] [MQTT-3.10.4-4]."""
    peer = five.subscribed(("a", 2)).send(unsubscribe("a")).expect(unsuback(0))
    five.connected("p").say("a", b"x", qos=2)

    peer.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_has_begun_is_completed_after_unsubscribe(five, qos):
    """Deliveries in flight go on to their end [MQTT-3.10.4-3]."""
    peer = five.kept("k", ("a", qos))
    five.connected("p").say("a", b"x", qos=qos)
    number = peer.hear("a", b"x", qos=qos, answers=False).packet_id
    peer.send(unsubscribe("a")).expect(unsuback(0))
    peer.cut()
    peer = five.back("k")

    assert number == peer.hear("a", b"x", qos=qos, dup=True).packet_id
    peer.expect_nothing()


def test_one_of_two_overlapping_subscriptions_is_given_up(five):
    """The other one goes on, with its own QoS and identifier [MQTT-3.3.4-3] [MQTT-3.10.4-1]."""
    peer = five.connected("s")
    peer.send(subscribe(("a/#", 2), subscription_identifier=1)).expect(suback(2))
    peer.send(subscribe(("a/b", 1), subscription_identifier=2)).expect(suback(1)).send(unsubscribe("a/#")).expect(
        unsuback(0)
    )
    five.connected("p").say("a/b", b"x", qos=2)

    peer.hear("a/b", b"x", qos=1, subscription_identifier=[2])


def test_an_answer_is_never_held_back(five):
    """SUBACK, UNSUBACK, PUBACK, PUBCOMP and PINGRESP come although the client's quota is used up.

    [MQTT-3.3.4-10] [MQTT-4.9.0-3]
    """
    peer = five.subscribed(("a", 2), receive_maximum=1)
    five.connected("p").say("a", b"1", qos=2).say("a", b"2", qos=2)
    number = peer.hear("a", b"1", qos=2, answers=False).packet_id
    peer.send(subscribe(("b", 0), packet_id=2)).expect(suback(0, packet_id=2))
    peer.send(unsubscribe("b", packet_id=3)).expect(unsuback(0, packet_id=3))
    peer.say("c", b"x", qos=1, packet_id=4).say("c", b"x", qos=2, packet_id=5).expect_nothing()

    peer.send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number))
    peer.hear("a", b"2", qos=2)


@pytest.mark.extra
def test_the_filter_root_of_messaging_is_nobodys(five):
    """A property block that says nothing is one byte; a SUBSCRIBE with it is a plain one."""
    assert b"\0" == properties()
    five.connected().send(packet(0x82, b"\0\1\0" + text("a") + b"\0")).expect(suback(0)).send(
        disconnect()
    ).expect_closed()
