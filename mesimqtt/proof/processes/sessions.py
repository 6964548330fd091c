"""Thousands of persistent sessions, a message waiting in each, a kill -9: all come at once, and have it soon (P14)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.bench.machine import Process
from mesimqtt.proof.processes.cast import accounts
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import Device, Link, LinkError
from mesimqtt.proof.processes.stage import Stage, play, too_few_files
from mesimqtt.proof.steps import DELIVERED
from mesimqtt.proof.trial import Outcome
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WRITER: Final = "writer"
INSTALLED: Final = ("env", "-u", "PYTHONDONTWRITEBYTECODE")  # a package that is installed is compiled already
FIRST_S: Final = 1.0  # from the start of the process to the first CONNACK
BACK_S: Final = 60.0  # until all are back and have what waited
MEMORY_MB: Final = 300.0
WINDOW: Final = 64
AT_ONCE: Final = 100  # of those who come for the first time
PROBE_S: Final = 0.01
PAUSE_S: Final = (0.3, 1.3)  # before one tries again who was not let in
AFTERWARDS_S: Final = 0.5  # in which a second copy would come


class Sessions:
    """A restart with many durable users as a trial."""

    name = "sessions"
    title = (
        "a message waits in every persistent session, kill -9, and all come back at the same moment: the first CONNACK "
        "is there in 1 s, all have their message in 60 s, in 300 MB"
    )
    promises = ("P14", "P1")
    unit = "sessions"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Bring `count` sessions back. Skipped where so many connections may not be open."""
        if reason := too_few_files(count):
            return Outcome(0, "", skipped=reason)
        return in_eras(self.name, era, count, seed=seed, size=count, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Let `count` sessions come, go, be written to, and come back after a kill."""

    async def story(stage: Stage) -> None:
        await asyncio.to_thread(stage.server.stop)
        users = [f"p{number}" for number in range(count)]
        tokens = await accounts(stage.data, stage.config, [WRITER, *users])
        server = await stage.start()
        crowd = [Session(Device(user, "phone", tokens[user], clean=False)) for user in users]
        writer = Writer(Device(WRITER, "desk", tokens[WRITER], clean=False))
        for first in range(0, count, AT_ONCE):
            await asyncio.gather(*(one.come_once(server.port) for one in crowd[first : first + AT_ONCE]))
        await writer.write_to(server.port, users)
        await asyncio.to_thread(server.kill)
        await writer.lost.wait()
        await _come_back(stage, crowd, writer, done)
        for one in crowd:
            one.check(stage)

    return play(Stage(seed, folder, wrapper=INSTALLED), story)


async def _come_back(stage: Stage, crowd: Sequence[Session], writer: Writer, done: Callable[[], None]) -> None:
    """Start a server as an operator does, and measure how they come back."""
    port, chance = stage.server.port, stage.chance
    server = stage.server
    began = time.monotonic()
    await asyncio.to_thread(server.begin, port=port)
    await crowd[0].come_back(port, lambda: PROBE_S)
    first_s, waited_s = time.monotonic() - began, Process(server.pid).waited_s()
    try:
        async with asyncio.timeout(BACK_S):
            coming = [one.come_back(port, lambda: chance.uniform(*PAUSE_S)) for one in [*crowd[1:], writer]]
            await asyncio.gather(*coming)
            stage.worst("all_let_in_s", time.monotonic() - began)
            for one in crowd:
                await one.has_it.wait()
                done()
            stage.worst("all_have_it_s", time.monotonic() - began)
            await writer.is_told.wait()
            stage.worst("all_told_s", time.monotonic() - began)
    except TimeoutError:
        absent = sum(not one.has_it.is_set() for one in crowd)
        stage.complain(f"{absent} have nothing after {BACK_S:g} s, {len(writer.open)} are not told as delivered")
    await asyncio.sleep(AFTERWARDS_S)
    memory_mb = (Process(server.pid).memory_peak_kb() or 0) / 1024
    stage.worst("first_connack_s", first_s)
    stage.worst("first_connack_without_waiting_s", first_s - waited_s)
    stage.worst("server_memory_max_mb", memory_mb)
    stage.count("tries_again", sum(one.again for one in crowd[1:]))
    if first_s - waited_s > FIRST_S:
        stage.complain(
            f"the first CONNACK came {first_s:.2f} s after the start, of which it had no core {waited_s:.2f} s"
        )
    if memory_mb > MEMORY_MB:
        stage.complain(f"the server took {memory_mb:.0f} MB for {len(crowd)} sessions")


class Durable(Link):
    """A persistent session, which subscribes once in its life."""

    def __init__(self, device: Device, filters: Sequence[str]) -> None:
        super().__init__(device, [(f"m/{device.user}/in/{each}", 1) for each in filters])
        self.again = 0

    async def come_back(self, port: int, pause: Callable[[], float]) -> None:
        """Try until the server lets it in."""
        self._filters.clear()
        while True:
            try:
                await self.connect(port)
            except (LinkError, OSError, TimeoutError):
                await self.close()
                self.again += 1
                await asyncio.sleep(pause())
            else:
                return


class Session(Durable):
    """A user's phone, for which one message waits."""

    def __init__(self, device: Device) -> None:
        super().__init__(device, ["u/#"])
        self.has_it = asyncio.Event()
        self._got: list[tuple[str, bytes]] = []

    async def come_once(self, port: int) -> None:
        """Subscribe, and go in good order."""
        await self.connect(port)
        self.write(stream.GOODBYE)
        await self.lost.wait()

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take messages and acknowledge them."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet)
                self._got.append((message.topic.split("/")[4], message.payload))
                self.has_it.set()
                answer += stream.puback(message.packet_id)
        return answer

    def check(self, stage: Stage) -> None:
        """Complain of anything but the one message, in the session that there was before."""
        wanted = [(WRITER, f"to {self.device.user}".encode())]
        if self._got != wanted:
            stage.complain(f"{self.device} got {self._got}, not {wanted}")
        if not self.is_resumed:
            stage.complain(f"forgotten: the session of {self.device} was not there any more")


class Writer(Durable):
    """Who writes to each of them, and is told of each that it was delivered."""

    def __init__(self, device: Device) -> None:
        super().__init__(device, ["status/#"])
        self.open: set[str] = set()  # users who are not told to have it
        self.is_told = asyncio.Event()
        self._left: list[str] = []
        self._in_flight = 0
        self._is_through = asyncio.Event()

    async def write_to(self, port: int, users: Sequence[str]) -> None:
        """Write to each of them, and return once everything is acknowledged. Raises TimeoutError."""
        await self.connect(port)
        self.open, self._left = set(users), list(users)
        self.write(self._more())
        async with asyncio.timeout(BACK_S):
            await self._is_through.wait()

    def _more(self) -> bytes:
        packets = b""
        while self._left and self._in_flight < WINDOW:
            self._in_flight += 1
            user = self._left.pop()
            topic = f"m/{self.device.user}/out/u/{user}/to-{user}"
            packets += stream.publish(topic, f"to {user}".encode(), qos=1, packet_id=len(self._left) + 1)
        return packets

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Send on for each acknowledgement; take statuses."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBACK:
                self._in_flight -= 1
            elif packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet)
                fields = json.loads(message.payload)
                if fields["status"] == DELIVERED:
                    self.open.discard(fields["peer"])
                answer += stream.puback(message.packet_id)
        if not (self._left or self._in_flight):
            self._is_through.set()
        if not self.open:
            self.is_told.set()
        return answer + self._more()
