"""MQTT 3.1.1, section 2: fixed header, reserved flags, remaining length, packet ids."""

from __future__ import annotations

import pytest

from conformance.wire311 import (
    CONNECTED,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    remaining_length,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)

pytestmark = [pytest.mark.sockets, pytest.mark.stateless]

# A packet of each type that a client sends behind its CONNECT, but for PUBLISH, with the flags of Table 2.2.
BODIES = {
    0x40: b"\x00\x01",
    0x50: b"\x00\x01",
    0x62: b"\x00\x01",
    0x70: b"\x00\x01",
    0x82: b"\x00\x01" + text("a") + b"\x00",
    0xA2: b"\x00\x01" + text("a"),
    0xC0: b"",
    0xE0: b"",
}
ANSWERS = {
    0x40: b"",
    0x50: pubrel(1),
    0x62: pubcomp(1),
    0x70: b"",
    0x82: suback(0),
    0xA2: unsuback(),
    0xC0: PINGRESP,
}


@pytest.mark.parametrize("first", ANSWERS, ids=hex)
def test_the_flags_of_table_2_2_are_taken(world, first):
    """A packet with the flags of Table 2.2 is taken, whether its id is in flight or not [MQTT-2.2.2-1]."""
    world.connected().send(packet(first, BODIES[first])).expect(ANSWERS[first]).expect_nothing()


@pytest.mark.parametrize(
    "first",
    [kind & 0xF0 | flags for kind in BODIES for flags in range(16) if kind & 0xF0 | flags != kind],
    ids=hex,
)
def test_any_other_flags_close(world, first):
    """Each of the fifteen other values of the reserved flags closes, at each type of packet.

    [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1]
    """
    body = next(body for kind, body in BODIES.items() if kind >> 4 == first >> 4)

    world.connected().send(packet(first, body), PINGREQ).expect_closed()


@pytest.mark.parametrize("first", [*range(0x10), *range(0xF0, 0x100)], ids=hex)
def test_types_0_and_15_are_reserved(world, first):
    """Packet types 0 and 15 are forbidden: whatever their flags, they close [MQTT-2.2.2-2] [MQTT-4.8.0-1]."""
    world.connected().send(bytes([first, 0])).expect_closed()


@pytest.mark.parametrize(
    "packets", [CONNECTED, suback(0), unsuback(), PINGRESP], ids=["CONNACK", "SUBACK", "UNSUBACK", "PINGRESP"]
)
def test_what_only_a_server_sends_closes(world, packets):
    """A packet that only a server may send is a violation when a client sends it [MQTT-4.8.0-1]."""
    world.connected().send(packets).expect_closed()


@pytest.mark.parametrize("flags", [0b0110, 0b0111, 0b1110, 0b1111], ids=bin)
def test_qos_3_closes(world, flags):
    """A PUBLISH with both QoS bits set closes, whatever DUP and RETAIN are [MQTT-3.3.1-4] [MQTT-2.2.2-2]."""
    world.connected().send(packet(0x30 | flags, text("a") + b"\x00\x01x")).expect_closed()


@pytest.mark.parametrize("flags", [0b1000, 0b1001], ids=bin)
def test_dup_at_qos_0_closes(world, flags):
    """DUP must be 0 at QoS 0; a PUBLISH that sets it is a violation [MQTT-3.3.1-2] [MQTT-4.8.0-1]."""
    world.connected().send(packet(0x30 | flags, text("a") + b"x")).expect_closed()


