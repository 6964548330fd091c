"""MQTT 5.0, sections 3.4 to 3.7 and 4.3: the exchanges of QoS 1 and 2 in both directions."""

from __future__ import annotations

import pytest

from mesimqtt.testing.wire5 import REASONS, disconnect, packet, puback, pubcomp, publish, pubrec, pubrel

REASON = {"reason_string": "because", "user_property": [("n", "v"), ("n", "w")]}
FORMS = {"short": lambda _: {}, "with properties": lambda _: REASON}
REFUSALS = sorted(code for code in REASONS["PUBREC"] if code >= 0x80)


@pytest.mark.sockets
def test_qos_1_from_a_client(five):
    """Each PUBLISH gets one PUBACK; after it, the same packet id is a new message, whatever DUP.

    [MQTT-2.2.1-5] [MQTT-3.3.4-1] [MQTT-3.4.2-1] [MQTT-4.3.2-4] [MQTT-4.3.2-5]
    """
    watcher = five.subscribed(("a", 0))
    five.connected("p").say("a", b"1", qos=1).say("a", b"2", qos=1).say("a", b"2", qos=1, dup=True)

    assert [b"1", b"2", b"2"] == [message.payload for message in watcher.messages(3)]


@pytest.mark.sockets
def test_qos_2_from_a_client(five):
    """Until PUBREL, the same packet id is the same message; after PUBCOMP, it is a new one.

    [MQTT-3.5.2-1] [MQTT-3.7.2-1] [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]
    """
    watcher = five.subscribed(("a", 0))
    peer = five.connected("p")
    for _ in range(2):
        peer.send(publish("a", b"x", qos=2))
        first = peer.take()
        peer.send(publish("a", b"x", qos=2, dup=True))
        again = peer.take()

        assert [("PUBREC", 1), ("PUBREC", 1)] == [(got.kind, got.packet_id) for got in (first, again)]
        peer.send(pubrel(1)).expect(pubcomp(1))
        watcher.hear("a", b"x")
    watcher.expect_nothing()


def test_a_qos_2_resend_without_dup(five):
    """What counts is the packet id, not DUP [MQTT-4.3.3-10]."""
    watcher = five.subscribed(("a", 0))
    peer = five.connected("p")
    for _ in range(3):
        peer.send(publish("a", b"x", qos=2))
        got = peer.take()

        assert got.kind == "PUBREC"
        assert got.code in {0, 0x10, 0x91}
    watcher.hear("a", b"x")
    watcher.expect_nothing()


def test_nobody_there_is_no_error(five):
    """Without subscribers PUBACK and PUBREC say 0x00 or 0x10; with one, 0x00 [MQTT-3.4.2-1] [MQTT-3.5.2-1]."""
    peer = five.connected("p").say("nobody", b"x", qos=1).say("nobody", b"x", qos=2)
    five.subscribed(("a", 0))

    peer.send(publish("a", b"x", qos=1)).expect(puback(1))
    peer.send(publish("a", b"x", qos=2)).expect(pubrec(1)).send(pubrel(1)).expect(pubcomp(1))
    five.world._peers[-1].take()
    five.world._peers[-1].take()


@pytest.mark.parametrize("kind", ["PUBREL"])
@pytest.mark.parametrize("code", [None, 0, 0x92])
@pytest.mark.parametrize("values", [{}, REASON], ids=["plain", "reason"])
def test_every_form_of_pubrel(five, kind, code, values):
    """PUBREL of 2 bytes, with a code, and with properties: all of them end the exchange.

    [MQTT-3.6.2-1] [MQTT-4.3.3-11]
    """
    peer = five.connected("p").send(publish("a", b"x", qos=2))

    assert "PUBREC" == peer.take().kind
    peer.send(pubrel(1, code, **values)).expect(pubcomp(1))


