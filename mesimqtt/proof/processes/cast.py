"""Who takes part: three who send, two who receive, a group of all; old and new MQTT, one and more devices."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final, Self

from mesimqtt.proof.processes.ledger import Ledger
from mesimqtt.proof.processes.link import Device
from mesimqtt.proof.processes.peers import Peer
from mesimqtt.store.database import FILE_NAME

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from mesimqtt.testing.process import Server

SENDERS: Final = {"s0": 4, "s1": 5, "s2": 4}  # user -> which MQTT
RECEIVERS: Final = (("r0", "phone", 4), ("r0", "tablet", 5), ("r1", "phone", 4))
TEAM: Final = "team"
USERS: Final = ("s0", "s1", "s2", "r0", "r1")
TARGETS: Final = ("u/r0", "g/team", "u/r1", "u/r0")
READ_BACK_S: Final = 60.0
PAUSE_S: Final = 0.02


def quiet(folder: Path) -> Path:
    """Write the configuration of a server that says only what is wrong."""
    path = folder / "mesimqtt.yaml"
    path.write_text("log_level: WARNING\n", encoding="utf-8")
    return path


class Cast:
    """All clients of one data folder, over any number of servers' lives."""

    def __init__(self, tokens: dict[str, str], chance: random.Random) -> None:
        self.ledger = Ledger({TEAM: USERS})
        self._chance = chance
        self.senders = [
            Peer(Device(user, "laptop", tokens[user], level), ["status/#", "g/#"], self.ledger, chance)
            for user, level in SENDERS.items()
        ]
        self.receivers = [
            Peer(Device(user, name, tokens[user], level), ["u/#", "g/#", "read/#"], self.ledger, chance)
            for user, name, level in RECEIVERS
        ]

    @classmethod
    def made(cls, server: Server, chance: random.Random) -> Self:
        """Make the users and their group, on a data folder that nobody serves yet."""
        tokens = server.add_users(*USERS)
        server.add_group(TEAM, *USERS)
        return cls(tokens, chance)

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

    async def lost(self) -> None:
        """Wait until everybody has noticed that the server is gone."""
        await asyncio.gather(*(one.lost.wait() for one in self.everybody))

    async def read_back(self, port: int) -> None:
        """Let everybody come, send again what is not acknowledged, and receive all that waits.

        It returns when everything has come, or after a minute: the check names what is missing then.
        """
        await self.come(port, 0, away=0)
        end = time.monotonic() + READ_BACK_S
        while self._is_missing() and time.monotonic() < end:  # noqa: ASYNC110 - in many places, and only at the end
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

    def _is_missing(self) -> bool:
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
