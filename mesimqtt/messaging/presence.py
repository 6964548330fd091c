"""Who is online: what connections say, told once a second at most, to those who follow and may see it."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.messaging.waiting import LOW_WATER
from mesimqtt.store import policies as counters
from mesimqtt.store import ties, users
from mesimqtt.store.ties import Tie

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.people import People
    from mesimqtt.store.ties import TieRow

STRIDE = 10**9  # each start of the server numbers its changes from a multiple of this
TOLD_PER_TICK = 1_000  # some 25 ms; the rest goes on a quarter of a second later
LEFT_PER_TICK = 1_000  # likewise: after a lost network it may be everybody
REMEMBERED_MAX = 100_000  # users who are offline and of whom the last change is remembered
BEGIN_S = 1.0  # between two times that one device is told the state of all whom it follows
_COUNTER = "presence"
UNKNOWN = {"state": "unknown"}


class Presence:
    """The state of every user, with a version that only grows, also over a restart.

    A version is the start's number times STRIDE plus a count, so nobody's has to be read or written. The number
    is committed before the first change of a start.
    """

    def __init__(self, hub: Hub, people: People) -> None:
        self._hub = hub
        self._people = people
        self._committed = counters.counter(hub.store.read, _COUNTER)
        self._version = self._floor = (self._committed + 1) * STRIDE
        self._is_committing = False
        self._online: dict[int, int] = {}  # user -> version of the change
        self._offline: OrderedDict[int, tuple[int, int]] = OrderedDict()  # -> version, milliseconds of his end
        self._arriving: dict[int, None] = {}
        self._leaving: OrderedDict[int, tuple[float, int]] = OrderedDict()  # -> when it is due, his end
        self._told_at: OrderedDict[int, float] = OrderedDict()
        self._follows: dict[int, tuple[str, ...]] = {}  # of users online who listen to presence
        self._followers: dict[str, set[int]] = {}
        self._begun: dict[Device, float] = {}
        self._changed: deque[Iterator[int]] = deque()
        self._pending: dict[Device, dict[str, None]] = {}  # whose state each device is still to be told
        people.on_seen = self.review

    # ---- connections -----------------------------------------------------------------------------------------------

    def connected(self, user: User) -> None:
        """Take note of a connection."""
        self._leaving.pop(user.id, None)
        if user.id not in self._online:
            self._arriving[user.id] = None

    def disconnected(self, device: Device) -> None:
        """Take note that a connection ended; after a grace time without another one the user is offline."""
        user = device.user
        self._begun.pop(device, None)
        self._pending.pop(device, None)
        if not user.devices:
            self._unload(user)
            self._leaving[user.id] = (self._hub.now() + self._hub.settings.presence.grace_s, self._hub.now_ms())
            self._leaving.move_to_end(user.id)

    def gone(self, number: int, address: str) -> None:
        """Take note that a user was deleted."""
        for known in (self._online, self._offline, self._arriving, self._leaving):
            known.pop(number, None)
        self._changed.append(self._each_follower(address))

    def tick(self, now: float) -> None:
        """Settle what has changed; tell a bounded part of what is to be told."""
        if self._arriving or self._leaving:
            if not self._is_numbered():
                return  # who has just come would be told of as offline
            self._settle(now)
        left = TOLD_PER_TICK
        while self._changed and left:
            left -= 1
            if next(self._changed[0], None) is None:
                self._changed.popleft()
        for device in list(self._pending):
            waiting = self._pending[device]
            while waiting and left and len(device.express) < LOW_WATER and not device.connection.congested:
                left -= 1
                address = next(iter(waiting))
                del waiting[address]
                self._tell(device, address)
            if not waiting:
                del self._pending[device]
            if not left:
                return

    def _settle(self, now: float) -> None:
        presence, directory = self._hub.settings.presence, self._hub.directory
        while self._told_at and next(iter(self._told_at.values())) <= now - presence.interval_s:
            self._told_at.popitem(last=False)
        for number in [number for number in self._arriving if number not in self._told_at]:
            del self._arriving[number]
            user = directory.known_user(number)
            if user is not None and user.devices:
                self._online[number] = self._next(user, now)
                self._offline.pop(number, None)
        early: list[tuple[int, tuple[float, int]]] = []
        room = LEFT_PER_TICK
        while self._leaving and room and next(iter(self._leaving.values()))[0] <= now:
            room -= 1
            number, left = self._leaving.popitem(last=False)
            user = directory.user_by_id(number)
            if number in self._told_at:
                early.append((number, left))
            elif user is not None and not user.devices:
                self._left(user, left[1], now)
        for number, left in reversed(early):
            self._leaving[number] = left
            self._leaving.move_to_end(number, last=False)

    def _left(self, user: User, ended_ms: int, now: float) -> None:
        self._hub.committer.row(users.SEEN, ended_ms, user.id)
        self._hub.committer.lazily(now)
        if self._online.pop(user.id, 0):
            self._offline[user.id] = (self._next(user, now), ended_ms)
            if len(self._offline) > REMEMBERED_MAX:  # whoever is forgotten has had no later version than this
                self._floor = max(self._floor, self._offline.popitem(last=False)[1][0])

    def _next(self, user: User, now: float) -> int:
        self._version += 1
        self._told_at[user.id] = now
        self._changed.append(self._each_follower(user.address))
        return self._version

    def _is_numbered(self) -> bool:
        """Tell whether the number that stands in the next version is in the store; see to it."""
        number = (self._version + 1) // STRIDE

        def committed(ok: bool) -> None:
            if ok:
                self._committed, self._is_committing = number, False
            else:  # the row stays in the batch
                self._hub.committer.batch.after.append(committed)

        if number > self._committed and not self._is_committing:
            self._is_committing = True
            self._hub.committer.row(counters.RAISE_COUNTER, _COUNTER, number)
            self._hub.committer.batch.after.append(committed)
            self._hub.committer.wake()
        return number <= self._committed

    # ---- what is told ----------------------------------------------------------------------------------------------

    def view(self, asker: User | None, address: str) -> dict[str, Any]:
        """Return what an asker (None: an operator) may see of somebody: the same of nobody and of who hides it."""
        user = self._hub.directory.user(address)
        people = self._people
        if user is None or not user.active or not people.may_see(asker, user, "presence"):
            return dict(UNKNOWN)
        found: dict[str, Any] = {"state": "online", "version": self._online.get(user.id, 0), "ts": self._hub.now_ms()}
        if found["version"]:
            return found
        version, seen_ms = self._offline.get(user.id, (0, 0))
        found |= {"state": "offline", "version": max(self._floor, version)}
        is_seen = people.audience(user, "presence") == people.audience(user, "last_seen")
        if is_seen or people.may_see(asker, user, "last_seen"):
            seen_ms = seen_ms or users.seen_at(self._hub.store.read, user.id)
            resolution_ms = max(1, self._hub.settings.presence.last_seen_resolution_s * 1000)
            found |= {"last_seen": seen_ms - seen_ms % resolution_ms} if seen_ms else {}
        return found

    def review(self, user: User, followers: Iterable[str] | None) -> None:
        """Tell followers (None: all) a user's state anew: what they may see of him has changed."""
        numbers = self._followers.get(user.address)
        if not numbers:
            return
        if followers is None:
            self._changed.append(self._each_follower(user.address))
            return
        for address in followers:
            follower = self._hub.directory.cached(address)
            if follower is not None and follower.id in numbers:
                self._pend(follower, user.address)

    def _each_follower(self, address: str) -> Iterator[int]:
        for number in tuple(self._followers.get(address, ())):
            follower = self._hub.directory.known_user(number)
            if follower is not None:
                self._pend(follower, address)
            yield number

    def _pend(self, follower: User, address: str) -> None:
        for device in follower.devices:
            if device.qos_of("presence") >= 0:
                self._pending.setdefault(device, {})[address] = None

    def _tell(self, device: Device, address: str) -> None:
        if device in device.user.devices:
            body = json.dumps(self.view(device.user, address), separators=(",", ":")).encode()
            self._hub.tell(device, f"presence/u/{encode_address(address)}", body)

    # ---- who follows whom ------------------------------------------------------------------------------------------

    def begin(self, device: Device) -> None:
        """Give a device that listens to presence the state of all whom its user follows."""
        now = self._hub.now()
        if device.qos_of("presence") < 0 or now - self._begun.get(device, float("-inf")) < BEGIN_S:
            return
        self._begun[device] = now
        user, limit = device.user, device.user.policy.follows_max
        known = self._follows.get(user.id)

        def read(connection: sqlite3.Connection) -> list[TieRow]:
            return ties.page(connection, user.id, Tie.FOLLOW, "", limit)

        def done(found: list[TieRow]) -> None:
            if device in user.devices:
                if self._follows.get(user.id) is known:  # else what is known is newer than what was read
                    self._load(user, [row.peer for row in found])
                self._pending.setdefault(device, {}).update(dict.fromkeys(self._follows[user.id]))

        self._hub.store.read_later(read, done)

    def follows_changed(self, user: User, new: Iterable[str] = ()) -> None:
        """Take note that a user follows other people than before; tell him the state of the new ones."""
        if any(device.qos_of("presence") >= 0 for device in user.devices):
            rows = ties.page(self._hub.store.read, user.id, Tie.FOLLOW, "", user.policy.follows_max)
            self._load(user, [row.peer for row in rows])
            for address in new:
                self._pend(user, address)

    def _load(self, user: User, addresses: list[str]) -> None:
        self._unload(user)
        self._follows[user.id] = tuple(addresses)
        for address in addresses:
            self._followers.setdefault(address, set()).add(user.id)

    def _unload(self, user: User) -> None:
        for address in self._follows.pop(user.id, ()):
            followers = self._followers[address]
            followers.discard(user.id)
            if not followers:
                del self._followers[address]
