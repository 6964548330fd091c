"""A simulated world: one loop, one server, its users and their devices, and everything random from one seed."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.chance import SeededChance
from mesimqtt.domain.errors import OperationError
from mesimqtt.proof.calm import NO_SERVER
from mesimqtt.proof.history import BLOCKED, Change, Crashed, Harmed, History
from mesimqtt.proof.sim.core import CorePhone
from mesimqtt.proof.sim.disk import Disk
from mesimqtt.proof.sim.link import Link, Weather
from mesimqtt.proof.sim.loop import VirtualLoop
from mesimqtt.proof.sim.phones import Habits, Phone
from mesimqtt.proof.sim.plain import PlainPhone
from mesimqtt.proof.sim.server import Server
from mesimqtt.settings import Limits, Messaging, Settings, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

START_S = 1_790_000_000.0
DAY_S = 86_400.0
YEAR_S = 31_536_000
USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "gina")
GUEST = "zoe"  # who is deleted and made again
GROUPS = ("team", "club")
TEMPORARY = "fete"  # a group that is deleted and made again

# Bounds so small that they are met: pages of 8, a socket that takes 24 KiB.
SETTINGS = replace(
    Settings(),
    limits=Limits(unwritten_max=24 * 1024, keep_alive_max_s=600),
    messaging=Messaging(),
    store=Store(page_messages=8, cache_users=6, cache_groups=1, ballast_bytes=0),
)


class Wall:
    """The wall clock of the server's machine: it may jump or stand still. True time is the loop's."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._ahead_s = 0.0
        self._frozen_at: float | None = None

    def now_s(self) -> float:
        """Return what it shows, in seconds since 1970."""
        true_s = START_S + self._loop.ms / 1000
        return (true_s if self._frozen_at is None else self._frozen_at) + self._ahead_s

    def jump(self, ahead_s: float) -> None:
        """Show so many seconds more than it is."""
        self._ahead_s = ahead_s

    def freeze(self, *, on: bool) -> None:
        """Stand still, or go on right."""
        self._frozen_at = START_S + self._loop.ms / 1000 if on else None


