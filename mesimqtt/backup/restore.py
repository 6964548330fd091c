"""A backup is put back: proved first, into an empty folder only, and with one step at the end or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import CONFIGURATION, BackupError
from mesimqtt.backup.verify import verify
from mesimqtt.files import open_regular
from mesimqtt.store import layout, migrations, restored
from mesimqtt.store.database import FILE_NAME, lock
from mesimqtt.store.integrity import readable
from mesimqtt.store.notes import NoteError, configuration_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.backup.manifest import Folder, Manifest
    from mesimqtt.domain.findings import Finding

_LEFT = frozenset({layout.LOCK_NAME, layout.RESTORING_NAME, "lost+found"})  # what may lie in an empty folder
# … and what an interrupted restore may have moved already.
_MOVED = frozenset({
    layout.SECRET_NAME, layout.KEYS_NAME, layout.CONFIG_NOTE, layout.UP_NOTE, layout.APPS_NAME, CONFIGURATION,
})  # fmt: skip
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back. `configuration` is the file to start the server with, None for none.

    `already` is what the content was like when it was backed up: it was put back as it was. `notes` are sentences for
    who restores.
    """

    backup: Path
    manifest: Manifest
    configuration: Path | None
    already: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def restore(backup: Path, data: Path, *, now_ms: int) -> Restored:
    """Put a backup into `data`, a folder that is empty or not there.

    Raises:
        MesimqttError: it cannot be done, and nothing was; the text says what to do.

    """
    found = manifest.read(backup)
    _check_time(found, now_ms)
    _check_schema(found)
    _check_empty(data)
    _check_room(found, data)
    looked = verify(backup)
    looked.check_written(f"{backup} is not whole, so nothing was restored")
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = lock(data)
        try:
            _check_empty(data)
            stage = data / layout.RESTORING_NAME
            with _left_as_it_was(stage):
                notes = _fill(stage, backup, found, data, now_ms)
                configuration = configuration_of(stage)
            _reveal(stage, data)
        finally:
            os.close(held)
    except (OSError, sqlite3.Error) as error:
        left = data / layout.RESTORING_NAME
        then = (
            f"; no server begins there: restore again, which removes {left}"
            if left.exists()
            else "; nothing is left of it"
        )
        why = getattr(error, "strerror", None) or error
        raise BackupError(f"cannot restore into {data}: {why}{then}") from None
    return Restored(backup, found, configuration, looked.already, notes)


@contextlib.contextmanager
def _left_as_it_was(stage: Path) -> Iterator[None]:
    """Leave nothing of what was copied where copying fails.

    What an earlier restore left stays: files of it may be in their place already, and it bars a server from them.
    """
    was_begun = stage.exists()
    try:
        yield
    except BaseException:
        if not was_begun:
            shutil.rmtree(stage, ignore_errors=True)
        raise


def _fill(stage: Path, backup: Path, found: Manifest, data: Path, now_ms: int) -> tuple[str, ...]:
    """Copy everything into a folder within `data`, which no server takes for its own, and let it begin anew.

    Return sentences for who restores.
    """
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    notes = []
    for each in found.files:
        target = stage / each.path
        manifest.make_folders(stage, target.parent)
        copied = manifest.copy(backup / each.path, target, wanted=each.bytes)
        if (copied.bytes, copied.sha256) != (each.bytes, each.sha256):
            raise BackupError(f"{backup / each.path} was altered while it was read; check the disk")
    for folder in found.folders:
        _renew(stage / folder.path / FILE_NAME, now_ms)
        _configure(stage / folder.path, data / folder.path, folder)
        try:
            configuration_of(stage / folder.path)
        except NoteError:
            (stage / folder.path / layout.CONFIG_NOTE).unlink()
            notes.append(
                f"{Path(folder.path) / layout.CONFIG_NOTE} of the backup, which notes the configuration, cannot be "
                "read and was not put back: start with the configuration that the server had: --config FILE"
            )
    manifest.sync_tree(stage)
    return tuple(notes)


