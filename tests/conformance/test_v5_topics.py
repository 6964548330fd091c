"""MQTT 5.0, sections 4.5 to 4.7: topics and filters, order, and what the transport must be."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import connect, publish, suback, subscribe, unsuback, unsubscribe

pytestmark = pytest.mark.stateless  # the store has no part in it

MATCHES = [
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/tennis/player1/#", "sport/tennis/player10", False),
    ("sport/#", "sport", True),
    ("#", "sport", True),
    ("#", "/", True),
    ("#", "/a/b", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+", "sport", True),
    ("+", "/finance", False),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+/tennis/#", "sport/tennis", True),
    ("+/tennis/#", "/tennis/x", True),
    ("sport/+/player1", "sport//player1", True),
    ("sport/+/player1", "sport/a/b/player1", False),
    ("#", "$test/x", False),
    ("+/monitor", "$test/monitor", False),
    ("+", "$test", False),
    ("$test/#", "$test/monitor", True),
    ("$test/+", "$test/monitor", True),
    ("$test/monitor", "$test/monitor", True),
    ("/+", "/$x", True),
    ("+/$x", "a/$x", True),
    ("a", "A", False),
    ("a", "/a", False),
    ("a/", "a", False),
    ("a//b", "a/b", False),
    (" a", "a", False),
    ("\u00e9", "e\u0301", False),
    ("\u00e9", "\u00e9", True),
    ("\u212b", "\u00c5", False),
    ("Accounts payable", "Accounts payable", True),
    ("a/\u20ac/+", "a/\u20ac/\U0001f600", True),
    ("..", ".", False),
    ("a/./b", "a/b", False),
]


@pytest.mark.parametrize(("name", "topic", "is_match"), MATCHES)
def test_which_topics_a_filter_matches(five, name, topic, is_match):
    """Wildcards match as the specification says, $ topics only where the filter names them, and nothing is normalized.

    [MQTT-3.3.2-3] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1] [MQTT-4.7.3-4]
    """
    peer = five.subscribed((name, 0))
    five.connected("p").say(topic, b"x")

    if is_match:
        peer.hear(topic, b"x")
    peer.expect_nothing()


@pytest.mark.parametrize(("name", "topic", "is_match"), MATCHES)
def test_which_retained_topics_a_filter_matches(five, name, topic, is_match):
    """Retained messages are found by the same rules [MQTT-3.3.1-9] [MQTT-4.7.2-1] [MQTT-4.7.3-4]."""
    five.connected("p").say(topic, b"x", retain=True)
    peer = five.subscribed((name, 0))

    if is_match:
        peer.hear(topic, b"x", retain=True)
    peer.expect_nothing()


@pytest.mark.parametrize("topic", ["a", "/", "//", "a b", "a/", "/a", "\u20ac", "x" * 500, "$free"])
def test_topics_of_all_sorts(five, topic):
    """One character is enough, spaces and empty levels are legal, and so is what is not ASCII.

    [MQTT-4.7.3-1] [MQTT-4.7.3-4]
    """
    peer = five.subscribed((topic, 0))
    five.connected("p").say(topic, b"x")

    peer.hear(topic, b"x")


@pytest.mark.parametrize("size", [513, 65_535])
def test_a_long_topic_is_refused_or_taken(five, size):
    """A topic of up to 65535 bytes can be read; over the server's own limit it is refused by a code, or matches.

    [MQTT-3.4.2-1] [MQTT-3.9.3-2] [MQTT-4.7.3-3]
    """
    topic = "x" * size
    peer = five.connected("c").send(publish(topic, b"x", qos=1))
    got = peer.take()

    assert got.kind in {"PUBACK", "DISCONNECT"}
    assert got.code in {0, 0x10, 0x90, 0x97, 0x95}
    if got.kind == "DISCONNECT":
        peer.peer.expect_closed()
        return
    peer.send(subscribe((topic, 0), packet_id=2))
    assert {0, 0x8F, 0x97, 0x87} >= set(peer.take().codes)
    peer.send(unsubscribe(topic, packet_id=3))
    assert {0, 0x11, 0x8F} >= set(peer.take().codes)


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_keep_their_order(five, qos):
    """Messages of one client on one topic at one QoS arrive in the order in which they were published.

    [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    """
    peer = five.subscribed(("a", 2))
    sender = five.connected("p")
    for number in range(1, 41):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number)

    for number in range(1, 41):
        peer.hear("a", b"%d" % number, qos=qos)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_burst_keeps_its_order(five, qos):
    """So do those of one segment, and their acknowledgements [MQTT-4.6.0-5] [MQTT-4.6.0-6]."""
    peer = five.subscribed(("a", qos))
    sender = five.connected("p").send(
        *(publish("a", b"%d" % number, qos=qos, packet_id=number) for number in range(1, 31))
    )

    assert list(range(1, 31)) == [sender.take().packet_id for _ in range(30)]
    assert [b"%d" % number for number in range(1, 31)] == [message.payload for message in peer.messages(30)]
    peer.peer.is_over = True


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_sent_again_keeps_its_order(five, qos):
    """After a reconnect the old messages come first, in their order, then the new ones.

    [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.6.0-5]
    """
    peer = five.kept("k", ("a", qos))
    sender = five.connected("p")
    for number in range(1, 11):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number)
    peer.messages(10)
    peer.cut()
    for number in range(11, 21):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number)
    peer = five.back("k")

    for number in range(1, 21):
        peer.hear("a", b"%d" % number, qos=qos, dup=number < 11)
    peer.expect_nothing()


@pytest.mark.parametrize("changed", [True, False])
def test_order_over_a_change_of_subscription(five, changed):
    """A subscription that is replaced meanwhile does not let a message overtake another.

    [MQTT-3.8.4-4] [MQTT-4.6.0-5]
    """
    peer = five.subscribed(("a", 1), receive_maximum=3)
    sender = five.connected("p")
    for number in range(1, 11):
        sender.say("a", b"%d" % number, qos=1, packet_id=number)
        if changed and number == 5:
            peer.send(subscribe(("a", 1), packet_id=9))

            assert (1,) == peer.answer().codes
    for number in range(1, 11):
        peer.hear("a", b"%d" % number, qos=1)


@pytest.mark.sockets
def test_every_matching_session_gets_the_message(five):
    """A message goes to all sessions with a matching subscription, connected or not [MQTT-3.3.2-3] [MQTT-4.5.0-1]."""
    five.kept("away", ("a/+", 1)).cut()
    here = [five.subscribed((name, 1), client_id=f"h{number}") for number, name in enumerate(("a/b", "a/#", "#"))]
    other = five.subscribed(("a/c", 1), client_id="other")
    five.connected("p").say("a/b", b"x", qos=1)

    for peer in here:
        peer.hear("a/b", b"x", qos=1)
    five.back("away").hear("a/b", b"x", qos=1)
    other.expect_nothing()


@pytest.mark.sockets
def test_a_stream_may_come_in_pieces(five):
    """Packets are found in a stream of bytes, however it is cut [MQTT-4.2.0-1]."""
    peer = five.open()
    peer.peer.dribble(connect("c"))

    assert 0 == peer.take().code
    peer.peer.is_entered = True
    peer.peer.dribble(subscribe(("a", 0)), publish("a", b"x" * 200), unsubscribe("a"))
    peer.expect(suback(0), publish("a", b"x" * 200), unsuback(0))


def test_a_client_must_acknowledge(five):
    """A delivery that is not acknowledged is not forgotten, whatever else the client does.

    [MQTT-4.3.2-3] [MQTT-4.5.0-2]
    """
    peer = five.kept("k", ("a", 1))
    five.connected("p").say("a", b"x", qos=1)
    peer.hear("a", b"x", qos=1, answers=False)
    peer.say("b", b"y", qos=2).leave()

    five.back("k").hear("a", b"x", qos=1, dup=True)


@pytest.mark.extra
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_to_a_dollar_topic_is_refused_by_its_code_alone(world, five, qos):
    """No rule opens a `$` topic, so none is named: there are clients that read an acknowledgement of 3 bytes only."""
    world.network.gate.denied = {("publish", "$x")}
    got = five.connected("c").send(publish("$x", b"x", qos=qos)).take()

    assert (0x87, ()) == (got.code, got.properties)
