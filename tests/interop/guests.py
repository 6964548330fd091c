"""Every kind of guest by name, and who is in the house at the moment."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from interop.guest import Guest, Kind
from interop.guest_asyncio import Aiomqtt, Amqtt, AsyncGuest, LoopThread
from interop.guest_js import Js, Runtime
from interop.guest_mosquitto import Mosquitto
from interop.guest_paho import Paho

if TYPE_CHECKING:
    from pathlib import Path

    from interop.house import House, Person

_CLASSES: dict[str, type[Guest]] = {
    "paho": Paho,
    "aiomqtt": Aiomqtt,
    "amqtt": Amqtt,
    "mosquitto": Mosquitto,
    "node": Js,
    "chromium": Js,
}
_NODE = ("node", "mqtt.js")
_CHROMIUM = ("chromium", "mqtt.js")
KINDS = (
    *(Kind("paho", version, transport) for transport in ("tcp", "ws") for version in (4, 5)),
    *(Kind("aiomqtt", version, transport) for transport in ("tcp", "ws") for version in (4, 5)),
    Kind("amqtt", 4, "tcp"),
    Kind("amqtt", 4, "ws"),
    *(Kind("mosquitto", version, "tcp", ("mosquitto_pub",)) for version in (4, 5)),
    *(Kind("node", version, transport, _NODE) for transport in ("tcp", "ws") for version in (4, 5)),
    *(Kind("chromium", version, "ws", _CHROMIUM) for version in (4, 5)),
)


class Guests:
    """Makes guests, and the processes and loops that they live in."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self._folder = folder
        self._numbers = itertools.count(1)
        self._here: list[Guest] = []
        self._runtimes: dict[str, Runtime] = {}
        self._failed: set[str] = set()
        self._loop: LoopThread | None = None

    def guest(self, kind: Kind, who: Person, device: str = "phone") -> Guest:
        """Return a new client with a client id of its own."""
        guest = _CLASSES[kind.name](kind, self.house, who, f"{device}-{next(self._numbers)}")
        if isinstance(guest, AsyncGuest):
            self._loop = self._loop or LoopThread()
            guest.loop = self._loop
        if isinstance(guest, Js):
            guest.runtime = self._runtime(kind.name)
        self._here.append(guest)
        return guest

    def _runtime(self, name: str) -> Runtime:
        assert name not in self._failed, f"{name} did not start: the first test that wanted it says why"
        if name not in self._runtimes:
            self._failed.add(name)
            self._runtimes[name] = Runtime(name, self._folder)
            self._failed.remove(name)
        return self._runtimes[name]

    def go_home(self) -> None:
        """Close every guest of a test."""
        for guest in self._here:
            guest.close()
        self._here.clear()

    def shut(self) -> None:
        """End processes and loops."""
        self.go_home()
        for runtime in self._runtimes.values():
            runtime.close()
        if self._loop is not None:
            self._loop.close()
