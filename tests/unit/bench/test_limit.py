"""The generator on real sockets, against the process that only moves bytes."""

from __future__ import annotations

import pytest

from mesimqtt.bench.connections import Storm
from mesimqtt.bench.figures import Periods
from mesimqtt.bench.machine import Process
from mesimqtt.bench.relay import Shape, measure_relay
from mesimqtt.bench.wire import connect

SHORT = Periods(warm_up_s=0.02, measure_s=0.1, stall_s=2.0)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("window", [1, 50])
def test_all_messages_go_through(port: int, qos: int, window: int) -> None:
    """The load runs, everything sent arrives, and rate and latency are told."""
    shape = Shape(publishers=3, subscribers=3, qos=qos, window=window)
    found = measure_relay(("127.0.0.1", port), Process(None), shape, SHORT)

    assert found.is_whole
    assert 0 == found.misordered + found.strange
    assert found.received > 10
    assert found.rate > 0
    assert (found.p50_ms or 0) <= (found.p99_ms or 0)
    assert (found.p99_ms or 0) > 0


@pytest.mark.parametrize("qos", [0, 1])
def test_mixed_messages_go_through(port: int, qos: int) -> None:
    """Messages of many sizes on many topics are all recognised."""
    shape = Shape(publishers=3, subscribers=3, qos=qos, window=50, is_mixed=True)
    found = measure_relay(("127.0.0.1", port), Process(None), shape, SHORT)

    assert found.is_whole
    assert 0 == found.misordered + found.strange
    assert found.received > 50


def test_a_storm_of_connects(port: int) -> None:
    """Every connection is let in once."""
    storm = Storm(("127.0.0.1", port), [connect(f"c{number}") for number in range(200)])
    found = storm.run(Process(None))

    assert 200 == storm.accepted == found.received
    assert found.rate > 0
