"""What a backup is: a folder whose manifest names each of its files with size and hash. It is written last."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, BinaryIO

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.strict_json import read_json
from mesimqtt.files import open_regular
from mesimqtt.store import layout
from mesimqtt.store.database import FILE_NAME
from mesimqtt.store.snapshot import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORMAT = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_MAX = 4 * 1024 * 1024  # thousands of applications
CONFIGURATION = "configuration"  # the folder within a backup that holds the configuration file
# What lies beside a database in a backup; there is nothing else in one but the configuration.
BESIDE = (layout.SECRET_NAME, layout.KEYS_NAME, layout.CONFIG_NOTE, layout.UP_NOTE)
BESIDE_MAX = 64 * 1024 * 1024  # bytes of each file but the database
_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
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
    """Write the manifest of a backup: whole and on disk, or not at all.

    Raises:
        OSError: it cannot be written.
        BackupError: a file has a name with which it could not be put back.

    """
    try:
        _check_names(manifest)
    except ValueError as error:
        raise BackupError(f"{error}; give it another name") from None
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
        with open_regular(path) as file:
            text = file.read(MANIFEST_MAX + 1)
        if len(text) > MANIFEST_MAX:
            raise BackupError(f"{path} is no manifest of ours: it is too large")
        body = read_json(text)
    except OSError as error:
        raise BackupError(f"{folder} is no backup: {path}: {error.strerror}") from None
    except ValueError:
        raise BackupError(f"{path} is damaged: it is no JSON; use another backup") from None
    found = body.get("format") if isinstance(body, dict) else None
    if type(found) is not int:
        raise BackupError(f"{path} is no manifest of ours")
    if found > FORMAT:
        made = str(body.get("mesimqtt"))[:40]
        made = f"{made}, " if _is_name(made) else ""
        raise BackupError(f"{folder} was made by a newer mesimqtt ({made}format {found}); install that one")
    digest = body.pop("sha256", None)
    try:
        if digest != _digest(body):
            raise BackupError(f"{path} is damaged: it is not what was written; use another backup")
        return _manifest(body)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f": {error}" if type(error) is ValueError else ""
        raise BackupError(f"{path} is damaged, or no manifest of ours{what}; use another backup") from None


def _manifest(body: dict[str, Any]) -> Manifest:
    """Return what a manifest says, if a backup can be so. Raises ValueError, KeyError or TypeError.

    Whoever can write a backup can give it a good hash: no name in it leads out of it, or over what is the server's.
    """
    _check_types(Manifest, {**body, "folders": (), "files": ()})
    folders = tuple(_folder(each) for each in body["folders"])
    files = tuple(File(**each) for each in body["files"])
    for each in files:
        _check_types(File, asdict(each))
    found = Manifest(**{**body, "folders": folders, "files": files})
    if not _TIME.fullmatch(found.time) or not _is_name(found.mesimqtt) or not found.installation.isascii():
        raise ValueError("its time or its version is none")
    _check_names(found)
    return found


def _folder(said: dict[str, Any]) -> Folder:
    facts = Facts(**said["facts"])
    if any(type(each) is not (str if name == "seqs_sha256" else int) for name, each in facts._asdict().items()):
        raise TypeError(facts)
    _check_types(Folder, {**said, "facts": facts})
    return Folder(**{**said, "facts": facts})


def _check_types(kind: Any, said: dict[str, Any]) -> None:  # noqa: ANN401 - one of the classes above
    """Hold the plain values of a class to their types. Raises TypeError or KeyError."""
    plain = {"int": int, "str": str}
    for each in fields(kind):
        wanted = plain.get(str(each.type))
        value = said[each.name]
        if wanted is not None and (type(value) is not wanted or (type(value) is int and value < 0)):
            raise TypeError(each.name)


def _check_names(found: Manifest) -> None:
    """Hold folders and files to the names that a backup has. Raises ValueError."""
    places = [each.path for each in found.folders]
    if places.count("") != 1 or len(set(places)) != len(places):
        raise ValueError("it does not name each folder once, the server's own among them")
    allowed = set()
    for folder in found.folders:
        top, _, name = folder.path.partition("/")
        if folder.path and not (top == layout.APPS_NAME and _is_name(name)):
            raise ValueError(f"{folder.path!r} is no folder of a backup")
        prefix = f"{folder.path}/" if folder.path else ""
        allowed |= {prefix + each for each in (FILE_NAME, *BESIDE)}
        if folder.configuration:
            top, _, name = folder.configuration.partition("/")
            if top != CONFIGURATION or not _is_name(name):
                raise ValueError(f"{folder.configuration!r} is no configuration in a backup")
            allowed.add(prefix + folder.configuration)
        if folder.configured and not _is_text(folder.configured):
            raise ValueError(f"{folder.configured!r} is no path")
    names = [each.path for each in found.files]
    if len(set(names)) != len(names):
        raise ValueError("it names a file twice")
    for each in found.files:
        if each.path not in allowed:
            raise ValueError(f"{each.path!r} is no file of a backup")
        if not each.path.endswith(FILE_NAME) and each.bytes > BESIDE_MAX:
            raise ValueError(f"{each.path!r} is too large")
        if not _HASH.fullmatch(each.sha256):
            raise ValueError(f"the hash of {each.path!r} is none")
    for folder in found.folders:
        if folder.configuration and f"{folder.path}/{folder.configuration}".lstrip("/") not in names:
            raise ValueError(f"{folder.configuration!r} is not among its files")


def _is_name(name: str) -> bool:
    """Tell whether a text is the name of one file."""
    return _is_text(name) and "/" not in name and name not in {".", ".."}


def _is_text(text: str) -> bool:
    """Tell whether a text can be printed, and written down in UTF-8."""
    return bool(text) and not any(each < " " or each == "\x7f" or "\ud800" <= each <= "\udfff" for each in text)


def _digest(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# ---- files ---------------------------------------------------------------------------------------------------------


def describe(root: Path, path: Path, *, wanted: int | None = None) -> File:
    """Return a file as a manifest names it; one that has not `wanted` bytes is not read, and has no hash.

    Raises:
        OSError: it cannot be read, or is no regular file.

    """
    name = path.relative_to(root).as_posix()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if wanted is not None and size != wanted:
            return File(name, size, "")
        return File(name, *_digested(file, size, lambda _: None))


def copy(source: Path, target: Path, *, wanted: int | None = None) -> File:
    """Copy a file, private and on disk when this returns; return what was copied, as `target`.

    `wanted`: the source is of a backup, in which there are no links, and no more than so many bytes of it are copied.

    Raises:
        OSError: it cannot be read or written, or is no regular file.

    """
    with open_regular(source, follow=wanted is None) as file, _new(target) as copied:
        size = os.fstat(file.fileno()).st_size if wanted is None else wanted
        found = File(target.name, *_digested(file, size, copied.write))
        copied.flush()
        os.fsync(copied.fileno())
    return found


def _digested(file: BinaryIO, size: int, take: Callable[[bytes], object]) -> tuple[int, str]:
    """Read a file as far as it had `size` bytes, and one more if it grew; return what was read, and its hash."""
    digest, left = hashlib.sha256(), size + 1
    while left and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        take(chunk)
        left -= len(chunk)
    return size + 1 - left, digest.hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, private and on disk when this returns. Raises OSError."""
    with _new(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _new(path: Path) -> Any:  # noqa: ANN401 - a binary file
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def room_at(folder: Path, say: str) -> int:
    """Return how many bytes are free where a folder is, or would be.

    Raises:
        BackupError: no file can be there; the text begins with `say`.

    """
    here = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        space = shutil.disk_usage(here)
    except OSError as error:
        raise BackupError(f"{say} cannot be written: {error.strerror}; choose another folder") from None
    if not space.total:  # /proc and its like
        raise BackupError(f"{say} cannot be written: there is no disk below {here}; choose another folder")
    return space.free


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
