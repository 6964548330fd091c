"""MQTT 5.0, section 3.2: what CONNACK says, and the limits that client and server tell each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.peer5 import ANNOUNCED
from mesimqtt.hooks import Refusal
from mesimqtt.testing.wire5 import (
    PINGREQ,
    PINGRESP,
    auth,
    connack,
    connect,
    disconnect,
    option,
    publish,
    suback,
    subscribe,
    will,
)


@pytest.mark.sockets
def test_the_flags_and_the_usual_properties(five):
    """CONNACK tells what this server does otherwise than a client must assume, and nothing else.

    [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-8] [MQTT-3.2.2-9]
    """
    peer = five.connected("c")

    assert ANNOUNCED == dict(peer.connack.properties)


@pytest.mark.parametrize("clean", [True, False])
def test_no_session_is_present_at_first(five, clean):
    """Without a session, Session Present is 0 whatever Clean Start [MQTT-3.1.2-6] [MQTT-3.2.2-2] [MQTT-3.2.2-3]."""
    five.connected("c", clean=clean).leave()


def test_session_present(five):
    """Session Present is 1 exactly where there is a session and Clean Start is 0.

    [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    """
    five.kept("c").cut()
    five.back("c").cut()
    five.connected("c", resumed=False, clean=True, session_expiry_interval=60).cut()
    five.back("c").leave()


@pytest.mark.limits(session_expiry_s=100)
@pytest.mark.parametrize(("asked", "told"), [(99, None), (100, None), (101, 100), (0xFFFFFFFE, 100), (0xFFFFFFFF, 100)])
def test_a_shorter_session_expiry_is_told(five, asked, told):
    """A session that lives shorter than asked for is told in CONNACK [MQTT-3.1.2-23]."""
    values = {} if told is None else {"session_expiry_interval": told}

    five.connected("c", session_expiry_interval=asked, told=values).leave()


@pytest.mark.limits(keep_alive_max_s=100)
@pytest.mark.parametrize(("asked", "told"), [(0, 100), (1, None), (100, None), (101, 100), (65535, 100)])
def test_server_keep_alive_is_told_where_it_differs(five, asked, told):
    """Server Keep Alive stands in CONNACK exactly where the server uses another one than the client's.

    [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
    """
    values = {} if told is None else {"server_keep_alive": told}

    five.connected("c", keep_alive=asked, told=values).leave()


@pytest.mark.limits(keep_alive_max_s=100)
@pytest.mark.parametrize(("asked", "limit"), [(10, 15), (100, 150), (0, 150), (1000, 150)])
def test_silence_closes_after_one_and_a_half_keep_alive(world, five, asked, limit):
    """Who sends nothing for one and a half times the Keep Alive in force is told 0x8D and closed.

    [MQTT-3.1.2-22] [MQTT-3.2.2-21] [MQTT-3.2.2-22] [MQTT-4.13.2-1]
    """
    told = {"server_keep_alive": 100} if not 0 < asked <= 100 else {}
    peer = five.connected("c", keep_alive=asked, told=told)
    world.pass_time(limit - 1)
    peer.send(PINGREQ).expect(PINGRESP)
    world.pass_time(limit - 1)
    peer.send(PINGREQ).expect(PINGRESP)
    world.pass_time(limit + 1)

    peer.expect_closed(disconnect(0x8D))


def test_silence_publishes_the_will(world, five):
    """A Keep Alive that ran out counts as a failure of the network: the will is published.

    [MQTT-3.1.2-8] [MQTT-3.1.2-22]
    """
    watcher = five.subscribed(("w", 0), keep_alive=1000)
    peer = five.connected("c", keep_alive=10, will=will("w", b"silent"))
    world.pass_time(16)

    peer.expect_closed(disconnect(0x8D))
    watcher.hear("w", b"silent")


@pytest.mark.parametrize(
    "packet", [publish("x", b""), subscribe(("x", 0)), PINGREQ], ids=["publish", "subscribe", "ping"]
)
def test_any_packet_keeps_alive(world, five, packet):
    """Every packet of the client counts, not PINGREQ alone [MQTT-3.1.2-20] [MQTT-3.1.2-22]."""
    peer = five.connected("c", keep_alive=10)
    for _ in range(3):
        world.pass_time(14)
        peer.send(packet)
        if packet[0] >> 4 != 3:
            peer.take()

    peer.expect_nothing()


def test_the_servers_packets_do_not_keep_alive(world, five):
    """What the server sends says nothing of the client [MQTT-3.1.2-22]."""
    peer = five.subscribed(("a", 0), keep_alive=10)
    sender = five.connected("p", keep_alive=1000)
    for _ in range(3):
        sender.say("a", b"x")
        world.pass_time(6)

    assert 3 == len([message for message in peer.messages(3) if message.topic == "a"])
    peer.expect_closed(disconnect(0x8D))


@pytest.mark.sockets
def test_pings_are_answered(five):
    """PINGREQ is answered with PINGRESP, each of them [MQTT-3.12.4-1]."""
    five.connected("c").send(PINGREQ, PINGREQ, PINGREQ).expect(PINGRESP, PINGRESP, PINGRESP).expect_nothing()


@pytest.mark.parametrize("body", [b"\x01\x00", b"\x02\x00\x00"])
def test_a_ping_with_a_body_is_malformed(five, body):
    """PINGREQ has neither variable header nor payload [MQTT-4.13.1-1]."""
    five.connected("c").send(b"\xc0" + body).expect_refused(0x81)


@pytest.mark.limits(packet_max=1000)
@pytest.mark.parametrize("excess", [0, 1])
def test_the_announced_packet_size_is_the_limit(five, excess):
    """A packet of exactly the Maximum Packet Size that was announced passes, one byte more is refused with 0x95.

    [MQTT-3.2.2-15] [MQTT-4.13.1-1]
    """
    peer = five.open().send(connect("c"))
    limit = peer.take().maximum_packet_size
    peer.peer.is_entered = True
    frame = len(publish("a", bytes(500))) - 500
    peer.send(publish("a", bytes(limit - frame + excess)))

    if excess:
        peer.expect_refused(0x95)
    else:
        peer.expect_nothing()


@pytest.mark.limits(packet_max=1000)
def test_the_packet_size_limit_is_seen_before_the_packet(five):
    """A packet over the limit is refused by its length, before it is sent [MQTT-3.2.2-15] [MQTT-4.13.1-1]."""
    peer = five.open().send(connect("c"))
    limit = peer.take().maximum_packet_size
    peer.peer.is_entered = True

    assert 1000 <= limit <= 1005
    peer.send(b"\x30\xff\xff\xff\x7f").expect_refused(0x95)


@pytest.mark.limits(qos2_incoming_max=3)
@pytest.mark.parametrize("maximum", [None, 3])
def test_the_announced_receive_maximum_is_the_limit(five, maximum):
    """Receive Maximum unfinished QoS 2 messages are taken, one more is refused with 0x93.

    [MQTT-3.3.4-7] [MQTT-4.13.1-1]
    """
    values = {} if maximum is None else {"receive_maximum": maximum}
    peer = five.connected("c", told={"receive_maximum": 3}, **values)
    for number in (1, 2, 3):
        peer.send(publish("a", b"x", qos=2, packet_id=number))

        assert "PUBREC" == peer.take().kind
    peer.send(publish("a", b"x", qos=2, packet_id=4)).expect_refused(0x93)


@pytest.mark.limits(qos2_incoming_max=65535)
def test_the_default_receive_maximum_is_not_told(five):
    """A Receive Maximum of 65535 is what a client assumes: it need not be told [MQTT-3.3.4-7]."""
    peer = five.open().send(connect("c"))

    assert peer.take().receive_maximum is None


@pytest.mark.parametrize("asked", [0, 1, None])
def test_response_information_only_on_request(five, asked):
    """Response Information is never given unasked; giving none is allowed [MQTT-3.1.2-28]."""
    values = {} if asked is None else {"request_response_information": asked}
    peer = five.connected("c", **values)

    assert peer.connack.response_information is None or asked == 1


DENIED = {("publish", "no"), ("subscribe", "no"), ("publish", "no2")}


@pytest.mark.parametrize("asked", [0, 1, None])
def test_reasons_only_where_they_are_wanted(world, five, asked):
    """With Request Problem Information 0, acknowledgements carry neither Reason String nor User Property.

    [MQTT-3.1.2-29]
    """
    world.network.gate.denied = DENIED
    values = {} if asked is None else {"request_problem_information": asked}
    peer = five.connected("c", **values)
    answers = [
        peer.send(publish("no", b"x", qos=1)).take(),
        peer.send(publish("no2", b"x", qos=2, packet_id=2)).take(),
        peer.send(subscribe(("no", 0), packet_id=3)).take(),
    ]

    assert [("PUBACK", 0x87), ("PUBREC", 0x87), ("SUBACK", 0)] == [(got.kind, got.code) for got in answers]
    assert (0x87,) == answers[2].codes
    if asked == 0:
        assert [None] * 3 == [got.reason_string for got in answers]
        assert [[]] * 3 == [got.user_property for got in answers]
    assert [asked != 0] * 2 == [bool(got.reason_string) for got in answers[:2]]  # the rule that said no


def test_a_message_has_its_user_properties_in_any_case(five):
    """Request Problem Information 0 does not concern PUBLISH [MQTT-3.1.2-29] [MQTT-3.3.2-17]."""
    peer = five.subscribed(("a", 0), request_problem_information=0)
    five.connected("p").say("a", b"x", user_property=[("n", "v")])

    peer.hear("a", b"x", user_property=[("n", "v")])


@pytest.mark.parametrize("size", range(1, 24))
def test_small_clients_get_no_larger_answers(world, five, size):
    """No acknowledgement, CONNACK or DISCONNECT is larger than the client's Maximum Packet Size.

    [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
    [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    """
    world.network.gate.denied = DENIED
    peer = five.open().send(connect("c", maximum_packet_size=size))
    peer.send(publish("no", b"x", qos=1), publish("no2", b"x", qos=2, packet_id=2), subscribe(("no", 0), packet_id=3))
    peer.send(connect("c"))

    assert all(len(raw) <= size for raw in drained(peer))


@pytest.mark.parametrize("size", range(1, 24))
def test_small_clients_get_no_larger_unsuback_and_pubcomp(five, size):
    """Nor are PUBREL, PUBCOMP and UNSUBACK.

    [MQTT-3.1.2-24] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
    """
    from mesimqtt.testing.wire5 import pubrec, pubrel, unsubscribe

    peer = five.open().send(connect("c", maximum_packet_size=size))
    peer.send(unsubscribe("a", "b", packet_id=4), pubrel(9), pubrec(8))

    assert all(len(raw) <= size for raw in drained(peer))


@pytest.mark.parametrize("size", range(1, 30))
def test_small_clients_get_no_larger_auth(world, five, size):
    """Nor is AUTH [MQTT-3.1.2-24] [MQTT-3.15.2-2] [MQTT-3.15.2-3]."""
    values = {"authentication_method": "OAUTH2-JWT", "authentication_data": b"t"}
    peer = five.open().send(connect("c", maximum_packet_size=size, **values), auth(0x19, **values))

    assert all(len(raw) <= size for raw in drained(peer))


def drained(peer):
    """Return all packets that came, whole."""
    from mesimqtt.testing.parse5 import split

    peer.peer.is_over = True
    return split(peer.peer.wire.read())


def test_what_is_too_large_for_a_client_is_passed_over(five):
    """A message over the client's Maximum Packet Size is discarded as if it had been delivered; what fits comes.

    [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    """
    exact = len(publish("a", bytes(10), qos=1))
    small = five.kept("small", ("a", 1), maximum_packet_size=max(exact, 40))
    other = five.subscribed(("a", 1), client_id="other")
    sender = five.connected("p")
    frame = len(publish("a", b"", qos=1))
    for packet_id, size in enumerate((41 - frame, 40 - frame, 100, 1), start=1):
        sender.say("a", bytes(size), qos=1, packet_id=packet_id)

    small.hear("a", bytes(40 - frame), qos=1)
    small.hear("a", bytes(1), qos=1)
    small.expect_nothing()
    assert [41 - frame, 40 - frame, 100, 1] == [len(other.take().payload) for _ in range(4)]


def test_passed_over_messages_take_no_quota(five):
    """A message that was discarded for its size counts as delivered: it holds no place in the window.

    [MQTT-3.1.2-25] [MQTT-4.9.0-2]
    """
    small = five.connected("small", maximum_packet_size=40, receive_maximum=1)
    small.send(subscribe(("a", 2))).expect(suback(2))
    sender = five.connected("p")
    for number in range(1, 4):
        sender.say("a", bytes(50), qos=2, packet_id=number)
    sender.say("a", b"fits", qos=1, packet_id=4)

    small.hear("a", b"fits", qos=1)
    small.expect_nothing()


def test_a_passed_over_message_does_not_return(five):
    """A message that was discarded for its size is not sent at a reconnect with room for it [MQTT-3.1.2-25]."""
    five.kept("k", ("a", 1), maximum_packet_size=40).cut()
    sender = five.connected("p")
    sender.say("a", bytes(50), qos=1)
    five.back("k", maximum_packet_size=40).cut()
    sender.say("a", b"later", qos=1, packet_id=2)
    peer = five.back("k")

    peer.hear("a", b"later", qos=1)
    peer.expect_nothing()


def test_a_refusal_carries_no_session(world, five):
    """CONNACK with an error code has Session Present 0 [MQTT-3.2.2-6] [MQTT-3.2.2-7]."""
    five.kept("k").cut()
    world.network.gate.verdict = Refusal(5, "no")

    five.open().send(connect("k", clean=False)).expect_closed(connack(0x87))


def test_qos_2_is_granted(five):
    """A server that announces no Maximum QoS takes subscriptions at any QoS and grants it.

    [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.8.4-7]
    """
    filters = [("a", option(0)), ("b", option(1)), ("c", option(2))]

    five.connected("c").send(subscribe(*filters)).expect(suback(0, 1, 2))


@pytest.fixture
def mqtt(world):
    """Change what clients of 5.0 are told."""

    def change(**values):
        world.network.engine.mqtt = replace(world.network.engine.mqtt, **values)

    return change


def test_no_aliases_of_clients(mqtt, five):
    """A server that takes no aliases announces none, and refuses every one [MQTT-3.2.2-18] [MQTT-3.3.2-9]."""
    mqtt(topic_aliases_max=0)
    peer = five.connected("c", told={"topic_alias_maximum": None})

    peer.send(publish("a", b"x", topic_alias=1)).expect_closed(disconnect(0x94))


def test_no_aliases_of_the_server(mqtt, five):
    """A server may use fewer aliases than it is allowed, or none [MQTT-3.3.2-11]."""
    mqtt(topic_aliases_out_max=0)
    peer = five.subscribed(("a", 0), topic_alias_maximum=10)
    five.connected("p").say("a", b"x").say("a", b"y")

    peer.hear("a", b"x")
    peer.hear("a", b"y")


@pytest.mark.parametrize(("asked", "is_told"), [(None, False), (0, False), (1, True)])
def test_response_information_where_there_is_some(mqtt, five, asked, is_told):
    """Response Information is told to who asks for it, and to nobody else [MQTT-3.1.2-28]."""
    mqtt(response_information="answers/")
    values = {} if asked is None else {"request_response_information": asked}
    peer = five.open().send(connect("c", **values))

    assert is_told == bool(peer.take().response_information)


def test_a_server_that_stops_names_another(world, mqtt, five):
    """While it stops, a server refuses with 0x88 or 0x89, or 0x9C and a reference [MQTT-3.2.2-7] [MQTT-3.2.2-8]."""
    world.network.engine.draining = True
    five.open().send(connect("c")).expect_refused(0x88, 0x89, 0x8B)
    mqtt(server_reference="other.example:1883")
    got = (peer := five.open().send(connect("c"))).take()

    assert (0x9C, "other.example:1883") == (got.code, got.server_reference)
    peer.peer.expect_closed()
