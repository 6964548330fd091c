"""All that was said and heard in one run, in order: what the laws are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.testing.wire5 import Packet


@dataclass(frozen=True, slots=True)
class Told:
    """One PUBLISH that a client received: `place` is the topic after `ROOT/{me}/in/`, empty for a free topic."""

    user: str
    connection: int
    place: str
    packet: Packet

    def __str__(self) -> str:
        return f"{self.user}: {self.packet.topic} {self.packet.payload[:120]!r}"


@dataclass(slots=True)
class Heard:
    """What every client of the run received, and the cids that each user has used."""

    told: list[Told] = field(default_factory=list)
    cids: dict[str, set[str]] = field(default_factory=dict)

    def at(self, *classes: str) -> list[Told]:
        """Return what came in some classes of `in/`: `u`, `status`."""
        return [each for each in self.told if each.place.partition("/")[0] in classes]
