"""How a server takes leave: each client is told when to come back, and they are not all let go in the same moment."""

from __future__ import annotations

import asyncio
import contextlib
from math import ceil
from typing import TYPE_CHECKING

from mesimqtt.domain.chance import SYSTEM
from mesimqtt.engine.packets import FIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mesimqtt.broker.wire import Wire
    from mesimqtt.domain.chance import Chance
    from mesimqtt.engine.connection import Connection
    from mesimqtt.settings import Drain as DrainSettings

SLOT_S = 0.05  # so often some of those who are not told are let go
CLOSED_PER_S = 1_000  # with few clients there is no storm to keep from, and nobody waits for one


class Drain:
    """The end of a broker's connections, from the decision to stop to its deadline.

    Who speaks 5.0 is told when to come back, in DISCONNECT, so all of them can go at once. Who speaks 3.1.1 can be
    told under `in/session` only; so they are served on and let go one after another, over `spread_s` at most.
    """

    def __init__(
        self,
        wire: Wire,
        settings: DrainSettings,
        *,
        clock: Callable[[], float],
        chance: Chance = SYSTEM,
    ) -> None:
        self._wire = wire
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._hurry = asyncio.Event()
        self._deadline = 0.0
        self.hint_max_s = 0.0

    @property
    def has_begun(self) -> bool:
        """Tell whether the end is near."""
        return self._wire.is_leaving

    @property
    def left_s(self) -> float:
        """Return the seconds that are left for clients to take what is theirs."""
        return 0.0 if self._hurry.is_set() else max(0.0, self._deadline - self._clock())

    def hurry(self) -> None:
        """Wait for nobody from now on."""
        self._hurry.set()
        self._wire.hurry()

    def begin(self) -> None:
        """Let nobody in any more, and choose for each client when it is to come back: at random, so that few meet."""
        settings, engine = self._settings, self._wire.engine
        self._deadline = self._clock() + settings.timeout_s
        engine.draining = self._wire.is_leaving = True
        clients = self._clients()
        width = max(settings.retry_after_s, len(clients) / max(settings.returns_per_s, 1))
        self.hint_max_s = settings.retry_after_s + width
        for connection in clients:
            engine.hints[connection] = round(settings.retry_after_s + self._chance.fraction() * width, 1)

    async def let_go(self) -> None:
        """Let every client go, each after the commit of what it has sent."""
        clients = self._clients()
        self._end([each for each in clients if each.version == FIVE])
        others = [each for each in clients if each.version != FIVE]
        spread_s = min(self._settings.spread_s, len(others) / CLOSED_PER_S)
        slots = max(1, ceil(spread_s / SLOT_S))
        for slot in range(slots):
            if slot:
                await self._pause(SLOT_S)
            self._end(others[slot::slots])

    def _clients(self) -> list[Connection]:
        sessions = self._wire.engine.sessions.values()
        return [session.connection for session in sessions if session.connection is not None]

    def _end(self, connections: Iterable[Connection]) -> None:
        engine, protocols = self._wire.engine, self._wire.protocols
        going = [connection for connection in connections if connection in protocols and connection.is_open]
        if not going:
            return
        for connection in going:
            protocols[connection].pause_reading()
        engine.keeper.after_commit(lambda _is_committed: engine.goodbye(going))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), min(seconds, self.left_s))
