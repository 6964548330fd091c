"""Policies that operations have made, and counters that must not go back over a restart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesimqtt.domain.strict_json import read_kept
from mesimqtt.store import seals

if TYPE_CHECKING:
    import sqlite3

RAISE_COUNTER = """INSERT INTO counter (name, value) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"""


def load(connection: sqlite3.Connection) -> dict[str, dict[str, str] | None]:
    """Return the rules of every policy by its name; None of a damaged one."""
    rows = connection.execute(f"SELECT {seals.columns('policy')} FROM policy ORDER BY name").fetchall()
    return {str(row[1]): read_kept(row[2]) if seals.is_whole(connection, "policy", row) else None for row in rows}


def save(connection: sqlite3.Connection, name: str, rules: dict[str, str]) -> None:
    """Keep a policy."""
    connection.execute("INSERT OR REPLACE INTO policy (name, rules) VALUES (?, ?)", (name, json.dumps(rules)))


def delete(connection: sqlite3.Connection, name: str) -> bool:
    """Remove a policy; False if there was none."""
    return connection.execute("DELETE FROM policy WHERE name = ?", (name,)).rowcount == 1


def users_of(connection: sqlite3.Connection, name: str) -> int:
    """Count the users who name a policy."""
    row = connection.execute("SELECT count(*) FROM user WHERE policy = ? AND active >= 0", (name,)).fetchone()
    return int(row[0])


def counter(connection: sqlite3.Connection, name: str) -> int:
    """Return a counter's value, 0 if it never was raised."""
    row = connection.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0
