"""A queue of messages for a subscriber who is away, and its drain, every message acknowledged."""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.figures import Figures, Periods, costs
from mesimqtt.bench.flow import Flow, Publisher, Subscriber
from mesimqtt.bench.loop import Address, Loop, handshake, leave
from mesimqtt.bench.wire import Ring, connect, subscribe

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.bench.machine import Process

WINDOW = 100


def serve_until(loop: Loop, condition: Callable[[], bool], count: Callable[[], int], stall_s: float) -> float:
    """Serve until `condition` holds or `count` stands still for `stall_s`; return when it last moved."""
    last, moved = -1, perf_counter()
    while True:
        now = count()
        if now != last:
            last, moved = now, perf_counter()
        if condition() or perf_counter() - moved > stall_s:
            return moved
        loop.step(0.02)


def measure_offline(address: Address, process: Process, *, count: int, periods: Periods) -> Figures:
    """Fill the queue of one persistent session of a free topic, then drain it; `rate` is the drain's."""
    tag = f"b{os.urandom(3).hex()}"
    subscriber_connect = connect(f"{tag}s0", clean=False)
    leave(handshake(address, subscriber_connect, [subscribe([f"{tag}/q"], 1)]))
    ready: list[Flow] = []
    ring = Ring(f"{tag}/q", qos=1, count=count, twice=False)
    flow = Flow(ring, window=WINDOW, ready=ready, samples=[], limit=count, is_delivered=False)
    fill_rate, fill_us = _fill(address, process, flow, tag, periods)
    queued_kb = process.memory_kb()
    subscriber = Subscriber(flow)
    loop = Loop()
    before, began = process.read(), perf_counter()
    loop.add(handshake(address, subscriber_connect), subscriber.receive)
    ended = serve_until(loop, lambda: subscriber.count >= count, lambda: subscriber.count, periods.stall_s)
    spent = costs(before, process.read(), seconds=ended - began, messages=subscriber.count)
    serve_until(loop, lambda: False, lambda: subscriber.count + flow.duplicates, 0.1)
    disconnects = loop.disconnects
    loop.close()
    leave(handshake(address, connect(f"{tag}s0")))  # a clean session forgets the persistent one
    return Figures(
        rate=subscriber.count / (ended - began),
        broker_us=spent.broker_us,
        memory_kb=queued_kb,
        generator_share=spent.generator_share,
        foreign_cores=spent.foreign_cores,
        received=subscriber.count,
        lost=flow.lost + flow.acknowledged - subscriber.count,
        duplicates=flow.duplicates,
        misordered=flow.misordered,
        strange=flow.strange,
        disconnects=disconnects,
        extra={"filled per s": fill_rate, "CPU µs per fill": fill_us},
    )


def _fill(address: Address, process: Process, flow: Flow, tag: str, periods: Periods) -> tuple[float, float]:
    """Publish all that the flow holds; return messages per second and the broker's CPU for each."""
    loop = Loop()
    link = loop.add(handshake(address, connect(f"{tag}p0")), Publisher(flow).receive)
    before, began = process.read(), perf_counter()
    wanted, moved = flow.ring.count, perf_counter()
    while flow.acknowledged < wanted and perf_counter() - moved < periods.stall_s:
        frames = flow.take()
        while frames is not None:
            link.write(frames)
            frames = flow.take()
        if loop.step(0.02):
            moved = perf_counter()
    seconds = perf_counter() - began
    spent = costs(before, process.read(), seconds=seconds, messages=flow.acknowledged)
    loop.close()
    return flow.acknowledged / seconds, spent.broker_us or 0.0
