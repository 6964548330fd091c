"""A group of thousands, of whom a hundred are online: from the acceptance of a message to its last delivery."""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.figures import Figures, Periods, costs, percentile_ms
from mesimqtt.bench.loop import BenchError, Loop
from mesimqtt.bench.messaging import join
from mesimqtt.bench.webhooks import ask
from mesimqtt.bench.wire import next_packet, packet, publish, publish_parts

if TYPE_CHECKING:
    from pathlib import Path

    from mesimqtt.bench.servers import Target

MEMBERS = 5_000
ONLINE = [f"g{number:02d}" for number in range(100)]
_GROUP = "crowd"
_AT_ONCE = 1_000
_PUBLISH, _PUBACK = 0x30, 0x40
_GAP_S = 0.02


class _Reader:
    """Takes what one connection gets, acknowledges it, and notes when the awaited payload, or the PUBACK, came."""

    def __init__(self) -> None:
        self.awaited = b""
        self.came_at = 0.0
        self.count = 0
        self._rest = b""

    def receive(self, data: bytes) -> bytes:
        """Take one read; return the acknowledgements."""
        data = self._rest + data
        at, answers = 0, b""
        while (part := next_packet(data, at)) is not None:
            head, at = part.head, part.end
            if head & 0xF0 == _PUBACK:
                self.came_at = perf_counter()
            elif head & 0xF0 == _PUBLISH:
                _topic, identifier, payload = publish_parts(data, part)
                answers += packet(_PUBACK, identifier) if identifier else b""
                if payload == self.awaited:
                    self.came_at = perf_counter()
                    self.count += 1
        self._rest = data[at:]
        return answers


def _make_group(data: Path) -> None:
    absent = [f"absent{number}" for number in range(MEMBERS - len(ONLINE))]
    ask(data, "group_add", address=_GROUP)
    for at in range(0, len(absent), _AT_ONCE):
        ask(data, "user_add", addresses=absent[at : at + _AT_ONCE])
        ask(data, "group_join", address=_GROUP, users=absent[at : at + _AT_ONCE])
    ask(data, "group_join", address=_GROUP, users=ONLINE)


def _pause(loop: Loop) -> None:
    """Let the receipts of one message come, so that they are no part of the next."""
    until = perf_counter() + _GAP_S
    while perf_counter() < until:
        loop.step(_GAP_S)


def measure_group(target: Target, periods: Periods) -> Figures:
    """Send one message after the other; `p50_ms` and `p99_ms` are from PUBACK to the last of a hundred deliveries."""
    if target.data is None:
        raise BenchError("groups are measured on a server of ours")
    _make_group(target.data)
    loop = Loop()
    readers = [_Reader() for _ in ONLINE]
    ends = zip(ONLINE, readers, strict=True)
    links = [join(loop, target.address, target.tokens, name, reader.receive) for name, reader in ends]
    sender, others = readers[0], readers[1:]
    took: list[float] = []
    whole: list[float] = []
    before, began = target.process.read(), perf_counter()
    number = 0
    while number < 2 or perf_counter() - began < periods.measure_s:
        number += 1
        payload = b"%d %b" % (number, os.urandom(32).hex().encode())
        sender.came_at = 0.0
        for reader in others:
            reader.awaited, reader.came_at = payload, 0.0
        sent_at = perf_counter()
        links[0].write(publish(f"m/{ONLINE[0]}/out/g/{_GROUP}", payload, 1, number))
        while not (sender.came_at and all(reader.came_at for reader in others)):
            loop.step(0.05)
            if loop.disconnects or perf_counter() - sent_at > periods.stall_s:
                raise BenchError("a message of the group did not reach everybody in time")
        last_at = max(reader.came_at for reader in others)
        took.append(last_at - sender.came_at)
        whole.append(last_at - sent_at)
        _pause(loop)
    seconds = perf_counter() - began
    spent = costs(before, target.process.read(), seconds=seconds, messages=number * len(others))
    received = sum(reader.count for reader in others)
    loop.close()
    return Figures(
        rate=received / seconds,
        broker_us=spent.broker_us,
        p50_ms=percentile_ms([(each, 1) for each in took], 0.5),
        p99_ms=percentile_ms([(each, 1) for each in took], 0.99),
        generator_share=spent.generator_share,
        foreign_cores=spent.foreign_cores,
        received=received,
        lost=number * len(others) - received,
        extra={
            "worst ms": 1000 * max(took),
            "first ms": 1000 * took[0],
            "PUBLISH to last ms": 1000 * max(whole),
            "sent": number,
        },
    )
