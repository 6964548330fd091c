"""Two users who chat at a steady pace and have no part in what goes wrong beside them: what they notice of it (P9)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.bench.figures import percentile_ms
from mesimqtt.proof.processes.link import Device, Link
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mesimqtt.proof.processes.stage import Stage

EVERY_S: Final = 0.02
TIMES_IDLE_MAX: Final = 2.0
UNNOTICED_MS: Final = 250.0  # below this nobody calls it slow, whatever it was before
STALL_S: Final = 10.0
USERS: Final = ("mary", "noah")


class Neighbours:
    """One writes to the other; each message is timed, from the moment at which it was due."""

    def __init__(self, stage: Stage, tokens: dict[str, str]) -> None:
        self._stage = stage
        self._due: list[float] = []
        self._got: list[int] = []
        self._samples: list[tuple[float, int]] = []
        self._idle: list[tuple[float, int]] = []
        self._ends = [Neighbour(Device(user, "phone", tokens[user]), self) for user in USERS]

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, stage: Stage) -> AsyncIterator[Neighbours]:
        """Let them come, straight to the server, and write until the context ends."""
        tokens = await asyncio.to_thread(stage.server.add_users, *USERS)
        self = cls(stage, tokens)
        for one in self._ends:
            await one.connect(stage.server.port)
        writing = asyncio.ensure_future(self._write())
        try:
            yield self
        finally:
            writing.cancel()
            for one in self._ends:
                await one.close()

    def came(self, number: int) -> None:
        """Take the time of a message."""
        self._samples.append((time.monotonic() - self._due[number], 1))
        self._got.append(number)

    def begin(self) -> None:
        """From now on it is not idle any more."""
        self._idle, self._samples = self._samples, []

    async def judge(self) -> None:
        """Wait for what is on the way, and complain of what is lost, doubled, out of order, late, or cut off."""
        stage, sent = self._stage, len(self._due)
        end = time.monotonic() + STALL_S
        while len(self._got) < sent and time.monotonic() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(EVERY_S)
        idle_ms, ms = (percentile_ms(each, 0.99) or 0.0 for each in (self._idle, self._samples))
        stage.worst("neighbours_idle_p99_ms", idle_ms)
        stage.worst("neighbours_p99_ms", ms)
        stage.count("neighbours_messages", len(self._got))
        if self._got[:sent] != list(range(sent)):
            stage.complain(f"neighbours: {sent} were sent, and {len(self._got)} came, in order or not")
        if any(one.lost.is_set() for one in self._ends):
            stage.complain("neighbours: one was cut off")
        if ms > stage.deadline(max(TIMES_IDLE_MAX * idle_ms, UNNOTICED_MS)):
            stage.complain(f"neighbours: their p99 was {idle_ms:.1f} ms before, and {ms:.1f} ms with this beside them")

    async def _write(self) -> None:
        """Send at the pace, whatever is still on the way."""
        writer, reader = self._ends
        due = time.monotonic()
        while True:
            number = len(self._due)
            self._due.append(due)
            topic = f"m/{writer.device.user}/out/u/{reader.device.user}/{number}"
            writer.write(stream.publish(topic, b"%d" % number, qos=1, packet_id=number % 60_000 + 1))
            due += EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))


class Neighbour(Link):
    """One of the two."""

    def __init__(self, device: Device, both: Neighbours) -> None:
        super().__init__(device, [(f"m/{device.user}/in/u/#", 1)])
        self._both = both

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take messages and acknowledge them."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet)
                self._both.came(int(message.payload))
                answer += stream.puback(message.packet_id)
        return answer
