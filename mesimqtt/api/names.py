"""The control socket's name, for server and command line; imports nothing heavy, because every command needs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOCKET_NAME = "control.sock"
_LENGTH_MAX = 100  # what every system takes in a socket's address, less a little


def with_short_name(path: Path, use: Callable[[str], object]) -> None:
    """Call `use` with a name of `path` that fits into a socket's address, however deep the folder lies."""
    if len(os.fsencode(path)) <= _LENGTH_MAX:
        use(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        use(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
