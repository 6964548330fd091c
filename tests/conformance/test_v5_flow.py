"""MQTT 5.0, section 4.9: flow control, and the Receive Maximum of both sides."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import PINGREQ, PINGRESP, puback, pubcomp, publish, pubrec, pubrel, suback, subscribe


def waiting(five, count, qos, **options):
    """A subscriber with this Receive Maximum, and `count` messages for it."""
    peer = five.subscribed(("a", qos), **options)
    sender = five.connected("p")
    for number in range(count):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number + 1)
    peer.peer.gather()
    return peer


def unread(peer):
    """Return how many PUBLISH packets lie unread, without taking them."""
    from mesimqtt.testing.parse5 import parse_all

    return sum(packet.kind == "PUBLISH" for packet in parse_all(peer.peer._unread))


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 2, 10, 63, 64, 65, 100])
def test_no_more_than_the_receive_maximum(five, qos, maximum):
    """At most Receive Maximum deliveries are unacknowledged at any time.

    [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
    """
    peer = waiting(five, 110, qos, receive_maximum=maximum)

    assert 1 <= unread(peer) <= maximum
    for _ in range(unread(peer)):
        peer.take()
    peer.expect_nothing()
    peer.peer.is_over = True


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 2, 5])
def test_each_acknowledgement_makes_room_for_one(five, qos, maximum):
    """A PUBACK or PUBCOMP, and nothing else, lets exactly one more message follow, in order.

    [MQTT-3.3.4-9] [MQTT-4.6.0-5] [MQTT-4.9.0-2]
    """
    peer = waiting(five, 12, qos, receive_maximum=maximum)
    window = [peer.take() for _ in range(maximum)]
    for following in range(maximum, 12):
        number = window.pop(0).packet_id
        if qos == 2:
            peer.send(pubrec(number)).expect(pubrel(number))
            peer.expect_nothing()
            peer.send(pubcomp(number))
        else:
            peer.send(puback(number))
        window.append(peer.take())

        assert b"%d" % following == window[-1].payload
        peer.expect_nothing()
    peer.peer.is_over = True


def test_qos_0_takes_no_quota(five):
    """QoS 0 passes although the quota is used up [MQTT-3.3.4-10] [MQTT-4.9.0-2]."""
    peer = waiting(five, 3, 1, receive_maximum=1)
    first = peer.take()
    peer.send(subscribe(("b", 0))).expect(suback(0))
    five.connected("q").say("b", b"zero")
    peer.hear("b", b"zero")
    peer.send(puback(first.packet_id))

    assert b"1" == peer.take().payload
    peer.peer.is_over = True


def test_qos_1_and_2_share_one_quota(five):
    """The Receive Maximum counts both [MQTT-3.3.4-9] [MQTT-4.9.0-1]."""
    peer = five.subscribed(("a", 2), receive_maximum=2)
    sender = five.connected("p")
    for number, qos in enumerate((1, 2, 1, 2), start=1):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number)
    one = peer.hear("a", b"1", qos=1, answers=False).packet_id
    two = peer.hear("a", b"2", qos=2, answers=False).packet_id
    peer.expect_nothing()
    peer.send(pubrec(two)).expect(pubrel(two)).expect_nothing()
    peer.send(puback(one))
    peer.hear("a", b"3", qos=1, answers=False)
    peer.expect_nothing()
    peer.send(pubcomp(two))
    peer.hear("a", b"4", qos=2)
    peer.peer.is_over = True


def test_the_default_quota(five):
    """Without a Receive Maximum of the client the server's own window counts, above 0 [MQTT-4.9.0-1]."""
    peer = waiting(five, 5, 1)

    assert 5 == unread(peer)
    for _ in range(5):
        peer.send(puback(peer.take().packet_id))


@pytest.mark.parametrize("qos", [1, 2])
def test_the_quota_is_the_connections(five, qos):
    """After a reconnect the quota begins anew: what is sent again counts, and at most the new maximum is sent.

    [MQTT-3.3.4-9] [MQTT-4.4.0-1] [MQTT-4.9.0-1]
    """
    peer = five.kept("k", ("a", qos), receive_maximum=10)
    sender = five.connected("p")
    for number in range(6):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number + 1)
    peer.messages(6)
    peer.cut()
    peer = five.back("k", receive_maximum=2)
    peer.peer.gather()

    assert 2 == unread(peer)
    for number in range(6):
        peer.hear("a", b"%d" % number, qos=qos, dup=True)
    peer.expect_nothing()


@pytest.mark.sockets
def test_everything_else_is_answered_at_a_quota_of_0(five):
    """At a quota of zero all other packets are processed and answered [MQTT-3.3.4-8] [MQTT-3.3.4-10] [MQTT-4.9.0-3]."""
    peer = waiting(five, 2, 1, receive_maximum=1)
    first = peer.take()
    peer.send(PINGREQ, subscribe(("b", 0))).expect(PINGRESP, suback(0))
    peer.say("c", b"x", qos=1).say("c", b"x", qos=2)
    peer.send(puback(first.packet_id))
    peer.hear("a", b"1", qos=1)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_slow_reader_delays_nobody_else(five, qos):
    """The quota of one subscriber is its own [MQTT-4.9.0-2]."""
    slow = five.subscribed(("a", qos), client_id="slow", receive_maximum=1)
    quick = five.subscribed(("a", qos), client_id="quick")
    sender = five.connected("p")
    for number in range(5):
        sender.say("a", b"%d" % number, qos=qos, packet_id=number + 1)
        quick.hear("a", b"%d" % number, qos=qos)

    for number in range(5):
        slow.hear("a", b"%d" % number, qos=qos)


@pytest.mark.limits(qos2_incoming_max=2)
def test_a_client_regains_its_quota(five):
    """PUBCOMP, and PUBREC with an error, give the client its quota back [MQTT-3.3.4-7] [MQTT-4.9.0-1]."""
    peer = five.connected("p", told={"receive_maximum": 2})
    for number in range(1, 20):
        peer.say("a", b"x", qos=2, packet_id=number)
    peer.send(publish("a", b"x", qos=2, packet_id=50), publish("a", b"x", qos=2, packet_id=51))

    assert {50, 51} == {peer.take().packet_id, peer.take().packet_id}
    peer.send(pubrel(50), pubrel(51)).expect(pubcomp(50), pubcomp(51)).expect_nothing()


@pytest.mark.limits(qos2_incoming_max=2)
def test_a_refused_publish_gives_the_quota_back(world, five):
    """A PUBREC from 0x80 up ends the exchange for the quota, too [MQTT-3.3.4-7] [MQTT-4.3.3-9]."""
    world.network.gate.denied = {("publish", "no")}
    peer = five.connected("p", told={"receive_maximum": 2})
    for number in range(1, 10):
        peer.send(publish("no", b"x", qos=2, packet_id=number)).expect(pubrec(number, 0x87))
    peer.say("a", b"x", qos=2, packet_id=10).expect_nothing()


@pytest.mark.limits(qos2_incoming_max=2)
def test_resends_take_no_further_quota(five):
    """The same message again, by its packet id, takes nothing of the quota [MQTT-3.3.4-7] [MQTT-4.3.3-10]."""
    peer = five.connected("p", told={"receive_maximum": 2})
    for dup in (False, True, True, True):
        peer.send(publish("a", b"x", qos=2, packet_id=1, dup=dup))

        assert "PUBREC" == peer.take().kind
    peer.expect_nothing()
