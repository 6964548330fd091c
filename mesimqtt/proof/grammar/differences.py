"""What two servers did at one step, and whether that is the same as far as the specifications go."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.proof.grammar.lines import Event
    from mesimqtt.proof.grammar.sequences import Step

_CLOSED, _WAITS = ("closed",), ("waits",)


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one step on one server: for A and for B, in words that can be compared."""

    a: tuple[Event, ...]
    b: tuple[Event, ...]

    @property
    def is_closed(self) -> bool:
        """Tell whether A was closed."""
        return _CLOSED in self.a

    @property
    def kinds(self) -> set[str]:
        """The kinds of what A got."""
        return {event[0] for event in self.a}


@dataclass(frozen=True, slots=True)
class Moment:
    """A step after which two servers differ, and what was done before it."""

    version: int
    before: tuple[Step, ...]
    step: Step
    ours: Seen
    theirs: Seen

    def is_named(self, pattern: str) -> bool:
        """Tell whether the step's name is like this."""
        return re.fullmatch(pattern, self.step.name) is not None

    @property
    def is_stricter(self) -> bool:
        """Tell whether we closed A and they did not."""
        return self.ours.is_closed and not self.theirs.is_closed


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that is allowed: by which clause, where it shows, and who is right.

    `goes_on`: afterwards both servers are in the same state.
    """

    name: str
    clause: str
    shows: Callable[[Moment], bool]
    why: str
    goes_on: bool = False


def differs(ours: Seen, theirs: Seen) -> bool:
    """Tell whether two servers did something else. Who closes need not say why [MQTT 5.0, section 4.13.1]."""
    a, other = ours.a, theirs.a
    if ours.is_closed and theirs.is_closed:
        reasons = [[event for event in side if _is_reason(event)] for side in (a, other)]
        if not all(reasons):
            a, other = (tuple(event for event in side if not _is_reason(event)) for side in (a, other))
    return a != other or ours.b != theirs.b


def _is_reason(event: Event) -> bool:
    return event[:1] == ("DISCONNECT",) or (event[:1] == ("CONNACK",) and event[1:2] != ("ok",))


def is_open(ours: Seen, theirs: Seen) -> bool:
    """Tell whether something could still come that makes two servers alike."""
    if ours.is_closed != theirs.is_closed:
        return False
    sides = [Counter(map(repr, side.a + side.b)) for side in (ours, theirs)]
    return not (sides[0] - sides[1]) or not (sides[1] - sides[0])
