"""MQTT 3.1.1, sections 4.3, 4.4 and 4.6: the delivery protocols, both directions, and what is sent again."""

from __future__ import annotations

import pytest

from conformance.wire311 import puback, pubcomp, publish, pubrec, pubrel, suback, subscribe

pytestmark = pytest.mark.sockets


def kept(world, *filters):
    """A client whose session is kept, subscribed."""
    return world.subscribed(*filters, clean=False)


def back(world):
    """The same client, back."""
    return world.connected("s", clean=False, resumed=True)


def test_qos_1_in(world):
    """Each PUBLISH at QoS 1 is acknowledged and is a message of its own, DUP or not, also with a packet id used before.

    [MQTT-4.3.2-2] [MQTT-2.3.1-6]
    """
    receiver = world.subscribed(("a", 0))
    sender = world.connected("p")
    for dup in (False, True, True):
        sender.send(publish("a", b"x", qos=1, packet_id=7, dup=dup)).expect(b"\x40\x02\x00\x07")

    receiver.expect(publish("a", b"x") * 3).expect_nothing()


def test_qos_2_in(world):
    """A PUBLISH at QoS 2 is answered PUBREC, PUBREL is answered PUBCOMP, and the message is delivered once.

    [MQTT-4.3.3-2] [MQTT-2.3.1-6]
    """
    receiver = world.subscribed(("a", 0))
    sender = world.connected("p")
    sender.send(publish("a", b"x", qos=2, packet_id=258)).expect(b"\x50\x02\x01\x02")
    sender.send(b"\x62\x02\x01\x02").expect(b"\x70\x02\x01\x02")

    receiver.expect(publish("a", b"x")).expect_nothing()


def test_qos_2_in_sent_again_before_pubrel(world):
    """Until PUBREL the same packet id is the same message: PUBREC each time, delivered once, DUP or not.

    [MQTT-4.3.3-2]
    """
    receiver = world.subscribed(("a", 0))
    sender = world.connected("p")
    for dup in (False, True, True, False):
        sender.send(publish("a", b"x", qos=2, packet_id=7, dup=dup)).expect(pubrec(7))
    sender.send(pubrel(7)).expect(pubcomp(7))

    receiver.expect(publish("a", b"x")).expect_nothing()


def test_qos_2_in_with_the_same_id_after_pubcomp(world):
    """After PUBCOMP the same packet id is a new message, also with DUP [MQTT-4.3.3-2]."""
    receiver = world.subscribed(("a", 0))
    sender = world.connected("p")
    for dup in (False, True):
        sender.send(publish("a", b"x", qos=2, packet_id=7, dup=dup)).expect(pubrec(7))
        sender.send(pubrel(7)).expect(pubcomp(7))

    receiver.expect(publish("a", b"x") * 2).expect_nothing()


def test_pubrel_again_is_answered_again(world):
    """A PUBREL that comes again, or for an id that nobody knows, is answered PUBCOMP: the sender must come to an end.

    [MQTT-4.3.3-2]
    """
    sender = world.connected("p")
    sender.send(publish("a", qos=2, packet_id=7)).expect(pubrec(7))

    sender.send(pubrel(7), pubrel(7), pubrel(99)).expect(pubcomp(7), pubcomp(7), pubcomp(99)).expect_nothing()


@pytest.mark.disk
def test_qos_2_in_goes_on_over_a_reconnect(world):
    """A packet id between PUBREC and PUBREL survives the connection: sent again it is no second message.

    [MQTT-4.3.3-2] [MQTT-4.1.0-1] [MQTT-4.4.0-1] [MQTT-3.1.2-4]
    """
    receiver = world.subscribed(("a", 0), client_id="r")
    sender = world.connected("p", clean=False)
    sender.send(publish("a", b"x", qos=2, packet_id=7)).expect(pubrec(7)).cut()
    sender = world.connected("p", clean=False, resumed=True)
    sender.send(publish("a", b"x", qos=2, packet_id=7, dup=True)).expect(pubrec(7))
    sender.send(pubrel(7)).expect(pubcomp(7)).cut()
    sender = world.connected("p", clean=False, resumed=True)
    sender.send(pubrel(7)).expect(pubcomp(7))

    receiver.expect(publish("a", b"x")).expect_nothing()


