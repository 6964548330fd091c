"""Readers who never read: the server's memory stays bounded, they are cut, and neighbours notice nothing (P8, P9)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mesimqtt.bench.machine import Process
from mesimqtt.proof.processes import crowd, flooder
from mesimqtt.proof.processes.cast import accounts
from mesimqtt.proof.processes.crowd import COME_BACK, WHO_WAS_CUT, Reader
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.flooder import DIRECT, SIZE
from mesimqtt.proof.processes.helper import Helper
from mesimqtt.proof.processes.link import Device
from mesimqtt.proof.processes.neighbours import Neighbours
from mesimqtt.proof.processes.stage import Stage, play, too_few_files
from mesimqtt.proof.trial import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES: Final = 20  # of each user
GROUP: Final = "crowd"
PROMISED: Final = 1_000  # readers, as the promise has it: with fewer all is to scale
PROMISED_S: Final = 60.0
SHORTEST_S: Final = 6.0  # more than the sockets take
BYTES_A_SECOND: Final = 1_000_000  # for each
STALLED_S: Final = (4.0, 30.0)  # here, and the default, which is the promise's
BASE_MB, EACH_MB = 64.0, 40 / 1024
OTHERS: Final = 5  # the neighbours, the flooder, a command
QUIET_S: Final = 2.0
TIMED_FROM: Final = 1_000  # readers: with fewer it is over too soon to say anything of a p99 on a busy machine
WAIT_S: Final = 120.0  # for what must happen, however busy the machine is
RETURNING: Final = 5
AGAIN_S: Final = 22.0  # that they are back: in which more is tried three times with who has taken nothing


class Form(NamedTuple):
    """A trial to scale: for how long, and how many messages to the group that is."""

    seconds: float
    messages: int
    stalled_s: float

    @classmethod
    def of(cls, count: int) -> Form:
        """Return that of so many readers."""
        seconds = max(SHORTEST_S, PROMISED_S * count / PROMISED)
        return cls(seconds, int(seconds * BYTES_A_SECOND / SIZE), STALLED_S[count >= PROMISED])


class SlowReaders:
    """Readers who do not read as a trial."""

    name = "slow-readers"
    title = (
        "readers who do not read are owed 1 MB/s each, as are a thousand for 60 s in the long form, and who comes back "
        "does not read again: that costs at most 64 MB and 40 KB for each, they are cut, neighbours notice nothing, "
        "and who reads at last has everything"
    )
    promises = ("P8", "P9", "P1")
    unit = "readers"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Let `count` readers not read. Skipped where so many connections may not be open."""
        if reason := too_few_files(count):
            return Outcome(0, "", skipped=reason)
        return in_eras(self.name, era, count, seed=seed, size=count, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Flood `count` readers who do not read, wait until they are cut, and let some come back."""
    form = Form.of(count)

    async def story(stage: Stage) -> None:
        await asyncio.to_thread(stage.server.stop)
        users = [f"p{number}" for number in range((count + DEVICES - 1) // DEVICES)]
        tokens = await accounts(stage.data, stage.config, ["flooder", *users], group=GROUP)
        server = await stage.start()
        devices = [(user, f"device-{place}", tokens[user]) for place in range(DEVICES) for user in users][:count]
        asked = {
            "port": server.port, "device": ("flooder", "desk", tokens["flooder"]), "users": users, "group": GROUP,
            "messages": form.messages, "bytes_a_second": BYTES_A_SECOND,
        }  # fmt: skip
        before = _sockets(server.pid)
        async with (
            Helper.of(crowd.__name__, {"port": server.port, "devices": devices}) as readers,
            Helper.of(flooder.__name__, asked) as flood,
            Neighbours.of(stage) as neighbours,
        ):
            await asyncio.sleep(QUIET_S)
            await neighbours.begin()
            before_kb = Process(stage.server.pid).memory_peak_kb() or 0
            await _not_read(stage, readers, flood, count, before)
            await _not_read_again(readers)
            _judge_memory(stage, before_kb, count)
            await neighbours.judge(is_timed=count >= TIMED_FROM)
        for _ in devices:
            done()
        await _return(stage, [Device(*each) for each in devices[:: max(1, count // RETURNING)]], form.messages)

    return play(Stage(seed, folder, config=f"limits: {{stalled_s: {form.stalled_s}}}\n"), story)


async def _not_read(stage: Stage, readers: Helper, flood: Helper, count: int, sockets: int) -> None:
    """Flood them while they do not read, then wait until all are cut: until no more `sockets` are open than before."""
    began = time.monotonic()
    flooded = await flood.ask("flood")
    stage.worst("flood_s", time.monotonic() - began)
    stage.worst("flood_late_s", flooded["late_s"])
    stage.count("flooded_messages", flooded["accepted"])
    began = time.monotonic()
    while (more := _sockets(stage.server.pid) - sockets - OTHERS) > 0 and time.monotonic() < began + WAIT_S:  # noqa: ASYNC110 - of a process
        await asyncio.sleep(0.1)
    stage.worst("cut_max_s", time.monotonic() - began)
    said = await readers.ask(WHO_WAS_CUT)
    stage.count("cut_readers", said["cut"])
    if more > 0 or said["cut"] < count:
        stage.complain(
            f"{said['cut']} of {count} readers were cut, {max(0, more)} are still connected after {WAIT_S:g} s"
        )


async def _not_read_again(readers: Helper) -> None:
    """Let all come back and read and acknowledge nothing: what waits for them stays in the store."""
    await readers.ask(COME_BACK)
    await asyncio.sleep(AGAIN_S)


def _judge_memory(stage: Stage, before_kb: int, count: int) -> None:
    peak_kb = Process(stage.server.pid).memory_peak_kb() or 0
    grown_mb = (peak_kb - before_kb) / 1024
    stage.worst("server_memory_max_mb", peak_kb / 1024)
    stage.worst("grown_max_mb", grown_mb)
    if grown_mb > BASE_MB + EACH_MB * count:
        stage.complain(f"memory: {grown_mb:.0f} MB more for {count} readers who do not read")


def _sockets(pid: int) -> int:
    """Return how many sockets a process has open: a client that does not read does not see that it was cut."""
    found = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += each.readlink().name.startswith("socket:")
    return found


async def _return(stage: Stage, devices: list[Device], messages: int) -> None:
    """Let some come back and read: everything is there, in order."""
    wanted = {b"u": list(range(DIRECT)), b"g": list(range(messages))}
    for device in devices:
        one = Reader(device, is_slow=False)
        await one.connect(stage.server.port)
        end = time.monotonic() + WAIT_S
        while any(len(set(one.numbers[kind])) < len(wanted[kind]) for kind in wanted) and time.monotonic() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        for kind, numbers in wanted.items():
            if list(dict.fromkeys(one.numbers[kind])) != numbers:
                stage.complain(
                    f"{device} came back and has {len(set(one.numbers[kind]))} of {len(numbers)}, in order or not"
                )
        await one.close()
