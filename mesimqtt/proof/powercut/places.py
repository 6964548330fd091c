"""Who takes part in a conversation is altered in a store, and in all its indexes, so that no structure tells of it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING

from mesimqtt.store.database import FILE_NAME

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Place = tuple[str, str, str, tuple[int, ...]]

KIND = "party"
_BITS = 5  # the lowest bits, which lead from one user, group or seq to another one there is
_TRIES = 50
_CONVERSATION, _LANE = "id = ?", "conversation_id = ? AND user_id = ?"
_TO_ALL, _OF = "g/team", "|"


def alter(files: dict[str, bytes], chance: random.Random, folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return in words what is altered, and the files after it: a bit of one number, in a row that is still unique."""
    return within(files, folder, lambda: _alter(folder, chance))


def within(files: dict[str, bytes], folder: Path, alter_it: Callable[[], str]) -> tuple[str, dict[str, bytes]]:
    """Put files into a folder, let them be altered there, and return what was altered, and the files after it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    what = alter_it()
    altered = {name: (folder / name).read_bytes() for name in files if (folder / name).exists()}
    altered.pop(f"{FILE_NAME}-sum", None)  # or the start would know it by that
    return what, altered


def _alter(folder: Path, chance: random.Random) -> str:
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        places = _places(connection)
        for _ in range(_TRIES):
            table, column, where, key = chance.choice(places)
            bit = 1 << chance.randrange(_BITS)
            changed = f"{column} = ({column} | ?) - ({column} & ?)"  # SQLite has no exclusive or
            with contextlib.suppress(sqlite3.IntegrityError):  # there is such a one already
                statement = f"UPDATE {table} SET {changed} WHERE {where}"  # noqa: S608 - names of ours
                connection.execute(statement, (bit, bit, *key))
                break
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return f"{KIND} {column} of {table} {key}, bit {bit.bit_length() - 1}"


def _places(connection: sqlite3.Connection) -> list[Place]:
    """Return table, column and row of every number that says who takes part in what, and since when."""
    found: list[Place] = []
    for (number,) in connection.execute("SELECT id FROM conversation"):
        found += [("conversation", column, _CONVERSATION, (number,)) for column in ("kind", "a", "b")]
    lanes = "SELECT l.conversation_id, l.user_id, c.kind FROM lane l JOIN conversation c ON c.id = l.conversation_id"
    for number, user, kind in connection.execute(lanes):
        columns = ("user_id", "floor") if kind else ("user_id",)
        found += [("lane", column, _LANE, (number, user)) for column in columns]
    return found


def strangers(seen: Iterable[tuple[str, str]], members: Iterable[str]) -> list[tuple[str, str]]:
    """Return who got, or was shown, a message that says itself that it is for others: `says|N|…|sender|place`."""
    found = []
    for user, text in seen:
        *_, sender, place = text.rsplit(_OF, 2)
        if text.startswith("says|") and user not in (members if place == _TO_ALL else (sender, place[2:])):
            found.append((user, text))
    return found
