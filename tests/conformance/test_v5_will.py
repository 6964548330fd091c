"""MQTT 5.0, sections 3.1.2.5 and 3.1.3.2: wills, their properties and their delay."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import connect, disconnect, option, suback, subscribe, will

ALL = {
    "payload_format_indicator": 1,
    "content_type": "text/plain",
    "response_topic": "answer",
    "correlation_data": b"\x00\xff",
    "user_property": [("z", "1"), ("a", "2"), ("z", "1"), ("", "")],
}


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_lost_connection_publishes_the_will(five, qos):
    """When the network fails the will is published, at its QoS, not retained, once.

    [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-14]
    """
    watcher = five.subscribed(("w", 2))
    five.connected(will=will("w", b"gone", qos=qos)).cut()

    watcher.hear("w", b"gone", qos=qos)
    watcher.expect_nothing()
    five.subscribed(("w", 2), client_id="later").expect_nothing()


@pytest.mark.sockets
def test_a_will_keeps_its_properties(five):
    """The will's properties arrive unaltered, its User Properties in their order.

    [MQTT-3.1.3-10] [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    """
    watcher = five.subscribed(("w", 0))
    five.connected(will=will("w", b"gone", **ALL)).cut()

    watcher.hear("w", b"gone", **ALL)


@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_retained_as_it_says(five, retain):
    """Will Retain decides whether the will becomes the topic's retained message [MQTT-3.1.2-14] [MQTT-3.1.2-15]."""
    five.connected(will=will("w", b"gone", qos=1, retain=retain, **ALL)).cut()
    peer = five.subscribed(("w", 1))

    if retain:
        peer.hear("w", b"gone", qos=1, retain=True, **ALL)
    peer.expect_nothing()


def test_a_will_with_an_empty_payload_clears(five):
    """A retained will without payload removes the retained message [MQTT-3.1.2-15] [MQTT-3.3.1-6] [MQTT-3.3.1-7]."""
    five.connected("p").say("w", b"old", retain=True)
    five.connected(will=will("w", b"", retain=True)).cut()

    five.subscribed(("w", 0)).expect_nothing()


@pytest.mark.sockets
@pytest.mark.parametrize("code", [None, 0])
def test_a_normal_disconnection_discards_the_will(five, code):
    """DISCONNECT with 0x00, said or not, discards the will [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]."""
    watcher = five.subscribed(("w", 0))
    five.connected(will=will("w", b"gone")).leave(code)

    watcher.expect_nothing()


@pytest.mark.sockets
@pytest.mark.parametrize("code", [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99])
def test_any_other_disconnect_publishes_the_will(five, code):
    """DISCONNECT with 0x04 asks for the will, and every error code leaves it to be published.

    [MQTT-3.1.2-8] [MQTT-3.14.2-1] [MQTT-3.14.4-3]
    """
    watcher = five.subscribed(("w", 0))
    five.connected(will=will("w", b"gone")).leave(code)

    watcher.hear("w", b"gone")


def test_a_delayed_will_waits(world, five):
    """The will is published when its delay has passed, not before [MQTT-3.1.2-8]."""
    watcher = five.subscribed(("w", 0), keep_alive=1000)
    five.kept("k", will=will("w", b"gone", will_delay_interval=10)).cut()
    world.pass_time(9)
    watcher.expect_nothing()
    world.pass_time(2)

    watcher.hear("w", b"gone")
    watcher.expect_nothing()


@pytest.mark.parametrize("clean", [True, False])
def test_a_reconnect_within_the_delay_takes_the_will_back(world, five, clean):
    """Who is back in time has its will not sent; with Clean Start 1 the session ends, and the will is sent at once.

    [MQTT-3.1.2-8] [MQTT-3.1.3-9]
    """
    watcher = five.subscribed(("w", 0), keep_alive=1000)
    five.kept("k", will=will("w", b"gone", will_delay_interval=10)).cut()
    world.pass_time(5)
    if clean:
        five.connected("k", keep_alive=1000)
        watcher.hear("w", b"gone")
    else:
        five.back("k", keep_alive=1000)
    world.pass_time(30)

    watcher.expect_nothing()


def test_a_take_over_within_the_delay_takes_the_will_back(world, five):
    """A new connection to the session counts as back in time for the one that it replaces.

    [MQTT-3.1.3-9] [MQTT-3.1.4-3]
    """
    watcher = five.subscribed(("w", 0), keep_alive=1000)
    first = five.kept("k", will=will("w", b"gone", will_delay_interval=10))
    five.back("k", keep_alive=1000)
    first.expect_closed(disconnect(0x8E))
    world.pass_time(30)

    watcher.expect_nothing()


@pytest.mark.parametrize(("expiry", "delay"), [(5, 100), (5, 0xFFFFFFFF), (5, 5)])
def test_the_end_of_the_session_ends_the_delay(world, five, expiry, delay):
    """The will is published when the session ends, if that comes before its delay [MQTT-3.1.2-8] [MQTT-4.1.0-2]."""
    watcher = five.subscribed(("w", 0), keep_alive=1000)
    five.kept("k", expiry=expiry, will=will("w", b"gone", will_delay_interval=delay)).cut()
    world.pass_time(4)
    watcher.expect_nothing()
    world.pass_time(2)

    watcher.hear("w", b"gone")
    world.pass_time(200)
    watcher.expect_nothing()


def test_without_a_session_a_delay_is_none(five):
    """Where the session ends with the connection, so does the delay [MQTT-3.1.2-8]."""
    watcher = five.subscribed(("w", 0))
    five.connected("k", will=will("w", b"gone", will_delay_interval=100)).cut()

    watcher.hear("w", b"gone")


def test_disconnect_with_expiry_0_ends_the_delay(five):
    """A DISCONNECT that ends the session and asks for the will sends it at once [MQTT-3.1.2-8]."""
    watcher = five.subscribed(("w", 0))
    five.kept("k", will=will("w", b"gone", will_delay_interval=100)).leave(4, session_expiry_interval=0)

    watcher.hear("w", b"gone")


def test_a_will_that_was_published_is_gone(world, five):
    """A published will is removed from the session: it is not sent again [MQTT-3.1.2-10]."""
    watcher = five.subscribed(("w", 0), keep_alive=1000)
    five.kept("k", will=will("w", b"gone", will_delay_interval=2)).cut()
    world.pass_time(3)
    watcher.hear("w", b"gone")
    five.back("k").cut()
    world.pass_time(10)

    watcher.expect_nothing()


def test_each_connection_has_its_own_will(five):
    """A will belongs to the connection that brought it: the next may have another, or none.

    [MQTT-3.1.2-7] [MQTT-3.1.2-10]
    """
    watcher = five.subscribed(("w", 0))
    five.kept("k", will=will("w", b"first")).leave()
    five.back("k", will=will("w", b"second")).cut()
    watcher.hear("w", b"second")
    five.back("k").cut()

    watcher.expect_nothing()


def test_a_will_has_its_message_expiry(world, five):
    """The Message Expiry Interval of a will counts from its publication.

    [MQTT-3.1.2-15] [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    """
    message = will("w", b"gone", qos=1, retain=True, will_delay_interval=50, message_expiry_interval=20)
    five.kept("k", will=message).cut()
    world.pass_time(60)
    left = five.subscribed(("w", 0)).take().message_expiry_interval

    assert 8 <= left <= 11
    world.pass_time(15)
    five.subscribed(("w", 0), client_id="late").expect_nothing()


def test_a_will_honours_no_local(five):
    """The will of a client id is not forwarded to that client id where it asked so [MQTT-3.8.3-3]."""
    peer = five.kept("k", will=will("w", b"gone", qos=1))
    peer.send(subscribe(("w", option(1, no_local=True)))).expect(suback(1))
    peer.cut()

    five.back("k").expect_nothing()


@pytest.mark.parametrize("topic", ["", "a/#", "+/b", "a\0b"])
def test_a_will_topic_must_be_a_topic(five, topic):
    """A Will Topic that is empty, has wildcards or U+0000 is refused [MQTT-3.1.4-1] [MQTT-4.7.0-1] [MQTT-4.7.3-1]."""
    five.open().send(connect(will=will(topic, b""))).expect_refused(0x81, 0x82, 0x90)


@pytest.mark.parametrize("topic", ["a/#", "a/+/b"])
def test_a_response_topic_of_a_will_has_no_wildcards(five, topic):
    """A Response Topic with wildcards is refused in a will as in a PUBLISH [MQTT-3.3.2-14]."""
    five.open().send(connect(will=will("w", b"", response_topic=topic))).expect_refused(0x81, 0x82, 0x90)


def test_a_denied_will_is_refused_at_connect(world, five):
    """A client that may not publish its will is not let in [MQTT-3.1.4-2]."""
    world.network.gate.denied = {("will", "w")}

    five.open().send(connect(will=will("w", b""))).expect_refused(0x87)
