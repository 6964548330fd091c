"""MQTT 5.0: runs of equal and nearly equal PUBLISH packets in segments of any size, and what each receiver gets."""

from __future__ import annotations

import random

import pytest

from mesimqtt.testing.parse5 import parse_all, split
from mesimqtt.testing.wire5 import option, publish

PROPERTIES = ({}, {}, {"content_type": "t"}, {"user_property": [("n", "v")]}, {"message_expiry_interval": 50})


def drawn(chance, count):
    """Messages that often equal the one before: (topic, payload, QoS, retain, properties)."""
    found = [("a/1", b"x", chance.randrange(3), False, {})]
    while len(found) < count:
        topic, payload, qos, _, values = found[-1]
        if chance.random() < 0.3:
            topic = f"a/{chance.randint(1, 3)}"
        if chance.random() < 0.3:
            payload, qos = chance.choice((b"x", b"yy", b"")), chance.randrange(3)
        if chance.random() < 0.4:
            values = chance.choice(PROPERTIES)
        found.append((topic, payload, qos, chance.random() < 0.1, values))
    return found


def encoded(chance, messages):
    """The messages on the wire, with topic aliases here and there."""
    data, known = b"", {}
    for number, (topic, payload, qos, retain, values) in enumerate(messages, start=1):
        name, alias = topic, {}
        if chance.random() < 0.4:
            alias = {"topic_alias": chance.randint(1, 3)}
            if known.get(alias["topic_alias"]) == topic and chance.random() < 0.8:
                name = ""
            known[alias["topic_alias"]] = topic
        data += publish(name, payload, qos=qos, packet_id=number, retain=retain, **values, **alias)
    return data


def taken(peer):
    """Return all that came, with topics in the place of aliases."""
    packets, known = [], {}
    for packet in parse_all(peer.peer._unread + peer.peer.wire.read()):
        if packet.topic and packet.topic_alias:
            known[packet.topic_alias] = packet.topic
        ours = ("topic_alias", "subscription_identifier")
        rest = tuple((name, value) for name, value in packet.properties if name not in ours)
        packets.append((packet.topic or known[packet.topic_alias], packet.payload, packet.qos, packet.retain, rest))
    peer.peer._unread, peer.peer.is_over = b"", True
    return packets


def listed(values):
    """Return properties as the parser does."""
    return tuple((name, value[0] if isinstance(value, list) else value) for name, value in values.items())


@pytest.mark.parametrize("seed", range(30))
def test_a_burst(five, seed):
    """Every message of a burst reaches every receiver as it must, and is acknowledged once, however it is cut.

    [MQTT-3.3.2-12] [MQTT-3.3.2-17] [MQTT-3.8.4-8] [MQTT-4.2.0-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.6.0-5]
    """
    chance = random.Random(seed)
    granted, kept = chance.randrange(3), [chance.random() < 0.5 for _ in range(2)]
    receivers = [
        five.subscribed(
            ("a/#", option(granted, as_published=kept[number])),
            client_id=f"s{number}",
            identifier=chance.choice((None, 7)),
            topic_alias_maximum=chance.choice((0, 2)),
        )
        for number in range(2)
    ]
    old = five.world.subscribed(("a/#", granted), client_id="old")
    messages = drawn(chance, chance.randint(5, 60))
    data, sender = encoded(chance, messages), five.connected("p")
    while data:
        size = chance.choice((1, 7, 50, 400, 5000))
        sender.send(data[:size])
        data = data[size:]
    five.world.settle()
    answers = parse_all(sender.peer.wire.read())
    sender.peer.is_over = True

    for qos, kind in ((1, "PUBACK"), (2, "PUBREC")):
        wanted = [number for number, message in enumerate(messages, start=1) if message[2] == qos]
        assert wanted == sorted(answer.packet_id for answer in answers if answer.kind == kind)
    for receiver, is_kept in zip(receivers, kept, strict=True):
        assert taken(receiver) == [
            (topic, payload, min(qos, granted), retain and is_kept, listed(values))
            for topic, payload, qos, retain, values in messages
        ]
    assert len(messages) == len(split(old._unread + old.wire.read()))
    old._unread, old.is_over = b"", True
