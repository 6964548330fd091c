"""What every trial on real processes needs: a server on a folder, the cast, and an end at which all is read back."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from mesimqtt.bench.machine import raise_file_limit
from mesimqtt.broker.loop import loop_factory
from mesimqtt.proof.processes.cast import Cast
from mesimqtt.proof.processes.eras import Era
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.testing.nursery import shared
from mesimqtt.testing.process import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

PROBE_S: Final = 0.05
SPARE_FILES: Final = 200  # beside one for each connection
SLOWER_MAX: Final = 10.0
FRESH_EVERY: Final = 25  # starts, of which one is by a new interpreter: the others are forked from one that waits


class Stage:
    """One data folder, the servers that serve it one after another, and the clients."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        config: str = "",
        wrapper: Sequence[str] = (),
        keep_alive_s: int = 60,
    ) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.figures: dict[str, float] = {}
        self._keep_alive_s = keep_alive_s
        self._starts = 0
        self.config = path = folder / "mesimqtt.yaml"  # says only what is wrong
        path.write_text(f"log_level: WARNING\n{config}", encoding="utf-8")
        self.data = folder / "data"
        self._fresh = Server(self.data, config=path, wrapper=wrapper)
        self._forked = self._fresh if wrapper else self.another()
        self.server = self._fresh

    async def open(self) -> None:
        """Make the users, and let each device come once."""
        self.cast = await Cast.made(self.data, self.config, self.chance, keep_alive_s=self._keep_alive_s)
        server = await self.start()
        await self.cast.settle(server.port)

    def another(self) -> Server:
        """Return one more server of the same folder, which is not started."""
        return Server(self.data, config=self.config, nursery=shared())

    async def start(self, *, is_awaited: bool = True) -> Server:
        """Start a server on the folder, and wait until it is ready or not."""
        self._starts += 1
        self.server = self._forked if self._starts % FRESH_EVERY else self._fresh
        began = time.monotonic()
        await asyncio.to_thread(self.server.start if is_awaited else self.server.begin)
        if is_awaited:
            self.worst("start_max_s", time.monotonic() - began)
        return self.server

    async def end(self) -> None:
        """Read everything back, from a server that is started if none runs, and stop it in good order."""
        if not self.server.is_running:
            await self.start()
        began = time.monotonic()
        await self.cast.read_back(self.server.port)
        self.worst("read_back_max_s", time.monotonic() - began)
        if code := await asyncio.to_thread(self.server.stop):
            self.complain(f"the last stop ended with {code}: {self.server.printed}")

    async def close(self) -> None:
        """Leave neither connections nor processes behind."""
        if hasattr(self, "cast"):
            await self.cast.close()
        for server in (self._forked, self._fresh):
            server.kill()

    def deadline(self, seconds: float) -> float:
        """Return a deadline for a server on this machine, as busy as it is with other things at the moment.

        It is stretched by as much as a bit of computing here takes longer than its processor time.
        """
        began, cpu = time.monotonic(), time.process_time()
        while time.process_time() - cpu < PROBE_S:
            pass
        slower = min((time.monotonic() - began) / PROBE_S, SLOWER_MAX)
        self.worst("machine_slower_max", slower)
        return seconds * max(1.0, slower)

    def complain(self, what: str) -> None:
        """Write down something that is not as promised."""
        self.cast.ledger.complaints.append(what)

    def count(self, name: str, number: float = 1) -> None:
        """Add to a figure."""
        self.figures[name] = self.figures.get(name, 0) + number

    def worst(self, name: str, value: float) -> None:
        """Keep the largest of a figure."""
        self.figures[name] = max(self.figures.get(name, value), value)


def too_few_files(connections: int) -> str:
    """Raise the limit of open files for so many connections; return why that is not enough, '' if it is."""
    needed = connections + SPARE_FILES
    allowed = raise_file_limit(needed)
    if allowed >= needed:
        return ""
    return f"{connections} connections need {needed} open files, {allowed} are allowed: ulimit -Hn"


def play(stage: Stage, story: Callable[[Stage], Coroutine[None, None, None]]) -> Era:
    """Run a story on a stage and return what came of it."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_play(stage, story))


async def _play(stage: Stage, story: Callable[[Stage], Coroutine[None, None, None]]) -> Era:
    await stage.open()
    try:
        await story(stage)
        await stage.end()
    except (ServerError, LinkError, OSError) as error:
        # Not everything could be read back, so that the check would call lost what was not asked for.
        complaints = [f"stuck: {type(error).__name__}: {error}", *stage.cast.ledger.complaints]
    else:
        complaints = stage.cast.check(stage.data)
    finally:
        await stage.close()
    if stage.cast.ledger.accepted:
        stage.figures["messages"] = len(stage.cast.ledger.accepted)
    return Era(complaints, stage.figures)
