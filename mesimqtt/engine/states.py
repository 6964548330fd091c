"""Where a connection is in its life."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal


class State(IntEnum):
    """NEW until CONNECT came, AUTHENTICATING until the gate's verdict, then OPEN, at last CLOSED."""

    NEW = 0
    AUTHENTICATING = 1
    OPEN = 2
    CLOSED = 3


NEW: Final[Literal[State.NEW]] = State.NEW
AUTHENTICATING: Final[Literal[State.AUTHENTICATING]] = State.AUTHENTICATING
OPEN: Final[Literal[State.OPEN]] = State.OPEN
CLOSED: Final[Literal[State.CLOSED]] = State.CLOSED