@pytest.mark.sockets
@pytest.mark.parametrize("code", [None, *sorted(REASONS["PUBACK"])])
@pytest.mark.parametrize("values", [{}, REASON], ids=["plain", "reason"])
def test_every_form_of_puback(five, code, values):
    """Each form and code of PUBACK acknowledges: the next message has room.

    [MQTT-3.4.2-1] [MQTT-4.3.2-3] [MQTT-4.4.0-2]
    """
    peer = five.subscribed(("a", 1), receive_maximum=1)
    sender = five.connected("p").say("a", b"1", qos=1).say("a", b"2", qos=1)
    number = peer.hear("a", b"1", qos=1, answers=False).packet_id
    peer.send(puback(number, code, **values))

    peer.hear("a", b"2", qos=1)
    sender.expect_nothing()


@pytest.mark.parametrize("code", [None, 0, 0x10])
@pytest.mark.parametrize("values", [{}, REASON], ids=["plain", "reason"])
def test_every_form_of_pubrec_that_goes_on(five, code, values):
    """A PUBREC below 0x80 is answered with PUBREL with the same packet id.

    [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-4.3.3-4]
    """
    peer = five.subscribed(("a", 2))
    five.connected("p").say("a", b"1", qos=2)
    number = peer.hear("a", b"1", qos=2, answers=False).packet_id

    peer.send(pubrec(number, code, **values)).expect(pubrel(number)).send(pubcomp(number)).expect_nothing()


@pytest.mark.sockets
@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("values", [{}, REASON], ids=["plain", "reason"])
def test_a_pubrec_that_refuses_ends_the_exchange(five, code, values):
    """A PUBREC from 0x80 up ends the exchange: no PUBREL, and its place in the window is free.

    [MQTT-3.3.4-9] [MQTT-4.3.3-4] [MQTT-4.4.0-2]
    """
    peer = five.subscribed(("a", 2), receive_maximum=1)
    five.connected("p").say("a", b"1", qos=2).say("a", b"2", qos=2)
    number = peer.hear("a", b"1", qos=2, answers=False).packet_id
    peer.send(pubrec(number, code, **values))

    peer.hear("a", b"2", qos=2)
    peer.expect_nothing()


@pytest.mark.parametrize("code", [None, 0, 0x92])
@pytest.mark.parametrize("values", [{}, REASON], ids=["plain", "reason"])
def test_every_form_of_pubcomp(five, code, values):
    """Each form of PUBCOMP ends the exchange [MQTT-3.7.2-1] [MQTT-4.3.3-5]."""
    peer = five.subscribed(("a", 2), receive_maximum=1)
    five.connected("p").say("a", b"1", qos=2).say("a", b"2", qos=2)
    number = peer.hear("a", b"1", qos=2, answers=False).packet_id
    peer.send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number, code, **values))

    peer.hear("a", b"2", qos=2)


@pytest.mark.sockets
@pytest.mark.parametrize("number", [1, 5, 65535])
def test_an_unknown_pubrel_is_answered_so(five, number):
    """PUBREL for a packet id that is not in use: PUBCOMP 0x92, and the connection lives.

    [MQTT-3.7.2-1] [MQTT-4.3.3-11]
    """
    five.connected("p").send(pubrel(number)).expect(pubcomp(number, 0x92)).expect_nothing()


@pytest.mark.parametrize("number", [1, 5, 65535])
def test_an_unknown_pubrec_is_answered_so(five, number):
    """PUBREC for a packet id that is not in use: PUBREL 0x92 [MQTT-3.6.2-1]."""
    five.connected("p").send(pubrec(number)).expect(pubrel(number, 0x92)).send(pubcomp(number, 0x92)).expect_nothing()


@pytest.mark.parametrize("raw", [puback(9), pubcomp(9), puback(9, 0x80), pubrec(9, 0x80)], ids=bytes.hex)
def test_other_unknown_acknowledgements_are_passed_over(five, raw):
    """PUBACK and PUBCOMP for nothing change nothing [MQTT-4.4.0-1]."""
    five.connected("p").send(raw).expect_nothing()


