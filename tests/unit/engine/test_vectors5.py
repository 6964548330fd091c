"""The wire cases of tests/vectors/mqtt5.json, replayed against the engine byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesimqtt.testing.parse5 import split
from mesimqtt.testing.wire5 import connect
from unit.engine.both_ends import Network

FILE = Path(__file__).parents[2] / "vectors" / "mqtt5.json"
VECTORS = json.loads(FILE.read_text(encoding="utf-8"))["vectors"] if FILE.exists() else []


def without_reason(raw):
    """Return a packet without the Reason String that a DISCONNECT of the server may have."""
    if raw[0] != 0xE0 or len(raw) < 5 or raw[4] != 0x1F:
        return raw
    assert len(raw) == raw[1] + 2, "the lengths of these DISCONNECTs are one byte each"
    size = 3 + int.from_bytes(raw[5:7])
    assert raw[3] == size, "a Reason String is the only property"
    return bytes([0xE0, 1, raw[2]])


def order(data):
    """Return packets (hex) with the answers first, then the messages: their order among each other is free."""
    packets = [without_reason(raw) for raw in split(bytes.fromhex(data))]
    return b"".join(sorted(packets, key=lambda raw: raw[0] >> 4 == 3)).hex()


def replay(vector, chunk):
    """Send the bytes of a vector in pieces of `chunk`; return what came back, in hex, and whether it was closed."""
    network = Network()
    network.engine.make_client_id = lambda: "assigned"
    client = network.client()
    if vector["connected"]:
        client.connection.receive(bytes.fromhex(vector.get("first", "")) or connect("vector"), network.now)
        client.raw()
    data = bytes.fromhex(vector["in"])
    for start in range(0, len(data), chunk):
        client.connection.receive(data[start : start + chunk], network.now)
    return order(client.raw().hex()), client.connection.closing


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_wire(vector):
    """The answer is the expected one, whether the bytes come in one segment, two by two or one by one."""
    expected = (vector["out"], vector["closed"])

    assert expected == replay(vector, 1 << 20)
    assert expected == replay(vector, 2)
    assert expected == replay(vector, 1)


def test_there_are_vectors():
    """There are at least 200 cases, each with a name of its own."""
    assert len(VECTORS) >= 200
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS)