def test_a_clean_session_forgets_ids_at_qos_2(world):
    """With CleanSession 1 a packet id of the connection before is a new message [MQTT-3.1.2-6] [MQTT-4.3.3-2]."""
    receiver = world.subscribed(("a", 0), client_id="r")
    world.connected("p").send(publish("a", b"x", qos=2, packet_id=7)).expect(pubrec(7)).cut()
    world.connected("p").send(publish("a", b"y", qos=2, packet_id=7)).expect(pubrec(7))

    receiver.expect(publish("a", b"x"), publish("a", b"y")).expect_nothing()


def test_exchanges_may_be_interleaved(world):
    """Exchanges at QoS 2 run side by side, each to its own end [MQTT-4.3.3-2] [MQTT-2.3.1-6]."""
    sender = world.connected("p")
    sender.send(*(publish("a", qos=2, packet_id=number) for number in (1, 2, 3)), publish("a", qos=1, packet_id=1))
    sender.expect(pubrec(1), pubrec(2), pubrec(3), puback(1))

    sender.send(pubrel(3), pubrel(1), pubrel(2)).expect(pubcomp(3), pubcomp(1), pubcomp(2)).expect_nothing()


def test_qos_2_out(world):
    """The server answers PUBREC with PUBREL of the same packet id; nothing is sent again on a live connection.

    [MQTT-4.3.3-1] [MQTT-2.3.1-6] [MQTT-4.4.0-1]
    """
    receiver = world.subscribed(("a", 2))
    world.connected("p").send(publish("a", b"x", qos=2, packet_id=3)).expect(pubrec(3))
    number = receiver.expect_publish("a", b"x", qos=2)
    receiver.expect_nothing().send(pubrec(number)).expect(b"\x62\x02" + number.to_bytes(2)).expect_nothing()

    receiver.send(pubcomp(number)).expect_nothing()


def test_pubrec_again_is_answered_again(world):
    """A PUBREC that comes again, or for an unknown id, is answered PUBREL [MQTT-4.3.3-1]."""
    receiver = world.subscribed(("a", 2))
    world.connected("p").send(publish("a", b"x", qos=2, packet_id=3)).expect(pubrec(3))
    number = receiver.expect_publish("a", b"x", qos=2)

    receiver.send(pubrec(number), pubrec(number)).expect(pubrel(number), pubrel(number))
    receiver.send(pubcomp(number), pubrec(number), pubrec(77)).expect(pubrel(number), pubrel(77)).expect_nothing()


def test_acknowledgements_of_nothing_are_ignored(world):
    """A PUBACK or PUBCOMP of an id that is not in flight changes nothing [MQTT-4.3.2-1] [MQTT-4.3.3-1]."""
    world.subscribed(("a", 2)).send(puback(9), pubcomp(9), puback(65_535)).expect_nothing()


@pytest.mark.parametrize("is_kept", [False, True], ids=["clean", "kept"])
@pytest.mark.parametrize(
    ("qos", "wrong"),
    [(1, pubrec), (1, pubcomp), (2, puback), (2, pubcomp)],
    ids=lambda item: getattr(item, "__name__", item),
)
def test_an_acknowledgement_of_another_kind_closes(world, qos, wrong, is_kept):
    """Who answers QoS 1 with PUBREC or PUBCOMP, QoS 2 with PUBACK or with PUBCOMP before PUBREL, breaks the protocol.

    [MQTT-4.8.0-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
    """
    receiver = kept(world, ("a", qos)) if is_kept else world.subscribed(("a", qos))
    world.connected("p").send(publish("a", b"x", qos=2, packet_id=3)).expect(pubrec(3))
    number = receiver.expect_publish("a", b"x", qos=qos)

    receiver.send(wrong(number)).expect_closed()


def test_a_puback_after_pubrec_closes(world):
    """The same holds for PUBACK once PUBREL is out [MQTT-4.8.0-1] [MQTT-4.3.3-2]."""
    receiver = world.subscribed(("a", 2))
    world.connected("p").send(publish("a", b"x", qos=2, packet_id=3)).expect(pubrec(3))
    number = receiver.expect_publish("a", b"x", qos=2)

    receiver.send(pubrec(number)).expect(pubrel(number)).send(puback(number)).expect_closed()


