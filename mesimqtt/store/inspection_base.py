"""What the looks at a database have in common (inspection.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.domain.findings import Findings

RESTORE = "stop the server, keep a copy of the folder, and restore the newest backup: mesimqtt restore DIR"
REPORT = "stop nothing; report it with this text, and keep a backup of today: mesimqtt backup DIR"
SHOWN_MAX = 5  # examples of one finding


@dataclass(frozen=True, slots=True)
class View:
    """What an inspection must know beside the data. `now_ms` is milliseconds since 1970.

    `is_live`: a server has it, so that what is due is done by now. `expiry_default_s`: that of its settings.
    """

    now_ms: int
    expiry_default_s: int
    is_live: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that is looked at. `is_quick`: it costs about as much as reading an index."""

    name: str
    find: Callable[[sqlite3.Connection, View], Findings]
    passed: str
    is_quick: bool = False
