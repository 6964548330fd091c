"""Clients who did all in time, and whom only a server that stood still, and judges by the time alone, would wrong.

Each is judged by what comes from the server, never by how long it took: what happens after SIGCONT follows from what
waited in the kernel until then.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from mesimqtt.proof.processes.link import ANSWER_S, Device, Link, LinkError
from mesimqtt.proof.steps import EXPIRED
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.proof.processes.stage import Stage

KEEP_ALIVE_S: Final = 1
CONNECT_DEADLINE_S: Final = 1.5
STALLED_S: Final = 2.0
LIMITS: Final = f"limits: {{connect_deadline_s: {CONNECT_DEADLINE_S}, stalled_s: {STALLED_S}}}\n"
USERS: Final = ("warden", "ward", "away")
FLOOD: Final = 24  # messages to somebody who does not read: more than the sockets take
FLOOD_SIZE: Final = 250_000
STUCK_S: Final = 0.6  # ticks of the server in which it finds that nothing moves
RECEIVE_BUFFER: Final = 65_536
PAUSE_S: Final = 0.01
WELCOME: Final = b"\x20\x02\x00\x00"  # CONNACK of a new session


class Ward(Link):
    """A client that takes note of what comes: answers to PINGREQ, payloads, bytes."""

    def __init__(self, device: Device, filters: list[tuple[str, int]] | None = None) -> None:
        super().__init__(device, filters or [])
        self.answers = self.acknowledged = self.taken = 0
        self.payloads: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have no room for much."""
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count the bytes."""
        self.taken += len(data)
        super().data_received(data)

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take note, and acknowledge."""
        answer = b""
        for packet in packets:
            self.answers += packet.kind == stream.PINGRESP
            self.acknowledged += packet.kind == stream.PUBACK
            if packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet, level=self.device.level)
                self.payloads.append(message.payload if message.qos else b"")
                answer += stream.puback(message.packet_id) if message.qos else b""
        return answer

    async def ping(self) -> bool:
        """Ask; tell whether an answer came before the end of the connection."""
        before = self.answers
        self.write(stream.PING)
        await until(lambda: self.answers > before or self.lost.is_set())
        return self.answers > before


async def until(condition: Callable[[], object]) -> None:
    """Wait for what must happen, however slow the machine is. Raises LinkError if it never does."""
    end = time.monotonic() + ANSWER_S
    while not condition():
        if time.monotonic() > end:
            raise LinkError(f"what must happen did not within {ANSWER_S:g} s")
        await asyncio.sleep(PAUSE_S)


