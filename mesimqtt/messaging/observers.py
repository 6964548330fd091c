"""Who is told what has happened, after it did: modules of this process. One that is slow or fails holds up nobody."""

from __future__ import annotations

import inspect
import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from mesimqtt.hooks import DeviceSeen, GroupChanged, StatusTold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.model import User

WAITING_MAX = 10_000  # events that one asynchronous observer has not taken yet; what comes above is dropped

log = logging.getLogger(__name__)


class Observer:
    """One function that is told. What it awaits is awaited in order, in one task, beside everything else."""

    def __init__(
        self,
        name: str,
        call: Callable[[Any], Awaitable[None] | None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        count: Callable[[str], None],
    ) -> None:
        self.name = name
        self._call = call
        self._spawn = spawn
        self._count = count
        self._waiting: deque[Awaitable[None]] = deque()
        self._is_working = False

    def __call__(self, event: object) -> None:
        """Tell one event."""
        try:
            found = self._call(event)
        except Exception:  # what happened has happened: an observer cannot change it
            log.exception("module %s failed in %s", self.name, self._call)
            return
        if not inspect.isawaitable(found):
            return
        if len(self._waiting) >= WAITING_MAX:
            self._count("modules.dropped")
            if inspect.iscoroutine(found):
                found.close()
            return
        self._waiting.append(found)
        if not self._is_working:
            self._is_working = True
            self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._waiting.popleft()
                except Exception:  # likewise
                    log.exception("module %s failed in %s", self.name, self._call)
        finally:
            self._is_working = False


class Observers:
    """The functions that are told, by what they are told of. Empty lists cost one truth test."""

    def __init__(self) -> None:
        self.status: list[Observer] = []
        self.online: list[Observer] = []
        self.offline: list[Observer] = []
        self.group: list[Observer] = []

    def told(self, sender: User, payload: bytes) -> None:
        """Tell a status as it is sent to its sender."""
        found = json.loads(payload)
        known = {key: found[key] for key in StatusTold.__slots__ if key in found}
        event = StatusTold(sender=sender.address, **known)
        for observer in self.status:
            observer(event)

    def seen(self, device: Device, *, is_online: bool) -> None:
        """Tell that a device came or went."""
        user = device.user
        event = DeviceSeen(user.address, device.client_id, is_online, len(user.devices))
        for observer in self.online if is_online else self.offline:
            observer(event)

    def changed(self, group: str, payload: bytes) -> None:
        """Tell an event of a group."""
        event = GroupChanged(group, json.loads(payload))
        for observer in self.group:
            observer(event)
