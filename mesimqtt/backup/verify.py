"""Whether a backup is whole: every file is what was written, and every database as `mesimqtt check` wants it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import BackupError
from mesimqtt.configuration import load_settings
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.findings import Finding, Findings, Level
from mesimqtt.files import open_regular
from mesimqtt.settings import Settings
from mesimqtt.store import inspection, snapshot
from mesimqtt.store.database import FILE_NAME
from mesimqtt.store.inspection_base import View
from mesimqtt.store.layout import SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mesimqtt.backup.manifest import Folder, Manifest

_ANOTHER = "use another backup"
_RENEW = "restore it, which brings the data up to date, and then run: mesimqtt check"
_LOST = "what it holds cannot be trusted"


class Looked(NamedTuple):
    """What was found in a backup. `unlike`: it is not what was written. `content`: what it holds was so already."""

    unlike: list[Finding]
    content: list[Finding]

    @property
    def is_whole(self) -> bool:
        """Whether nothing that matters was found."""
        return all(each.level is not Level.FAILURE for each in (*self.unlike, *self.content))

    def check_written(self, sentence: str) -> None:
        """Raise BackupError with `sentence` unless the backup is what was written."""
        if wrong := [each for each in self.unlike if each.level is Level.FAILURE]:
            raise BackupError(f"{sentence}: {'; '.join(f'{each.check}: {each.what}' for each in wrong[:3])}")

    @property
    def already(self) -> tuple[Finding, ...]:
        """What the content was like when it was backed up, as far as it is not as it should be."""
        return tuple(each for each in self.content if each.level is not Level.OK)


def verify(backup: Path) -> Looked:
    """Look at every byte of a backup, and change nothing.

    Raises:
        BackupError: it is none, or of a newer format.

    """
    found = manifest.read(backup)
    unlike = [Finding("manifest", Level.OK, f"of {found.time}, by mesimqtt {found.mesimqtt}, format {found.format}")]
    unlike += list(_files(backup, found)) or [
        Finding("files", Level.OK, f"{len(found.files)} files are what was written")
    ]
    content: list[Finding] = []
    for folder in found.folders:
        form = list(_form(backup / folder.path, folder))
        unlike += _named(folder, form)
        if inspection.is_ours(form):
            content += _named(folder, _content(backup, folder, found.time_ms))
    return Looked(unlike, content)


def glance(backup: Path, found: Manifest) -> tuple[Finding, ...]:
    """Look at what costs little in the content of a backup that was just written; return what is not as it should."""
    return Looked(
        [],
        [
            each
            for folder in found.folders
            for each in _named(folder, _content(backup, folder, found.time_ms, quick=True))
        ],
    ).already


def _named(folder: Folder, findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with their application; the commands that mend a server mend no backup."""
    named = f"{folder.path}: " if folder.path else ""
    return [Finding(f"{named}{each.check}", each.level, each.what, _mend(each), each.means) for each in findings]


def _mend(found: Finding) -> str:
    if found.level is Level.OK:
        return ""
    is_older = found.check == "schema" and found.level is Level.WARNING
    return _RENEW if is_older else _ANOTHER


def _files(backup: Path, found: Manifest) -> Findings:
    for each in found.files:
        try:
            there = manifest.describe(backup, backup / each.path, wanted=each.bytes)
        except OSError as error:
            yield Finding("files", Level.FAILURE, f"{each.path}: {error.strerror}", _ANOTHER, "it is not complete")
            continue
        if there != each:
            what = f"{each.path} is not what was written: {there.bytes} bytes of {each.bytes}"
            if there.bytes == each.bytes:
                what = f"{each.path} is not what was written: its hash is another"
            yield Finding("files", Level.FAILURE, what, _ANOTHER, _LOST)
    named = {each.path for each in found.files}
    for folder in found.folders:
        prefix = f"{folder.path}/" if folder.path else ""
        for name, means in (
            (FILE_NAME, "nothing can be restored"),
            (SECRET_NAME, "no token of before lets anybody in"),
        ):
            if prefix + name not in named:
                yield Finding("files", Level.FAILURE, f"{prefix}{name} is not in it", _ANOTHER, means)


def _form(place: Path, folder: Folder) -> Findings:
    """Look at one database: its pages, its schema, and whether it is the one that the manifest says."""
    try:
        open_regular(place / FILE_NAME).close()  # SQLite would wait for what is none
        with contextlib.closing(snapshot.open_copy(place / FILE_NAME)) as connection:
            yield from inspection.form(connection)
            there = snapshot.facts(connection)
    except (sqlite3.Error, OSError) as error:
        why = getattr(error, "strerror", None) or error
        yield Finding("contents", Level.FAILURE, f"cannot read the database: {why}", _ANOTHER, _LOST)
        return
    if there != folder.facts:
        odd = [f"{name} {now} instead of {then}" for name, now, then in _pairs(there, folder.facts) if now != then]
        yield Finding("contents", Level.FAILURE, f"not what the manifest says: {', '.join(odd)}", _ANOTHER, _LOST)
        return
    what = (
        f"{there.users} users, {there.groups} groups, {there.messages} messages in {there.conversations} conversations"
    )
    yield Finding("contents", Level.OK, what)


def _content(backup: Path, folder: Folder, time_ms: int, *, quick: bool = False) -> Findings:
    """Look at what one database holds, which is as it was when it was backed up."""
    place = backup / folder.path
    settings = Settings()
    if folder.configuration:
        # Whether it can be loaded here, where its files may not be, says nothing of the backup.
        with contextlib.suppress(MesimqttError, OSError):
            open_regular(place / folder.configuration).close()
            settings = load_settings(place / folder.configuration, is_app=bool(folder.path))
    view = View(now_ms=time_ms, expiry_default_s=settings.messaging.expiry_default_s)
    with contextlib.suppress(sqlite3.Error), contextlib.closing(snapshot.open_copy(place / FILE_NAME)) as connection:
        yield from inspection.consistency(connection, view, quick=quick)


def _pairs(now: snapshot.Facts, then: snapshot.Facts) -> list[tuple[str, int | str, int | str]]:
    return [(name, getattr(now, name), getattr(then, name)) for name in now._fields]
