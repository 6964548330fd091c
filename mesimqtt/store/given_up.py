"""Messages that a bot gave up, and why: the last of each bot. What their senders were told are statuses, as ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

INSERT = "INSERT OR REPLACE INTO given_up (user_id, device, message_id, tries, ts, error) VALUES (?,?,?,?,?,?)"
TRIM = """DELETE FROM given_up WHERE user_id = ?1 AND device = ?2 AND id <= (SELECT id FROM given_up
    WHERE user_id = ?1 AND device = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)"""


class Row(NamedTuple):
    """A message that was given up. `ts` in milliseconds."""

    id: int
    device: str
    mid: int
    tries: int
    ts: int
    error: str


def page(connection: sqlite3.Connection, user: int, after: int, limit: int) -> list[Row]:
    """Return what bots of a user gave up, oldest first."""
    rows = connection.execute(
        """SELECT id, device, message_id, tries, ts, error FROM given_up WHERE user_id = ? AND id > ?
        ORDER BY id LIMIT ?""",
        (user, after, limit),
    )
    return [Row(*row) for row in rows]


def last(connection: sqlite3.Connection, user: int, device: str, limit: int) -> list[tuple[int, str]]:
    """Return mid and error of the last that one bot gave up, oldest first."""
    rows = connection.execute(
        "SELECT message_id, error FROM given_up WHERE user_id = ? AND device = ? ORDER BY id DESC LIMIT ?",
        (user, device, limit),
    )
    return rows.fetchall()[::-1]
