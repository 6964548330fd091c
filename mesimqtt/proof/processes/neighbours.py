"""Two users who chat at a steady pace and have no part in what goes wrong beside them: what they notice of it (P9).

They and their clock are a process of their own: what they notice is the server's doing or the machine's, not the
trial's. What is the machine's they know: for each message the kernel tells how long the server's threads and they
themselves would have worked meanwhile and had no core. That is not counted as the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mesimqtt.bench.figures import percentile_ms
from mesimqtt.proof.processes.helper import Helper, play, tell
from mesimqtt.proof.processes.link import ANSWER_S, Device, Link
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mesimqtt.proof.processes.stage import Stage

EVERY_S: Final = 0.02
TIMES_IDLE_MAX: Final = 2.0
FLOOR_MS: Final = 25.0  # of the server's own time: a commit, and a burst of somebody else that is taken in one piece
USERS: Final = ("mary", "noah")


class Noticed(NamedTuple):
    """What the neighbours say of one phase, in milliseconds: all of it, and without their and the server's waiting."""

    wall_p99_ms: float
    p99_ms: float
    messages: int


def allowed_ms(idle: Noticed) -> float:
    """Return the p99 that neighbours may have: twice that of before, or what nobody can measure honestly."""
    return max(TIMES_IDLE_MAX * idle.p99_ms, FLOOR_MS)


class Neighbours:
    """Their process, as the trial has it."""

    def __init__(self, stage: Stage, helper: Helper) -> None:
        self._stage = stage
        self._helper = helper

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, stage: Stage) -> AsyncIterator[Neighbours]:
        """Let them come, straight to the server, and write until the context ends."""
        tokens = await asyncio.to_thread(stage.server.add_users, *USERS)
        asked = {"port": stage.server.port, "pid": stage.server.pid, "tokens": tokens}
        async with Helper.of(__name__, asked) as helper:
            yield cls(stage, helper)

    async def begin(self) -> None:
        """From now on it is not idle any more."""
        await self._helper.ask("begin")

    async def judge(self, *, is_timed: bool) -> None:
        """Wait for what is on the way, and complain of what is lost, doubled, out of order or cut off.

        `is_timed`: also of what is late. A machine on which other things run shows nothing of that in a few seconds.
        """
        stage, said = self._stage, await self._helper.ask("judge")
        idle, beside = Noticed(**said["idle"]), Noticed(**said["beside"])
        stage.worst("neighbours_idle_p99_ms", idle.p99_ms)
        stage.worst("neighbours_p99_ms", beside.p99_ms)
        stage.worst("neighbours_wall_p99_ms", beside.wall_p99_ms)
        stage.count("neighbours_messages", idle.messages + beside.messages)
        if said["wrong"]:
            stage.complain(f"neighbours: {said['wrong']}")
        if is_timed and beside.p99_ms > allowed_ms(idle):
            stage.complain(
                f"neighbours: their p99 was {idle.p99_ms:.1f} ms before, and {beside.p99_ms:.1f} ms with this beside "
                f"them, where {allowed_ms(idle):.1f} ms are allowed"
            )


# ---- in their own process ------------------------------------------------------------------------------------------


class Phase:
    """What was measured in one phase: seconds, each of one message."""

    def __init__(self) -> None:
        self.wall: list[tuple[float, int]] = []
        self.took: list[tuple[float, int]] = []

    def noticed(self) -> Noticed:
        """Return it in figures."""
        wall_ms, p99_ms = (percentile_ms(each, 0.99) or 0.0 for each in (self.wall, self.took))
        return Noticed(wall_ms, p99_ms, len(self.took))


class RunQueue:
    """How long threads of the server and of this process waited for a core; 0 where nobody counts that."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}/task")
        self._open: dict[str, int] = {}
        self._sum_ns = 0
        self._of: dict[str, int] = {}

    def look_again(self) -> None:
        """Find the threads that there are."""
        with contextlib.suppress(OSError):
            for task in self._folder.iterdir():
                if task.name not in self._open:
                    self._open[task.name] = os.open(task / "schedstat", os.O_RDONLY)
            if "self" not in self._open:
                self._open["self"] = os.open("/proc/self/schedstat", os.O_RDONLY)

    def waited_s(self) -> float:
        """Return the seconds until now."""
        for name, descriptor in list(self._open.items()):
            try:
                now = int(os.pread(descriptor, 100, 0).split()[1])
            except OSError:  # the thread has ended
                os.close(self._open.pop(name))
                continue
            self._sum_ns += now - self._of.get(name, now)
            self._of[name] = now
        return self._sum_ns / 1e9


class Neighbour(Link):
    """One of the two: writes to the other, and times what comes from him, from the moment at which it was due."""

    def __init__(self, device: Device, queue: RunQueue) -> None:
        super().__init__(device, [(f"m/{device.user}/in/u/#", 1)])
        self.due: list[tuple[float, float]] = []  # when, and how long had been waited for cores until then
        self.got: list[int] = []
        self.phase = Phase()
        self.other = self
        self._queue = queue

    async def chat(self) -> None:
        """Send at the pace, whatever is still on the way."""
        due = time.monotonic()
        while True:
            number = len(self.due)
            late = max(0.0, time.monotonic() - due)  # that is the machine's, too
            self.due.append((due, self._queue.waited_s() - late))
            topic = f"m/{self.device.user}/out/u/{self.other.device.user}/{number}"
            self.write(stream.publish(topic, b"%d" % number, qos=1, packet_id=number % 60_000 + 1))
            due += EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take messages and acknowledge them."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet)
                number = int(message.payload)
                due, waited = self.other.due[number]
                wall = time.monotonic() - due
                self.phase.wall.append((wall, 1))
                self.phase.took.append((max(0.0, wall - (self._queue.waited_s() - waited)), 1))
                self.got.append(number)
                answer += stream.puback(message.packet_id)
        return answer

    def wrong(self) -> str:
        """Say what is not as it must be, '' if all is."""
        sent = len(self.other.due)
        if self.lost.is_set():
            return f"{self.device} was cut off"
        if self.got != list(range(sent)):
            return f"{sent} were sent to {self.device}, and {len(self.got)} came, in order or not"
        return ""


async def chat(asked: dict[str, Any], questions: AsyncIterator[Any]) -> None:
    """Chat, from the beginning in one phase, after `begin` in another, until `judge`."""
    queue = RunQueue(asked["pid"])
    mary, noah = (Neighbour(Device(user, "phone", asked["tokens"][user]), queue) for user in USERS)
    mary.other, noah.other = noah, mary
    mary.phase = noah.phase = idle = Phase()
    queue.look_again()
    for one in (mary, noah):
        await one.connect(asked["port"])
    chatting = [asyncio.ensure_future(one.chat()) for one in (mary, noah)]
    tell()
    async for what in questions:
        if what == "begin":
            mary.phase = noah.phase = Phase()
            queue.look_again()
            tell()
            continue
        for task in chatting:
            task.cancel()
        await _all_came(mary, noah)
        wrong = "; ".join(filter(None, (mary.wrong(), noah.wrong())))
        tell(idle=idle.noticed()._asdict(), beside=mary.phase.noticed()._asdict(), wrong=wrong)


async def _all_came(*both: Neighbour) -> None:
    end = time.monotonic() + ANSWER_S
    while any(len(one.got) < len(one.other.due) for one in both) and time.monotonic() < end:
        if any(one.lost.is_set() for one in both):
            return
        await asyncio.sleep(EVERY_S)


if __name__ == "__main__":
    play(chat)
