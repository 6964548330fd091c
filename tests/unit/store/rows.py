"""A database in memory with the real schema, for tests of statements."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mesimqtt.store import integrity, migrations


def memory() -> sqlite3.Connection:
    """Return a connection to an empty database of the newest version, which reads texts as the store does."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.text_factory = integrity.readable
    migrations.migrate(connection, Path("memory"))
    return connection


def unsealed(connection: sqlite3.Connection) -> None:
    """Let a connection alter rows as a failing disk does: no checksum follows."""
    connection.create_function("row_checksum", -1, lambda *_: None)


def insert(connection: sqlite3.Connection, table: str, **values: object) -> None:
    """Insert a row in which what a test is not about is 0 or empty."""
    empty = {"INTEGER": 0, "TEXT": "", "BLOB": b""}
    columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    row = {
        name: values.get(name, empty[kind] if needed and not key else None) for _, name, kind, needed, _, key in columns
    }
    row.update(values)
    if table == "message" and "checksum" not in values:
        row["checksum"] = integrity.of_message(*(row[name.strip()] for name in integrity.MESSAGE_COLUMNS.split(",")))
    names = ", ".join(f'"{name}"' for name in row)
    connection.execute(
        f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(row))})',  # noqa: S608 - names of our own schema
        tuple(row.values()),
    )
