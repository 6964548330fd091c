"""MQTT 5.0, section 4.8.2: shared subscriptions."""

from __future__ import annotations

import pytest

from conformance.wire311 import suback as suback4
from conformance.wire311 import subscribe as subscribe4
from mesimqtt.testing.wire5 import (
    disconnect,
    option,
    puback,
    pubcomp,
    pubrec,
    pubrel,
    suback,
    subscribe,
    unsuback,
    unsubscribe,
)

GROUP = "$share/g/a"


def publish_many(five, count, qos=0, topic="a", start=0):
    """Publish numbered messages."""
    sender = five.connected("p")
    for number in range(start, start + count):
        sender.say(topic, b"%d" % number, qos=qos, packet_id=number + 1)
    five.world.settle()
    return sender


def drain(peer):
    """Return all messages that are there, acknowledged."""
    peer.peer.gather()
    found = []
    while peer.peer._unread:
        found.append(peer.take())
        if found[-1].qos == 1:
            peer.send(puback(found[-1].packet_id))
        elif found[-1].qos == 2:
            number = found[-1].packet_id
            assert ("PUBREL", number) == ((got := peer.send(pubrec(number)).answer()).kind, got.packet_id)
            peer.send(pubcomp(number))
    return found


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_message_goes_to_one_member(five, qos, count):
    """Every message reaches exactly one of the members, and all members get some.

    [MQTT-4.8.2-1] [MQTT-4.8.2-2] [MQTT-4.8.2-3]
    """
    members = [five.subscribed((GROUP, qos), client_id=f"m{number}") for number in range(count)]
    publish_many(five, 12, qos)
    found = [drain(member) for member in members]

    assert [b"%d" % number for number in range(12)] == sorted((m.payload for got in found for m in got), key=int)
    assert all(found)
    assert {qos} == {message.qos for got in found for message in got}


def test_groups_and_plain_subscriptions_are_independent(five):
    """Two share names are two subscriptions, and each plain subscriber has its own copy.

    [MQTT-3.3.2-3] [MQTT-4.8.2-1]
    """
    one = [five.subscribed(("$share/one/a", 0), client_id=f"o{number}") for number in range(2)]
    two = [five.subscribed(("$share/two/a", 0), client_id=f"t{number}") for number in range(2)]
    plain = five.subscribed(("a", 0), client_id="plain")
    publish_many(five, 10)

    assert [10, 10, 10] == [sum(len(drain(member)) for member in group) for group in (one, two, [plain])]


def test_a_member_may_subscribe_plainly_too(five):
    """A client with a plain and a shared subscription gets the message for each [MQTT-3.8.4-3] [MQTT-4.8.2-1]."""
    peer = five.connected("s")
    peer.send(subscribe(("a", 0), subscription_identifier=1)).expect(suback(0))
    peer.send(subscribe((GROUP, 0), subscription_identifier=2)).expect(suback(0))
    publish_many(five, 1)

    seen = [identifier for message in drain(peer) for identifier in message.subscription_identifier]
    assert [1, 2] == sorted(seen)


@pytest.mark.parametrize("name", ["a/+/c", "a/#", "#", "+/b/c", "a/b/c"])
def test_a_share_may_have_wildcards(five, name):
    """The filter behind the share name is an ordinary one [MQTT-3.3.2-3] [MQTT-4.8.2-2]."""
    members = [five.subscribed((f"$share/g/{name}", 0), client_id=f"m{number}") for number in range(2)]
    publish_many(five, 4, topic="a/b/c")
    five.connected("q").say("$x/b", b"hidden")

    assert [2, 2] == [len(drain(member)) for member in members]


def test_a_filter_may_begin_with_a_slash_or_dollar(five):
    """Behind the share name an empty first level and a $ topic are legal [MQTT-4.7.2-1] [MQTT-4.8.2-2]."""
    peer = five.subscribed(("$share/g//a", 0))
    publish_many(five, 1, topic="/a")

    assert ["/a"] == [message.topic for message in drain(peer)]


