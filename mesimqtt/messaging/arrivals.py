"""Who came online and who is gone, told once each; a short absence is not told at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.events import OFFLINE, ONLINE, user_event
from mesimqtt.messaging.observers import Observer
from mesimqtt.store import outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.domain.events import Event
    from mesimqtt.hooks import DeviceSeen
    from mesimqtt.messaging.hub import Hub


class Arrivals:
    """Remembers whom it called online, so that each user is online and offline in turn, whatever his devices do."""

    def __init__(self, hub: Hub, tell: Callable[[Event], None]) -> None:
        self._hub = hub
        self._tell = tell
        self._online: dict[int, str] = {}
        self._leaving: dict[int, float] = {}  # in the order of their times: the delay is the same for all
        self._is_on = False
        self._observer = Observer("webhooks", self._seen, hub.spawn, hub.count)

    def follow(self, *, is_on: bool) -> None:
        """Begin or stop."""
        if is_on == self._is_on:
            return
        self._is_on = is_on
        observers = self._hub.observers
        if not is_on:
            observers.online.remove(self._observer)
            observers.offline.remove(self._observer)
            return
        observers.online.append(self._observer)
        observers.offline.append(self._observer)
        self._online = {user.id: user.address for user in self._hub.directory.online()}
        self._leaving = {}
        due = self._hub.now() + self._hub.settings.webhooks.offline_after_s
        for number in outbox.were_online(self._hub.store.read):  # the server went down under them
            user = self._hub.directory.user_by_id(number)
            if user is not None and number not in self._online:
                self._online[number] = user.address
                self._leaving[number] = due

    def _seen(self, event: DeviceSeen) -> None:
        """Take note that a device of a user came or went."""
        user = self._hub.directory.user(event.user)
        if user is None:
            return
        number = user.id
        if not user.devices:
            if number in self._online and number not in self._leaving:
                self._leaving[number] = self._hub.now() + self._hub.settings.webhooks.offline_after_s
        elif number in self._leaving:
            del self._leaving[number]
        elif number not in self._online:
            self._online[number] = user.address
            self._tell(user_event(ONLINE, self._hub.now_ms(), user.address, number))

    def tick(self, now: float) -> None:
        """Tell who has been gone long enough."""
        while self._leaving:
            number, due = next(iter(self._leaving.items()))
            if due > now:
                return
            self._gone(number)

    def close(self) -> None:
        """Tell that all are gone, because the server stops."""
        for number in list(self._online) if self._is_on else []:
            self._gone(number)

    def _gone(self, number: int) -> None:
        self._leaving.pop(number, None)
        self._tell(user_event(OFFLINE, self._hub.now_ms(), self._online.pop(number), number))