class Wards:
    """All of them, for one freeze after another of one server."""

    def __init__(self, stage: Stage, tokens: dict[str, str]) -> None:
        self._stage = stage
        self._tokens = tokens
        self._number = 0
        self._all: list[Ward] = []
        self.warden = Ward(Device("warden", "desk", tokens["warden"]), [("m/warden/in/status/#", 1)])
        self.away = self._one("away", [("m/away/in/u/#", 1)], user="away")

    @classmethod
    async def of(cls, stage: Stage) -> Self:
        """Make them; each device that is sent messages comes once, as its cursor begins there."""
        self = cls(stage, await asyncio.to_thread(stage.server.add_users, *USERS))
        await self.warden.connect(stage.server.port)
        await self.away.connect(stage.server.port)
        await self.away.close()
        return self

    async def dismiss(self) -> None:
        """Let go of all but the warden."""
        for coming in self._coming.values():
            coming.cancel()
        self._half.close()
        for one in self._all:
            await one.close()
        self._all = [self.away]

    async def close(self) -> None:
        """Leave no connection behind."""
        for one in [*self._all, self.warden]:
            await one.close()

    async def gather(self) -> None:
        """Bring each of them to where the next step is the server's, or his own while it stands still."""
        self._number += 1
        port, warden = self._stage.server.port, self.warden
        self._slow = self._one("slow", [("flood/#", 0)])
        await self._slow.connect(port)
        self._slow.hold(True)
        warden.write(stream.publish("flood/1", bytes(FLOOD_SIZE)) * FLOOD)
        await warden.ping()
        await asyncio.sleep(STUCK_S)
        acknowledged = warden.acknowledged
        warden.write(stream.publish(f"m/warden/out/u/away/{self._late}/expiry=1", b"late", qos=1, packet_id=1))
        await until(lambda: warden.acknowledged > acknowledged)
        self._heard, self._half = await asyncio.open_connection("127.0.0.1", port)
        self._silent = [
            self._one(f"silent-{level}", level=level, keep_alive_s=KEEP_ALIVE_S) for level in (4, stream.FIVE)
        ]
        self._first = self._one("twice")
        for one in [*self._silent, self._first]:  # in the server's order: the half one is known to it by then
            await one.connect(port)

    @property
    def number(self) -> int:
        """How often they have been gathered."""
        return self._number

    @property
    def _late(self) -> str:
        return f"late-{self._number}"

    async def act(self) -> None:
        """Do, while the server stands still, what each of them has to do."""
        for one in self._silent:
            one.write(stream.PING)
        self._half.write(stream.connect("half", "ward", self._tokens["ward"]))
        self._slow.hold(False)
        self._again, newcomer = self._one("twice"), self._one("newcomer")
        self._coming = {
            one: asyncio.ensure_future(one.connect(self._stage.server.port))
            for one in (self._again, newcomer, self.away)
        }
        await until(lambda: self._slow.lost.is_set() or self._is_drained())
        self._had = self._slow.taken

    def were_in_time(self) -> bool:
        """Tell, before SIGCONT, whether nobody was late by himself: a busy machine makes people late."""
        waiting = [*self._silent, self._first, self._slow]
        return not any(one.lost.is_set() for one in waiting) and not self._heard.at_eof()

    async def judge(self) -> None:
        """Say, after SIGCONT, who was wronged."""
        stage = self._stage
        for one in self._silent:
            await until(lambda one=one: one.answers or one.lost.is_set())  # type: ignore[misc] # of this turn
            if not one.answers:
                stage.complain(f"cut off for his silence: {one.device}, who had written while the server stood still")
        await self._half_is_let_in()
        slow = self._slow
        await until(lambda: slow.taken > self._had or slow.lost.is_set())
        if slow.taken == self._had:
            stage.complain("cut off as one who does not read, who had read all while the server stood still")
        for one, coming in self._coming.items():
            try:
                await coming
            except (LinkError, OSError) as error:
                stage.complain(f"not let in: {one.device}, who came while the server stood still: {error}")
        await until(self._first.lost.is_set)
        if not await self._again.ping():
            stage.complain("taken over, and the new connection was closed, too")
        await self._late_is_late()

    async def _half_is_let_in(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._heard.readexactly(len(WELCOME))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            answer = repr(error).encode()
        self._half.close()
        if answer != WELCOME:
            self._stage.complain(
                f"cut off as too late, who had said who he is while the server stood still: {answer!r}"
            )

    async def _late_is_late(self) -> None:
        """Look that what expired before its receiver came is not delivered, what is behind it is, and it is told."""
        warden, away, mark = self.warden, self.away, b"mark-%d" % self._number
        warden.write(stream.publish(f"m/warden/out/u/away/mark-{self._number}", mark, qos=1, packet_id=2))
        await until(lambda: mark in away.payloads or away.lost.is_set())
        if b"late" in away.payloads:
            self._stage.complain("delivered after its expiry: its second was over while the server stood still")
            away.payloads.clear()
        else:
            await until(lambda: self._late in self._expired() or warden.lost.is_set())

    def _expired(self) -> set[str]:
        statuses = [json.loads(each) for each in self.warden.payloads]
        return {each["cid"] for each in statuses if each["status"] == EXPIRED}

    def _is_drained(self) -> bool:
        """Tell whether nothing is on its way to who reads again, neither in the server's socket nor in his."""
        mine, theirs = self._slow.port, self._stage.server.port
        queues = {}
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            ports = tuple(int(each.partition(":")[2], 16) for each in fields[1:3])
            queues[ports] = [int(each, 16) for each in fields[4].split(":")]
        return queues.get((theirs, mine), [1, 1])[0] == 0 and queues.get((mine, theirs), [1, 1])[1] == 0

    def _one(
        self,
        name: str,
        filters: list[tuple[str, int]] | None = None,
        *,
        user: str = "ward",
        level: int = 4,
        keep_alive_s: int = 60,
    ) -> Ward:
        one = Ward(Device(user, name, self._tokens[user], level, keep_alive_s=keep_alive_s), filters)
        self._all.append(one)
        return one
