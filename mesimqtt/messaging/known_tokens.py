"""Tokens that were found good, by their text: who brings one again is let in without a question to the store."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.hooks import Identity


class KnownTokens:
    """At most `most` of them; a new one takes the place of the oldest. Whatever changes of a user forgets his."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._identities: OrderedDict[bytes, Identity] = OrderedDict()
        self._texts: dict[str, list[bytes]] = {}  # of each user

    @property
    def is_full(self) -> bool:
        """Tell whether one more would push out another."""
        return len(self._identities) >= self._most

    def find(self, text: bytes) -> Identity | None:
        """Return whose token this is and what it is good for; None if it is not known."""
        return self._identities.get(text)

    def add(self, text: bytes, identity: Identity) -> None:
        """Know a token from now on."""
        if text in self._identities:
            return
        if self.is_full:
            oldest, user = next((each, found.user) for each, found in self._identities.items())
            del self._identities[oldest]
            self._texts[user].remove(oldest)
            if not self._texts[user]:
                del self._texts[user]
        self._identities[text] = identity
        self._texts.setdefault(identity.user, []).append(text)

    def forget(self, user: str) -> None:
        """Know no token of this user any more."""
        for text in self._texts.pop(user, ()):
            del self._identities[text]

    def clear(self) -> None:
        """Know no token at all."""
        self._identities.clear()
        self._texts.clear()
