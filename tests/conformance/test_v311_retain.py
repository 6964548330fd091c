"""MQTT 3.1.1, section 3.3.1.3: retained messages."""

from __future__ import annotations

import pytest

from conformance.wire311 import puback, pubcomp, publish, pubrec, pubrel, suback, subscribe

pytestmark = pytest.mark.sockets


def keep(world, topic, payload, qos=0):
    """Publish a retained message from a client that leaves."""
    sender = world.connected("keeper").send(publish(topic, payload, qos=qos, packet_id=3, retain=True))
    if qos == 1:
        sender.expect(puback(3))
    if qos == 2:
        sender.expect(pubrec(3)).send(pubrel(3)).expect(pubcomp(3))
    sender.leave()


@pytest.mark.parametrize("sent", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_new_subscription_gets_what_is_retained(world, sent, granted):
    """A retained message is kept with its QoS; who subscribes later gets it with RETAIN 1, at the lower QoS.

    [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [MQTT-3.8.4-6]
    """
    keep(world, "a", b"kept", sent)
    late = world.connected("late").send(subscribe(("a", granted))).expect(suback(granted))
    if min(sent, granted):
        late.expect_publish("a", b"kept", qos=min(sent, granted), retain=True)
    else:
        late.expect(b"\x31\x07\x00\x01akept")

    late.expect_nothing()


def test_who_is_subscribed_already_sees_retain_0(world):
    """An established subscription gets the message with RETAIN 0, as one among others [MQTT-3.3.1-9]."""
    receiver = world.subscribed(("a", 0))
    keep(world, "a", b"x", 1)

    receiver.expect(b"\x30\x04\x00\x01ax").expect_nothing()


def test_the_last_retained_message_counts(world):
    """Of several retained messages of a topic the last is kept, whatever its QoS [MQTT-3.3.1-6] [MQTT-3.3.1-7]."""
    keep(world, "a", b"1", 2)
    keep(world, "a", b"2", 0)
    keep(world, "b", b"3", 0)
    keep(world, "b", b"4", 1)
    late = world.connected("late").send(subscribe(("a", 2))).expect(suback(2))
    late.expect(publish("a", b"2", retain=True))
    late.send(subscribe(("b", 2), packet_id=2)).expect(suback(2, packet_id=2))

    late.send(puback(late.expect_publish("b", b"4", qos=1, retain=True))).expect_nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_clears(world, qos):
    """An empty message with RETAIN 1 is delivered as any other, removes what was retained, and is not kept itself.

    [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    """
    keep(world, "a", b"kept")
    receiver = world.subscribed(("a", 0), client_id="r").expect(publish("a", b"kept", retain=True))
    keep(world, "a", b"", qos)
    receiver.expect(b"\x30\x03\x00\x01a").expect_nothing()

    world.connected("late").send(subscribe(("a", 0), ("#", 0))).expect(suback(0, 0)).expect_nothing()


def test_an_empty_retained_message_of_a_topic_without_one(world):
    """Clearing where nothing is retained is a message like any other [MQTT-3.3.1-10] [MQTT-3.3.1-11]."""
    receiver = world.subscribed(("a", 0))
    keep(world, "a", b"", 1)

    receiver.expect(publish("a")).expect_nothing()


@pytest.mark.parametrize("payload", [b"", b"new"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_without_retain_changes_nothing(world, payload, qos):
    """With RETAIN 0 a message, empty or not, neither is kept nor removes what is [MQTT-3.3.1-12]."""
    keep(world, "a", b"kept")
    sender = world.connected("p").send(publish("a", payload, qos=qos), publish("b", b"never", qos=qos, packet_id=2))
    if qos:
        sender.expect(*((puback if qos == 1 else pubrec)(number) for number in (1, 2)))
    late = world.connected("late").send(subscribe(("a", 0), ("b", 0))).expect(suback(0, 0))

    late.expect(publish("a", b"kept", retain=True)).expect_nothing()


def test_a_filter_gets_every_topic_that_it_matches(world):
    """A filter with wildcards gets the retained message of each topic that it matches, and of no other.

    [MQTT-3.3.1-6] [MQTT-3.3.2-3]
    """
    for topic in ("a", "a/b", "a/c", "a/b/c", "b", "/a"):
        keep(world, topic, topic.encode())
    for name, topics in (
        ("a/+", ["a/b", "a/c"]),
        ("a/#", ["a", "a/b", "a/c", "a/b/c"]),
        ("#", ["a", "a/b", "a/c", "a/b/c", "b", "/a"]),
        ("+", ["a", "b"]),
        ("+/+", ["a/b", "a/c", "/a"]),
        ("+/a", ["/a"]),
        ("c/#", []),
    ):
        late = world.connected(name).send(subscribe((name, 0))).expect(suback(0))
        late.expect_any_order(*(publish(topic, topic.encode(), retain=True) for topic in topics)).expect_nothing()
        late.leave()


def test_filters_of_one_packet_are_as_good_as_packets_of_their_own(world):
    """Two filters of one SUBSCRIBE that match the same topic get what is retained once each, at their own QoS.

    [MQTT-3.8.4-4] [MQTT-3.3.1-6]
    """
    keep(world, "a/b", b"kept", 1)
    late = world.connected("late").send(subscribe(("a/b", 0), ("a/+", 1))).expect(suback(0, 1))
    late.expect(publish("a/b", b"kept", retain=True))

    late.send(puback(late.expect_publish("a/b", b"kept", qos=1, retain=True))).expect_nothing()


def test_a_reconnect_is_no_new_subscription(world):
    """A client that comes back to its session does not get what is retained again [MQTT-3.3.1-6]."""
    keep(world, "a", b"kept")
    world.subscribed(("a", 0), clean=False).expect(publish("a", b"kept", retain=True)).leave()

    world.connected("s", clean=False, resumed=True).expect_nothing()


def test_a_retained_message_sent_again_keeps_retain(world):
    """What came with RETAIN 1 and was not acknowledged comes again with RETAIN 1 and DUP 1.

    [MQTT-3.3.1-8] [MQTT-3.3.1-1]
    """
    keep(world, "a", b"kept", 1)
    late = world.subscribed(("a", 1), clean=False)
    number = late.expect_publish("a", b"kept", qos=1, retain=True)
    late.cut()
    late = world.connected("s", clean=False, resumed=True)

    late.expect(publish("a", b"kept", qos=1, packet_id=number, retain=True, dup=True)).send(puback(number))


def test_what_waited_comes_with_retain_0(world):
    """A retained message that came while a subscribed client was away is for it a message like others.

    [MQTT-3.3.1-9]
    """
    world.subscribed(("a", 1), clean=False).leave()
    keep(world, "a", b"x", 1)
    late = world.connected("s", clean=False, resumed=True)

    late.send(puback(late.expect_publish("a", b"x", qos=1, retain=False))).expect_nothing()


def test_the_publisher_may_subscribe_itself(world):
    """Who published a retained message gets it with RETAIN 1 when he subscribes afterwards [MQTT-3.3.1-8]."""
    peer = world.connected("p").send(publish("a", b"x", retain=True), subscribe(("a", 0)))

    peer.expect(suback(0), publish("a", b"x", retain=True)).expect_nothing()
