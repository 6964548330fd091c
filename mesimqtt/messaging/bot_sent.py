"""What a bot has sent: what became of it so far, and a way to wait for more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.status import TITLES, Status

if TYPE_CHECKING:
    from collections.abc import Callable

Told = dict[str, Any]


class Sent:
    """One message of a bot. `statuses` are all that its sender was told, in order (contract section 4)."""

    def __init__(self, cid: str) -> None:
        self.cid = cid
        self.mid = ""
        self.statuses: list[Told] = []
        self._waiting: list[tuple[Callable[[Told], bool], asyncio.Future[Told]]] = []

    @property
    def status(self) -> int:
        """Return the newest status, 0 before the first."""
        return int(self.statuses[-1]["status"]) if self.statuses else 0

    def told(self, status: Told) -> None:
        """Take one status."""
        if status in self.statuses:
            return  # a repeat is equal
        self.mid = status["mid"]
        self.statuses.append(status)
        for wanted, future in list(self._waiting):
            if not future.done() and wanted(status):
                future.set_result(status)

    def lost(self, why: str) -> None:
        """Tell whoever waits that no more will come."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(OperationError("closed", f"{why}; what became of {self.cid} is not known"))

    async def wait_sent(self, timeout: float | None = None) -> Told:  # noqa: ASYNC109 - a caller's word, as of a future
        """Wait until it is committed. Raises OperationError if it was refused, TimeoutError after `timeout` seconds."""
        return await self._wait(Status.SENT, None, timeout)

    async def wait_delivered(self, by: str | None = None, timeout: float | None = None) -> Told:  # noqa: ASYNC109 - likewise
        """Wait until a recipient (`by`: that one) has it; return the status. Raises as `wait_sent`."""
        return await self._wait(Status.DELIVERED, by, timeout)

    async def wait_read(self, by: str | None = None, timeout: float | None = None) -> Told:  # noqa: ASYNC109 - likewise
        """Wait until a recipient (`by`: that one) has read it; return the status. Raises as `wait_sent`."""
        return await self._wait(Status.READ, by, timeout)

    async def _wait(self, step: Status, by: str | None, timeout: float | None) -> Told:  # noqa: ASYNC109 - likewise
        def is_wanted(status: Told) -> bool:
            is_whose = by is None or status.get("peer") in (by, None)
            return is_whose and (step <= status["status"] < Status.DELETED or status["status"] >= Status.DELETED)

        found = next(filter(is_wanted, self.statuses), None)
        if found is None:
            future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
            entry = (is_wanted, future)
            self._waiting.append(entry)
            try:
                found = await asyncio.wait_for(future, timeout)
            finally:
                self._waiting.remove(entry)
        if found["status"] >= Status.DELETED:
            why = found.get("reason") or found.get("rule")
            name = TITLES[found["status"]]
            raise OperationError(name, f"{found.get('peer') or found.get('group') or self.cid}: {why or name}")
        return found
