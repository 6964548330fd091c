"""MQTT 5.0, section 3.3.2.3.4: topic aliases, the client's and the server's."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import connect, disconnect, publish, will

pytestmark = pytest.mark.stateless  # the store has no part in it


@pytest.mark.sockets
def test_an_alias_stands_for_its_topic(five):
    """A PUBLISH with topic and alias sets the mapping, one with the alias alone uses it; receivers see the topic.

    [MQTT-3.3.2-3] [MQTT-3.3.2-12]
    """
    watcher = five.subscribed(("a/b", 0))
    peer = five.connected("p").say("a/b", b"1", topic_alias=1).say("", b"2", topic_alias=1).say("a/b", b"3")

    for payload in (b"1", b"2", b"3"):
        watcher.hear("a/b", payload)
    peer.expect_nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_alias_serves_every_qos(five, qos):
    """An alias does not depend on the QoS [MQTT-3.3.2-12]."""
    watcher = five.subscribed(("a", 2))
    five.connected("p").say("a", b"1", qos=qos, topic_alias=16).say("", b"2", qos=qos, packet_id=2, topic_alias=16)

    watcher.hear("a", b"1", qos=qos)
    watcher.hear("a", b"2", qos=qos)


def test_all_aliases_up_to_the_maximum(five):
    """Every alias from 1 to the announced maximum is accepted [MQTT-3.2.2-17] [MQTT-3.3.2-12]."""
    watcher = five.subscribed(("#", 0))
    peer = five.connected("p")
    for alias in range(1, 17):
        peer.say(f"t/{alias}", b"first", topic_alias=alias)
        watcher.hear(f"t/{alias}", b"first")
    for alias in range(16, 0, -1):
        peer.say("", b"second", topic_alias=alias)
        watcher.hear(f"t/{alias}", b"second")


def test_an_alias_may_be_set_anew(five):
    """A PUBLISH with a topic gives the alias a new meaning [MQTT-3.3.2-12]."""
    watcher = five.subscribed(("#", 0))
    peer = five.connected("p").say("a", b"1", topic_alias=1).say("b", b"2", topic_alias=1).say("", b"3", topic_alias=1)

    for topic, payload in (("a", b"1"), ("b", b"2"), ("b", b"3")):
        watcher.hear(topic, payload)
    peer.expect_nothing()


def test_two_aliases_of_one_topic(five):
    """Two aliases may stand for the same topic [MQTT-3.3.2-12]."""
    watcher = five.subscribed(("a", 0))
    five.connected("p").say("a", b"1", topic_alias=1).say("a", b"2", topic_alias=2).say("", b"3", topic_alias=1)

    assert [b"1", b"2", b"3"] == [message.payload for message in watcher.messages(3)]


@pytest.mark.sockets
@pytest.mark.parametrize("alias", [0, 17, 65535])
def test_an_alias_out_of_range_is_refused(five, alias):
    """Alias 0 and an alias over the maximum cost the connection, with 0x94.

    [MQTT-3.2.2-17] [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-4.13.1-1]
    """
    five.connected().send(publish("a", b"x", topic_alias=alias)).expect_closed(disconnect(0x94))


@pytest.mark.parametrize("alias", [1, 16])
def test_an_unknown_alias_is_refused(five, alias):
    """An alias without topic that was never set is a Protocol Error [MQTT-3.3.2-7] [MQTT-4.13.1-1]."""
    five.connected().send(publish("", b"x", topic_alias=alias)).expect_refused(0x82, 0x94)


def test_aliases_end_with_their_connection(five):
    """A mapping is not carried over to the next connection of the same session [MQTT-3.3.2-7]."""
    five.kept("k").say("a", b"x", topic_alias=1).cut()

    five.back("k").send(publish("", b"x", topic_alias=1)).expect_refused(0x82, 0x94)


def test_each_connection_has_its_own_aliases(five):
    """The same alias of two clients may mean two topics [MQTT-3.3.2-7]."""
    watcher = five.subscribed(("#", 0))
    one, two = five.connected("p1").say("a", b"1", topic_alias=1), five.connected("p2").say("b", b"2", topic_alias=1)
    one.say("", b"3", topic_alias=1)
    two.say("", b"4", topic_alias=1)

    assert [("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4")] == [(m.topic, m.payload) for m in watcher.messages(4)]


def test_a_denied_publish_still_sets_its_alias(world, five):
    """The mapping belongs to the connection, not to what became of the message [MQTT-3.3.2-12]."""
    world.network.gate.denied = {("publish", "no")}
    peer = five.connected("p").send(publish("no", b"x", qos=1, topic_alias=1))

    assert 0x87 == peer.take().code
    peer.send(publish("", b"x", qos=1, topic_alias=1))
    assert 0x87 == peer.take().code


@pytest.mark.sockets
@pytest.mark.parametrize("values", [{}, {"topic_alias_maximum": 0}])
def test_the_server_uses_no_alias_unasked(five, values):
    """Without a Topic Alias Maximum of the client, the server sends none [MQTT-3.1.2-26] [MQTT-3.1.2-27]."""
    peer = five.subscribed(("a", 0), **values)
    sender = five.connected("p")
    for _ in range(3):
        sender.say("a", b"x")
        peer.hear("a", b"x")


@pytest.mark.sockets
@pytest.mark.parametrize("maximum", [1, 2, 5, 65535])
def test_the_servers_aliases_are_consistent(five, maximum):
    """Every alias of the server is within the client's maximum, was set before it is used, and keeps its meaning.

    [MQTT-3.1.2-26] [MQTT-3.3.2-3] [MQTT-3.3.2-8] [MQTT-3.3.2-11] [MQTT-4.7.3-1]
    """
    peer = five.subscribed(("#", 0), topic_alias_maximum=maximum)
    sender = five.connected("p")
    topics = [f"topic/{number % 4}" for number in range(24)]
    for topic in topics:
        sender.say(topic, b"x")
    known: dict[int, str] = {}
    seen = []
    for message in peer.messages(len(topics)):
        alias = message.topic_alias
        assert alias is None or 1 <= alias <= maximum
        if message.topic and alias:
            known[alias] = message.topic
        seen.append(message.topic or known[alias])

    assert topics == seen


def test_the_servers_aliases_end_with_the_connection(five):
    """After a reconnect the server names the topic again before it uses an alias [MQTT-3.3.2-7]."""
    peer = five.kept("k", ("a", 1), topic_alias_maximum=5)
    sender = five.connected("p")
    for number in (1, 2, 3):
        sender.say("a", b"x", qos=1, packet_id=number)
    peer.messages(3)
    peer.cut()
    peer = five.back("k", topic_alias_maximum=5)
    again = peer.messages(3)

    assert "a" == again[0].topic
    assert [True] * 3 == [message.dup for message in again]


def test_a_server_uses_no_alias_after_a_reconnect_without(five):
    """The maximum is the connection's, not the session's [MQTT-3.1.2-27] [MQTT-3.3.2-7]."""
    peer = five.kept("k", ("a", 1), topic_alias_maximum=5)
    five.connected("p").say("a", b"x", qos=1)
    peer.take()
    peer.cut()

    five.back("k").hear("a", b"x", qos=1, dup=True)


def test_a_resent_publish_with_an_alias_is_understood(five):
    """A client's resend on its new connection names the topic; that it says so with an alias changes nothing.

    [MQTT-3.3.2-7] [MQTT-4.3.3-10]
    """
    watcher = five.subscribed(("a", 0))
    peer = five.kept("k").send(publish("a", b"x", qos=2, topic_alias=1))

    assert "PUBREC" == peer.take().kind
    peer.cut()
    peer = five.back("k").send(publish("a", b"x", qos=2, dup=True, topic_alias=1))
    assert "PUBREC" == peer.take().kind
    watcher.hear("a", b"x")
    watcher.expect_nothing()


@pytest.mark.extra
def test_an_alias_in_a_will_is_malformed(five):
    """A will has no alias."""
    five.open().send(connect(will=will("w", b"", topic_alias=1))).expect_refused(0x81, 0x82)
