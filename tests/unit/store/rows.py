"""A database in memory with the real schema, for tests of statements."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mesimqtt.store import migrations


def memory() -> sqlite3.Connection:
    """Return a connection to an empty database of the newest version."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection, Path("memory"))
    return connection
