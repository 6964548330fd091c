"""Connections as such: how fast they are let in, and what an idle one costs."""

from __future__ import annotations

import time
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.figures import Figures, costs, percentile_ms
from mesimqtt.bench.loop import Address, BenchError, Loop, handshake, open_socket
from mesimqtt.bench.wire import connect, subscribe

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from mesimqtt.bench.flow import Sample
    from mesimqtt.bench.machine import Process

ACCEPTED = b"\x20\x02\x00\x00"
CONCURRENCY = 64
IDLE_SETTLE_S = 1.0
_SILENCE_S = 10.0


class Storm:
    """Connect, wait for CONNACK, disconnect; always `CONCURRENCY` at a time."""

    def __init__(self, address: Address, packets: Sequence[bytes]) -> None:
        self._address = address
        self._packets = packets
        self._loop = Loop()
        self._begun = 0
        self.accepted = 0
        self.refused = 0
        self.samples: list[Sample] = []

    def run(self, process: Process) -> Figures:
        """Let all of them connect once."""
        before, began = process.read(), perf_counter()
        moved = began
        try:
            while (done := self._done()) < len(self._packets):
                while self._begun < len(self._packets) and self._begun - done < CONCURRENCY:
                    self._open(self._begun)
                    self._begun += 1
                if self._loop.step(0.05):
                    moved = perf_counter()
                elif perf_counter() - moved > _SILENCE_S:
                    break
            seconds, after = perf_counter() - began, process.read()
        finally:
            self._loop.close()
        if self.accepted < len(self._packets):
            raise BenchError(
                f"{len(self._packets) - self.accepted} of {len(self._packets)} connections were not let in"
            )
        spent = costs(before, after, seconds=seconds, messages=self.accepted)
        return Figures(
            rate=self.accepted / seconds,
            broker_us=spent.broker_us,
            p50_ms=percentile_ms(self.samples, 0.5),
            p99_ms=percentile_ms(self.samples, 0.99),
            memory_kb=process.memory_kb(),
            generator_share=spent.generator_share,
            foreign_cores=spent.foreign_cores,
            received=self.accepted,
        )

    def _done(self) -> int:
        return self.accepted + self.refused + self._loop.disconnects

    def _open(self, number: int) -> None:
        began = perf_counter()
        sock = open_socket(self._address, number)

        def receive(data: bytes) -> bytes:
            if data == ACCEPTED:
                self.accepted += 1
                self.samples.append((perf_counter() - began, 1))
            else:
                self.refused += 1
            link.close(politely=True)
            return b""

        link = self._loop.add(sock, receive)
        link.write(self._packets[number])


def measure_idle(address: Address, process: Process, *, count: int) -> Figures:
    """Open `count` connections with a subscription each; `rate` is the KiB that each of them costs."""
    before_kb = process.memory_kb()
    began = perf_counter()
    sockets: list[socket.socket] = []
    try:
        for number in range(count):
            name = f"idle{number:05d}"
            sockets.append(handshake(address, connect(name), [subscribe([f"idle/{number:05d}/in"], 1)], source=number))
        opened_s = perf_counter() - began
        time.sleep(IDLE_SETTLE_S)
        after_kb = process.memory_kb()
        before, quiet = process.read(), perf_counter()
        time.sleep(IDLE_SETTLE_S)
        cpu = costs(before, process.read(), seconds=perf_counter() - quiet, messages=1).broker_us
    finally:
        for sock in sockets:
            sock.close()
    each = (after_kb - before_kb) / count if after_kb is not None and before_kb is not None else 0.0
    extra = {"opened per s": count / opened_s}
    if cpu is not None:
        extra["CPU ms per s when idle"] = cpu / 1e3
    return Figures(rate=each, memory_kb=after_kb, received=len(sockets), extra=extra)
