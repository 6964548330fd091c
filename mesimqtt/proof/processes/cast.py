"""Who takes part: three who send, two who receive, a group of all; old and new MQTT, one and more devices."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final, Self

from mesimqtt.app import running
from mesimqtt.configuration import load_settings
from mesimqtt.proof.processes.ledger import Ledger
from mesimqtt.proof.processes.link import Device
from mesimqtt.proof.processes.peers import Peer
from mesimqtt.store.database import FILE_NAME
from mesimqtt.testing import stream

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from mesimqtt.testing.process import Server

SENDERS: Final = {"s0": 4, "s1": 5, "s2": 4}  # user -> which MQTT
RECEIVERS: Final = (("r0", "phone", 4), ("r0", "tablet", 5), ("r1", "phone", 4))
TEAM: Final = "team"
USERS: Final = ("s0", "s1", "s2", "r0", "r1")
TARGETS: Final = ("u/r0", "g/team", "u/r1", "u/r0")
AT_ONCE: Final = 1_000  # accounts that one command makes
READ_BACK_S: Final = 60.0
PAUSE_S: Final = 0.02


async def accounts(data: Path, config: Path, users: Sequence[str], *, group: str = "") -> dict[str, str]:
    """Make users, and a group of them, on a data folder that nobody serves; return a token for each."""
    tokens: dict[str, str] = {}
    async with running(load_settings(config), data, listen=False) as app:
        for first in range(0, len(users), AT_ONCE):
            some = list(users[first : first + AT_ONCE])
            await app.perform("user_add", {"addresses": some})
            issued = await app.perform("token_issue", {"addresses": some})
            tokens |= {each["address"]: each["token"] for each in issued["tokens"]}
        if group:
            await app.perform("group_add", {"address": group})
            await app.perform("group_join", {"address": group, "users": list(users)})
    return tokens


class Cast:
    """All clients of one data folder, over any number of servers' lives."""

    def __init__(self, tokens: dict[str, str], chance: random.Random, *, keep_alive_s: int = 60) -> None:
        self.ledger = Ledger({TEAM: USERS})
        self.tokens = tokens
        self._chance = chance
        self.senders = [
            Peer(
                Device(user, "laptop", tokens[user], level, keep_alive_s=keep_alive_s),
                ["status/#", "g/#"],
                self.ledger,
                chance,
            )
            for user, level in SENDERS.items()
        ]
        self.receivers = [
            Peer(
                Device(user, name, tokens[user], level, keep_alive_s=keep_alive_s),
                ["u/#", "g/#", "read/#"],
                self.ledger,
                chance,
            )
            for user, name, level in RECEIVERS
        ]

    @classmethod
    async def made(cls, data: Path, config: Path, chance: random.Random, *, keep_alive_s: int = 60) -> Self:
        """Make the users and their group, as commands do on a data folder that nobody serves yet."""
        tokens = await accounts(data, config, USERS, group=TEAM)
        return cls(tokens, chance, keep_alive_s=keep_alive_s)

    def take_new_tokens(self, server: Server) -> None:
        """Give everybody a new token; after a step of the clock the old ones may be from the future."""
        self.tokens = server.issue(*USERS)
        for one in self.everybody:
            one.password = self.tokens[one.device.user]

    @property
    def everybody(self) -> list[Peer]:
        """Return all of them."""
        return [*self.senders, *self.receivers]

    async def settle(self, port: int) -> None:
        """Let every device come once before anything is sent: its cursor begins there."""
        await asyncio.gather(*(one.connect(port) for one in self.everybody))
        await self.close()

    async def come(self, port: int, count: int, *, away: float = 0.3) -> None:
        """Let them connect, each receiver's device with a chance of staying `away`, and send up to `count` each."""
        online = [one for one in self.receivers if self._chance.random() >= away]
        await asyncio.gather(*(one.connect(port) for one in [*online, *self.senders]))
        for one in [*online, *self.senders]:
            one.mark_again()
        for one in self.senders:
            one.send(list(TARGETS), count)

    def go_on(self, count: int) -> None:
        """Let them send up to `count` more each, on the connections they have."""
        for one in self.senders:
            one.go_on(count)

    async def keep_alive(self, seconds: float) -> None:
        """Send PINGREQ so often, for everybody, until cancelled."""
        while True:
            for one in self.everybody:
                one.write(stream.PING)
            await asyncio.sleep(seconds)

    async def lost(self) -> None:
        """Wait until everybody has noticed that the server is gone."""
        await asyncio.gather(*(one.lost.wait() for one in self.everybody))

    async def read_back(self, port: int) -> None:
        """Let everybody come, send again what is not acknowledged, and receive all that waits."""
        await self.close()
        await self.come(port, 0, away=0)
        await self.complete()

    async def complete(self) -> None:
        """Wait until everything has come and was told, or for a minute: the check names what is missing then."""
        end = time.monotonic() + READ_BACK_S
        while self.is_missing() and time.monotonic() < end:  # noqa: ASYNC110 - in many places, and only at the end
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Drop all connections."""
        await asyncio.gather(*(one.close() for one in self.everybody))

    def check(self, data: Path) -> list[str]:
        """Return a sentence for everything that is not as promised."""
        complaints = self.ledger.check()
        with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        return complaints if said == "ok" else [*complaints, f"corrupt: {said}"]

    def is_missing(self) -> bool:
        """Tell whether anything has not come or was not told yet."""
        if any(one.waiting or one.awaited or one.marks for one in self.everybody):
            return True
        ledger = self.ledger
        for one in self.everybody:
            came = {(each.sender, each.cid) for each in ledger.deliveries[one.device]}
            groups_only = one in self.senders
            owed = (each for each in ledger.owed(one.device) if not groups_only or each.receiver == TEAM)
            if any((each.sender, each.cid) not in came for each in owed):
                return True
        told = {(step.peer, step.mid) for step in ledger.steps if step.code == 3}
        return bool(ledger.marked.keys() - told)