def _renew(path: Path, now_ms: int) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = readable
        connection.execute("PRAGMA journal_mode = delete")  # one file, so that it can be moved in one step
        connection.execute("PRAGMA synchronous = full")
        migrations.migrate(connection, path)
        restored.begin_anew(connection, now_ms)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _configure(stage: Path, data: Path, folder: Folder) -> None:
    """Have commands find the configuration: where it was, if it is still there as it was, else that of the backup."""
    note = stage / layout.CONFIG_NOTE
    if not folder.configured:
        return
    note.unlink(missing_ok=True)
    if folder.configuration:
        copied = stage / folder.configuration
        former = Path(folder.configured)
        with contextlib.suppress(OSError):
            with open_regular(copied) as ours, open_regular(former, follow=True) as theirs:
                is_same = ours.read() == theirs.read(manifest.BESIDE_MAX + 1)
            if is_same:
                shutil.rmtree(stage / CONFIGURATION)
                _write_note(note, former)
                return
        _write_note(note, data.absolute() / folder.configuration)


def _write_note(note: Path, configuration: Path) -> None:
    manifest.write_file(note, json.dumps({"config": str(configuration)}).encode() + b"\n")


def _reveal(stage: Path, data: Path) -> None:
    """Move everything to its place. Until the last step, which moves the database, there is no data."""
    _give_to_owner(stage, data)
    for each in sorted(stage.iterdir()):
        if each.name != FILE_NAME:
            if each.is_dir():  # an interrupted restore has moved it already
                shutil.rmtree(data / each.name, ignore_errors=True)
            each.rename(data / each.name)
    manifest.sync_folder(data)
    (stage / FILE_NAME).rename(data / FILE_NAME)
    stage.rmdir()
    manifest.sync_folder(data)


def _give_to_owner(stage: Path, data: Path) -> None:
    """Give everything to whom the folder belongs, if root restores for a server that is another user."""
    owner = data.stat()
    with contextlib.suppress(OSError):
        data.chmod(0o700)
    if os.geteuid() == 0 and owner.st_uid != 0:
        for each in (stage, *stage.rglob("*"), data / layout.LOCK_NAME):
            os.chown(each, owner.st_uid, owner.st_gid)


# ---- what stands in the way ------------------------------------------------------------------------------------------


def _check_empty(data: Path) -> None:
    """Raise BackupError unless a folder is empty, not there, or holds what an interrupted restore left."""
    try:
        names = {each.name for each in data.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise BackupError(f"cannot look into {data}: {error.strerror}; choose another --data") from None
    if names - (_LEFT | _MOVED if layout.RESTORING_NAME in names else _LEFT):
        aside = f"mv {data} {data}.old"
        raise BackupError(
            f"{data} is not empty, and a restore never writes over anything: choose another folder (--data DIR), "
            f"or stop its server and put it aside: {aside}"
        )


def _check_time(found: Manifest, now_ms: int) -> None:
    if now_ms < found.time_ms:
        behind = (found.time_ms - now_ms) // 1000
        raise BackupError(
            f"the clock stands {behind} s before the backup was made, so ids of messages would be given twice; "
            "set it first: timedatectl set-ntp true"
        )


def _check_schema(found: Manifest) -> None:
    if found.schema > migrations.VERSION:
        raise BackupError(
            f"the backup has data of version {found.schema} (mesimqtt {found.mesimqtt}), this program knows "
            f"{migrations.VERSION}; install that version or a newer one"
        )


def _check_room(found: Manifest, data: Path) -> None:
    needed = sum(each.bytes for each in found.files) * 21 // 20
    free = manifest.room_at(data, f"{data}")
    if free < needed:
        raise BackupError(f"no room in {data}: {free // _MIB} MiB are free, {needed // _MIB} are needed")