@pytest.mark.parametrize(
    "size", [3, 126, 127, 128, 129, 16_382, 16_383, 16_384, 16_385, 2_097_150, 2_097_151, 2_097_152, 2_097_153]
)
@pytest.mark.limits(payload_max=3_000_000, packet_max=4_000_000)
def test_a_remaining_length_of_each_size(world, size):
    """Packets around each step of the remaining length come in and go out, encoded in as few bytes as they need.

    [MQTT-2.3.1-5] [MQTT-4.3.1-1]
    """
    peer = world.subscribed(("a", 0))
    payload = b"x" * (size - 3)
    steps = sum(size > most for most in (127, 16_383, 2_097_151)) + 2

    peer.send(publish("a", payload)).expect(publish("a", payload)).expect_nothing()
    assert steps + size == len(publish("a", payload))


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
@pytest.mark.limits(payload_max=3_000_000, packet_max=4_000_000)
def test_a_packet_may_be_cut_anywhere(world, size):
    """A packet in two pieces, cut within its header, its topic, its payload or before its last byte, is one packet.

    [MQTT-7.1.1-1]
    """
    peer = world.subscribed(("a", 1))
    for number, cut in enumerate((1, 2, 3, 4, 5, 6, 8, size // 2, size)):
        whole = publish("a", number.to_bytes() + b"x" * (size - 6), qos=1, packet_id=7)
        peer.send(whole[:cut]).send(whole[cut:])
        answers = [peer.take(), peer.take()]
        answers.remove(puback(7))

        assert whole[:-size] + whole[-size:][:3] == answers[0][:-size] + answers[0][-size:][:3]
        assert whole[-size:][5:] == answers[0][-size:][5:]
        peer.send(b"\x40\x02" + answers[0][-size:][3:5])


@pytest.mark.limits(packet_max=268_435_460)
def test_the_largest_remaining_length(world):
    """268 435 455 is a legal remaining length: a PUBLISH of that size is read to its end and acknowledged.

    It is over this server's limit, and there is no packet in 3.1.1 to say so [MQTT-3.3.5-2] [MQTT-4.3.2-2].
    """
    peer = world.open().send(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c").expect(CONNECTED)
    head = b"\x32\xff\xff\xff\x7f\x00\x01a\x00\x07"
    assert b"\xff\xff\xff\x7f" == remaining_length(268_435_455)
    if not hasattr(world, "network"):  # 256 MiB through a socket take too long for a test: its first and last part do
        peer.send(head, b"x" * 100_000).cut()
        return
    peer.send(head)
    piece = bytes(1 << 22)
    left = 268_435_455 - 5
    while left > len(piece):
        peer.send(piece)
        left -= len(piece)
    peer.expect_nothing_yet()

    peer.send(piece[:left]).expect(puback(7)).expect_nothing()


@pytest.mark.parametrize("first", [0x10, 0x30, 0x82, 0xC0], ids=hex)
@pytest.mark.parametrize("length", ["ffffffff", "ffffffff00", "80808080", "8080808001"])
def test_a_remaining_length_of_five_bytes_closes(world, first, length):
    """A remaining length whose fourth byte goes on is malformed, at any packet [MQTT-4.8.0-1]."""
    world.connected().send(bytes([first]) + bytes.fromhex(length)).expect_closed()


def test_a_connect_with_a_remaining_length_of_five_bytes_closes(world):
    """Also in the first packet [MQTT-4.8.0-1] [MQTT-3.1.4-1]."""
    world.open().send(b"\x10\x8d\x80\x80\x80\x00").expect_closed()


@pytest.mark.parametrize(
    "wrong",
    [
        packet(0xC0, b"x"),
        packet(0xE0, b"x"),
        packet(0x40, b"\x00"),
        packet(0x40, b"\x00\x01\x00"),
        packet(0x40),
        packet(0x50, b"\x00"),
        packet(0x62, b"\x00\x01\x00"),
        packet(0x70),
        packet(0x30),
        packet(0x30, b"\x00"),
        packet(0x30, b"\x00\x02a"),
        packet(0x32, text("a")),
        packet(0x32, text("a") + b"\x00"),
        packet(0x82),
        packet(0x82, b"\x00"),
        packet(0x82, b"\x00\x01\x00"),
        packet(0x82, b"\x00\x01\x00\x05a\x00"),
        packet(0x82, b"\x00\x01" + text("a")),
        packet(0xA2),
        packet(0xA2, b"\x00\x01\x00\x02a"),
    ],
    ids=lambda wrong: wrong.hex(),
)
def test_a_packet_that_does_not_fill_its_length_closes(world, wrong):
    """Fields that end before their packet, or go past it, are a violation [MQTT-4.8.0-1]."""
    world.connected().send(wrong, PINGREQ).expect_closed()


@pytest.mark.parametrize(
    "wrong",
    [
        publish("a", qos=1, packet_id=0),
        publish("a", qos=2, packet_id=0),
        subscribe(("a", 0), packet_id=0),
        unsubscribe("a", packet_id=0),
        puback(0),
        pubrec(0),
        pubrel(0),
        pubcomp(0),
    ],
    ids=lambda wrong: wrong[:1].hex(),
)
def test_packet_id_0_closes(world, wrong):
    """A packet id is never 0 [MQTT-2.3.1-1] [MQTT-4.8.0-1]."""
    world.connected().send(wrong, PINGREQ).expect_closed()


@pytest.mark.parametrize("number", [1, 2, 255, 256, 32_767, 32_768, 65_534, 65_535])
def test_an_answer_has_the_packet_id_of_its_question(world, number):
    """Every acknowledgement carries the packet id that it was asked with, up to 65535.

    [MQTT-2.3.1-6] [MQTT-2.3.1-7] [MQTT-3.8.4-2] [MQTT-3.10.4-4]
    """
    peer = world.connected()
    peer.send(publish("a", qos=1, packet_id=number)).expect(puback(number))
    peer.send(publish("a", qos=2, packet_id=number)).expect(pubrec(number))
    peer.send(pubrel(number)).expect(pubcomp(number))
    peer.send(subscribe(("b", 2), packet_id=number)).expect(suback(2, packet_id=number))

    peer.send(unsubscribe("b", packet_id=number)).expect(unsuback(number)).expect_nothing()


def test_directions_and_types_have_ids_of_their_own(world):
    """The client's packet id 1 may be in use for a PUBLISH while the server uses it too.

    [MQTT-2.3.1-4] [MQTT-4.3.3-2]
    """
    peer = world.subscribed(("a", 2))
    peer.send(publish("a", b"x", qos=2, packet_id=1))
    answers = sorted([peer.take(), peer.take()])
    number = int.from_bytes(answers[0][5:7])
    assert publish("a", b"x", qos=2, packet_id=number) == answers[0]
    assert pubrec(1) == answers[1]
    peer.send(publish("b", qos=2, packet_id=number or 1)).expect(pubrec(number))

    peer.send(pubrec(number)).expect(pubrel(number))
    peer.send(pubrel(number), pubrel(1)).expect(pubcomp(number), pubcomp(1))
    peer.send(pubcomp(number)).expect_nothing()


def test_disconnect_is_not_answered(world):
    """DISCONNECT closes without an answer, and what follows it is not processed [MQTT-3.14.1-1]."""
    watcher = world.subscribed(("a", 0))
    world.connected().send(DISCONNECT, publish("a", b"late")).expect_closed()

    watcher.expect_nothing()


def test_pingreq_is_answered(world):
    """Each PINGREQ gets a PINGRESP [MQTT-3.12.4-1]."""
    world.connected().send(PINGREQ, PINGREQ, PINGREQ).expect(PINGRESP, PINGRESP, PINGRESP).expect_nothing()
