"""What `mesimqtt check`, `doctor` and `restore --verify` say: a finding tells what is, what it means, what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, what mends it ('' if nothing needs mending), and what it means for users."""

    check: str
    level: Level
    what: str
    mend: str = ""
    means: str = ""


Findings = Iterator[Finding]
