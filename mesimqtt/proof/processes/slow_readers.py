"""Readers who never read: the server's memory stays bounded, they are cut, and neighbours notice nothing (P8, P9)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mesimqtt.bench.machine import Process
from mesimqtt.proof.processes.cast import accounts
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import Device, Link
from mesimqtt.proof.processes.neighbours import Neighbours
from mesimqtt.proof.processes.stage import Stage, play, too_few_files
from mesimqtt.proof.trial import Outcome
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES: Final = 20  # of each user
AT_ONCE: Final = 100
RECEIVE_BUFFER: Final = 4_096
PAYLOAD: Final = 200_000
MESSAGES: Final = 30  # for each user: more than the sockets' buffers and what may be unwritten
WINDOW: Final = 8
STALLED_S: Final = 4.0
CUT_S: Final = 3 * STALLED_S  # after the last message: some made progress until then
BASE_MB, EACH_MB = 64.0, 40 / 1024
OTHERS: Final = 5  # the neighbours, the flooder, a command
QUIET_S: Final = 2.0
WAIT_S: Final = 120.0
CONFIG: Final = f"limits: {{stalled_s: {STALLED_S}}}\n"


class SlowReaders:
    """Readers who do not read as a trial."""

    name = "slow-readers"
    title = (
        "readers stop reading in a flood: that costs at most 64 MB and 40 KB for each, they are cut, neighbours notice "
        "nothing, and who comes back has everything"
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

    async def story(stage: Stage) -> None:
        await asyncio.to_thread(stage.server.stop)
        users = [f"p{number}" for number in range((count + DEVICES - 1) // DEVICES)]
        tokens = await accounts(stage.data, stage.config, ["flooder", *users])
        server = await stage.start()
        readers = [
            Reader(Device(user, f"device-{number // len(users)}", tokens[user]))
            for number, user in ((number, users[number % len(users)]) for number in range(count))
        ]
        before = _sockets(server.pid)
        for first in range(0, count, AT_ONCE):
            await asyncio.gather(*(one.connect(server.port) for one in readers[first : first + AT_ONCE]))
        flooder = Flooder(Device("flooder", "desk", tokens["flooder"]), users)
        await flooder.connect(server.port)
        async with Neighbours.of(stage) as neighbours:
            await asyncio.sleep(QUIET_S)
            await flooder.flood(0)  # which everybody reads: what a flood costs in any case
            await asyncio.sleep(QUIET_S)
            await neighbours.begin()
            await _not_read(stage, readers, flooder, before)
            await neighbours.judge(is_timed=count >= 100)
        await flooder.close()
        for _ in readers:
            done()
        await _return(stage, readers[:: max(1, count // 5)])
        for one in readers:
            await one.close()

    return play(Stage(seed, folder, config=CONFIG), story)


async def _not_read(stage: Stage, readers: list[Reader], flooder: Flooder, sockets: int) -> None:
    """Flood them while they do not read, until all are cut: until the server has no more `sockets` open than before."""
    process = Process(stage.server.pid)
    before_kb = process.memory_peak_kb() or 0
    for one in readers:
        one.hold(True)
    await flooder.flood(MESSAGES)
    began = time.monotonic()
    end = began + stage.deadline(CUT_S)
    while (more := _sockets(stage.server.pid) - sockets - OTHERS) > 0 and time.monotonic() < end:  # noqa: ASYNC110 - of a process
        await asyncio.sleep(0.1)
    stage.worst("cut_max_s", time.monotonic() - began)
    if more > 0:
        stage.complain(f"{more} readers are still connected, {STALLED_S:g} s without progress and some more later")
    peak_mb, grown_mb = (
        kb / 1024 for kb in (process.memory_peak_kb() or 0, (process.memory_peak_kb() or 0) - before_kb)
    )
    stage.worst("server_memory_max_mb", peak_mb)
    stage.worst("grown_max_mb", grown_mb)
    if grown_mb > BASE_MB + EACH_MB * len(readers):
        stage.complain(f"memory: {grown_mb:.0f} MB more for {len(readers)} readers who do not read")


def _sockets(pid: int) -> int:
    """Return how many sockets a process has open: a client that does not read does not see that it was cut."""
    found = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += each.readlink().name.startswith("socket:")
    return found


async def _return(stage: Stage, readers: list[Reader]) -> None:
    """Let some come back and read: everything is there, in order."""
    wanted = list(range(2 * MESSAGES))
    for one in readers:
        await one.close()
        one.is_slow = False
        await one.connect(stage.server.port)
        end = time.monotonic() + WAIT_S / 4
        while len(set(one.numbers)) < len(wanted) and time.monotonic() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        if list(dict.fromkeys(one.numbers)) != wanted:
            stage.complain(f"{one.device} came back and has {len(set(one.numbers))} of {len(wanted)}, in order or not")
        await one.close()


class Reader(Link):
    """A device that reads nothing, until it comes back."""

    def __init__(self, device: Device) -> None:
        super().__init__(device, [(f"m/{device.user}/in/u/#", 1)])
        self.numbers: list[int] = []
        self.is_slow = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have no room for much."""
        if self.is_slow:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        super().connection_made(transport)

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take messages and acknowledge them."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet)
                self.numbers.append(int(message.payload[:8]))
                answer += stream.puback(message.packet_id)
        return answer


class Flooder(Link):
    """Who sends to all of them in turn, a few on the way at a time."""

    def __init__(self, device: Device, users: list[str]) -> None:
        super().__init__(device, [])
        self._users = users
        self._is_through = asyncio.Event()
        self._left: list[tuple[str, int]] = []
        self._in_flight = 0

    async def flood(self, first: int) -> None:
        """Send everybody his messages, numbered from `first` on; return once all are acknowledged."""
        self._left = [(user, first + number) for number in reversed(range(MESSAGES)) for user in self._users]
        self._is_through.clear()
        self.write(self._more())
        async with asyncio.timeout(WAIT_S):
            await self._is_through.wait()

    def _more(self) -> bytes:
        packets = b""
        while self._left and self._in_flight < WINDOW:
            self._in_flight += 1
            user, number = self._left.pop()
            topic = f"m/{self.device.user}/out/u/{user}/{user}-{number}"
            packets += stream.publish(
                topic, b"%08d" % number + bytes(PAYLOAD), qos=1, packet_id=len(self._left) % 60_000 + 1
            )
        if not self._in_flight:
            self._is_through.set()
        return packets

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Send on for each acknowledgement."""
        self._in_flight -= sum(packet.kind == stream.PUBACK for packet in packets)
        return self._more()
