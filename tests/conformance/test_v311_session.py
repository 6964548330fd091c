"""MQTT 3.1.1, sections 3.1.2.4 and 4.1: CleanSession, Session Present, and what a session keeps."""

from __future__ import annotations

import pytest

from conformance.wire311 import DISCONNECT, puback, publish, pubrec, suback, subscribe, unsuback, unsubscribe

pytestmark = [pytest.mark.sockets, pytest.mark.disk]


def test_a_clean_session_is_never_present(world):
    """CleanSession 1 gets Session Present 0, whatever was there before [MQTT-3.2.2-1] [MQTT-3.1.2-6]."""
    world.connected("c", clean=False).leave()

    world.connected("c", clean=True, resumed=False).leave()
    world.connected("c", clean=True, resumed=False)


def test_a_kept_session_is_present_the_second_time(world):
    """CleanSession 0 gets Session Present 0 at first, then 1, after DISCONNECT and after a loss alike.

    [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4]
    """
    world.connected("c", clean=False).leave()
    world.connected("c", clean=False, resumed=True).cut()
    world.connected("c", clean=False, resumed=True).send(b"\x00\x00").expect_closed()

    world.connected("c", clean=False, resumed=True)


def test_a_clean_session_ends_with_its_connection(world):
    """After a clean session nothing is left of it: no session, no subscription [MQTT-3.1.2-6] [MQTT-3.2.2-3]."""
    world.subscribed(("a", 1)).leave()
    world.connected("p").send(publish("a", b"x", qos=1)).expect(puback(1))

    world.connected("s", clean=False, resumed=False).expect_nothing()


def test_a_clean_session_discards_the_kept_one(world):
    """CleanSession 1 throws away subscriptions, messages and packet ids of before, for good.

    [MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.2.2-3]
    """
    world.subscribed(("a", 1), clean=False).leave()
    sender = world.connected("p").send(publish("a", b"x", qos=1)).expect(puback(1))
    world.connected("s", clean=True).expect_nothing().leave()
    sender.send(publish("a", b"y", qos=1)).expect(puback(1))

    world.connected("s", clean=False, resumed=False).expect_nothing()


def test_a_session_keeps_its_subscriptions(world):
    """A client that comes back need not subscribe again, at any QoS [MQTT-3.1.2-4] [MQTT-4.1.0-1]."""
    world.subscribed(("a", 0), ("b/+", 1), ("c/#", 2), clean=False).leave()
    receiver = world.connected("s", clean=False, resumed=True)
    receiver.send(publish("a", b"1"), publish("b/x", b"2"), publish("c", b"3"))

    receiver.expect(publish("a", b"1"), publish("b/x", b"2"), publish("c", b"3")).expect_nothing()


def test_a_session_keeps_what_was_unsubscribed_too(world):
    """A subscription that was ended or replaced stays so [MQTT-4.1.0-1] [MQTT-3.1.2-4]."""
    receiver = world.subscribed(("a", 1), ("b", 1), clean=False)
    receiver.send(unsubscribe("a"), subscribe(("b", 0), packet_id=2)).expect(unsuback(), suback(0, packet_id=2)).leave()
    sender = world.connected("p").send(publish("a", b"x", qos=1), publish("b", b"y", qos=1, packet_id=2))
    sender.expect(puback(1), puback(2))
    receiver = world.connected("s", clean=False, resumed=True).expect_nothing()
    sender.send(publish("b", b"z", qos=1)).expect(puback(1))

    receiver.expect(publish("b", b"z")).expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_wait_for_a_client_that_is_away(world, qos):
    """Messages at QoS 1 and 2 are kept in order while a client is away, and come with DUP 0: it never saw them.

    [MQTT-3.1.2-5] [MQTT-4.5.0-1] [MQTT-3.3.1-3] [MQTT-4.6.0-6]
    """
    world.subscribed(("a/+", 2), clean=False).leave()
    sender = world.connected("p")
    for number in range(10):
        sender.send(publish(f"a/{number % 2}", b"%d" % number, qos=qos, packet_id=number + 1))
        sender.expect(puback(number + 1) if qos == 1 else pubrec(number + 1))
    receiver = world.connected("s", clean=False, resumed=True)
    ids = [receiver.expect_publish(f"a/{number % 2}", b"%d" % number, qos=qos) for number in range(10)]

    assert 10 == len(set(ids))
    receiver.expect_nothing()


def test_only_what_matches_waits(world):
    """What no subscription matches, or what was granted at QoS 0, does not wait [MQTT-3.1.2-5]."""
    world.subscribed(("a", 1), ("zero", 0), clean=False).leave()
    sender = world.connected("p")
    for number, topic in enumerate(("b", "zero", "a", "a/b"), 1):
        sender.send(publish(topic, topic.encode(), qos=1, packet_id=number)).expect(puback(number))
    receiver = world.connected("s", clean=False, resumed=True)

    receiver.send(puback(receiver.expect_publish("a", b"a", qos=1))).expect_nothing()


def test_messages_wait_longer_than_one_absence(world):
    """What was not acknowledged waits on, over one connection after the other [MQTT-4.1.0-1] [MQTT-3.1.2-5]."""
    world.subscribed(("a", 1), clean=False).leave()
    world.connected("p").send(publish("a", b"x", qos=1)).expect(puback(1))
    receiver = world.connected("s", clean=False, resumed=True)
    number = receiver.expect_publish("a", b"x", qos=1)
    receiver.cut()
    receiver = world.connected("s", clean=False, resumed=True)
    receiver.expect(publish("a", b"x", qos=1, packet_id=number, dup=True)).leave()
    receiver = world.connected("s", clean=False, resumed=True)
    receiver.expect(publish("a", b"x", qos=1, packet_id=number, dup=True)).send(puback(number))
    world.settle()
    receiver.leave()

    world.connected("s", clean=False, resumed=True).expect_nothing()


def test_a_session_lasts_as_long_as_its_connection(world):
    """A session stays while its connection does, clean or not, however many others come and go [MQTT-4.1.0-2]."""
    receivers = [world.subscribed(("a", 0), client_id=f"s{clean}", clean=clean) for clean in (False, True)]
    for number in range(20):
        world.connected(f"other{number}").leave()
    world.connected("p").send(publish("a", b"x"))

    for receiver in receivers:
        receiver.expect(publish("a", b"x"))


def test_sessions_belong_to_client_ids(world):
    """Each client id has its own session: its own subscriptions and its own messages [MQTT-3.1.3-2]."""
    world.subscribed(("a", 1), client_id="one", clean=False).leave()
    world.subscribed(("b", 1), client_id="two", clean=False).leave()
    sender = world.connected("p").send(publish("a", b"1", qos=1), publish("b", b"2", qos=1, packet_id=2))
    sender.expect(puback(1), puback(2))
    for name, topic, payload in (("two", "b", b"2"), ("one", "a", b"1")):
        receiver = world.connected(name, clean=False, resumed=True)
        receiver.send(puback(receiver.expect_publish(topic, payload, qos=1))).expect_nothing()


def test_retained_messages_outlive_sessions(world):
    """A retained message is no part of the session of whoever published it [MQTT-3.1.2-7]."""
    world.connected("p", clean=True).send(publish("clean", b"1", retain=True), DISCONNECT).expect_closed()
    world.connected("q", clean=False).send(publish("kept", b"2", retain=True)).leave()
    world.connected("q", clean=True).leave()
    late = world.connected("late").send(subscribe(("clean", 0), ("kept", 0))).expect(suback(0, 0))

    late.expect_any_order(publish("clean", b"1", retain=True), publish("kept", b"2", retain=True)).expect_nothing()
