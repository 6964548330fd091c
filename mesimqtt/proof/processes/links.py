"""Bad links between clients and a server: slow, stalled, cut in mid-packet, half-open; nothing is lost (P20, P3)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.cast import TARGETS
from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.proof.processes.neighbours import Neighbours
from mesimqtt.proof.processes.proxy import Proxy
from mesimqtt.proof.processes.stage import Stage, play

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from mesimqtt.proof.processes.peers import Peer
    from mesimqtt.proof.processes.proxy import Road
    from mesimqtt.proof.trial import Outcome

ERA: Final = 12  # faults of one server
KEEP_ALIVE_S: Final = 2
PING_S: Final = 0.5
FOUND_S: Final = 1.5 * KEEP_ALIVE_S + 5.0
MESSAGES: Final = 100  # of each sender, for each fault
LOAD_S: Final = 0.1
PIECE: Final = 7  # bytes
PIECES_PAUSE_S: Final = 0.004
SLOW_S: Final = (0.5, 2.0)
STALL_S: Final = (0.5, 1.5)  # with the pings before and after, late ones too, less than 1.5 times the keep alive
CUT_BYTES: Final = (1, 6_000)
CUT_S: Final = 1.0
QUIET_S: Final = 1.0
TIMED_FROM: Final = 8  # faults of one server: fewer are over too soon
HOLES: Final = ("both", "up", "down")  # in turn


class Links:
    """Bad links as a trial."""

    name = "links"
    title = (
        "slow links, links that stall, are cut in mid-packet or die without a word: a dead one is found within 1.5 "
        "times the keep alive and 5 s, nothing is lost, neighbours notice nothing"
    )
    promises = ("P20", "P3", "P1", "P9")
    unit = "faults"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Spoil links `count` times, `ERA` times each server."""
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Spoil links to one server `count` times, each kind in turn, then read everything back."""

    async def story(stage: Stage) -> None:
        async with contextlib.AsyncExitStack() as stack:
            world = Roads(stage)
            stack.push_async_callback(world.close)
            await world.open()
            neighbours = await stack.enter_async_context(Neighbours.of(stage))
            stack.enter_context(_pinging(stage))
            await asyncio.sleep(QUIET_S)
            stage.cast.go_on(MESSAGES)
            await asyncio.sleep(QUIET_S)
            await neighbours.begin()
            kinds: list[Callable[[Peer], Awaitable[None]]] = [world.half_open, world.cut, world.slow, world.stall]
            for number in range(count):
                stage.cast.go_on(MESSAGES)
                await asyncio.sleep(stage.chance.uniform(0, LOAD_S))
                await kinds[(seed + number) % len(kinds)](stage.chance.choice(stage.cast.everybody))
                await world.all_come_back()
                done()
            await neighbours.judge(is_timed=count >= TIMED_FROM)

    return play(Stage(seed, folder, keep_alive_s=KEEP_ALIVE_S), story)


@contextlib.contextmanager
def _pinging(stage: Stage) -> Iterator[None]:
    task = asyncio.ensure_future(stage.cast.keep_alive(PING_S))
    try:
        yield
    finally:
        task.cancel()


class Roads:
    """A road for everybody of the cast, and what becomes of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._proxies: dict[Peer, Proxy] = {}
        self._turn = 0

    async def open(self) -> None:
        """Let everybody come over a road of his own."""
        server = self._stage.server
        for one in self._stage.cast.everybody:
            self._proxies[one] = await Proxy.before(server.host, server.port)
        await self.all_come_back()
        for one in self._stage.cast.senders:
            one.send(list(TARGETS), 0)

    async def close(self) -> None:
        """Close all roads."""
        for proxy in self._proxies.values():
            await proxy.close()

    async def all_come_back(self) -> None:
        """Let whoever is cut off come again, and send again what was not acknowledged."""
        for one, proxy in self._proxies.items():
            while one.lost.is_set():
                with contextlib.suppress(LinkError, OSError, TimeoutError):
                    await one.connect(proxy.port)
                    one.again()

    async def slow(self, one: Peer) -> None:
        """Let bytes trickle, for a while."""
        road = self._road(one)
        for way in road.ways:
            way.piece, way.pause_s = PIECE, PIECES_PAUSE_S
        await asyncio.sleep(self._stage.chance.uniform(*SLOW_S))
        for way in road.ways:
            way.piece = 0
        self._stage.count("slow")

    async def stall(self, one: Peer) -> None:
        """Let nothing pass for less than the keep alive allows: the server has no reason to cut anybody off."""
        road, connection = self._road(one), one.connection
        chosen = self._stage.chance.choice((road.ways, (road.up,), (road.down,)))
        for way in chosen:
            way.stall(True)
        await asyncio.sleep(self._stage.chance.uniform(*STALL_S))
        for way in chosen:
            way.stall(False)
        await asyncio.sleep(LOAD_S)
        if one.lost.is_set() or one.connection != connection:
            self._stage.complain(f"cut off: {one.device}, whose link stood still for less than its keep alive")
        self._stage.count("stalls")

    async def cut(self, one: Peer) -> None:
        """Cut somewhere in the next packets of one direction."""
        road = self._road(one)
        way = self._stage.chance.choice(road.ways)
        way.cut_after(self._stage.chance.randint(*CUT_BYTES))
        with contextlib.suppress(TimeoutError):  # there was not as much to say: it is cut between two packets
            await asyncio.wait_for(way.full.wait(), CUT_S)
        road.cut(is_reset=self._stage.chance.random() < 0.5)
        await one.lost.wait()
        self._stage.count("cuts")

    async def half_open(self, one: Peer) -> None:
        """Let one direction or both be gone without a word; whoever waits for something must find out by himself."""
        stage, road, which = self._stage, self._road(one), HOLES[self._turn % len(HOLES)]
        self._turn += 1
        for way, name in ((road.up, "up"), (road.down, "down")):
            way.is_hole = which in (name, "both")
        began, allowed_s = time.monotonic(), stage.deadline(FOUND_S)
        if which == "down":  # the server hears him still: it is the client who misses the answers to his pings
            await asyncio.sleep(1.5 * KEEP_ALIVE_S)
        else:
            try:
                await asyncio.wait_for(road.down.ended.wait(), allowed_s)
            except TimeoutError:
                stage.complain(f"half-open: the server keeps {one.device}, of whom nothing came for {allowed_s:.1f} s")
            stage.worst("half_open_found_max_s", time.monotonic() - began)
        road.up.is_hole = road.down.is_hole = True
        await one.close()  # and not even that arrives
        stage.count(f"half_open_{which}")

    def _road(self, one: Peer) -> Road:
        road = self._proxies[one].road
        if road is None:
            raise LinkError(f"{one.device} has no connection")
        return road
