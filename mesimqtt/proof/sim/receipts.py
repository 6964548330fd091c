"""Receipts at random, honest and forged, of messages that were, are and never will be."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.proof.history import Marked
from mesimqtt.proof.sim.plain import PlainPhone
from mesimqtt.proof.sim.run import Plan, begin, finish, run_in
from mesimqtt.proof.sim.world import GROUPS, SimWorld
from mesimqtt.proof.trial import quiet
from mesimqtt.testing import wire

if TYPE_CHECKING:
    from mesimqtt.proof.sim.phones import Phone

AT_ONCE = 8  # receipts in one turn
GAP_S = 0.05
CRASHES = 3  # in a run, evenly spread
IDLE_MAX = 100_000  # turns in which nobody was there to send one
_MALFORMED = (b"", b"<=", b"<=<=", b"0", b"no mid at all", b"\xff\xfe", b"<=0C597A6121400000", b"0" * 300)
_OWN_IDS = 20_000  # packet ids that the server does not use for what it sends


def forge(seed: int, count: int, folder: Path) -> tuple[list[str], dict[str, float]]:
    """Send `count` random receipts; return what is not as promised, and what was counted."""
    with quiet(), tempfile.TemporaryDirectory(dir=folder, prefix=f"receipts-{seed}-") as place:
        world = SimWorld(seed, Path(place) / "data", only_plain=True)
        complaints = run_in(world, _forge(world, count))
    marks = len(world.history.marked)
    return complaints, {
        "receipts": world.figures.get("sent_receipts", 0.0),
        "read_marks": marks,
        "told": sum(1 for one in world.history.told if one.code in (2, 3)),
        "crashes": world.figures["crashes"],
    }


async def _forge(world: SimWorld, count: int) -> None:
    watch = await begin(world, Plan(messages_per_hour=20_000), with_harm=False)
    await asyncio.sleep(5)
    done = idle = crashes = 0
    while done < count and idle < IDLE_MAX:
        sent = sum(_send(world, world.random.choice(world.phones)) for _ in range(min(AT_ONCE, count - done)))
        done, idle = done + sent, idle + (not sent)
        if crashes < CRASHES and done * (CRASHES + 1) >= count * (crashes + 1):
            crashes += 1
            world.crash()
            await asyncio.sleep(1)
            world.start()
        await asyncio.sleep(GAP_S)
    world.figures["sent_receipts"] = done
    await finish(world, watch)


def _send(world: SimWorld, phone: Phone) -> bool:
    """Send one receipt: true, of somebody else's message, of none, or no receipt at all; False if he is away."""
    random, draw = world.random, world.random.random()
    if not isinstance(phone, PlainPhone) or phone.link is None or not phone.is_online:
        return False
    if draw < 0.1:
        kind = random.choice(("PUBACK", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"))
        phone.link.send(wire.ack(kind, random.randrange(1, _OWN_IDS)))
        return True
    place = _place(world, phone)
    if draw < 0.15:
        phone.link.send(wire.publish(f"m/{phone.user}/out/read/{place}", random.choice(_MALFORMED), qos=0))
        return True
    mid = _mid(world, phone)
    if mid in phone.seen_in and random.random() < 0.5:
        place = phone.seen_in[mid]
    is_upto = random.random() < 0.4
    world.history.marked.append(Marked(world.loop.ms, phone.user, place, mid, is_upto))
    payload = f"{'<=' if is_upto else ''}{mid}".encode()
    phone.link.send(wire.publish(f"m/{phone.user}/out/read/{place}", payload, qos=0))
    return True


def _place(world: SimWorld, phone: Phone) -> str:
    if world.random.random() < 0.3:
        return f"g/{world.random.choice(GROUPS)}"
    return f"u/{world.random.choice([user for user in world.people if user != phone.user])}"


def _mid(world: SimWorld, phone: Phone) -> str:
    """Return a mid: of what he was sent, of what anybody was, one beside it, or one that nobody has heard of."""
    random, draw, told = world.random, world.random.random(), world.history.told
    if draw < 0.4 and phone.seen:
        return random.choice(phone.seen)
    if draw < 0.8 and told:
        mid = random.choice(told).mid
        return f"{int(mid, 16) + random.choice((-1, 1, 1 << 22)):016x}" if draw > 0.7 else mid
    return f"{random.getrandbits(63):016x}"
