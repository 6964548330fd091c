"""MQTT 5.0: bytes that nobody thought of. Whatever comes, the answer is MQTT and only the offender is closed."""

from __future__ import annotations

import random

import pytest

from conformance.carriers5 import SENT, allowed, example
from mesimqtt.testing.parse5 import parse_from_server, split
from mesimqtt.testing.wire5 import (
    PINGREQ,
    PROPERTIES,
    connect,
    disconnect,
    publish,
    pubrel,
    subscribe,
    unsubscribe,
    will,
)

pytestmark = pytest.mark.stateless  # the store has no part in it

WHOLE = [SENT[kind](example(name)) for kind in SENT for name in PROPERTIES if allowed(name, kind)]
WHOLE += [publish("a", b"x", qos=2), pubrel(1), subscribe(("#", 2), ("$share/g/a", 1)), unsubscribe("#"), PINGREQ]
CONNECTS = [
    connect("f"),
    connect("f", user="u", password=b"p", will=will("w", b"x", qos=2, content_type="t")),
    connect("", clean=False, session_expiry_interval=9, receive_maximum=1, topic_alias_maximum=2),
    connect("f", maximum_packet_size=30, request_problem_information=0, user_property=[("n", "v")]),
]


def mutated(chance, raw):
    """Return bytes with a few changes: flipped, taken out, put in, repeated or cut short."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        at, what = chance.randrange(len(data) + 1), chance.randrange(5)
        if what == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif what == 1 and at < len(data):
            data[at] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
        elif what == 2:
            del data[at : at + chance.randint(1, 4)]
        elif what == 3:
            data[at:at] = bytes(
                chance.choice((0, 1, 0x0B, 0x23, 0x26, 0x80, 0xFF)) for _ in range(chance.randint(1, 3))
            )
        else:
            data[at:at] = data[max(at - 5, 0) : at]
    return bytes(data)


def check(peer, *, is_entered):
    """Check that all that came is MQTT of a server, in an order that it may have."""
    kinds = []
    for raw in split(peer.wire.read()):
        packet = parse_from_server(raw)
        kinds.append(packet.kind)
        if packet.kind == "DISCONNECT":
            assert packet.code >= 0x80
            assert peer.wire.is_closed
        if packet.kind == "CONNACK" and packet.code:
            assert peer.wire.is_closed
            assert len(kinds) == 1
    assert kinds.count("CONNACK") == (0 if is_entered else bool(kinds))
    assert "DISCONNECT" not in kinds[:-1]
    peer.is_over = True


@pytest.mark.parametrize("seed", range(8))
def test_changed_packets(five, seed):
    """Packets that were changed at random are answered with MQTT, or cost their sender the connection.

    [MQTT-3.14.4-1] [MQTT-4.13.1-1]
    """
    chance = random.Random(seed)
    witness = five.subscribed(("witness", 1), client_id="witness")
    for number in range(500):
        peer = five.connected(f"f{number % 7}", clean=True).peer
        for _ in range(chance.randint(1, 4)):
            peer.send(mutated(chance, chance.choice(WHOLE)) + chance.choice((b"", PINGREQ, disconnect())))
        check(peer, is_entered=True)
        peer.cut()
    witness.expect_nothing()
    witness.say("witness", b"alive", qos=1).hear("witness", b"alive", qos=1)


@pytest.mark.parametrize("seed", range(4))
def test_changed_connects(five, seed):
    """So are CONNECT packets: one CONNACK, or none and the end [MQTT-3.1.4-1] [MQTT-3.2.0-2] [MQTT-3.14.0-1]."""
    chance = random.Random(seed)
    for _ in range(200):
        peer = five.open().peer
        peer.send(mutated(chance, chance.choice(CONNECTS)) + chance.choice((b"", PINGREQ)))
        got = peer.wire.read()
        found = [] if got[:2] == b"\x20\x02" else split(got)  # a version that is not spoken is answered as 3.1.1

        assert [] == [raw for raw in found[:1] if parse_from_server(raw).kind != "CONNACK"]
        for raw in found:
            parse_from_server(raw)
        peer.is_over = True
        peer.cut()


@pytest.mark.parametrize("seed", range(4))
def test_noise(five, seed):
    """Bytes without any sense behind a good CONNECT [MQTT-4.13.1-1] [MQTT-4.13.2-1]."""
    chance = random.Random(seed)
    for _ in range(100):
        peer = five.connected("n").peer
        peer.send(chance.randbytes(chance.randint(1, 60)))
        check(peer, is_entered=True)
        peer.cut()
