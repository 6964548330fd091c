"""Plain MQTT under load: pairs, fan-out and fan-in, in a closed loop."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.figures import Figures, Periods, costs, percentile_ms
from mesimqtt.bench.flow import FanInSubscriber, FanOutFlow, Flow, Publisher, Sample, Subscriber
from mesimqtt.bench.lockstep import LockStepFlow, LockStepPublisher, LockStepSubscriber
from mesimqtt.bench.loop import Address, Loop, handshake
from mesimqtt.bench.mixed import MixedRing, MixedSubscriber, mixed_filter
from mesimqtt.bench.wire import Ring, connect, subscribe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.bench.machine import Process

SETTLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Who sends to whom. `publishers` and `subscribers` are equal (pairs) or one of them is 1.

    `version` is the protocol level of both ends, `properties` what every PUBLISH of 5.0 carries.
    """

    publishers: int
    subscribers: int
    qos: int
    window: int = 100
    is_mixed: bool = False
    version: int = 4
    properties: bytes = b""

    @property
    def is_fan_out(self) -> bool:
        """Tell whether one publisher has many subscribers."""
        return self.subscribers > self.publishers

    @property
    def is_lock_step(self) -> bool:
        """Tell whether pairs send one message at a time."""
        return not self.is_mixed and self.window == 1 and self.qos < 2 and self.publishers == self.subscribers

    @property
    def is_fan_in(self) -> bool:
        """Tell whether one subscriber has many publishers."""
        return self.publishers > self.subscribers


