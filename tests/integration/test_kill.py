"""kill -9 between PUBACK and delivery, again and again: nothing accepted is lost, nothing is doubled for the user.

Goal: what the server acknowledged survives the death of its process at any moment.
Method: four senders flat out to two receivers, SIGKILL at a seeded random moment, restart on the same data; senders
send again what has no PUBACK, and at the end all is read back and what anybody saw goes through `checker.py`.
`make kill` does it 50 times.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

from integration.kill_peers import Receiver, Sender
from integration.server import Server
from mesimqtt.proof.checker import check

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = int(os.environ.get("KILL_ROUNDS", "6"))
SEED = int(os.environ.get("KILL_SEED", "1"))
MESSAGES_PER_ROUND = 2_000
FIRST_ACK_DEADLINE_S = 10.0
DRAIN_DEADLINE_S = 60.0


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """After each kill -9 all that was acknowledged is delivered once, in order, with its verdict."""
    server = Server(tmp_path / "data")
    tokens = server.add_users("s0", "s1", "s2", "s3", "r0", "r1")
    with server:
        complaints, accepted = asyncio.run(_kill_loop(server, tokens))

    kinds = Counter(complaint.split(":")[0] for complaint in complaints)
    assert [] == complaints[:10], f"{kinds} with KILL_SEED={SEED} KILL_ROUNDS={ROUNDS}"
    assert accepted >= ROUNDS * len("s0s1")


async def _kill_loop(server: Server, tokens: dict[str, str]) -> tuple[list[str], int]:
    chance = random.Random(SEED)
    receivers = [Receiver(user, tokens[user]) for user in ("r0", "r1")]
    senders = [Sender(user, tokens[user], ["r0", "r1"]) for user in ("s0", "s1", "s2", "s3")]
    everybody = [*senders, *receivers]
    try:
        for number in range(ROUNDS):
            # In every second round one receiver is away while the server dies, so that all of it waits for him.
            online = receivers if number % 2 == 0 else receivers[:1]
            await asyncio.gather(*(one.connect(server.port) for one in online))
            await asyncio.gather(*(one.send(server.port, MESSAGES_PER_ROUND) for one in senders))
            await asyncio.gather(*(asyncio.wait_for(one.first_ack.wait(), FIRST_ACK_DEADLINE_S) for one in senders))
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            server.kill()
            await asyncio.gather(*(one.lost.wait() for one in everybody))
            await asyncio.gather(*(one.close() for one in everybody))
            await asyncio.to_thread(server.start)
        await asyncio.gather(*(one.connect(server.port) for one in receivers))
        await asyncio.gather(*(one.send(server.port, 0) for one in senders))
        await _drained(senders)
    finally:
        await asyncio.gather(*(one.close() for one in everybody))
    accepted = [one for sender in senders for one in sender.accepted]
    deliveries = [one for receiver in receivers for one in receiver.deliveries]
    return check(accepted, deliveries, [step for sender in senders for step in sender.steps]), len(accepted)


async def _drained(senders: list[Sender]) -> None:
    """Wait until every message is acknowledged and told as delivered; what is missing then, the checker names."""
    end = asyncio.get_running_loop().time() + DRAIN_DEADLINE_S
    while asyncio.get_running_loop().time() < end:
        told = (({one.cid for one in sender.accepted} <= sender.delivered) for sender in senders)
        if not any(sender.unacknowledged for sender in senders) and all(told):
            return
        await asyncio.sleep(0.05)
