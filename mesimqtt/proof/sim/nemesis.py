"""What goes wrong: links, the server, its clock and its disk, and people who are removed, disabled and deleted."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

from mesimqtt.proof import history as h
from mesimqtt.proof.calm import CUT
from mesimqtt.proof.sim.world import DAY_S, GUEST, TEMPORARY, USERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.proof.sim.world import SimWorld


class Nemesis:
    """Does each kind of harm so many times an hour, or `harm` times as often."""

    def __init__(self, world: SimWorld, *, harm: float = 1.0) -> None:
        self._world = world
        self._random = world.random
        self._is_busy: set[str] = set()  # what must not be done twice at once
        self._disabled: set[str] = set()
        self._made = 0
        self._times = harm

    def begin(self) -> None:
        """Let it begin; it ends when the world is ending."""
        for per_hour, harm in (
            (90, self._cut), (40, self._stall), (40, self._nap), (20, self._slow_reader), (7, self._crash),
            (3, self._restart), (4, self._wall), (6, self._slow_disk), (6, self._bad_disk), (10, self._member),
            (3, self._disable), (4, self._revoke), (1.5, self._delete), (1.5, self._group), (5, self._new_device),
            (4, self._block), (8, self._busy),
        ):  # fmt: skip
            self._world.background(self._again(3600 / per_hour / self._times, harm))

    async def _again(self, gap_s: float, harm: Callable[[], Awaitable[None]]) -> None:
        world = self._world
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(world.ending.wait(), self._random.expovariate(1 / gap_s))
            if world.is_ending:
                return
            await harm()

    async def _alone(self, what: str, harm: Callable[[], Awaitable[None]]) -> None:
        if what not in self._is_busy:
            self._is_busy.add(what)
            try:
                await harm()
            finally:
                self._is_busy.discard(what)

    # ---- links -------------------------------------------------------------------------------------------------------

    async def _cut(self) -> None:
        phones = [phone for phone in self._world.phones if phone.link is not None]
        if phones:
            phone = self._random.choice(phones)
            self._world.figures["cuts"] += 1
            self._world.note(f"cut {phone.connection}")
            self._lost(phone.connection)
            phone.cut(self._random.choice(("both", "both", "client", "server")))

    async def _stall(self) -> None:
        """Nothing moves, nobody is told; it heals, or it is cut."""
        links = [phone.link for phone in self._world.phones if phone.link is not None]
        if not links:
            return
        link = self._random.choice(links)
        self._world.figures["stalls"] += 1
        since = self._world.loop.ms
        link.stall()
        await asyncio.sleep(self._random.choice((0.5, 5, 40, 200)) * self._random.random())
        if self._random.random() < 0.6:
            link.heal()
            self._world.harmed(since, "stall", link.number)
        else:
            link.cut(told=self._random.choice(("both", "client", "server")))
            self._world.harmed(since, "stall", link.number)
            self._lost(link.number)

    def _lost(self, connection: int) -> None:
        """Write down that a connection is of no use any more, whoever knows it."""
        self._world.history.harmed.append(h.Harmed(self._world.loop.ms, h.EVER_MS, CUT, connection))

    async def _nap(self) -> None:
        """Switch a device off for a while."""
        phone = self._random.choice(self._world.phones)
        if phone.is_awake:
            phone.sleep(is_polite=self._random.random() < 0.5)
            self._world.loop.post(1000 * self._random.choice((1, 20, 200, 900)) * self._random.random(), phone.wake)

    async def _slow_reader(self) -> None:
        phone = self._random.choice(self._world.phones)
        link = phone.link
        if link is not None:
            since = self._world.loop.ms
            link.read(on=False)
            await asyncio.sleep(self._random.choice((1, 10, 60)) * self._random.random())
            link.read(on=True)
            self._world.harmed(since, "slow reader", link.number)

    async def _busy(self) -> None:
        """Keep the loop busy, or links slow: more happens in one turn."""
        world, since = self._world, self._world.loop.ms
        world.loop.coarse_ms = self._random.choice((1, 5, 20, 100))
        world.weather.slow_ms = self._random.choice((1.0, 40.0, 400.0, 2_000.0))
        await asyncio.sleep(self._random.uniform(5, 60))
        world.loop.coarse_ms, world.weather.slow_ms = 1, 40.0
        world.harmed(since, "busy")

    # ---- the server --------------------------------------------------------------------------------------------------

    async def _crash(self) -> None:
        async def harm() -> None:
            self._world.crash()
            await asyncio.sleep(self._random.choice((0.1, 2, 20)) * self._random.random())
            if not self._world.server.is_running:
                self._world.start()

        await self._alone("server", harm)

    async def _restart(self) -> None:
        async def harm() -> None:
            await self._world.stop()
            await asyncio.sleep(self._random.uniform(0, 3))
            if not self._world.server.is_running:
                self._world.start()

        await self._alone("server", harm)

    async def _wall(self) -> None:
        """Let the wall clock jump a day, or stand still, and put it right again; nothing of that may be noticed."""

        async def harm() -> None:
            wall, since = self._world.wall, self._world.loop.ms
            draw = self._random.random()
            if draw < 0.4:
                wall.jump(-DAY_S)
            elif draw < 0.8:
                wall.jump(DAY_S)
            else:
                wall.freeze(on=True)
            await asyncio.sleep(self._random.uniform(1, 120))
            wall.jump(0.0)
            wall.freeze(on=False)
            self._world.harmed(since, "clock")

        await self._alone("server", harm)

    async def _slow_disk(self) -> None:
        disk, since = self._world.server.disk, self._world.loop.ms
        disk.slow_ms, disk.hiccup_ms = self._random.choice(((200.0, 2_000.0), (1_500.0, 6_000.0)))
        await asyncio.sleep(self._random.uniform(2, 30))
        disk.slow_ms, disk.hiccup_ms = 4.0, 300.0
        self._world.harmed(since, "slow disk")

    async def _bad_disk(self) -> None:
        async def harm() -> None:
            server = self._world.server
            code = self._random.choice((sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR))
            self._world.note(f"commits fail with {code}")
            since = self._world.loop.ms
            server.fail_commits(code)
            await asyncio.sleep(self._random.choice((0.1, 3, 20)) * self._random.random())
            server.fail_commits(0)
            self._world.harmed(since, "bad disk")

        await self._alone("disk", harm)

    # ---- people ------------------------------------------------------------------------------------------------------

    async def _member(self) -> None:
        """Somebody leaves a group, or is removed, and may come back."""
        world, random = self._world, self._random
        group, user = random.choice(("team", "club")), random.choice(USERS)

        async def harm() -> None:
            members = world.groups[group]
            if user in members:
                members.discard(user)
                await world.change(h.LEFT, user, group, "group_leave", address=group, users=[user])
            else:
                await world.change(h.JOINED, user, group, "group_join", address=group, users=[user])
                members.add(user)

        await self._alone(f"{group} {user}", harm)

    async def _disable(self) -> None:
        world, user = self._world, self._random.choice(USERS)

        async def harm() -> None:
            await world.change(h.DISABLED, user, "", "user_disable", addresses=[user])
            await asyncio.sleep(self._random.uniform(1, 60))
            await world.change(h.ENABLED, user, "", "user_enable", addresses=[user])

        await self._alone(user, harm)

    async def _revoke(self) -> None:
        """All tokens of a user are revoked; after a while his devices have new ones."""
        world, user = self._world, self._random.choice(USERS)

        async def harm() -> None:
            await world.change(h.REVOKED, user, "", "token_revoke", what=user)
            await asyncio.sleep(self._random.uniform(0, 20))
            begin = world.loop.ms
            token = await world.token(user)
            world.history.changes.append(h.Change(begin, begin, h.ENABLED, user))
            for phone in world.of(user):
                phone.token = token

        await self._alone(user, harm)

    async def _delete(self) -> None:
        """Delete a user with all he has, and let somebody else have his name."""
        world = self._world

        async def harm() -> None:
            old = world.of(GUEST)
            begin = world.loop.ms
            world.people.remove(GUEST)
            world.groups["team"].discard(GUEST)
            await world.change(h.DELETED, GUEST, "", "user_delete", addresses=[GUEST], goal="no-such-user")
            for phone in old:
                phone.is_gone = True
                phone.sleep(is_polite=False)
                world.phones.remove(phone)
            await asyncio.sleep(self._random.uniform(0, 60))
            begin = world.loop.ms
            await world.do("user_add", addresses=[GUEST])
            world.history.changes.append(h.Change(begin, begin, h.MADE, GUEST))
            self._made += 1
            phone = await world.device(GUEST, f"z{self._made}-0")
            phone.wake()
            world.people.append(GUEST)
            await world.change(h.JOINED, GUEST, "team", "group_join", address="team", users=[GUEST])
            world.groups["team"].add(GUEST)

        await self._alone(GUEST, harm)

    async def _group(self) -> None:
        """Delete a group, and make it again with others."""
        world = self._world

        async def harm() -> None:
            world.groups.pop(TEMPORARY)
            await world.change(
                h.GROUP_DELETED, "", TEMPORARY, "group_delete", addresses=[TEMPORARY], goal="no-such-group"
            )
            await asyncio.sleep(self._random.uniform(0, 60))
            members = sorted(self._random.sample(USERS, 4))
            begin = world.loop.ms
            await world.do("group_add", address=TEMPORARY, goal="group-exists")
            world.history.changes.append(h.Change(begin, begin, h.GROUP_MADE, "", TEMPORARY))
            for user in members:
                await world.change(h.JOINED, user, TEMPORARY, "group_join", address=TEMPORARY, users=[user])
            world.groups[TEMPORARY] = set(members)

        await self._alone(TEMPORARY, harm)

    async def _new_device(self) -> None:
        world, user = self._world, self._random.choice(USERS)

        async def harm() -> None:
            self._made += 1
            phone = await world.device(user, f"{user[0]}n{self._made}", must_confirm=False)
            phone.wake()

        if len(world.of(user)) < 5:
            await self._alone(user, harm)

    async def _block(self) -> None:
        world, random = self._world, self._random
        user, peer = random.sample(USERS, 2)

        async def harm() -> None:
            await world.tie(h.BLOCKED, user, peer)
            await asyncio.sleep(random.uniform(1, 60))
            await world.tie(h.UNBLOCKED, user, peer)

        await self._alone(f"{user} {peer}", harm)
