"""Files that are read whole: what waits for somebody (a pipe) and what never ends (a device) is none."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(path: Path) -> str:
    """Return what stands at a path, links followed, if it is no regular file; '' if it is one, or nothing is there."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return next((name for is_so, name in _KINDS if is_so(mode)), "")


def is_named_pipe(path: Path) -> bool:
    """Tell whether to read this waits until somebody writes to it, not so a pipe that a shell has just made for it."""
    return kind_of(path) == "a pipe" and not path.is_relative_to("/dev") and not path.is_relative_to("/proc")


def irregular(path: Path, kind: str) -> str:
    """Return the clause that says what stands at a path, with the kind that `kind_of` found."""
    return f"{path.name} is no regular file, but {kind}"


def open_regular(path: Path, *, follow: bool = False) -> BufferedReader:
    """Open a file for reading; `follow`: a link to one will do.

    Raises:
        OSError: it cannot be opened, or is no regular file.

    """
    found = (path.stat() if follow else path.lstat()).st_mode
    if stat.S_ISREG(found):
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        file = os.fdopen(os.open(path, flags), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise OSError(errno.EINVAL, f"{path.name} is no regular file")


def read_regular(path: Path, *, size_max: int) -> bytes:
    """Return the content of a file of at most `size_max` bytes; a link to one will do.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.

    """
    with open_regular(path, follow=True) as file:
        content = file.read(size_max + 1)
    if len(content) > size_max:
        raise OSError(errno.EFBIG, f"{path.name} has more than {size_max} bytes")
    return content
