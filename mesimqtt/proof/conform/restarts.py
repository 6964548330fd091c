"""One restart of the server for all checks that need one: each comes as far as that, then it happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Restarts:
    """Restarts once all of so many `parties` wait for it, or have ended without."""

    def __init__(self, restart: Callable[[], Awaitable[None]], parties: int) -> None:
        self._restart = restart
        self._parties = parties
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Wait for the restart. Raises what it raised."""
        mine = asyncio.get_running_loop().create_future()
        self._waiting.add(mine)
        await self._look()
        await mine

    async def ended(self) -> None:
        """Take note that a party has ended, whether or not it had its restart."""
        self._parties -= 1
        await self._look()

    async def _look(self) -> None:
        if not self._waiting or len(self._waiting) < self._parties:
            return
        waiting, self._waiting = self._waiting, set()
        try:
            await self._restart()
        except Exception as error:  # noqa: BLE001 - told to each who waits
            for each in waiting:
                each.set_exception(error)
        else:
            for each in waiting:
                each.set_result(None)