BAD_CODES = [
    *(("PUBACK", code) for code in (1, 2, 0x11, 0x18, 0x81, 0x82, 0x92, 0x93, 0xFF)),
    *(("PUBREC", code) for code in (1, 0x11, 0x92, 0x9B)),
    *(("PUBREL", code) for code in (1, 0x10, 0x80, 0x91)),
    *(("PUBCOMP", code) for code in (1, 0x10, 0x80, 0x91)),
]


@pytest.mark.parametrize(("kind", "code"), BAD_CODES)
def test_a_reason_code_that_is_none_is_refused(five, kind, code):
    """A reason code that the packet does not have is a Protocol Error.

    [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    """
    from mesimqtt.testing.wire5 import ack

    peer = five.subscribed(("a", 2))
    five.connected("p").say("a", b"1", qos=2)
    number = peer.hear("a", b"1", qos=2, answers=False).packet_id

    peer.send(ack(kind, number, code)).expect_refused(0x81, 0x82)


@pytest.mark.parametrize("first", [0x40, 0x50, 0x62, 0x70])
@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\0\1\0\1", b"\0\1\0\0\0", b"\0\1\0\2\x1f\0", b"\0\0", b"\0\0\0"], ids=bytes.hex
)
def test_acknowledgements_that_are_malformed(five, first, body):
    """Too short, packet id 0, properties that are none, or bytes behind them: malformed [MQTT-4.13.1-1]."""
    five.connected().send(packet(first, body)).expect_refused(0x81, 0x82)


WRONG_KINDS = [(2, puback), (1, pubrec), (2, pubcomp), (1, pubcomp)]


@pytest.mark.sockets
@pytest.mark.parametrize(("qos", "wrong"), WRONG_KINDS, ids=lambda item: getattr(item, "__name__", item))
@pytest.mark.parametrize("code", [None, 0])
def test_an_acknowledgement_of_the_wrong_kind(five, qos, wrong, code):
    """PUBACK for a QoS 2 delivery, PUBREC for a QoS 1 delivery, PUBCOMP before PUBREL: a Protocol Error.

    The message is not lost: it comes again with the session [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.13.1-1].
    """
    sender = five.connected("p")
    peer = five.kept("k", ("a", qos))
    sender.say("a", b"x", qos=qos)
    number = peer.hear("a", b"x", qos=qos, answers=False).packet_id
    peer.send(wrong(number, code)).expect_refused(0x82)
    peer = five.back("k")
    peer.hear("a", b"x", qos=qos, dup=True)
    peer.leave(0, session_expiry_interval=0)


@pytest.mark.parametrize(("qos", "wrong"), WRONG_KINDS, ids=lambda item: getattr(item, "__name__", item))
def test_an_acknowledgement_of_the_wrong_kind_in_a_clean_session(five, qos, wrong):
    """It is a Protocol Error there, too; also PUBACK after PUBREC [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.13.1-1]."""
    sender = five.connected("p")
    peer = five.subscribed(("a", qos))
    sender.say("a", b"x", qos=qos)
    number = peer.hear("a", b"x", qos=qos, answers=False).packet_id
    if wrong is puback:
        peer.send(pubrec(number)).expect(pubrel(number))
    peer.send(wrong(number)).expect_refused(0x82)


@pytest.mark.parametrize("expiry", [0, 3600])
def test_a_pubrec_that_refuses_a_qos_1_delivery(five, expiry):
    """PUBREC with an error for a QoS 1 delivery is a Protocol Error as well [MQTT-4.3.2-3] [MQTT-4.13.1-1]."""
    peer = five.kept("k", ("a", 1), expiry=expiry)
    five.connected("p").say("a", b"x", qos=1)
    number = peer.hear("a", b"x", qos=1, answers=False).packet_id
    peer.send(pubrec(number, 0x80)).expect_refused(0x82)


