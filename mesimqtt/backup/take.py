"""A backup is made: each database as it is at one moment, and whatever else a server needs to stand up again."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesimqtt import __version__
from mesimqtt.backup import manifest, shelf, verify
from mesimqtt.backup.manifest import BESIDE, BESIDE_MAX, CONFIGURATION, BackupError, File, Folder, Manifest
from mesimqtt.files import read_regular
from mesimqtt.store import layout, snapshot
from mesimqtt.store.database import FILE_NAME, check_files, size_of
from mesimqtt.store.notes import NoteError, configuration_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.domain.findings import Finding

_ROOM_LEFT = 64 * 1024 * 1024  # what a backup must leave free
_IDENTITY = b"mesimqtt installation"


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was made. `notes` are sentences for who made it; `removed` are older ones that went.

    `already` is what the data itself was like, damaged before it was copied: it is in the backup as it was.
    """

    path: Path
    manifest: Manifest
    notes: tuple[str, ...]
    removed: tuple[Path, ...]
    already: tuple[Finding, ...] = ()


def take(
    data: Path,
    target: Path,
    *,
    keep: int = 0,
    prove: Callable[[Path], tuple[Finding, ...]] | None = None,
    now: float | None = None,
) -> Taken:
    """Back up a data folder into a new sub-folder of `target`, beside its server if one runs.

    `keep`: of this server's backups there, so many stay; 0: all. `prove` looks at it before it counts as complete,
    and returns what its content is like.

    Raises:
        MesimqttError: it cannot be made; nothing that looks like a backup is left, and no older one was touched.

    """
    if target.resolve().is_relative_to(data.resolve()):
        raise BackupError(f"{target} lies in the data folder; choose another folder, best on another disk")
    _check_room(data, target)
    try:
        with shelf.locked(target):
            time_ms = int((time.time() if now is None else now) * 1000)
            with shelf.adding(target, time_ms) as (partial, final):
                made, notes = _fill(data, partial, time_ms)
                already = prove(partial) if prove is not None else verify.glance(partial, made)
            removed = _pruned(target, keep, made, notes) if keep else []
    except OSError as error:
        raise BackupError(f"cannot back up {data} to {target}: {error.strerror or error}") from None
    return Taken(final, made, tuple(notes), tuple(removed), already)


def _pruned(target: Path, keep: int, made: Manifest, notes: list[str]) -> list[Path]:
    """Remove older backups; that one cannot be removed makes the new one no worse, and is a note."""
    try:
        return shelf.prune(target, keep, made.installation)
    except OSError as error:
        notes.append(f"the backup is made, but older ones in {target} could not be removed: {error.strerror or error}")
        return []


def _fill(data: Path, partial: Path, time_ms: int) -> tuple[Manifest, list[str]]:
    notes: list[str] = []
    folders, files = [], []
    for folder in data_folders(data):
        name = folder.relative_to(data).as_posix() if folder != data else ""
        place = partial / name
        manifest.make_folders(partial, place)
        check_files(folder)
        snapshot.take(folder / FILE_NAME, place / FILE_NAME)
        _check_secret(folder)
        files.append(manifest.describe(partial, place / FILE_NAME))
        configured, copied = _copy_beside(folder, partial, place, files, notes)
        with contextlib.closing(snapshot.open_copy(place / FILE_NAME)) as connection:
            try:
                facts = snapshot.facts(connection)
            except sqlite3.Error as error:
                raise BackupError(
                    f"the copy of {folder / FILE_NAME} cannot be read ({error}): mesimqtt check"
                ) from None
        folders.append(Folder(name, facts, copied, configured))
    said = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))
    made = Manifest(__version__, said, time_ms, _installation(data), tuple(folders), tuple(files))
    manifest.write(partial, made)
    return made, notes


def _copy_beside(folder: Path, partial: Path, place: Path, files: list[File], notes: list[str]) -> tuple[str, str]:
    """Copy what lies beside a database; return where its configuration is, and where in the copy, '' for none."""
    configured, names = None, set(BESIDE)
    try:
        configured = configuration_of(folder)
    except NoteError as error:
        notes.append(f"the configuration is not in the backup, nor what notes which it is: {error}")
        names.remove(layout.CONFIG_NOTE)
    for each in sorted(names):
        with contextlib.suppress(FileNotFoundError):
            files.append(_relative(partial, place / each, manifest.copy(folder / each, place / each)))
    if configured is None:
        return "", ""
    copied = f"{CONFIGURATION}/{configured.name}"
    (place / CONFIGURATION).mkdir(mode=0o700)
    try:
        found = manifest.copy(configured, place / copied)
    except OSError as error:
        notes.append(f"the configuration {configured} is not in the backup: {error.strerror}")
        return str(configured), ""
    files.append(_relative(partial, place / copied, found))
    return str(configured), copied


def _relative(root: Path, path: Path, file: File) -> File:
    return File(path.relative_to(root).as_posix(), file.bytes, file.sha256)


def data_folders(data: Path) -> list[Path]:
    """Return a data folder and those of further applications in it.

    Raises:
        BackupError: it is none.

    """
    if not (data / FILE_NAME).is_file():
        raise BackupError(f"there is no data of mesimqtt in {data.absolute()}; name the right folder: --data DIR")
    return [data, *sorted(path for path in (data / layout.APPS_NAME).glob("*") if (path / FILE_NAME).is_file())]


def _check_secret(folder: Path) -> None:
    """Raise BackupError where nothing signs tokens: what would be copied is no server that anybody could get into."""
    if not (folder / layout.SECRET_NAME).is_file():
        raise BackupError(
            f"there is no {layout.SECRET_NAME} in {folder}, so nobody could get into what would be restored: put it "
            "back from an older backup, or start the server, which makes a new one (no token of before holds then)"
        )


def _installation(data: Path) -> str:
    secret = read_regular(data / layout.SECRET_NAME, size_max=BESIDE_MAX)
    return hmac.digest(secret, _IDENTITY, hashlib.sha256).hex()[:16]


def _check_room(data: Path, target: Path) -> None:
    needed = sum(size_of(folder) for folder in data_folders(data)) + _ROOM_LEFT
    free = manifest.room_at(target, f"a backup in {target}")
    if free < needed:
        mib = 2**20
        raise BackupError(
            f"no room for a backup in {target}: {free // mib} MiB are free, {needed // mib} are needed; "
            "choose another disk, or keep fewer: --keep N"
        )
