"""Runs of packets with the same properties: forwarded as they came, and right for whoever takes them otherwise."""

from __future__ import annotations

import pytest

from mesimqtt.testing.parse5 import parse_from_server, split
from mesimqtt.testing.wire5 import connect, option, publish, subscribe

USER = {"user_property": [("a", "b")], "content_type": "text"}


def client(network, name, *filters, **options):
    """Connect a client of 5.0, subscribed to the given (filter, options)."""
    peer = network.client()
    peer.connection.receive(connect(name, **options), network.now)
    if filters:
        peer.connection.receive(subscribe(*filters), network.now)
    peer.raw()
    return peer


def heard(peer):
    """Return payload, QoS, properties and packet id of what a client of 5.0 received."""
    packets = [parse_from_server(raw) for raw in split(peer.raw())]
    return [(packet.payload, packet.qos, packet.properties, packet.packet_id) for packet in packets]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("values", [USER, {}, {"payload_format_indicator": 1}])
def test_a_run_is_as_good_as_packets_of_their_own(network, qos, values):
    """What comes in one segment reaches every kind of receiver as what comes packet by packet."""
    answers = []
    for size in (1 << 20, 1):
        one = type(network)()
        plain = client(one, "plain", ("t", option(2)))
        zero = client(one, "zero", ("t", option(0)))
        marked = client(one, "marked", ("t", option(1)), topic_alias_maximum=3)
        old = one.subscribed(("t", 2), client_id="old")
        sender = client(one, "p")
        packets = [publish("t", b"%d" % number, qos=qos, packet_id=number, **values) for number in range(1, 9)]
        packets.insert(5, publish("t", b"x", qos=qos, packet_id=20, user_property=[("a", "c")]))
        data = b"".join(packets)
        for at in range(0, len(data), size):
            sender.connection.receive(data[at : at + size], one.now)
        answers.append([heard(plain), heard(zero), heard(marked), old.received(), sender.raw()])

    assert answers[0] == answers[1]
    assert 9 == len(answers[0][0]) == len(answers[0][3])