class Relay:
    """The connections of one shape, ready to be measured."""

    def __init__(self, address: Address, shape: Shape) -> None:
        self.shape = shape
        self.loop = Loop()
        self.samples: list[Sample] = []
        self._ready: list[Flow] = []
        self._tag = f"b{os.urandom(3).hex()}"
        self._address = address
        self.flows = [self._flow(number) for number in range(shape.publishers)]
        self.subscribers = self._subscribe()
        for number, flow in enumerate(self.flows):
            sock = handshake(address, connect(f"{self._tag}p{number}", version=shape.version))
            one = LockStepPublisher(flow) if isinstance(flow, LockStepFlow) else Publisher(flow)
            flow.write = self.loop.add(sock, one.receive).write

    @property
    def tag(self) -> str:
        """The first level of this measurement's topics."""
        return self._tag

    def run(self, process: Process, periods: Periods) -> Figures:
        """Warm up, measure, let everything in flight arrive, and count."""
        gc.collect()
        gc.disable()
        try:
            return self._run(process, periods)
        finally:
            gc.enable()

    def close(self) -> None:
        """Disconnect all."""
        self.loop.close()

    def _run(self, process: Process, periods: Periods) -> Figures:
        for flow in self.flows:
            flow.is_sending = True
            flow.queue()
        self._serve(perf_counter() + periods.warm_up_s, periods.stall_s)
        self.samples.clear()
        before, began, count = process.read(), perf_counter(), self._count()
        self._serve(began + periods.measure_s, periods.stall_s)
        after, seconds, messages = process.read(), perf_counter() - began, self._count() - count
        p50, p99 = (percentile_ms(self.samples, share) for share in (0.5, 0.99))
        memory = process.memory_kb()
        for flow in self.flows:
            flow.is_sending = False
        self._drain(periods.stall_s)
        spent = costs(before, after, seconds=seconds, messages=messages)
        lost, duplicates = self._faults()
        return Figures(
            rate=messages / seconds,
            broker_us=spent.broker_us,
            p50_ms=p50,
            p99_ms=p99,
            memory_kb=memory,
            generator_share=spent.generator_share,
            foreign_cores=spent.foreign_cores,
            received=self._count(),
            lost=lost,
            duplicates=duplicates,
            misordered=sum(flow.misordered for flow in self.flows),
            strange=sum(flow.strange for flow in self.flows),
            disconnects=self.loop.disconnects,
        )

    def _serve(self, until: float, stall_s: float) -> None:
        """Keep the windows full until `until`; give up after `stall_s` in which nothing came."""
        step, fill = self.loop.step, self._fill
        moved = now = perf_counter()
        while now < until:
            fill()
            if step(0.02):
                moved = now
            elif now - moved > stall_s or self.loop.disconnects:
                return
            now = perf_counter()
        fill()

    def _fill(self) -> None:
        ready = self._ready
        for flow in ready:
            flow.is_queued = False
            frames = flow.take()
            if frames is not None:
                flow.write(frames)
        ready.clear()

    def _drain(self, stall_s: float) -> None:
        last, moved = -1, perf_counter()
        while any(flow.done < flow.sent for flow in self.flows) and perf_counter() - moved < stall_s:
            self.loop.step(0.02)
            self._fill()
            if self._count() != last:
                last, moved = self._count(), perf_counter()
        # A copy too many would come right behind.
        until = perf_counter() + SETTLE_S / 4
        while perf_counter() < until:
            self.loop.step(0.01)

    def _count(self) -> int:
        return sum(subscriber.count for subscriber in self.subscribers)

    def _faults(self) -> tuple[int, int]:
        """Return lost and doubled messages over the whole measurement."""
        shape = self.shape
        copies = shape.subscribers if shape.is_fan_out else 1
        wanted = sum(flow.sent for flow in self.flows) * copies
        lost = sum(flow.lost for flow in self.flows) + wanted - self._count()
        return lost, sum(flow.duplicates for flow in self.flows)

    def _flow(self, number: int) -> Flow:
        shape = self.shape
        topic = f"{self._tag}/all" if shape.is_fan_in or shape.is_fan_out else self._topic(number)
        count = shape.window + max(8, shape.window // 4)
        if shape.is_mixed:
            ring: Ring = MixedRing(topic, qos=shape.qos, count=count, publisher=number)
        else:
            ring = Ring(topic, qos=shape.qos, count=count, publisher=number, properties=shape.properties)
        if shape.is_fan_out:
            return FanOutFlow(
                ring, window=shape.window, ready=self._ready, samples=self.samples, subscribers=shape.subscribers
            )
        kind = LockStepFlow if shape.is_lock_step else Flow
        return kind(ring, window=shape.window, ready=self._ready, samples=self.samples)

    def _topic(self, number: int) -> str:
        return f"{self._tag}/u/{number:04d}"

    def _subscribe(self) -> list[Subscriber]:
        shape, subscribers = self.shape, []
        for number in range(shape.subscribers):
            topic = f"{self._tag}/all" if shape.is_fan_in or shape.is_fan_out else self._topic(number)
            topic = mixed_filter(topic) if shape.is_mixed else topic
            wanted = subscribe([topic], shape.qos, version=shape.version)
            sock = handshake(self._address, connect(f"{self._tag}s{number}", version=shape.version), [wanted])
            one = self._subscriber(number)
            self.loop.add(sock, one.receive)
            subscribers.append(one)
        return subscribers

    def _subscriber(self, number: int) -> Subscriber:
        if self.shape.is_fan_in:
            return FanInSubscriber(self.flows)
        flow = self.flows[number % len(self.flows)]
        if isinstance(flow.ring, MixedRing):
            return MixedSubscriber(flow, flow.ring)
        return LockStepSubscriber(flow) if isinstance(flow, LockStepFlow) else Subscriber(flow)


def measure_relay(address: Address, process: Process, shape: Shape, periods: Periods) -> Figures:
    """Measure one shape on one broker."""
    relay = Relay(address, shape)
    try:
        return relay.run(process, periods)
    finally:
        relay.close()


def load_filters(address: Address, tag: str, *, connections: int, each: int) -> Loop:
    """Subscribe to what nobody publishes: exact and wildcard filters below the same first level as the load."""
    loop = Loop()
    for number in range(connections):
        filters = [_unrelated(tag, number * each + place) for place in range(each)]
        batches: Sequence[bytes] = [subscribe(filters[at : at + 50], 1) for at in range(0, each, 50)]
        sock = handshake(address, connect(f"{tag}x{number}"), batches)
        loop.add(sock, _ignore)
    return loop


def _unrelated(tag: str, number: int) -> str:
    return (f"{tag}/other/{number}", f"{tag}/other/{number}/#", f"{tag}/+/{number}/state", f"elsewhere/{number}/+")[
        number % 4
    ]


def _ignore(_data: bytes) -> bytes:
    return b""
