"""A steady load that goes on while something else is tried: pairs who talk, and one who is away."""

from __future__ import annotations

import os
import threading
import time
from time import perf_counter
from typing import TYPE_CHECKING, Self

from mesimqtt.bench.chat import Chat, Receiver, Sender
from mesimqtt.bench.loop import Loop
from mesimqtt.bench.messaging import join

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mesimqtt.bench.loop import Address

WRITER, ABSENT = "dora", "carl"  # she writes to him, who is away
PAIRS = 8
RATE = 200.0  # messages a second
_ABSENT_SHARE = 10  # one in so many goes to who is away
_DRAIN_S = 30.0
_STEP_S = 0.002


def people() -> list[str]:
    """Return the users of the load."""
    return [f"{side}{number}" for side in "ab" for number in range(PAIRS)] + [WRITER, ABSENT]


class Load(threading.Thread):
    """Sends at a fixed rate, in a thread of its own; latency counts from when a message was due until DELIVERED."""

    def __init__(self, address: Address, tokens: Mapping[str, str]) -> None:
        super().__init__(name="load", daemon=True)
        self._loop = Loop()
        self._is_over = threading.Event()
        self.tag = os.urandom(4).hex()
        ready: list[Chat] = []
        self.pairs = [Chat(f"a{n}", f"b{n}", tag=self.tag, ready=ready) for n in range(PAIRS)]
        self.absent = Chat(WRITER, ABSENT, tag=self.tag, ready=ready)
        self._links = {}
        for chat in self.pairs:
            join(self._loop, address, tokens, chat.receiver, Receiver(chat).receive)
        for chat in self.chats:
            self._links[chat] = join(self._loop, address, tokens, chat.sender, Sender(chat).receive)
        self.failed = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def chats(self) -> list[Chat]:
        """Return all conversations, the absent one's last."""
        return [*self.pairs, self.absent]

    def acknowledged(self) -> dict[str, int]:
        """Return how many messages to each recipient have their PUBACK by now."""
        return {chat.receiver: chat.acknowledged for chat in self.chats}

    def marks(self) -> list[int]:
        """Return a place in the latencies of each pair: those that come then are behind it."""
        return [len(chat.latencies) for chat in self.pairs]

    def since(self, marks: Iterable[int]) -> list[float]:
        """Return the latencies behind a place, in seconds."""
        return [each for chat, mark in zip(self.pairs, marks, strict=True) for each in chat.latencies[mark:]]

    def run(self) -> None:
        """Send until `stop`."""
        began, due = perf_counter(), 0
        while not self._is_over.is_set():
            now = perf_counter()
            while began + due / RATE <= now:
                chat = self.absent if due % _ABSENT_SHARE == 0 else self.pairs[due % PAIRS]
                self._links[chat].write(chat.publish(1, began + due / RATE))
                due += 1
            self._loop.step(_STEP_S)
            if self._loop.disconnects:
                self.failed = "the server closed a connection in the middle of the load"
                return
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline and any(chat.acknowledged < chat.sent for chat in self.chats):
            self._loop.step(_STEP_S)

    def stop(self) -> None:
        """Stop sending, wait for what is on the road, hang up."""
        self._is_over.set()
        self.join()
        self._loop.close()


def drain(address: Address, tokens: Mapping[str, str], tag: str, wanted: int, *, sent: int) -> Chat:
    """Let the absent one come and take what waits, until `wanted` messages are there and no more come."""
    chat = Chat(WRITER, ABSENT, tag=tag, ready=[])
    chat.publish(sent, 0.0)  # never written: what may arrive
    loop = Loop()
    try:
        join(loop, address, tokens, ABSENT, Receiver(chat).receive)
        deadline = time.monotonic() + _DRAIN_S
        while chat.received < wanted and time.monotonic() < deadline and not loop.disconnects:
            loop.step(0.02)
        quiet = time.monotonic() + 0.3
        while time.monotonic() < quiet:
            loop.step(0.02)
    finally:
        loop.close()
    return chat
