"""What a backup is: a folder whose manifest names each of its files with size and hash. It is written last."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.store.snapshot import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_MAX = 16 * 1024 * 1024
_CHUNK = 1024 * 1024


class BackupError(MesimqttError):
    """There is no backup, or it cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a backup; `path` is relative to it, with slashes."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A data folder in a backup: '' is the server's own, `apps/NAME` that of a further application.

    `configuration` is its configuration file within the backup, '' if it had none; `configured` is where that stood.
    """

    path: str
    facts: Facts
    configuration: str = ""
    configured: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `time_ms`: everything accepted before it is in it, in milliseconds since 1970.

    `installation` is the same for all backups of one token secret, and says nothing of it.
    """

    mesimqtt: str
    time: str
    time_ms: int
    installation: str
    folders: tuple[Folder, ...]
    files: tuple[File, ...]
    format: int = FORMAT

    @property
    def schema(self) -> int:
        """Return the highest version of the data in it."""
        return max(folder.facts.schema for folder in self.folders)


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a backup: whole and on disk, or not at all. Raises OSError."""
    body = asdict(manifest)
    body["folders"] = [{**asdict(each), "facts": each.facts._asdict()} for each in manifest.folders]
    body["sha256"] = _digest(body)
    write_file(folder / MANIFEST_NAME, json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n")


def read(folder: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        BackupError: it cannot be read, was altered, or is of a newer format.

    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MANIFEST_MAX:
            raise BackupError(f"{path} is no manifest of ours: it is too large")
        body = json.loads(path.read_bytes())
    except OSError as error:
        raise BackupError(f"{folder} is no backup: {path}: {error.strerror}") from None
    except ValueError:
        raise BackupError(f"{path} is damaged: it is no JSON; use another backup") from None
    found = body.get("format") if isinstance(body, dict) else None
    if type(found) is not int:
        raise BackupError(f"{path} is no manifest of ours")
    if found > FORMAT:
        made = str(body.get("mesimqtt"))[:40]
        raise BackupError(f"{folder} was made by a newer mesimqtt ({made}, format {found}); install that one")
    digest = body.pop("sha256", None)
    if digest != _digest(body):
        raise BackupError(f"{path} is damaged: it is not what was written; use another backup")
    try:
        return _manifest(body)
    except (KeyError, TypeError, ValueError):
        raise BackupError(f"{path} is no manifest of ours") from None


def _manifest(body: dict[str, Any]) -> Manifest:
    folders = tuple(Folder(**{**each, "facts": Facts(**each["facts"])}) for each in body["folders"])
    files = tuple(File(**each) for each in body["files"])
    for name in (*(each.path for each in files), *(each.path for each in folders if each.path)):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(name)
    return Manifest(**{**body, "folders": folders, "files": files})


def _digest(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# ---- files ---------------------------------------------------------------------------------------------------------


def describe(root: Path, path: Path) -> File:
    """Return a file as a manifest names it. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return File(path.relative_to(root).as_posix(), file.tell(), digest)


def copy(source: Path, target: Path) -> File:
    """Copy a file, private and on disk when this returns; return what was copied, as `target`. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file, _new(target) as copied:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copied.write(chunk)
            size += len(chunk)
        copied.flush()
        os.fsync(copied.fileno())
    return File(target.name, size, digest.hexdigest())


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, private and on disk when this returns. Raises OSError."""
    with _new(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _new(path: Path) -> Any:  # noqa: ANN401 - a binary file
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def make_folders(root: Path, below: Path) -> None:
    """Make a folder below `root`, and those between, all of them private. Raises OSError."""
    for each in (*reversed(below.relative_to(root).parents), below.relative_to(root)):
        (root / each).mkdir(mode=0o700, exist_ok=True)


def sync_tree(folder: Path) -> None:
    """Have the names of all files below a folder on disk. Raises OSError."""
    for each in [*_folders(folder), folder]:
        sync_folder(each)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            yield from _folders(each)
            yield each
