"""What a recording begins with: the data as it was, the files that settings name, and what cannot be recorded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.files import open_regular
from mesimqtt.store.database import FILE_NAME, check_files, lock
from mesimqtt.store.layout import INDEX_NAME, KEYS_NAME, SECRET_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from mesimqtt.settings import Settings

SUFFIX = ".start"  # of the folder beside a recording that holds the data as it was
# Of a data folder: what a server reads. Locks, sockets and SQLite's shared memory are of the process.
KEPT = (FILE_NAME, f"{FILE_NAME}-wal", INDEX_NAME, f"{INDEX_NAME}-wal", SECRET_NAME, KEYS_NAME)
# Settings that name a file whose content the server reads at its start.
_NAMES_A_FILE = frozenset({"public_keys", "jwks_file", "secret_file", "rules_file", "cafile"})
_OURS = "mesimqtt_plugins."


def check_recordable(settings: Settings) -> None:
    """Raise MesimqttError where something in the settings would ask the world in a way that nobody writes down."""
    if what := unrecordable(settings):
        raise MesimqttError(f"--record: {what} cannot be recorded; docs/replay.md says what can")


def unrecordable(settings: Settings) -> str:
    """Return what in the settings would ask the world in a way that nobody writes down, '' for nothing."""
    found = [
        (sys.platform != "linux", "a recording needs Linux"),
        (bool(settings.apps), "several applications (apps)"),
        (bool(settings.modules.load), "modules of your own (modules.load)"),
        (bool(settings.tokens.jwks_url), "keys from an address (tokens.jwks_url)"),
        *(
            (not name.startswith(_OURS) or bool(isinstance(options, dict) and options.get("isolate")), f"plugin {name}")
            for name, options in _plugins(settings)
        ),
    ]
    return next((what for is_so, what in found if is_so), "")


def _plugins(settings: Settings) -> list[tuple[str, object]]:
    """Return the configured plugins with their options; amqtt takes a list of names, too."""
    found = settings.broker.get("plugins") or {}
    pairs = found.items() if isinstance(found, dict) else [(each, {}) for each in found]
    return [(str(name), options) for name, options in pairs]


def copy_data(data: Path, target: Path) -> dict[str, str]:
    """Copy a data folder that nobody uses; return the SHA-256 of each file, nothing where there is no data yet.

    Raises:
        StoreError: a server or a command has the folder, nothing can be written there, or it holds what is no file.
        MesimqttError: it cannot be copied.

    """
    found = [name for name in KEPT if (data / name).exists()]
    if not found:
        return {}
    hashes = {}
    try:
        held = lock(data)
        try:
            check_files(data)
            target.mkdir(mode=0o700)
            try:
                for name in found:
                    copy = target / name
                    copy.touch(mode=0o600)
                    shutil.copyfile(data / name, copy)
                    hashes[name] = hash_of(copy)
            except OSError:
                shutil.rmtree(target, ignore_errors=True)
                raise
        finally:
            os.close(held)
    except FileExistsError:
        raise MesimqttError(f"{target} exists; it belongs to another recording: choose another --record") from None
    except OSError as error:
        raise MesimqttError(f"cannot copy {data} to {target}: {error.strerror}; choose another --record") from None
    return hashes


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with open_regular(path, follow=True) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(values: object, read: dict[str, bytes], key: str = "") -> dict[str, bytes]:
    """Return path and content of every file that settings (as JSON) name."""
    if isinstance(values, dict):
        for name, value in values.items():
            files_of(value, read, str(name))
    elif isinstance(values, (list, tuple)):
        for value in values:
            files_of(value, read, key)
    elif key in _NAMES_A_FILE and isinstance(values, str) and values:
        with contextlib.suppress(OSError), open(values, "rb") as file:  # noqa: PTH123 - a path as it is written
            read[values] = file.read()
    return read


def with_files(values: Any, places: dict[str, str], nowhere: str, key: str = "") -> Any:  # noqa: ANN401 - JSON
    """Return settings that name other places for the same files, and `nowhere` for one that could not be read."""
    if isinstance(values, dict):
        return {name: with_files(value, places, nowhere, name) for name, value in values.items()}
    if isinstance(values, list):
        return [with_files(value, places, nowhere, key) for value in values]
    if key in _NAMES_A_FILE and isinstance(values, str) and values:
        return places.get(values, nowhere)
    return values
