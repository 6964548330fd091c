"""A copy of a database at one moment, taken beside the server that writes it; and what such a copy holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from mesimqtt.domain.errors import StoreError
from mesimqtt.store.database import APPLICATION_ID, check_regular, open_reader
from mesimqtt.store.integrity import readable

if TYPE_CHECKING:
    from pathlib import Path


class Facts(NamedTuple):
    """What a database holds, in figures. `seqs` is the sum of all conversations' last seqs, `seqs_sha256` names each.

    `schema` is its version; deleted users and former groups are not counted.
    """

    schema: int
    users: int
    groups: int
    messages: int
    conversations: int
    seqs: int
    seqs_sha256: str


def take(source: Path, target: Path) -> None:
    """Write what `source` holds at this moment into a new file `target`, on disk when this returns.

    One read transaction: the server goes on committing, and nothing of it is seen half-way. Its log grows meanwhile.
    The copy is compact, and what was deleted is not in it.

    Raises:
        StoreError: it cannot be read, or not be written there.

    """
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # empty: SQLite writes into it
    try:
        with contextlib.closing(open_reader(source)) as connection:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreError(f"{source} is an SQLite file of another program; name the right folder: --data DIR")
            connection.execute("VACUUM INTO ?", (str(target),))
        os.fsync(descriptor)
    except sqlite3.Error as error:
        raise StoreError(f"cannot copy {source} to {target}: {error}") from None
    finally:
        os.close(descriptor)


def open_copy(path: Path) -> sqlite3.Connection:
    """Open a copy that nobody writes: nothing is made beside it, and it may lie on a disk that is read-only.

    Raises sqlite3.Error if it is no regular file.
    """
    check_regular(path)
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, isolation_level=None)
    connection.text_factory = readable
    return connection


def facts(connection: sqlite3.Connection) -> Facts:
    """Return what a database holds. Raises sqlite3.Error."""
    digest, conversations, seqs = hashlib.sha256(), 0, 0
    for number, last in connection.execute("SELECT id, last_seq FROM conversation ORDER BY id"):
        digest.update(f"{number}:{last}\n".encode())
        conversations, seqs = conversations + 1, seqs + last
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    users, groups, messages = connection.execute(
        """SELECT (SELECT count(*) FROM user WHERE active >= 0), (SELECT count(*) FROM "group" WHERE active >= 0),
        (SELECT count(*) FROM message)"""
    ).fetchone()
    return Facts(schema, users, groups, messages, conversations, seqs, digest.hexdigest())
