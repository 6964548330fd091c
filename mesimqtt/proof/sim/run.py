"""One seed from begin to end: a world lives, all is mended, everybody comes home, and all is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import GROUP, MessageKind
from mesimqtt.proof import history as h
from mesimqtt.proof.checker import judge
from mesimqtt.proof.sim.bounds import Watch
from mesimqtt.proof.sim.life import Life
from mesimqtt.proof.sim.nemesis import Nemesis
from mesimqtt.proof.sim.world import SimWorld
from mesimqtt.proof.trial import quiet
from mesimqtt.store import messages as rows
from mesimqtt.store import scheduled
from mesimqtt.store import statuses as status_rows

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from mesimqtt.proof.history import History

HOUR_MS = 3_600_000
QUIET_MS = 45_000  # after which everything that was in flight is judged (contract section 4: 30 s, and 10)
COLLECTED_MAX = 10
HOME_MS_MAX = 30 * 60_000  # within which everybody must have everything


@dataclass(frozen=True)
class Plan:
    """How long a world lives, how much is said in it, and how many times as much as usual goes wrong."""

    minutes: float = 60.0  # virtual ones
    messages_per_hour: float = 1_050.0
    harm: float = 1.0

    def command(self, seed: int) -> str:
        """Return what runs a seed again."""
        options = (("minutes", "minutes"), ("messages_per_hour", "rate"), ("harm", "harm"))
        said = "".join(
            f" --{option} {getattr(self, name):g}"
            for name, option in options
            if getattr(self, name) != getattr(Plan, name)
        )
        return f"python -m mesimqtt.proof.sim --seed {seed}{said}"


@dataclass(slots=True)
class Result:
    """What came of one seed."""

    seed: int
    complaints: list[str]
    digest: str
    figures: dict[str, float]
    history: History
    lines: list[str] = field(default_factory=list)


def run(seed: int, folder: Path, plan: Plan | None = None, *, is_tracing: bool = False) -> Result:
    """Run one seed in a folder and judge what happened."""
    with quiet(), tempfile.TemporaryDirectory(dir=folder, prefix=f"seed-{seed}-") as place:
        world = SimWorld(seed, Path(place) / "data", is_tracing=is_tracing)
        complaints = run_in(world, _live(world, plan or Plan()))
    history = world.history
    world.figures |= {
        "deliveries": len(history.got),
        "statuses": len(history.told),
        "receipts": sum(1 for one in history.told if one.code in (2, 3)),
        "virtual_hours": world.loop.ms / HOUR_MS,
    }
    return Result(seed, complaints, world.digest, world.figures, history, world.lines or [])


def run_in(world: SimWorld, story: Coroutine[None, None, None]) -> list[str]:
    """Run a world's story to its end; return what is not as promised."""
    try:
        world.loop.run_until_complete(story)
    except RuntimeError as error:
        world.loop.errors.append(f"the run broke off: {error}")
    finally:
        if world.server.is_running:
            world.server.kill()
        world.loop.run_until_complete(asyncio.sleep(0.1))
        world.loop.close()
    if _left_open(world):
        gc.collect()  # or it would hang on when garbage was last collected
    world.history.leftovers += [f"{name} is left open" for name in _left_open(world)]
    return [*(f"error: {text}" for text in world.loop.errors), *judge(world.history)]


def _left_open(world: SimWorld) -> list[str]:
    """Name the files of the server that are still open, where the system says; what else the process has is not ours.

    A number of all descriptors would tell of the threads, the loops and the garbage of whoever runs a simulation.
    """
    own, folder = Path("/proc/self/fd"), f"{world.server.folder.resolve()}/"
    found = []
    for descriptor in own.iterdir() if own.is_dir() else ():
        with contextlib.suppress(OSError):  # it was closed meanwhile, by another thread; the listing's own, too
            target = str(descriptor.readlink())
            if target.startswith(folder):
                found.append(target.removeprefix(folder))
    return sorted(found)


async def _live(world: SimWorld, plan: Plan) -> None:
    watch = await begin(world, plan)
    await asyncio.sleep(plan.minutes * 60)
    await finish(world, watch)


