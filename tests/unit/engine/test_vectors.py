"""The wire cases of tests/vectors/mqtt311.json, replayed against the engine byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.engine.both_ends import Network, connect

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mqtt311.json").read_text(encoding="utf-8"))["vectors"]


def replay(vector, chunk):
    """Send the bytes of a vector in pieces of `chunk`; return what came back, in hex, and whether it was closed."""
    network = Network()
    client = network.client()
    if vector["connected"]:
        client.connection.receive(connect("vector"), network.now)
        client.raw()
    data = bytes.fromhex(vector["in"])
    for start in range(0, len(data), chunk):
        client.connection.receive(data[start : start + chunk], network.now)
    return client.raw().hex(), client.connection.closing


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_wire(vector):
    """The answer is the expected one, whether the bytes come in one segment, two by two or one by one."""
    expected = (vector["out"], vector["closed"])

    assert expected == replay(vector, 1 << 20)
    assert expected == replay(vector, 2)
    assert expected == replay(vector, 1)
