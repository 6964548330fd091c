"""The folder that holds backups: one sub-folder each, named by its moment. What is not complete has no such name."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import MANIFEST_NAME, BackupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")
_PARTIAL, _REMOVED = ".partial-", ".removed-"
_LOCK = ".lock"


@contextmanager
def locked(shelf: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other backups out of it; what an interrupted one left is removed.

    Raises:
        BackupError: another backup is being made there, or nothing can be written there.

    """
    try:
        shelf.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(shelf / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BackupError(f"cannot write in {shelf}: {error.strerror}; choose another folder") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupError(f"another backup is being made in {shelf}; wait for it") from None
        for each in shelf.iterdir():
            if each.name.startswith((_PARTIAL, _REMOVED)):
                shutil.rmtree(each, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def adding(shelf: Path, time_ms: int) -> Iterator[tuple[Path, Path]]:
    """Give a folder to fill and the one that it becomes at the end, in one step; after an error nothing is left."""
    name = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(time_ms / 1000))
    number, final = 1, shelf / name
    while final.exists():
        number += 1
        final = shelf / f"{name}-{number}"
    partial = shelf / f"{_PARTIAL}{final.name}"
    partial.mkdir(mode=0o700)
    try:
        yield partial, final
        manifest.sync_tree(partial)
        partial.rename(final)
        manifest.sync_folder(shelf)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def backups(shelf: Path) -> list[Path]:
    """Return the complete backups of a folder, the oldest first. Raises OSError."""
    found = [each for each in shelf.iterdir() if _NAME.fullmatch(each.name) and (each / MANIFEST_NAME).is_file()]
    return sorted(found, key=_order)


def prune(shelf: Path, keep: int, installation: str) -> list[Path]:
    """Remove all but the newest `keep` backups of one server; return those that went.

    Those of other servers, what cannot be read and whatever else lies there stay; so do all where it is not known
    whose they are (''). Raises OSError.
    """
    if not installation:
        return []
    ours = []
    for each in backups(shelf):
        try:
            if manifest.read(each).installation == installation:
                ours.append(each)
        except BackupError:
            continue
    gone = ours[:-keep]
    for each in gone:
        removed = each.with_name(f"{_REMOVED}{each.name}")
        each.rename(removed)  # from here on it looks like none, however far its removal comes
        shutil.rmtree(removed)
    return gone


def find(folder: Path) -> Path:
    """Return the backup that a folder is, or the newest one that it holds.

    Raises:
        BackupError: it is none and holds none, or the newest has lost its manifest.

    """
    if (folder / MANIFEST_NAME).is_file():
        return folder
    if _NAME.fullmatch(folder.name) and folder.is_dir():
        raise BackupError(f"the backup {folder} is damaged: it has no {MANIFEST_NAME}; choose another one")
    try:
        found = backups(folder)
        lost = [each for each in folder.iterdir() if _NAME.fullmatch(each.name) and each not in found]
    except OSError as error:
        raise BackupError(f"cannot look into {folder}: {error.strerror}") from None
    damaged = max(lost, key=_order, default=None)
    if damaged is not None and (not found or _order(damaged) > _order(found[-1])):
        older = f"the newest that has one: {found[-1]}" if found else "there is no other"
        raise BackupError(f"the backup {damaged} is damaged: it has no {MANIFEST_NAME}; {older}")
    if not found:
        raise BackupError(f"there is no backup in {folder}; make one with: mesimqtt backup {folder}")
    return found[-1]


def _order(backup: Path) -> tuple[str, int]:
    return backup.name[:20], int(backup.name[21:] or 1)