async def begin(world: SimWorld, plan: Plan, *, with_harm: bool = True) -> Watch:
    """Let a world begin: the server, its people and their devices, and all that goes wrong."""
    world.start()
    await world.populate()
    for phone in world.phones:
        phone.wake()
    Life(world, messages_per_hour=plan.messages_per_hour).begin()
    if with_harm:
        Nemesis(world, harm=plan.harm).begin()
    watch = Watch(world)
    watch.begin()
    return watch


async def finish(world: SimWorld, watch: Watch) -> None:
    """Let it end: no more harm, everybody comes home, and what there is then is written down."""
    world.ending.set()
    world.mend()
    await _come_home(world)
    await _collect(world)
    watch.end()
    world.history.finished_at = world.loop.ms
    await world.stop()
    for phone in world.phones:
        phone.is_gone = True
        phone.sleep()
    await asyncio.sleep(5)
    world.history.leftovers += [*watch.leftovers()]


async def _come_home(world: SimWorld) -> None:
    """Wait until the last harm is mended, everybody is online and has what he is to get, and all is judged."""
    for _ in range(120):
        if not world.underway:
            break
        await asyncio.sleep(10)
    if not world.server.is_running:
        world.start()
    begin = world.loop.ms
    for phone in world.phones:
        if phone.link is not None and phone.link.is_cut:
            phone.hang_up()
        elif phone.link is not None:
            phone.link.heal()
            phone.link.read(on=True)
        phone.wake()
    quiet_since, seen = world.loop.ms, -1
    while world.loop.ms - quiet_since < QUIET_MS and world.loop.ms - begin < HOME_MS_MAX:
        await asyncio.sleep(5)
        now = len(world.history.got) + len(world.history.told)
        is_waiting = scheduled.next_due(world.server.store.read) is not None  # a message has its time still to come
        if now != seen or is_waiting or any(phone.unsettled or not phone.is_online for phone in world.phones):
            quiet_since, seen = world.loop.ms, now


async def _collect(world: SimWorld) -> None:
    """Write down what the store holds, all of it of one moment: again where somebody was told something meanwhile."""
    history = world.history
    for _ in range(COLLECTED_MAX):
        seen = len(history.told)
        history.kept.clear()
        history.verdicts.clear()
        history.steps.clear()
        await _look(world)
        if len(history.told) == seen:
            return


async def _look(world: SimWorld) -> None:
    history = world.history
    for kept in _kept(world):
        history.kept.append(kept)
    mids = {kept.mid for kept in history.kept if not kept.is_event}
    mids |= {one.mid for one in history.told if one.code == 1}
    for mid in sorted(mids):
        answer = await world.do("status", mid=mid, goal="no-such-message")
        history.verdicts += [
            h.Verdict(mid, row.get("peer", ""), row["status"], row.get("reason", ""))
            for row in answer.get("status", ())
        ]
        history.steps += _steps(world, mid)


def _steps(world: SimWorld, mid: str) -> Iterator[h.Verdict]:
    """Return every status that a message ever had; a scheduled one's before its time are not in a conversation."""
    directory, read = world.server.messaging.directory, world.server.store.read
    message = rows.by_mid(read, int(mid, 16))
    for step in status_rows.steps_of(read, message) if message is not None else ():
        user = directory.party(step.recipient_id) if step.recipient_id else None
        yield h.Verdict(mid, user.address if user is not None else "", step.status, step.reason)


def _kept(world: SimWorld) -> Iterator[h.Kept]:
    directory = world.server.messaging.directory
    for message in rows.everything(world.server.store.read):
        conversation = message.conversation
        if conversation.kind == GROUP:
            room = directory.room(conversation.a)
            place = room.address if room is not None else f"group {conversation.a}"
        else:
            parties = [directory.party(number) for number in (conversation.a, conversation.b)]
            place = "/".join(sorted(party.address if party is not None else "" for party in parties))
        sender = directory.party(message.sender_id)
        yield h.Kept(
            format_mid(message.mid), sender.address if sender is not None else "", message.cid, place, message.seq,
            message.kind == MessageKind.EVENT, message.expires_at,
        )  # fmt: skip