@pytest.mark.parametrize(
    "name",
    [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/#/a",
        "$share/g+/a",
        "$share/a#/b",
        "$share/#",
    ],
)
def test_a_share_that_is_none_is_refused(five, name):
    """A share name of no characters, with wildcards, or without a filter is refused [MQTT-4.8.2-1] [MQTT-4.8.2-2]."""
    peer = five.connected().send(subscribe((name, 0)))
    got = peer.take()

    assert (got.kind, got.codes) == ("SUBACK", (0x8F,)) or (got.kind, got.code) in {
        ("DISCONNECT", code) for code in (0x81, 0x82, 0x8F)
    }
    if got.kind == "DISCONNECT":
        peer.peer.expect_closed()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_no_local_on_a_share_is_a_protocol_error(five, qos):
    """No Local on a shared subscription costs the connection [MQTT-3.8.3-4] [MQTT-4.13.1-1]."""
    five.connected().send(subscribe((GROUP, option(qos, no_local=True)))).expect_closed(disconnect(0x82))


@pytest.mark.parametrize("handling", [0, 1, 2])
def test_retained_messages_are_not_for_shares(five, handling):
    """A new shared subscription gets no retained messages, whatever Retain Handling [MQTT-3.3.1-9] [MQTT-4.8.2-1]."""
    five.connected("p").say("a", b"x", retain=True)

    five.subscribed((GROUP, option(0, retain_handling=handling))).expect_nothing()


def test_a_share_keeps_properties_and_options(five):
    """Identifier, properties and Retain As Published are those of the member.

    [MQTT-3.3.1-13] [MQTT-3.3.2-17] [MQTT-3.3.4-3]
    """
    peer = five.subscribed((GROUP, option(1, as_published=True)), identifier=7)
    five.connected("p").say("a", b"x", qos=1, retain=True, user_property=[("n", "v")])

    peer.hear("a", b"x", qos=1, retain=True, subscription_identifier=[7], user_property=[("n", "v")])


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("said", [0, 1, 2])
def test_a_share_delivers_at_the_members_qos(five, granted, said):
    """Each member gets its messages at the QoS that it was granted, at most [MQTT-3.8.4-8] [MQTT-4.8.2-3]."""
    peer = five.subscribed((GROUP, granted))
    publish_many(five, 3, said)

    assert [min(granted, said)] * 3 == [message.qos for message in drain(peer)]


def test_who_is_away_gets_nothing_while_another_is_here(five):
    """A member without a connection is passed over while another one is connected [MQTT-4.5.0-1] [MQTT-4.8.2-1]."""
    five.kept("away", (GROUP, 1)).cut()
    here = five.subscribed((GROUP, 1), client_id="here")
    publish_many(five, 10, 1)

    assert 10 == len(drain(here))
    five.back("away").expect_nothing()


def test_nobody_is_here(five):
    """What comes while every member is away waits for one of them, once [MQTT-4.5.0-1]."""
    for name in ("one", "two"):
        five.kept(name, (GROUP, 1)).cut()
    publish_many(five, 6, 1)
    found = [message.payload for name in ("one", "two") for message in drain(five.back(name))]

    assert [b"%d" % number for number in range(6)] == sorted(found)


def test_unsubscribe_leaves_the_group(five):
    """Who unsubscribes with the whole filter is no member any more; the others get all.

    [MQTT-3.10.4-1] [MQTT-3.11.3-2]
    """
    one, two = (five.subscribed((GROUP, 0), client_id=f"m{number}") for number in range(2))
    one.send(unsubscribe("a", "$share/other/a", GROUP, GROUP)).expect(unsuback(0x11, 0x11, 0, 0x11))
    publish_many(five, 6)

    assert [0, 6] == [len(drain(peer)) for peer in (one, two)]


def test_who_leaves_gets_no_more(five):
    """A member whose session ended is no member any more [MQTT-4.1.0-2] [MQTT-4.8.2-1]."""
    one, two = (five.subscribed((GROUP, 1), client_id=f"m{number}") for number in range(2))
    one.cut()
    publish_many(five, 6, 1)

    assert 6 == len(drain(two))


def test_unacknowledged_qos_1_goes_to_another_member(five):
    """What a member had not acknowledged when its session ended is sent to another one.

    [MQTT-4.3.2-3] [MQTT-4.8.2-3]
    """
    one = five.subscribed((GROUP, 1), client_id="one")
    publish_many(five, 4, 1)
    first = one.messages(4)
    one.send(puback(first[0].packet_id))
    two = five.subscribed((GROUP, 1), client_id="two")
    one.cut()
    found = drain(two)

    assert [b"1", b"2", b"3"] == sorted(message.payload for message in found)


