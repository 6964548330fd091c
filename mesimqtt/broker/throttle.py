"""Who may try to enter now: failed logins of a name from an address, and how often anybody connects at all."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from mesimqtt.broker.peers import LOCAL, counted_as
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.hooks import Refusal
from mesimqtt.tokens import claimed_subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.hooks import ConnectRequest
    from mesimqtt.settings import Rates

PAIRS_MAX = 10_000  # of a name and an address; the one that was quiet longest is forgotten
NAME_MAX = 64  # no address is longer: what lies behind does not tell two names apart
SAVED_PER_TICK = 50
TOLD_S = 60.0
PRUNE_S = 60.0
_NOT_AUTHORIZED, _UNAVAILABLE = 5, 3  # as a CONNACK of 3.1.1 says it
_RATE_EXCEEDED = 0x9F  # [MQTT 5.0, section 3.2.2.2]: Connection rate exceeded


class LoginKeeper(Protocol):
    """Where failed logins survive a restart."""

    def load(self, limit: int) -> Iterator[tuple[str, str, list[float]]]:
        """Return (name, address, free_at) of what still counts."""

    def save(self, user: str, address: str, free_at: list[float]) -> None:
        """Keep or replace one row. May wait for the next commit."""

    def forget(self, user: str, address: str) -> None:
        """Delete one row."""

    def prune(self) -> None:
        """Delete the rows that mean nothing any more."""


@dataclass(frozen=True, slots=True)
class Throttled(Refusal):
    """A CONNECT that was refused unseen; `is_told` says whether this one deserves a line in the log."""

    is_told: bool = False


class Throttle:
    """Asked by the gate before it looks at a token, and told what came of it.

    An answer depends on what the client calls itself and where it comes from, never on whether there is
    such a user. Addresses of this machine are left out unless `rates.loopback`: behind a proxy everybody has one.
    """

    def __init__(self, rates: Rates, keeper: LoginKeeper | None, now: float) -> None:
        """Take up the failed logins of before."""
        self._failed = RateLimit(parse_windows(rates.failed_logins), keys_max=PAIRS_MAX)
        self._by_user = RateLimit(parse_windows(rates.connects))
        self._by_address = RateLimit(parse_windows(rates.connects_per_address))
        self._loopback = rates.loopback
        self._keeper = keeper
        self._unsaved: OrderedDict[str, None] = OrderedDict()
        self._told: OrderedDict[str, float] = OrderedDict()
        self._prune_at = now + PRUNE_S
        self._is_to_prune = False
        if keeper is not None and self._failed:
            for user, address, free_at in keeper.load(PAIRS_MAX):
                self._failed.restore(f"{address} {user}", free_at)

    def check(self, request: ConnectRequest, now: float) -> Throttled | None:
        """Refuse a CONNECT that comes too soon, before anything of it is looked at."""
        address = self._counted(request)
        if not address:
            return None
        if self._by_address and (wait := self._by_address.take(address, now)):
            return self._refusal(_UNAVAILABLE, f"too many connections a second, next in {wait:.1f} s", address, now)
        if self._failed:
            pair = _pair(request, address)
            if wait := self._failed.wait_s(pair, now):
                return self._refusal(_NOT_AUTHORIZED, f"too many failed logins, next in {wait:.0f} s", pair, now)
        return None

    def entered(self, request: ConnectRequest, user: str, now: float) -> Throttled | None:
        """Take note that a client is who it says; refuse it if that user connects too often."""
        if len(self._failed) and (address := self._counted(request)):
            pair = _pair(request, address)
            if self._failed.forget(pair):
                self._unsaved[pair] = None
        if self._by_user and (wait := self._by_user.take(user, now)):
            return self._refusal(_UNAVAILABLE, f"connects too often, next in {wait:.1f} s", f"user {user}", now)
        return None

    def failed(self, request: ConnectRequest, now: float) -> None:
        """Take note that a login failed."""
        address = self._counted(request)
        if self._failed and address:
            pair = _pair(request, address)
            self._failed.charge(pair, now, 1)
            self._unsaved[pair] = None
            if len(self._unsaved) > PAIRS_MAX:
                self._unsaved.popitem(last=False)

    def tick(self, now: float) -> None:
        """Keep what has changed, a bounded number at a time: a flood of names is not to become a flood of rows."""
        self.save(SAVED_PER_TICK)
        if self._keeper is not None and self._is_to_prune and now >= self._prune_at:
            self._prune_at = now + PRUNE_S
            self._is_to_prune = False
            self._keeper.prune()

    def save(self, most: int = PAIRS_MAX) -> None:
        """Keep what has changed."""
        for _ in range(min(len(self._unsaved), most)):
            pair, _nothing = self._unsaved.popitem(last=False)
            if self._keeper is None:
                continue
            self._is_to_prune = True
            address, _, user = pair.partition(" ")
            free_at = self._failed.state(pair)
            if free_at is None:
                self._keeper.forget(user, address)
            else:
                self._keeper.save(user, address, free_at)

    def _counted(self, request: ConnectRequest) -> str:
        """Return what counts as one address; empty where addresses say nothing."""
        address = request.remote_address
        return "" if not self._loopback and is_loopback(address) else counted_as(address)

    def _refusal(self, code: int, reason: str, who: str, now: float) -> Throttled:
        told_at = self._told.get(who)
        is_told = told_at is None or now - told_at >= TOLD_S
        if is_told:
            self._told[who] = now
            self._told.move_to_end(who)
            if len(self._told) > PAIRS_MAX:
                self._told.popitem(last=False)
        return Throttled(code, reason, _RATE_EXCEEDED, is_told)


def _pair(request: ConnectRequest, address: str) -> str:
    """Return who is counted together. A client of 5.0 need not give a name: then the one that its token claims."""
    name = request.username or claimed_subject(request.password or b"")
    return f"{address} {name[:NAME_MAX]}"


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    """Tell whether `address` is one of this machine's own."""
    if address == LOCAL:
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
