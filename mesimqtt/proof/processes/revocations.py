"""Tokens revoked under connections that chat: closed within a second, and nothing in or out afterwards (P18)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import Device, Link, LinkError
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

ERA: Final = 10  # revocations on one server
CLOSED_S: Final = 1.0
EVERY_S: Final = 0.005
CHAT_S: Final = (0.1, 0.4)
AFTERWARDS_S: Final = 0.2
SETTLE_S: Final = 60.0  # at most, however busy the machine is


class Revocations:
    """Revoked tokens as a trial."""

    name = "revocations"
    title = "tokens are revoked while their devices chat: closed within 1 s, nothing in or out afterwards, others go on"
    promises = ("P18",)
    unit = "revocations"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Revoke `count` times, one token and all of a user in turn, `ERA` times each server."""
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Revoke `count` times on one server; whoever was revoked comes back with a new token and misses nothing."""

    async def story(stage: Stage) -> None:
        chat = await Chat.opened(stage)
        with chat.going_on():
            for number in range(count):
                await asyncio.sleep(stage.chance.uniform(*CHAT_S))
                await chat.revoke(chat.pair if (seed + number) % 2 else [stage.chance.choice(chat.pair)])
                done()
        await chat.judge()

    return play(Stage(seed, folder), story)


@dataclass(frozen=True, slots=True)
class Came:
    """A message as it came: who sent it from which device, its number, and when it was sent."""

    by: str
    number: int
    sent_at: float


class Talker(Link):
    """A device that writes to one user at a steady pace, as long as it is connected."""

    def __init__(self, device: Device, to: str) -> None:
        super().__init__(device, [(f"m/{device.user}/in/u/#", 1)])
        self.came: list[Came] = []
        self.acknowledged: set[int] = set()
        self.lost_at = 0.0
        self._to = to
        self._number = 0

    def say(self) -> None:
        """Write the next message, unless the link is lost."""
        if self.lost.is_set():
            return
        self._number += 1
        device, number = self.device, self._number
        topic = f"m/{device.user}/out/u/{self._to}/{device.name}-{number}"
        payload = f"{device} {number} {time.monotonic()}".encode()
        self.write(stream.publish(topic, payload, qos=1, packet_id=number % 65_000 + 1))

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take messages and acknowledgements."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBACK:
                self.acknowledged.add(packet.packet_id - 1)
            elif packet.kind == stream.PUBLISH:
                message = stream.decode_publish(packet)
                by, number, sent_at = message.payload.decode().split()
                self.came.append(Came(by, int(number), float(sent_at)))
                answer += stream.puback(message.packet_id)
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        """Note when."""
        self.lost_at = time.monotonic()
        super().connection_lost(exc)


class Chat:
    """Rita and Walt, and between them Vera, whose two devices have a token each."""

    def __init__(self, stage: Stage, tokens: dict[str, str], second: str) -> None:
        self._stage = stage
        self.rita = Talker(Device("rita", "phone", tokens["rita"]), "walt")
        self.walt = Talker(Device("walt", "phone", tokens["walt"]), "vera")
        self.pair = [
            Talker(Device("vera", "phone", tokens["vera"]), "rita"),
            Talker(Device("vera", "tablet", second), "rita"),
        ]

    @classmethod
    async def opened(cls, stage: Stage) -> Chat:
        """Make the users and let all devices come."""
        tokens = await asyncio.to_thread(stage.server.add_users, "rita", "walt", "vera")
        second = (await asyncio.to_thread(stage.server.issue, "vera"))["vera"]
        self = cls(stage, tokens, second)
        for one in self._everybody:
            await one.connect(stage.server.port)
        return self

    @property
    def _everybody(self) -> list[Talker]:
        return [self.rita, self.walt, *self.pair]

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Let everybody write until the context ends."""
        task = asyncio.ensure_future(self._talk())
        try:
            yield
        finally:
            task.cancel()

    async def _talk(self) -> None:
        while True:
            for one in self._everybody:
                one.say()
            await asyncio.sleep(EVERY_S)

    async def revoke(self, chosen: list[Talker]) -> None:
        """Revoke the tokens of these of Vera's devices, see what happens, and let them come back with new ones."""
        stage, server = self._stage, self._stage.server
        what = "vera" if len(chosen) > 1 else _jti(chosen[0].password)
        asked_at = time.monotonic()
        await asyncio.to_thread(server.run, "token", "revoke", what)
        revoked_at = time.monotonic()
        for one in chosen:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(one.lost.wait(), stage.deadline(CLOSED_S))
            if not one.lost.is_set():
                stage.complain(f"revoked and connected: {one.device}, {CLOSED_S:g} s later")
            stage.worst("closed_after_command_max_s", max(0.0, one.lost_at - revoked_at))
            stage.worst("closed_since_asked_max_s", one.lost_at - asked_at)
        await asyncio.sleep(AFTERWARDS_S)
        self._nothing_after(chosen, revoked_at)
        for one in set(self._everybody) - set(chosen):
            if one.lost.is_set():
                stage.complain(f"cut off: {one.device}, whose token is good")
        for one in chosen:
            await one.close()
            with contextlib.suppress(LinkError):
                await one.connect(server.port)
                stage.complain(f"revoked and let in: {one.device}")
            await one.close()
            one.password = (await asyncio.to_thread(server.issue, "vera"))["vera"]
            await one.connect(server.port)

    def _nothing_after(self, chosen: list[Talker], revoked_at: float) -> None:
        """Complain of what a revoked device said or heard of what was said after the command had ended."""
        gone = {str(one.device) for one in chosen}
        for came in self.rita.came:
            if came.by in gone and came.sent_at > revoked_at:
                self._stage.complain(f"in after it was revoked: message {came.number} of {came.by}")
        for one in chosen:
            for came in one.came:
                if came.sent_at > revoked_at:
                    self._stage.complain(f"out after it was revoked: message {came.number} to {one.device}")

    async def judge(self) -> None:
        """Wait until all has come, and complain of what was acknowledged and is missing, or came out of order."""
        routes = [(self.walt, one) for one in self.pair] + [(one, self.rita) for one in self.pair]
        routes.append((self.rita, self.walt))
        for sender, receiver in routes:
            end = time.monotonic() + SETTLE_S
            while _missing(sender, receiver) and time.monotonic() < end:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(EVERY_S)
            for number in sorted(_missing(sender, receiver))[:5]:
                self._stage.complain(f"lost: message {number} of {sender.device} to {receiver.device}")
            first_seen = list(dict.fromkeys(each.number for each in _of(sender, receiver)))
            if first_seen != sorted(first_seen):
                self._stage.complain(f"out of order: what {sender.device} wrote to {receiver.device}")
            self._stage.count("chatted", len(first_seen))
        for one in self._everybody:
            await one.close()


def _of(sender: Talker, receiver: Talker) -> list[Came]:
    return [each for each in receiver.came if each.by == str(sender.device)]


def _missing(sender: Talker, receiver: Talker) -> set[int]:
    return sender.acknowledged - {each.number for each in _of(sender, receiver)}


def _jti(token: str) -> str:
    claims = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"])
