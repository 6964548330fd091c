"""Small disks that run full and become free again when a test says so."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_NAMESPACE = ("unshare", "--map-root-user", "--mount")  # of one's own: no right is needed, no mount is left behind
_TRY = 'mount -t tmpfs -o size=64k tmpfs "$0" && umount "$0"'


class Tmpfs:
    """A tmpfs of `size` bytes on `folder`, for as long as the context lasts."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._filler = folder / "filler"

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        options = f"size={self._size}"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True, capture_output=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)  # a reader may still have a file open

    def fill(self, size: int) -> None:
        """Take so many bytes."""
        self._filler.write_bytes(bytes(size))

    def free(self) -> None:
        """Give them back."""
        self._filler.unlink()


def can_mount(prefix: tuple[str, ...] = ()) -> bool:
    """Tell whether a tmpfs may be mounted, by a command behind `prefix`."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tried = subprocess.run([*prefix, "sh", "-c", _TRY, folder], check=False, capture_output=True)
        except OSError:
            return False
    return tried.returncode == 0


def missing() -> tuple[tuple[str, ...], str]:
    """Return the command in front of one that may mount, and why there is none (empty: there is)."""
    if shutil.which("mount") is None or shutil.which("unshare") is None:
        return (), "a small disk needs mount and unshare (util-linux)"
    if can_mount():
        return (), ""
    if not can_mount(_NAMESPACE):
        return (), "no tmpfs may be mounted here, not even in a namespace of one's own (unshare --map-root-user)"
    return _NAMESPACE, ""