def test_ids_in_flight_are_unused_ones(world):
    """Each message in flight has a packet id of its own; an id is used again only after its acknowledgement.

    [MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
    """
    receiver = world.subscribed(("a", 1), ("b", 2))
    sender = world.connected("p")
    for number in range(20):
        sender.send(publish("ab"[number % 2], b"%d" % number, qos=2, packet_id=number + 1)).expect(pubrec(number + 1))
    ids = [receiver.expect_publish("ab"[number % 2], b"%d" % number, qos=1 + number % 2) for number in range(20)]

    assert 20 == len(set(ids))
    for position, number in enumerate(ids):
        if position % 2:
            receiver.send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number))
        else:
            receiver.send(puback(number))


@pytest.mark.disk
def test_qos_1_out_is_sent_again(world):
    """What a client has not acknowledged is sent again when it comes back: same id, same bytes, DUP 1, in order.

    [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-2.3.1-4] [MQTT-4.6.0-1] [MQTT-4.3.2-1] [MQTT-4.1.0-1]
    """
    receiver = kept(world, ("a", 1))
    sender = world.connected("p")
    for number in range(5):
        sender.send(publish("a", b"%d" % number, qos=1, packet_id=9)).expect(puback(9))
    ids = [receiver.expect_publish("a", b"%d" % number, qos=1) for number in range(5)]
    receiver.send(puback(ids[1]))
    world.settle()
    receiver.cut()
    receiver = back(world)
    for position in (0, 2, 3, 4):
        receiver.expect(publish("a", b"%d" % position, qos=1, packet_id=ids[position], dup=True))
    receiver.expect_nothing().send(*(puback(number) for number in ids)).expect_nothing().cut()

    back(world).expect_nothing()


@pytest.mark.disk
def test_qos_2_out_is_sent_again(world):
    """Before PUBREC the PUBLISH is sent again with DUP 1, after it the PUBREL, and never again the PUBLISH.

    [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.3-1] [MQTT-2.3.1-4] [MQTT-4.6.0-1]
    """
    receiver = kept(world, ("a", 2))
    sender = world.connected("p")
    for number in range(4):
        sender.send(publish("a", b"%d" % number, qos=2, packet_id=number + 1)).expect(pubrec(number + 1))
    ids = [receiver.expect_publish("a", b"%d" % number, qos=2) for number in range(4)]
    for position in (0, 1):
        receiver.send(pubrec(ids[position])).expect(pubrel(ids[position]))
    receiver.send(pubcomp(ids[0]))
    world.settle()
    receiver.cut()
    receiver = back(world)
    again = [publish("a", b"%d" % position, qos=2, packet_id=ids[position], dup=True) for position in (2, 3)]
    receiver.expect_any_order(pubrel(ids[1]), *again)
    receiver.send(pubcomp(ids[1]))
    for number in ids[2:]:
        receiver.send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number))
    receiver.expect_nothing().cut()

    back(world).expect_nothing()


@pytest.mark.disk
def test_what_is_sent_again_comes_before_what_is_new(world):
    """Unacknowledged messages come again before those that were published while the client was away.

    [MQTT-4.6.0-1] [MQTT-4.6.0-6] [MQTT-3.1.2-5]
    """
    receiver = kept(world, ("a", 1))
    sender = world.connected("p")
    sender.send(publish("a", b"1", qos=1)).expect(puback(1))
    first = receiver.expect_publish("a", b"1", qos=1)
    receiver.cut()
    sender.send(publish("a", b"2", qos=1)).expect(puback(1))
    receiver = back(world).expect(publish("a", b"1", qos=1, packet_id=first, dup=True))
    second = receiver.expect_publish("a", b"2", qos=1)

    assert first != second
    receiver.send(puback(first), puback(second)).expect_nothing()


def test_subscriptions_do_not_send_again(world):
    """Only a reconnect sends again: not a SUBSCRIBE, not a PINGREQ [MQTT-4.4.0-1]."""
    receiver = kept(world, ("a", 1))
    world.connected("p").send(publish("a", b"1", qos=1)).expect(puback(1))
    number = receiver.expect_publish("a", b"1", qos=1)
    receiver.send(subscribe(("a", 1), packet_id=2)).expect(suback(1, packet_id=2)).expect_nothing()

    receiver.send(puback(number)).expect_nothing()
