"""When nothing was made to go wrong, and by when what was under way at a time was done."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.proof.history import Harmed

PROMPT_MS = 8_000  # within which what is asked for is done: a commit, a latency, and room for both to be late
CALM_MS = 30_000  # before that, without harm, in which what had gathered is done
CUT, NO_SERVER = "cut", "no server"  # what was on its way then is lost; all other harm only makes it late


class Calm:
    """When nothing was made to go wrong: with the server, and with a connection besides."""

    def __init__(self, harmed: Iterable[Harmed]) -> None:
        self._harmed: dict[int, list[Harmed]] = defaultdict(list)
        for one in sorted(harmed, key=lambda one: one.at):
            self._harmed[one.connection].append(one)

    def covers(self, begin: int, end: int, connection: int) -> bool:
        """Tell whether all was well from one time to another."""
        return not any(one.at <= end and one.until >= begin for one in self._all(connection))

    def done_by(self, at: int, connection: int = 0) -> int:
        """Return by when what was under way at a time was done, if it was not lost.

        That is some seconds later, and where something was wrong then or shortly before: when all had been well for
        half a minute and these seconds.
        """
        begin = at - CALM_MS
        late = sorted((one for one in self._all(connection) if one.what != CUT), key=lambda one: one.at)
        for one in late:
            if one.at <= begin + CALM_MS + PROMPT_MS and one.until >= begin:
                begin = one.until + 1
        return begin + CALM_MS + PROMPT_MS

    def loses(self, begin: int, end: int, connection: int) -> bool:
        """Tell whether what a client sent may have been lost from one time to another."""
        return any(
            one.at <= end and one.until >= begin for one in self._all(connection) if one.what in (CUT, NO_SERVER)
        )

    def _all(self, connection: int) -> list[Harmed]:
        return self._harmed[0] + self._harmed[connection] if connection else self._harmed[0]
