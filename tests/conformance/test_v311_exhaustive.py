"""MQTT 3.1.1: what can be tried out in full - every connect flag, every way to cut a stream, every packet id."""

from __future__ import annotations

import itertools

import pytest

from conformance.peer import EngineWorld
from conformance.wire311 import (
    CONNECTED,
    PINGREQ,
    PINGRESP,
    connect,
    packet,
    packet_id_of,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)


def is_legal(flags):
    """Tell from the rules of section 3.1.2 alone whether connect flags may be."""
    has_will, qos, keeps_will = flags & 4, flags >> 3 & 3, flags & 0x20
    has_user, has_password = flags & 0x80, flags & 0x40
    return not flags & 1 and qos < 3 and (has_will or not (qos or keeps_will)) and (has_user or not has_password)


@pytest.mark.stateless
@pytest.mark.parametrize("flags", range(256), ids=hex)
def test_every_byte_of_connect_flags(world, flags):
    """Of the 256 connect flags those that obey the rules are accepted, with the fields they announce; others close.

    [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-18]
    [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.2-22] [MQTT-3.1.3-1] [MQTT-3.1.4-4]
    """
    fields = text("id")
    fields += text("w") + text("gone") if flags & 4 else b""
    fields += text("u") if flags & 0x80 else b""
    fields += text("p") if flags & 0x40 else b""
    peer = world.open().send(packet(0x10, b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c" + fields))
    if not is_legal(flags):
        peer.expect_closed()
        return
    peer.expect(CONNECTED).expect_nothing()
    request = world.network.gate.requests[-1]

    assert ("u" if flags & 0x80 else None, b"p" if flags & 0x40 else None) == (request.username, request.password)
    assert bool(flags & 2) == request.clean_start


TALK = [
    connect("c"),
    subscribe(("a/+", 2), ("b", 0), packet_id=10),
    publish("a/x", b"payload"),
    publish("b", b"x" * 200, qos=1, packet_id=3),
    publish("none", b"", qos=2, packet_id=4, retain=True),
    pubrel(4),
    PINGREQ,
    unsubscribe("b", packet_id=11),
    publish("b", b"", qos=1, packet_id=5),
    subscribe(("none", 1), packet_id=12),
    pubrel(4),
]
ANSWERS = [
    CONNECTED,
    suback(2, 0, packet_id=10),
    publish("a/x", b"payload"),
    publish("b", b"x" * 200),
    puback(3),
    pubrec(4),
    pubcomp(4),
    PINGRESP,
    unsuback(11),
    puback(5),
    suback(1, packet_id=12),
    pubcomp(4),
]


@pytest.mark.sockets
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16, 64, 100_000])
def test_however_a_stream_is_cut_it_says_the_same(world, size):
    """A conversation gets the same answers whether it comes in one piece or in pieces of any size [MQTT-7.1.1-1]."""
    stream, peer = b"".join(TALK), world.open()
    for start in range(0, len(stream), size):
        peer.send(stream[start : start + size])

    assert sorted(ANSWERS) == sorted(peer.take() for _ in ANSWERS)
    peer.leave()


@pytest.mark.parametrize("whole", TALK, ids=lambda whole: whole[:1].hex())
def test_no_part_of_a_packet_is_a_packet(world, whole):
    """Whatever comes of a packet but its last byte is not acted on, and the last byte is enough [MQTT-7.1.1-1]."""
    watcher = world.subscribed(("#", 0), client_id="watcher")
    peer = world.open() if whole is TALK[0] else world.connected("c")
    for byte in whole[:-1]:
        peer.send(bytes([byte])).expect_nothing_yet()
    watcher.expect_nothing()

    assert peer.send(whole[-1:]).wire.read() or whole[0] >> 4 == 3
    if whole[0] >> 4 == 3:
        watcher.take()


def finish_exchange(receiver, *ids, qos):
    """Acknowledge messages to the end of their exchanges."""
    if qos == 1:
        receiver.send(*map(puback, ids))
    else:
        receiver.send(*map(pubrec, ids)).expect(*map(pubrel, ids)).send(*map(pubcomp, ids))


