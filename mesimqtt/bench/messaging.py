"""Messaging under load: alice to bob, durable, both ends counted; and bob's inbox after a long absence."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.chat import Chat, Receiver, Sender
from mesimqtt.bench.figures import Figures, Periods, costs, percentile_ms
from mesimqtt.bench.loop import Address, BenchError, Link, Loop, handshake, leave
from mesimqtt.bench.offline import serve_until
from mesimqtt.bench.wire import connect, subscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mesimqtt.bench.machine import Process

PAIRS = 50
OPEN_RATE = 500
_FILL_WINDOW = 100
_AFTERWARDS_S = 0.3


class Messaging:
    """Pairs a0→b0, a1→b1, … with a connection for each end."""

    def __init__(self, address: Address, tokens: Mapping[str, str], *, pairs: int) -> None:
        self.loop = Loop()
        self.ready: list[Chat] = []
        tag = os.urandom(4).hex()
        self.chats = [Chat(f"a{number}", f"b{number}", tag=tag, ready=self.ready) for number in range(pairs)]
        self._links: dict[Chat, Link] = {}
        for chat in self.chats:
            join(self.loop, address, tokens, chat.receiver, Receiver(chat).receive)
            self._links[chat] = join(self.loop, address, tokens, chat.sender, Sender(chat).receive)

    def run_closed(self, process: Process, periods: Periods, *, window: int) -> Figures:
        """Keep `window` messages of each pair on the road; a slot is free again on DELIVERED."""

        def fill() -> None:
            now = perf_counter()
            for chat in self.ready:
                chat.is_queued = False
                count = window - chat.sent + chat.delivered
                if count > 0:
                    self._links[chat].write(chat.publish(count, now))
            self.ready.clear()

        self.ready[:] = self.chats
        return self._measure(process, periods, fill, wait_s=0.02)

    def run_open(self, process: Process, periods: Periods, *, rate: float) -> Figures:
        """Send `rate` messages a second, one pair after the other, whatever comes back.

        Latency counts from the moment at which a message was due, so a late generator would show.
        """
        began, due = perf_counter(), 0

        def send_due() -> None:
            nonlocal due
            self.ready.clear()
            for chat in self.chats:
                chat.is_queued = False
            while began + due / rate <= perf_counter():
                chat = self.chats[due % len(self.chats)]
                self._links[chat].write(chat.publish(1, began + due / rate))
                due += 1

        # No pause between looks, or a timer's granularity would count as latency; so its share of CPU says nothing.
        return replace(self._measure(process, periods, send_due, wait_s=0.0), generator_share=0.0)

    def close(self) -> None:
        """Disconnect all."""
        self.loop.close()

    def _measure(self, process: Process, periods: Periods, turn: Callable[[], None], *, wait_s: float) -> Figures:
        gc.collect()
        gc.disable()
        try:
            self._serve(perf_counter() + periods.warm_up_s, turn, wait_s)
            marks = [len(chat.latencies) for chat in self.chats]
            before, began, count = process.read(), perf_counter(), self._delivered()
            self._serve(began + periods.measure_s, turn, wait_s)
            after, seconds = process.read(), perf_counter() - began
            messages = self._delivered() - count
            memory = process.memory_kb()
            samples = [(one, 1) for chat, mark in zip(self.chats, marks, strict=True) for one in chat.latencies[mark:]]
            self._drain(periods.stall_s)
        finally:
            gc.enable()
        spent = costs(before, after, seconds=seconds, messages=messages)
        return self._figures(
            Figures(
                rate=messages / seconds,
                broker_us=spent.broker_us,
                p50_ms=percentile_ms(samples, 0.5),
                p99_ms=percentile_ms(samples, 0.99),
                memory_kb=memory,
                generator_share=spent.generator_share,
                foreign_cores=spent.foreign_cores,
            )
        )

    def _figures(self, figures: Figures) -> Figures:
        return counted(figures, self.chats, self.loop.disconnects)

    def _serve(self, until: float, turn: Callable[[], None], wait_s: float) -> None:
        while perf_counter() < until:
            turn()
            self.loop.step(wait_s)
            if self.loop.disconnects:
                raise BenchError("the server closed a connection in the middle of the load")

    def _drain(self, stall_s: float) -> None:
        chats = self.chats
        wanted = sum(chat.sent for chat in chats)

        def count() -> int:
            return sum(chat.committed + chat.delivered + chat.received + chat.acknowledged for chat in chats)

        serve_until(self.loop, lambda: count() >= 4 * wanted, count, stall_s)
        serve_until(self.loop, lambda: False, lambda: sum(chat.duplicates for chat in chats), _AFTERWARDS_S)

    def _delivered(self) -> int:
        return sum(chat.delivered for chat in self.chats)


def join(
    loop: Loop, address: Address, tokens: Mapping[str, str], user: str, receive: Callable[[bytes], bytes | bytearray]
) -> Link:
    """Connect as `user` with its token and subscribe to all of its folder at QoS 1."""
    packet = connect(user, user=user, password=tokens[user])
    return loop.add(handshake(address, packet, [subscribe([f"m/{user}/in/#"], 1)]), receive)


def counted(figures: Figures, chats: Sequence[Chat], disconnects: int) -> Figures:
    """Return `figures` with what both ends counted: PUBACK, SENT, DELIVERED, messages; all must be equal."""
    sent = sum(chat.sent for chat in chats)
    counts = {
        "acknowledged": sum(chat.acknowledged for chat in chats),
        "SENT": sum(chat.committed for chat in chats),
        "DELIVERED": sum(chat.delivered for chat in chats),
        "received": sum(chat.received for chat in chats),
    }
    refusals = [text for chat in chats for text in chat.refusals]
    if refusals:
        raise BenchError(f"{len(refusals)} messages were refused, the first is {refusals[0]}")
    return replace(
        figures,
        received=counts["received"],
        lost=sent - min(counts.values()),
        duplicates=sum(chat.duplicates for chat in chats),
        misordered=sum(chat.misordered for chat in chats),
        strange=sum(chat.strange for chat in chats),
        disconnects=disconnects,
        extra={**figures.extra, "sent": sent, **counts, "repeated statuses": sum(chat.repeats for chat in chats)},
    )


def measure_messaging(
    address: Address, process: Process, tokens: Mapping[str, str], periods: Periods, *, window: int
) -> Figures:
    """Measure 50 pairs in a closed loop."""
    load = Messaging(address, tokens, pairs=PAIRS)
    try:
        return load.run_closed(process, periods, window=window)
    finally:
        load.close()


def measure_open(
    address: Address, process: Process, tokens: Mapping[str, str], periods: Periods, *, rate: float = OPEN_RATE
) -> Figures:
    """Measure the latency from PUBLISH to DELIVERED at a fixed rate, far from the limit."""
    load = Messaging(address, tokens, pairs=PAIRS)
    try:
        return load.run_open(process, periods, rate=rate)
    finally:
        load.close()


def measure_inbox(
    address: Address, process: Process, tokens: Mapping[str, str], *, count: int, periods: Periods
) -> Figures:
    """Have alice write to bob, who is away, and leave; then bob drains, and alice returns and learns of all of it.

    `rate` is bob's: from his SUBSCRIBE until the last message is in his hands, each acknowledged.
    """
    chat = Chat("alice", "bob", tag=os.urandom(4).hex(), ready=[])
    # bob has been here before, so that a cursor of his waits.
    leave(handshake(address, connect("bob", user="bob", password=tokens["bob"]), [subscribe(["m/bob/in/#"], 1)]))
    loop = Loop()
    alice = Sender(chat)
    link = join(loop, address, tokens, "alice", alice.receive)
    began = perf_counter()
    while chat.committed < count and not loop.disconnects and perf_counter() - began < 60:
        room = min(_FILL_WINDOW - chat.sent + chat.committed, count - chat.sent)
        if room > 0:
            link.write(chat.publish(room, perf_counter()))
        loop.step(0.02)
    fill_s = perf_counter() - began
    serve_until(loop, lambda: chat.acknowledged >= count, lambda: chat.acknowledged, periods.stall_s)
    link.close(politely=True)
    queued_kb = process.memory_kb()
    before, began = process.read(), perf_counter()
    bob = join(loop, address, tokens, "bob", Receiver(chat).receive)
    ended = serve_until(loop, lambda: chat.received >= count, lambda: chat.received, periods.stall_s)
    spent = costs(before, process.read(), seconds=ended - began, messages=chat.received)
    join(loop, address, tokens, "alice", alice.receive)
    serve_until(loop, lambda: chat.delivered >= count, lambda: chat.delivered, periods.stall_s)
    serve_until(loop, lambda: False, lambda: chat.duplicates, _AFTERWARDS_S)
    disconnects = loop.disconnects
    bob.close(politely=True)
    loop.close()
    return counted(
        Figures(
            rate=chat.received / (ended - began),
            broker_us=spent.broker_us,
            memory_kb=queued_kb,
            generator_share=spent.generator_share,
            foreign_cores=spent.foreign_cores,
            extra={"filled per s": chat.committed / fill_s},
        ),
        [chat],
        disconnects,
    )
