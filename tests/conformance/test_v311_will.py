"""MQTT 3.1.1, section 3.1.2.5 and 3.14.4: the will, when it is published and when not."""

from __future__ import annotations

import itertools

import pytest

from conformance.wire311 import (
    DISCONNECT,
    connack,
    connect,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
)

pytestmark = pytest.mark.sockets

WILL = ("will/topic", b"gone", 0, False)


def has_will(watcher):
    """Take the will of WILL, and nothing else."""
    watcher.expect(publish("will/topic", b"gone")).expect_nothing()


@pytest.mark.parametrize(("qos", "granted", "retain"), list(itertools.product((0, 1, 2), (0, 1, 2), (False, True))))
def test_a_will_is_published_when_the_connection_is_lost(world, qos, granted, retain):
    """The will comes with its own topic, message and QoS, like any message; it is kept only if Will Retain says so.

    [MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.3.1-9]
    """
    watcher = world.subscribed(("will/+", granted))
    world.connected("c", will=("will/topic", b"gone", qos, retain)).cut()
    if min(qos, granted):
        number = watcher.expect_publish("will/topic", b"gone", qos=min(qos, granted))
        watcher.send(puback(number) if min(qos, granted) == 1 else pubrec(number))
        if min(qos, granted) == 2:
            watcher.expect(pubrel(number)).send(pubcomp(number))
    else:
        watcher.expect(publish("will/topic", b"gone"))
    watcher.expect_nothing()

    late = world.connected("late").send(subscribe(("will/topic", 0))).expect(suback(0))
    if retain:
        late.expect(publish("will/topic", b"gone", retain=True))
    late.expect_nothing()


def test_disconnect_takes_the_will_away(world):
    """After DISCONNECT the will is not published, neither then nor when the connection ends.

    [MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT-3.1.2-8]
    """
    watcher = world.subscribed(("#", 0))
    world.connected("c", will=("will/topic", b"gone", 1, True)).leave()

    watcher.expect_nothing()


def test_without_a_will_nothing_is_published(world):
    """A client without a will leaves without a word, however it leaves [MQTT-3.1.2-12]."""
    watcher = world.subscribed(("#", 0))
    world.connected("c").cut()
    world.connected("d").send(b"\x00\x00").expect_closed()

    watcher.expect_nothing()


@pytest.mark.parametrize(
    "violation", [b"\x00\x00", connect("c"), publish("#"), publish("", qos=1), b"\xe1\x00", b"\xe0\x01x"], ids=bytes.hex
)
def test_a_violation_publishes_the_will(world, violation):
    """A connection that the server closes for a violation was not ended by DISCONNECT: the will comes.

    [MQTT-3.1.2-8] [MQTT-4.8.0-1] [MQTT-3.14.1-1]
    """
    watcher = world.subscribed(("#", 0))
    world.connected("c", will=WILL).send(violation).expect_closed()

    has_will(watcher)


def test_a_take_over_publishes_the_will(world):
    """Whoever is displaced by another connection with his client id has not said DISCONNECT: his will comes, once.

    [MQTT-3.1.2-8] [MQTT-3.1.4-2]
    """
    watcher = world.subscribed(("#", 0))
    former = world.connected("c", will=WILL)
    present = world.connected("c")
    former.expect_closed()
    has_will(watcher)
    present.cut()

    watcher.expect_nothing()


def test_a_will_is_published_once(world):
    """A will that was published is gone: the same client, back without one and lost again, publishes nothing.

    [MQTT-3.1.2-10] [MQTT-3.1.2-12]
    """
    watcher = world.subscribed(("#", 0))
    world.connected("c", clean=False, will=WILL).cut()
    has_will(watcher)
    world.connected("c", clean=False, resumed=True).cut()

    watcher.expect_nothing()


def test_a_will_belongs_to_its_connection(world):
    """The next CONNECT of a session may bring another will, which replaces the one before.

    [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    """
    watcher = world.subscribed(("#", 0))
    world.connected("c", clean=False, will=WILL).leave()
    world.connected("c", clean=False, will=("other", b"!", 0, False), resumed=True).cut()

    watcher.expect(publish("other", b"!")).expect_nothing()


def test_a_refused_connect_has_no_will(world):
    """A CONNECT that is refused leaves no will behind [MQTT-3.1.2-8] [MQTT-3.1.4-5]."""
    watcher = world.subscribed(("#", 0))
    world.open().send(connect("", clean=False, will=WILL)).expect_closed(connack(2))
    world.open().send(connect("c", level=6, will=WILL)).expect_closed(connack(1))

    watcher.expect_nothing()


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff\xfe", b"x" * 4096], ids=len)
def test_a_will_message_is_any_bytes(world, payload):
    """The will message is binary, and may be empty [MQTT-3.1.2-9] [MQTT-3.1.2-16]."""
    watcher = world.subscribed(("w", 0))
    world.connected("c", will=("w", payload, 0, False)).cut()

    watcher.expect(publish("w", payload)).expect_nothing()


def test_an_empty_will_that_is_retained_clears(world):
    """An empty will message with Will Retain removes what was retained [MQTT-3.1.2-17] [MQTT-3.3.1-10]."""
    world.connected("p").send(publish("w", b"kept", retain=True)).expect_nothing()
    world.connected("c", will=("w", b"", 0, True)).cut()

    world.connected("late").send(subscribe(("w", 0))).expect(suback(0)).expect_nothing()


@pytest.mark.limits(packet_max_before_connect=200_000)
def test_a_will_of_65535_bytes(world):
    """The longest will message that can be encoded is kept and published [MQTT-3.1.2-8] [MQTT-3.1.2-9]."""
    watcher = world.subscribed(("w", 0))
    world.connected("c", will=("w", b"x" * 65_535, 0, False)).cut()

    watcher.expect(publish("w", b"x" * 65_535)).expect_nothing()


@pytest.mark.parametrize("topic", ["+", "#", "a/+", "a/#"])
def test_a_will_topic_with_a_wildcard_closes(world, topic):
    """A will topic is a topic name: with a wildcard the CONNECT is malformed [MQTT-4.7.1-1] [MQTT-3.1.4-1]."""
    world.open().send(connect("c", will=(topic, b"x", 0, False))).expect_closed()


def test_a_will_waits_for_those_who_are_away(world):
    """A will at QoS 1 is kept for a client that is away, like any message [MQTT-3.1.2-8] [MQTT-3.1.2-5]."""
    world.subscribed(("w", 1), clean=False).leave()
    world.connected("c", will=("w", b"gone", 1, False)).cut()
    receiver = world.connected("s", clean=False, resumed=True)

    receiver.send(puback(receiver.expect_publish("w", b"gone", qos=1))).expect_nothing()


def test_what_is_sent_behind_disconnect_does_not_bring_the_will_back(world):
    """A violation behind DISCONNECT changes nothing: the will is gone [MQTT-3.14.4-3]."""
    watcher = world.subscribed(("#", 0))
    world.connected("c", will=WILL).send(DISCONNECT, b"\x00\x00").expect_closed()

    watcher.expect_nothing()
