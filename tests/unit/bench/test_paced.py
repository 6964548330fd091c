"""The steady load: sends on time, counts from there, and finds what is missing."""

from __future__ import annotations

from mesimqtt.bench.figures import Periods
from mesimqtt.bench.machine import Process
from mesimqtt.bench.paced import Paced, PacedFlow, measure_paced
from mesimqtt.bench.wire import Ring, publish

SHORT = Periods(warm_up_s=0.02, measure_s=0.2, stall_s=2.0)


def test_a_steady_rate(port: int) -> None:
    """So many messages a second are sent and all arrive, each with its latency."""
    found = measure_paced(("127.0.0.1", port), Process(None), SHORT)

    assert found.is_whole
    assert 0 == found.misordered + found.strange
    assert 60 <= found.received <= 125
    assert 0 < (found.p50_ms or 0) <= (found.p99_ms or 0) < 1_000


def test_what_has_not_arrived_is_lost(port: int) -> None:
    """A message that the other side never gave is counted as lost."""
    paced = Paced(("127.0.0.1", port), pairs=2, rate=100.0)
    paced.run(0.1)
    paced.drain(2.0)
    whole = paced.figures(paced.samples, 100.0)
    paced.flows[0].sent += 1
    found = paced.figures(paced.samples, 100.0)
    paced.close()

    assert (0, 1) == (whole.lost, found.lost)
    assert whole.received >= 8


def test_a_message_is_sent_whatever_is_on_the_road() -> None:
    """The rate does not wait for answers, so that a pause of the server shows in every message it holds up."""
    flow = PacedFlow(Ring("t", qos=1, count=2, twice=False), window=2, ready=[], samples=[])
    written: list[bytes] = []
    flow.write = lambda data: written.append(bytes(data))
    for _ in range(3):
        flow.send_one()

    frames = [publish("t", payload, 1, number) for number, payload in enumerate(payloads(flow), 1)]
    assert [*frames, frames[0]] == written
    assert 3 == flow.sent == len(flow.bursts)


def payloads(flow: PacedFlow) -> list[bytes]:
    """Return the payloads of a flow's ring."""
    ring = flow.ring
    return [bytes(ring.wire[at + ring.publisher_at : at + ring.size]) for at in range(0, 2 * ring.size, ring.size)]