def test_qos_1_of_a_kept_session_is_not_lost(world, five):
    """A kept session's unacknowledged messages go to another member when that session ends; never nowhere.

    [MQTT-4.1.0-2] [MQTT-4.4.0-1] [MQTT-4.8.2-3]
    """
    one = five.kept("one", (GROUP, 1), expiry=10)
    publish_many(five, 3, 1)
    one.messages(3)
    two = five.subscribed((GROUP, 1), client_id="two", keep_alive=1000)
    one.cut()
    world.pass_time(12)
    found = {message.payload for message in drain(two)}

    assert {b"0", b"1", b"2"} == found


def test_qos_2_is_completed_with_its_member(five):
    """A QoS 2 delivery that broke off is completed with the same client [MQTT-4.4.0-1] [MQTT-4.8.2-4]."""
    one = five.kept("one", (GROUP, 2))
    publish_many(five, 2, 2)
    first, second = one.messages(2)
    one.send(pubrec(second.packet_id)).expect(pubrel(second.packet_id))
    two = five.subscribed((GROUP, 2), client_id="two")
    one.cut()
    two.expect_nothing()
    one = five.back("one")
    got = {packet.kind: packet for packet in (one.take(), one.take())}

    assert (first.packet_id, True) == (got["PUBLISH"].packet_id, got["PUBLISH"].dup)
    assert second.packet_id == got["PUBREL"].packet_id
    one.send(pubrec(first.packet_id)).expect(pubrel(first.packet_id))
    one.send(pubcomp(first.packet_id), pubcomp(second.packet_id)).expect_nothing()


def test_qos_2_never_goes_to_another_member(world, five):
    """A QoS 2 delivery whose member's session ended is sent to nobody else [MQTT-4.8.2-5]."""
    one, three = five.kept("one", (GROUP, 2), expiry=5), None
    publish_many(five, 2, 2)
    first, _ = one.messages(2)
    one.send(pubrec(first.packet_id)).expect(pubrel(first.packet_id))
    two = five.subscribed((GROUP, 2), client_id="two", keep_alive=1000)
    one.cut()
    world.pass_time(6)
    two.expect_nothing()
    three = five.subscribed((GROUP, 2), client_id="three")
    three.send(unsubscribe(GROUP)).expect(unsuback(0))

    two.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_delivery_goes_to_nobody(five, qos):
    """A member that refuses a message has it discarded, not passed on [MQTT-4.4.0-2] [MQTT-4.8.2-6]."""
    one = five.kept("one", (GROUP, qos))
    publish_many(five, 1, qos)
    number = one.take().packet_id
    two = five.subscribed((GROUP, qos), client_id="two")
    one.send((puback if qos == 1 else pubrec)(number, 0x83)).expect_nothing()
    one.cut()

    two.expect_nothing()
    five.back("one").expect_nothing()


def test_members_with_room_come_first(five):
    """A member whose window is full is passed over while another one has room [MQTT-3.3.4-9] [MQTT-4.9.0-2]."""
    slow = five.subscribed((GROUP, 1), client_id="slow", receive_maximum=1)
    quick = five.subscribed((GROUP, 1), client_id="quick")
    publish_many(five, 10, 1)
    slow.peer.gather()

    assert 9 == len(drain(quick))
    assert 1 == len(drain(slow))


@pytest.mark.sockets
def test_3_1_1_clients_share_too(five):
    """Members of both versions are one group [MQTT-4.8.2-1] [MQTT-4.8.2-3]."""
    old = five.world.connected("old").send(subscribe4((GROUP, 1))).expect(suback4(1))
    new = five.subscribed((GROUP, 1), client_id="new")
    publish_many(five, 6, 1)
    got = drain(new)
    old.gather()

    assert 3 == len(got)
    assert 3 == old._unread.count(b"\x00\x01a")
    old._unread = b""


def test_a_share_survives_a_reconnect(five):
    """A shared subscription belongs to the session, like any other [MQTT-3.1.2-5] [MQTT-4.5.0-1]."""
    five.kept("one", (GROUP, 1)).cut()
    one = five.back("one")
    publish_many(five, 3, 1)

    assert 3 == len(drain(one))


def test_a_message_keeps_its_order_within_a_member(five):
    """One member alone gets everything in order [MQTT-4.6.0-5]."""
    peer = five.subscribed((GROUP, 1))
    publish_many(five, 20, 1)

    assert [b"%d" % number for number in range(20)] == [message.payload for message in drain(peer)]
