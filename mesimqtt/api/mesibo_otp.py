"""One-time passwords of Mesibo's `otp`: made for an address, checked by `useradd`; a restart forgets them."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.domain.chance import Chance

OTPS_MAX = 10_000
TRIES_MAX = 10
EXPIRY_MAX_S = 86_400


@dataclass(slots=True)
class _Otp:
    digits: str
    tries: int
    until: float


class Otps:
    """The passwords that are good now, by address; a new one replaces the one before."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._known: OrderedDict[str, _Otp] = OrderedDict()

    def make(self, address: str, now: float, *, tries: int, expiry_s: int, is_reused: bool) -> str:
        """Return six digits; `is_reused`: those of before while they are good."""
        known = self._known.get(address)
        tries, until = min(max(tries, 1), TRIES_MAX), now + min(max(expiry_s, 1), EXPIRY_MAX_S)
        digits = f"{self._chance.below(10**6):06}"
        if is_reused and known is not None and now < known.until and known.tries > 0:
            digits, tries = known.digits, min(tries, known.tries)  # asking again gives no further guesses
        self._known[address] = _Otp(digits, tries, until)
        self._known.move_to_end(address)
        if len(self._known) > OTPS_MAX:
            self._known.popitem(last=False)
        return digits

    def check(self, address: str, digits: str, now: float) -> bool:
        """Tell whether these are the digits; they are good once, and each wrong guess is one try less."""
        known = self._known.get(address)
        if known is None or now >= known.until or known.tries <= 0:
            return False
        known.tries -= 1
        if not hmac.compare_digest(known.digits.encode(), digits.encode("utf-8", "replace")):
            return False
        del self._known[address]
        return True