@pytest.mark.parametrize("is_clean", [True, False], ids=["clean", "kept"])
@pytest.mark.parametrize("qos", [1, 2])
def test_packet_ids_go_round(is_clean, qos):
    """After 65535 messages the ids begin anew: never 0, and never one that is still in flight.

    [MQTT-2.3.1-1] [MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
    """
    world = EngineWorld(is_stored=not is_clean)
    receiver = world.subscribed(("a", qos), clean=is_clean)
    sender = world.connected("p")
    one = publish("a", b"stays", qos=1) if qos == 1 else publish("a", b"stays", qos=2, packet_id=60_000)
    sender.send(one).take()
    stays = receiver.expect_publish("a", b"stays", qos=qos)
    seen = set()
    for start in range(0, 33_600, 60):
        if start == 32_400 and not is_clean:  # a kept queue waits for its oldest message rather than use its id again
            finish_exchange(receiver, stays, qos=qos)
            stays = 0
        sender.send(*(publish("a", b"x", qos=qos, packet_id=start + number + 1) for number in range(60)))
        sender.wire.read()
        if qos == 2:
            sender.send(*(pubrel(start + number + 1) for number in range(60))).wire.read()
        raw = receiver.wire.read()
        ids = [int.from_bytes(raw[at + 5 : at + 7]) for at in range(0, len(raw), 8)]
        assert 60 == len(set(ids))
        assert not {0, stays} & set(ids)
        seen |= set(ids)
        finish_exchange(receiver, *ids, qos=qos)
    world.finish()

    assert len(seen) > 32_000


@pytest.mark.sockets
@pytest.mark.parametrize(("qos", "is_clean"), list(itertools.product((1, 2), (True, False))))
def test_what_does_not_fit_in_flight_waits(world, qos, is_clean):
    """However many messages a client has not acknowledged, the others wait and come in their order.

    [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.6.0-6]
    """
    receiver = world.subscribed(("a", qos), clean=is_clean)
    sender = world.connected("p")
    sender.send(*(publish("a", b"%03d" % number, qos=1, packet_id=number + 1) for number in range(300)))
    sender.expect(*(puback(number + 1) for number in range(300)))
    for number in range(300):
        packet_id = receiver.expect_publish("a", b"%03d" % number, qos=1)
        receiver.send(puback(packet_id))


@pytest.mark.sockets
def test_as_many_exchanges_at_qos_2_as_a_client_likes(world):
    """A client may have many exchanges at QoS 2 open at once; each is one message [MQTT-4.3.3-2] [MQTT-2.3.1-6]."""
    receiver = world.subscribed(("a", 0))
    sender = world.connected("p")
    for _ in range(2):
        for number in range(1, 901):
            sender.send(publish("a", b"%d" % number, qos=2, packet_id=number))
        sender.expect(*(pubrec(number) for number in range(1, 901)))
    receiver.expect(*(publish("a", b"%d" % number) for number in range(1, 901))).expect_nothing()

    sender.send(*(pubrel(number) for number in range(1, 901))).expect(*(pubcomp(number) for number in range(1, 901)))


@pytest.mark.extra
@pytest.mark.sockets
def test_a_shared_subscription_is_for_3_1_1_too(world):
    """`$share/{name}/{filter}` gives each message to one of its members, to 3.1.1 clients too (contract section 6)."""
    members = [world.subscribed(("$share/group/a", 1), client_id=f"m{number}") for number in range(2)]
    watcher = world.subscribed(("a", 0), client_id="w")
    sender = world.connected("p")
    for number in range(10):
        sender.send(publish("a", b"%d" % number, qos=1)).expect(puback(1))
    watcher.expect(*(publish("a", b"%d" % number) for number in range(10)))
    got = []
    for member in members:
        member.gather()
        while member.has_unread:
            raw = member.take()
            member.send(puback(packet_id_of(raw)))
            got.append(raw[7:])

    assert [b"%d" % number for number in range(10)] == sorted(got)