@pytest.mark.parametrize(("qos", "answer"), [(1, puback), (2, pubrec)])
def test_a_denied_publish_is_told_and_the_connection_lives(world, five, qos, answer):
    """A publish that is denied gets 0x87; the packet id is free at once, and the message reaches nobody.

    [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-4.3.3-9]
    """
    world.network.gate.denied = {("publish", "no")}
    watcher = five.subscribed(("#", 0))
    peer = five.connected("p").send(publish("no", b"x", qos=qos)).expect(answer(1, 0x87))
    world.network.gate.denied = set()
    peer.say("a", b"y", qos=qos)

    watcher.hear("a", b"y")
    watcher.expect_nothing()
    peer.expect_nothing()


def test_a_denied_publish_at_qos_0_is_dropped(world, five):
    """At QoS 0 there is no answer; the message is dropped and the connection lives [MQTT-3.3.4-1]."""
    world.network.gate.denied = {("publish", "no")}
    watcher = five.subscribed(("no", 0))
    five.connected("p").send(publish("no", b"x")).expect_nothing()

    watcher.expect_nothing()


def test_a_refused_qos_2_is_a_new_message_the_next_time(world, five):
    """After PUBREC 0x87 the same packet id is a new message, DUP or not; PUBREL for it is unknown [MQTT-4.3.3-9]."""
    world.network.gate.denied = {("publish", "no")}
    watcher = five.subscribed(("a", 0))
    peer = five.connected("p").send(publish("no", b"x", qos=2, packet_id=3)).expect(pubrec(3, 0x87))
    peer.send(pubrel(3)).expect(pubcomp(3, 0x92))
    peer.send(publish("a", b"y", qos=2, packet_id=3, dup=True)).expect(pubrec(3)).send(pubrel(3)).expect(pubcomp(3))

    watcher.hear("a", b"y")


@pytest.mark.sockets
@pytest.mark.parametrize("qos", [1, 2])
def test_packet_ids_of_the_server(five, qos):
    """Packet ids of deliveries in flight are not 0 and all different; both directions are independent.

    [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2]
    """
    peer = five.subscribed(("a", qos))
    sender = five.connected("p")
    for number in range(1, 21):
        sender.say("a", b"x", qos=qos, packet_id=number)
    found = peer.messages(20)

    assert 20 == len({message.packet_id for message in found})
    assert {(qos, False)} == {(message.qos, message.dup) for message in found}
    peer.say("b", b"y", qos=qos, packet_id=found[0].packet_id)
    for message in found:
        peer.send(puback(message.packet_id) if qos == 1 else pubrec(message.packet_id, 0x83))
    peer.expect_nothing()


def test_packet_ids_wrap_around_what_is_in_flight(world, five):
    """After all packet ids were used once, one that is still in flight is not used again.

    [MQTT-2.2.1-4] [MQTT-4.3.2-1]
    """
    peer = five.subscribed(("a", 1))
    sender = five.connected("p")
    sender.say("a", b"held", qos=1)
    held = peer.hear("a", b"held", qos=1, answers=False).packet_id
    for _ in range(66_000 // 60):
        sender.send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, 61)))
        for _ in range(60):
            sender.peer.take()
        seen = [peer.peer.take() for _ in range(60)]
        numbers = [raw[5:7] for raw in seen]

        assert held.to_bytes(2) not in numbers
        peer.send(*(b"\x40\x02" + number for number in numbers))
    peer.send(puback(held)).expect_nothing()


def test_too_many_unfinished_qos_2_messages(five):
    """More than the announced Receive Maximum costs the connection, with 0x93 [MQTT-3.3.4-7] [MQTT-4.13.1-1]."""
    peer = five.connected("p").send(*(publish("a", b"x", qos=2, packet_id=number) for number in range(1, 1001)))
    for _ in range(1000):
        peer.take()

    peer.send(publish("a", b"x", qos=2, packet_id=1001)).expect_closed(disconnect(0x93))
