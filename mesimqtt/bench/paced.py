"""A steady rate far from the limit: what one message has to wait for, seen by who receives it."""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.figures import Figures, Periods, costs, percentile_ms
from mesimqtt.bench.flow import Flow, Publisher, Sample, Subscriber
from mesimqtt.bench.loop import Address, Loop, handshake
from mesimqtt.bench.offline import serve_until
from mesimqtt.bench.wire import Ring, connect, subscribe

if TYPE_CHECKING:
    from mesimqtt.bench.machine import Process

PAIRS = 50
RATE = 500.0
_RING = 4_096  # messages of one pair that may be on the road before its frames repeat
_AFTERWARDS_S = 0.1


class PacedFlow(Flow):
    """A flow that sends when it is told to, whatever is still on the road."""

    def send_one(self) -> None:
        """Send one message; its latency counts from here."""
        at = self.sent % self.ring.count
        self.sent += 1
        self.bursts.append((self.sent, perf_counter(), 1))
        self.write(self.ring.frames(at, 1))


class Paced:
    """Pairs of clients on QoS 1 that send at a fixed rate, each in turn."""

    def __init__(self, address: Address, *, pairs: int = PAIRS, rate: float = RATE) -> None:
        self.loop = Loop()
        self.samples: list[Sample] = []
        self._ready: list[Flow] = []
        self._rate = rate
        self._next = 0
        tag = f"b{os.urandom(3).hex()}"
        self.flows = [self._join(address, tag, number) for number in range(pairs)]

    def run(self, seconds: float) -> list[Sample]:
        """Send for so long; return the latencies of what arrived meanwhile, whenever it was sent."""
        self.samples.clear()
        began = now = perf_counter()
        due = began
        while now < began + seconds and not self.loop.disconnects:
            while due <= now:
                self.flows[self._next % len(self.flows)].send_one()
                self._next += 1
                due += 1 / self._rate
            self.loop.step(max(0.0, due - perf_counter()))
            self._rest()
            now = perf_counter()
        return list(self.samples)

    def drain(self, stall_s: float) -> None:
        """Wait for what is on the road."""
        flows = self.flows
        serve_until(self.loop, lambda: all(flow.done >= flow.sent for flow in flows), self.delivered, stall_s)
        serve_until(self.loop, lambda: False, lambda: sum(flow.duplicates for flow in flows), _AFTERWARDS_S)

    def delivered(self) -> int:
        """Count what has arrived, from the first message on."""
        return sum(flow.delivered for flow in self.flows)

    def figures(self, samples: list[Sample], rate: float) -> Figures:
        """Return latencies and faults; to be called after `drain`."""
        flows = self.flows
        return Figures(
            rate=rate,
            p50_ms=percentile_ms(samples, 0.5),
            p99_ms=percentile_ms(samples, 0.99),
            received=self.delivered(),
            lost=sum(flow.lost + flow.sent - flow.delivered for flow in flows),
            duplicates=sum(flow.duplicates for flow in flows),
            misordered=sum(flow.misordered for flow in flows),
            strange=sum(flow.strange for flow in flows),
            disconnects=self.loop.disconnects,
        )

    def close(self) -> None:
        """Disconnect all."""
        self.loop.close()

    def _join(self, address: Address, tag: str, number: int) -> PacedFlow:
        topic = f"{tag}/u/{number:04d}"
        ring = Ring(topic, qos=1, count=_RING, publisher=number, twice=False)
        flow = PacedFlow(ring, window=_RING, ready=self._ready, samples=self.samples)
        subscriber = handshake(address, connect(f"{tag}s{number}"), [subscribe([topic], 1)])
        self.loop.add(subscriber, Subscriber(flow).receive)
        flow.write = self.loop.add(handshake(address, connect(f"{tag}p{number}")), Publisher(flow).receive).write
        return flow

    def _rest(self) -> None:
        for flow in self._ready:
            flow.is_queued = False
        self._ready.clear()


def measure_paced(address: Address, process: Process, periods: Periods) -> Figures:
    """Measure the latency from PUBLISH to the subscriber at 500 messages a second over 50 pairs."""
    paced = Paced(address)
    try:
        paced.run(periods.warm_up_s)
        before, began = process.read(), perf_counter()
        samples = paced.run(periods.measure_s)
        seconds, after = perf_counter() - began, process.read()
        memory = process.memory_kb()
        paced.drain(periods.stall_s)
        found = paced.figures(samples, len(samples) / seconds)
    finally:
        paced.close()
    spent = costs(before, after, seconds=seconds, messages=len(samples))
    return Figures(
        rate=found.rate,
        broker_us=spent.broker_us,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        memory_kb=memory,
        generator_share=spent.generator_share,
        foreign_cores=spent.foreign_cores,
        received=found.received,
        lost=found.lost,
        duplicates=found.duplicates,
        misordered=found.misordered,
        strange=found.strange,
        disconnects=found.disconnects,
    )