class SimWorld:
    """What a run is made of. `life` and `nemesis` act on it, `run` drives it."""

    def __init__(self, seed: int, folder: Path, *, is_tracing: bool = False, only_plain: bool = False) -> None:
        self.seed = seed
        self._kinds = ("plain",) if only_plain else ("core", "core", "plain", "plain", "five")
        self.random = Random(seed)
        self.loop = VirtualLoop(self.random)
        self.wall = Wall(self.loop)
        self.weather = Weather()
        self.history = History(epoch_ms=round(START_S * 1000))
        self.phones: list[Phone] = []
        self.links: list[Link] = []
        self.groups: dict[str, set[str]] = {}
        self.people: list[str] = []
        self.figures: dict[str, float] = dict.fromkeys(
            ("messages", "cuts", "stalls", "crashes", "restarts", "refused", "forged"), 0
        )
        self.server = Server(
            folder, SETTINGS, loop=self.loop, random=self.random, chance=SeededChance(seed), wall_s=self.wall.now_s
        )
        self.server.on_fatal = self._fatal
        self.ending = asyncio.Event()
        self.lines: list[str] | None = [] if is_tracing else None
        self._digest = hashlib.sha256()
        self._connections = 0
        self._cids = 0
        self._background: set[asyncio.Task[None]] = set()
        self._down_since = 0

    # ---- what everybody needs ----------------------------------------------------------------------------------------

    def next_connection(self) -> int:
        """Return the number of the next connection."""
        self._connections += 1
        return self._connections

    def next_cid(self) -> str:
        """Return a fresh cid."""
        self._cids += 1
        return f"c{self._cids}"

    def trace(self, what: str, number: int, data: bytes) -> None:
        """Add to the trace: the same seed has the same."""
        self._digest.update(b"%d %b %d " % (self.loop.ms, what.encode(), number))
        self._digest.update(data)
        if self.lines is not None:
            self.lines.append(f"{self.loop.ms / 1000:10.3f} {number:5d} {what} {data!r}")

    def note(self, what: str) -> None:
        """Add to the trace what is no packet."""
        self.trace(what, 0, b"")

    @property
    def digest(self) -> str:
        """Return the hash of the trace so far."""
        return self._digest.hexdigest()

    def background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside everything else."""
        task = self.loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @property
    def is_ending(self) -> bool:
        """Tell whether nothing new is to happen."""
        return self.ending.is_set()

    @property
    def underway(self) -> int:
        """How many coroutines of the trial's own run."""
        return len(self._background)

    def harmed(self, since: int, what: str, connection: int = 0) -> None:
        """Write down what was wrong from a time until now; with one connection, or with all."""
        self.history.harmed.append(Harmed(since, self.loop.ms, what, connection))

    # ---- the network -------------------------------------------------------------------------------------------------

    def connect(self, phone: Phone) -> Link | None:
        """Open a link; where no server listens it ends at once."""
        link = Link(self.loop, self.random, self.weather, phone.connection, phone)
        listener = self.server.listener
        if listener is None:
            self.loop.post(1, lambda: phone.ended(link))
            link.cut(told="server")
            return link
        self.links = [each for each in self.links if not each.is_over]
        self.links.append(link)
        link.open(listener, "192.0.2.1")
        return link

    def refused(self, phone: Phone, code: int) -> None:
        """Take note that a device was not let in."""
        self.figures["refused"] += 1
        self.note(f"refused {phone.user}/{phone.device} {code}")

    # ---- the server --------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill the server: its memory is gone, its sockets are reset."""
        if not self.server.is_running:
            return
        self.note("crash")
        self._down_since = self.loop.ms
        self.figures["crashes"] += 1
        self.history.crashed.append(Crashed(self.loop.ms))
        self.server.kill()
        for link in self.links:
            link.reset()
        self.links.clear()

    async def stop(self) -> None:
        """Stop the server in good order."""
        self.note("stop")
        self._down_since = self.loop.ms
        self.figures["restarts"] += 1
        await self.server.stop()
        self.history.stopped.append(self.loop.ms)

    def start(self) -> None:
        """Start the server again."""
        self.note("start")
        self.harmed(self._down_since, NO_SERVER)
        self.server.start()

    def _fatal(self, reason: str) -> None:
        """Do what an init system does: the server gave up, it is started again."""
        self.note(f"fatal {reason}")
        if self.server.is_running:
            self.crash()
            self.server.fail_commits(0)
            self.loop.post(2_000, self._start_again)

    def _start_again(self) -> None:
        if not self.server.is_running:
            self.wall.jump(0.0)  # a clock that is wrong at a start makes its server's time
            self.wall.freeze(on=False)
            self.start()

    def mend(self) -> None:
        """Make everything right again, for the end."""
        self.loop.coarse_ms, self.weather.slow_ms = 1, Weather.slow_ms
        self.server.disk.slow_ms, self.server.disk.hiccup_ms = Disk.slow_ms, Disk.hiccup_ms
        self.server.fail_commits(0)
        self.wall.jump(0.0)
        self.wall.freeze(on=False)

    async def do(
        self,
        op: str,
        *,
        goal: str = "",
        **arguments: Any,  # noqa: ANN401 - the operation's
    ) -> dict[str, Any]:
        """Do an operation, again and again until it is done: a server may be away, or its disk full.

        `goal` is the code of the refusal that says that it is done already.
        """
        while True:
            if self.server.is_running:
                try:
                    return await self.server.perform(op, **arguments)
                except OperationError as error:
                    if error.code == goal:
                        return {}
                    if error.code not in ("store", "unavailable", "busy"):
                        raise
                except asyncio.CancelledError:
                    if self.server.is_running:
                        raise
                except Exception as error:  # noqa: BLE001 - a store that cannot write now
                    self.note(f"{op}: {error!r}")
            await asyncio.sleep(1.0)

    async def change(
        self,
        kind: str,
        user: str,
        group: str,
        op: str,
        **arguments: Any,  # noqa: ANN401 - the operation's
    ) -> dict[str, Any]:
        """Do an operation that the history is to tell of."""
        begin = self.loop.ms
        answer = await self.do(op, **arguments)
        self.history.changes.append(Change(begin, self.loop.ms, kind, user, group))
        self.note(f"{kind} {user} {group}")
        return answer

    async def tie(self, kind: str, user: str, peer: str) -> None:
        """Have a user block another, or no more."""
        begin = self.loop.ms
        await self.do("block_add" if kind == BLOCKED else "block_remove", user=user, peers=[peer])
        self.history.changes.append(Change(begin, self.loop.ms, kind, user, peer))

    # ---- people ------------------------------------------------------------------------------------------------------

    async def populate(self) -> None:
        """Make the users, the groups and their devices."""
        await self.do("user_add", addresses=[*USERS, GUEST])
        for user in (*USERS, GUEST):
            self.people.append(user)
            for number in range(self.random.choice((1, 1, 2, 2, 3))):
                await self.device(user, f"{user[0]}{number}", must_confirm=number == 0)
        for group in (*GROUPS, TEMPORARY):
            await self.do("group_add", address=group)
            members = set(USERS) if group == "team" else set(self.random.sample(USERS, 4))
            self.groups[group] = members
            await self.do("group_join", address=group, users=sorted(members))
            self.history.first_members[group] = set(members)
        self.groups["team"].add(GUEST)
        self.history.first_members["team"].add(GUEST)
        await self.do("group_join", address="team", users=[GUEST])

    async def token(self, user: str) -> str:
        """Issue a token."""
        answer = await self.do("token_issue", addresses=[user], ttl=YEAR_S)
        text: str = answer["tokens"][0]["token"]
        return text

    async def device(self, user: str, name: str, *, must_confirm: bool = True) -> Phone:
        """Give a user a device, of a kind that the seed draws; one that `must_confirm` takes all, at QoS 1."""
        random = self.random
        kind = random.choice(self._kinds)
        ack_ms = random.choice(((0, 20), (0, 20), (5, 400), (200, 3_000)))
        keep_alive_s = random.choice((20, 60, 120))
        make: Callable[..., Phone] = PlainPhone
        if kind == "core":
            make, habits = CorePhone, Habits(ack_ms=ack_ms, keep_alive_s=keep_alive_s)
        elif must_confirm:
            habits = Habits(version=5 if kind == "five" else 4, ack_ms=ack_ms, keep_alive_s=keep_alive_s,
                            receive_maximum=random.choice((0, 1, 4)))  # fmt: skip
        else:
            habits = Habits(
                version=5 if kind == "five" else 4,
                qos=random.choice((0, 1, 1)),
                is_clean=random.random() < 0.3,
                filters=random.choice((("#",), ("u/#", "g/#", "status/#"), ("u/#", "sent/#", "status/#", "session"))),
                ack_ms=ack_ms,
                keep_alive_s=keep_alive_s,
            )
        phone = make(self, user, name, habits)
        phone.token = await self.token(user)
        self.phones.append(phone)
        return phone

    def of(self, user: str) -> list[Phone]:
        """Return the devices of a user."""
        return [phone for phone in self.phones if phone.user == user]
