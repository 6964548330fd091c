"""What lies in a data folder, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.files import kind_of

if TYPE_CHECKING:
    from pathlib import Path

DATABASE_NAME = "mesimqtt.db"
SUM_SUFFIX = "-sum"  # behind the database's name: what the last stop left, as a checksum (damage.py)
INDEX_NAME = "search.db"
LOCK_NAME = "lock"
BALLAST_NAME = "ballast"
SECRET_NAME = "token.secret"  # noqa: S105 - a file name
KEYS_NAME = "jwks.cache"  # keys of others, as their address gave them last
KEYS_NEW_NAME = "jwks.new"  # … while they are being written
CONFIG_NOTE = "serve.json"  # which configuration the last server of this folder had
UP_NOTE = "up.json"  # the ids, not the texts, of the tokens that the last `up` issued
RESTORING_NAME = ".restoring"  # what a restore has not finished; there is no data while it holds anything
APPS_NAME = "apps"  # the data folders of further applications (docs/apps.md)

DATABASE_FILES = (DATABASE_NAME, *(f"{DATABASE_NAME}{suffix}" for suffix in ("-wal", "-shm", "-journal")))
_FILES = (
    *DATABASE_FILES,
    DATABASE_NAME + SUM_SUFFIX,
    *(INDEX_NAME + suffix for suffix in ("", "-wal", "-shm", "-journal")),
    *(LOCK_NAME, BALLAST_NAME, SECRET_NAME, KEYS_NAME, KEYS_NEW_NAME, CONFIG_NOTE, UP_NOTE),
)


MOVE_AWAY = "look who made it, and move it away"  # what is to be done about each of these


def irregular_files(folder: Path) -> list[tuple[Path, str]]:
    """Return what stands where a server has a file and is none, with what it is: 'a pipe', 'a device', 'a folder'.

    A server would wait for ever for such a one, or read it without end.
    """
    found = ((folder / name, kind_of(folder / name)) for name in _FILES)
    return [(path, kind) for path, kind in found if kind]
