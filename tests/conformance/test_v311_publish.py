"""MQTT 3.1.1, sections 3.3 and 4.5: PUBLISH in, and PUBLISH out."""

from __future__ import annotations

import itertools

import pytest

from conformance.wire311 import puback, pubcomp, publish, pubrec, pubrel, suback, subscribe

pytestmark = pytest.mark.sockets


def acknowledge(peer, got, qos):
    """Answer a PUBLISH that was received, to the end of its exchange."""
    if qos == 1:
        peer.send(puback(got))
    if qos == 2:
        peer.send(pubrec(got)).expect(pubrel(got))
        peer.send(pubcomp(got))


def say(peer, topic, payload=b"", *, qos=0, packet_id=1, **flags):
    """Publish from a client that gets nothing itself, to the end of the exchange (Table 3.4)."""
    peer.send(publish(topic, payload, qos=qos, packet_id=packet_id, **flags))
    if qos == 1:
        peer.expect(puback(packet_id))
    if qos == 2:
        peer.expect(pubrec(packet_id))
        peer.send(pubrel(packet_id)).expect(pubcomp(packet_id))


@pytest.mark.parametrize(
    ("sent", "granted", "retain", "dup"),
    [case for case in itertools.product((0, 1, 2), (0, 1, 2), (False, True), (False, True)) if case[0] or not case[3]],
)
def test_every_qos_retain_and_dup(world, sent, granted, retain, dup):
    """A message comes at the lower of its own and the granted QoS, with DUP 0 and RETAIN 0; Table 3.4 answers it.

    [MQTT-3.3.4-1] [MQTT-3.8.4-6] [MQTT-3.3.1-3] [MQTT-3.3.1-9] [MQTT-3.3.1-2] [MQTT-4.3.1-1] [MQTT-4.3.2-1]
    [MQTT-4.3.3-1] [MQTT-2.3.1-5]
    """
    receiver = world.subscribed(("a/b", granted))
    say(world.connected("p"), "a/b", b"payload", qos=sent, packet_id=9, retain=retain, dup=dup)
    qos = min(sent, granted)
    if qos:
        acknowledge(receiver, receiver.expect_publish("a/b", b"payload", qos=qos), qos)
    else:
        receiver.expect(b"\x30\x0c\x00\x03a/bpayload")

    receiver.expect_nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff\xfe", bytes(range(256)), b"x" * 65_536], ids=len)
def test_a_payload_is_opaque(world, qos, payload):
    """A payload of any bytes, or none, comes as it was sent [MQTT-3.3.4-1] [MQTT-4.5.0-1]."""
    receiver = world.subscribed(("a", qos))
    say(world.connected("p"), "a", payload, qos=qos)
    if qos:
        acknowledge(receiver, receiver.expect_publish("a", payload, qos=qos), qos)
    else:
        receiver.expect(publish("a", payload))

    receiver.expect_nothing()


@pytest.mark.parametrize("topic", ["+", "#", "a/+", "a/#", "a+", "a#b", "/+/", "$SYS/#"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_topic_name_with_a_wildcard_closes(world, topic, qos):
    """A topic name never holds `+` or `#` [MQTT-3.3.2-2] [MQTT-4.7.1-1]."""
    watcher = world.subscribed(("#", 0))
    world.connected("p").send(publish(topic, qos=qos)).expect_closed()

    watcher.expect_nothing()


def test_a_message_goes_to_everyone_who_matches(world):
    """Each client with a matching subscription gets the message, with its full topic name, others do not.

    [MQTT-4.5.0-1] [MQTT-3.3.2-3] [MQTT-3.3.2-1]
    """
    matching = [world.subscribed((name, 0), client_id=name) for name in ("a/b/c", "a/+/c", "a/#", "#", "+/b/+")]
    others = [world.subscribed((name, 0), client_id=name) for name in ("a/b", "a/b/c/d", "a/+", "b/#", "+/+")]
    world.connected("p").send(publish("a/b/c", b"x"))

    for peer in matching:
        peer.expect(publish("a/b/c", b"x"))
    for peer in others:
        peer.expect_nothing()


def test_a_publisher_that_subscribed_gets_its_own(world):
    """A client gets what it publishes itself, if it subscribed [MQTT-4.5.0-1]."""
    peer = world.subscribed(("a", 0))

    peer.send(publish("a", b"x")).expect(publish("a", b"x"))


@pytest.mark.parametrize("order", list(itertools.permutations([("a/b", 0), ("a/+", 2), ("#", 1)])))
def test_overlapping_subscriptions_deliver_at_the_highest_qos(world, order):
    """A message that several filters of a client match comes once, at the highest QoS granted [MQTT-3.3.5-1]."""
    receiver = world.subscribed(*order)
    say(world.connected("p"), "a/b", b"x", qos=2)
    acknowledge(receiver, receiver.expect_publish("a/b", b"x", qos=2), 2)

    receiver.expect_nothing()


def test_the_highest_qos_ends_with_its_subscription(world):
    """Without the filter of the highest QoS the next highest counts [MQTT-3.3.5-1] [MQTT-3.10.4-2]."""
    receiver = world.subscribed(("a/b", 0), ("a/+", 2), ("#", 1))
    sender = world.connected("p")
    receiver.send(b"\xa2\x07\x00\x05\x00\x03a/+").expect(b"\xb0\x02\x00\x05")
    say(sender, "a/b", b"1", qos=2)
    acknowledge(receiver, receiver.expect_publish("a/b", b"1", qos=1), 1)
    receiver.send(b"\xa2\x05\x00\x06\x00\x01#").expect(b"\xb0\x02\x00\x06")
    say(sender, "a/b", b"2", qos=2)

    receiver.expect(publish("a/b", b"2")).expect_nothing()


def test_messages_of_a_topic_keep_their_order(world):
    """Messages of one client on one topic come in its order, at each QoS [MQTT-4.6.0-5] [MQTT-4.6.0-6]."""
    receivers = [world.subscribed(("a", qos), client_id=f"s{qos}") for qos in (0, 1, 2)]
    sender = world.connected("p")
    for number in range(40):
        sender.send(publish("a", b"%d" % number, qos=2, packet_id=number + 1))
    sender.expect(*(pubrec(number + 1) for number in range(40)))
    sender.send(*(pubrel(number + 1) for number in range(40))).expect(*(pubcomp(number + 1) for number in range(40)))

    receivers[0].expect(*(publish("a", b"%d" % number) for number in range(40)))
    for qos in (1, 2):
        numbers = [receivers[qos].expect_publish("a", b"%d" % number, qos=qos) for number in range(40)]
        assert 40 == len(set(numbers))
        for number in numbers:
            acknowledge(receivers[qos], number, qos)


def test_what_was_answered_at_qos_0_is_nothing(world):
    """A PUBLISH at QoS 0 is not answered, also if nobody receives it [MQTT-3.3.4-1]."""
    world.connected("p").send(publish("nobody", b"x")).expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_nobody_wants_is_answered(world, qos):
    """A PUBLISH at QoS 1 or 2 is acknowledged also if nobody receives it [MQTT-3.3.4-1] [MQTT-4.3.2-2]."""
    sender = world.connected("p")
    say(sender, "nobody", b"x", qos=qos)

    sender.send(subscribe(("nobody", 2))).expect(suback(2)).expect_nothing()
