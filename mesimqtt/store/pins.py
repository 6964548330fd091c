"""PINs of groups: their statements. A PIN is kept as a hash, and what it gives beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.store import seals

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = "id, role, granted, admin, uses, created_by, created_at, expires_at"
_ROW_END = 8  # how many columns a PinRow has


class PinRow(NamedTuple):
    """A PIN as it is kept, without its hash. `uses` None: any number; times in milliseconds."""

    id: int
    role: str
    granted: int
    admin: int
    uses: int | None
    created_by: int
    created_at: int
    expires_at: int | None


def add(connection: sqlite3.Connection, group: int, digest: bytes, pin: PinRow) -> int | None:
    """Keep a PIN and return its number; None if the group has the same one already."""
    cursor = connection.execute(
        """INSERT OR IGNORE INTO pin (group_id, digest, role, granted, admin, uses, created_by, created_at, expires_at)
        VALUES (?,?,?,?,?,?,?,?,?)""",
        (group, digest, *pin[1:]),
    )
    return cursor.lastrowid if cursor.rowcount == 1 else None


def find(connection: sqlite3.Connection, group: int, digest: bytes, now_ms: int) -> PinRow | None:
    """Return a PIN that can be used now; a damaged one cannot."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, {seals.columns('pin')} FROM pin WHERE group_id = ? AND digest = ?"
        " AND coalesce(uses, 1) > 0 AND coalesce(expires_at, ? + 1) > ?",
        (group, digest, now_ms, now_ms),
    ).fetchone()
    return PinRow(*row[:_ROW_END]) if row and seals.is_whole(connection, "pin", row[_ROW_END:]) else None


def use(connection: sqlite3.Connection, number: int) -> None:
    """Count one use; a PIN that is used up goes."""
    connection.execute("UPDATE pin SET uses = uses - 1 WHERE id = ? AND uses IS NOT NULL", (number,))
    connection.execute("DELETE FROM pin WHERE id = ? AND uses <= 0", (number,))


def of_group(connection: sqlite3.Connection, group: int, now_ms: int) -> list[PinRow]:
    """Return the PINs of a group that can be used, the oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM pin WHERE group_id = ? AND coalesce(expires_at, ? + 1) > ? ORDER BY id",
        (group, now_ms, now_ms),
    )
    return [PinRow(*row) for row in rows]


def remove(connection: sqlite3.Connection, group: int, number: int) -> bool:
    """Remove a PIN; False if the group has none of this number."""
    return connection.execute("DELETE FROM pin WHERE group_id = ? AND id = ?", (group, number)).rowcount == 1


def forget_expired(connection: sqlite3.Connection, group: int, now_ms: int) -> None:
    """Remove the PINs of a group whose time is over."""
    connection.execute("DELETE FROM pin WHERE group_id = ? AND expires_at <= ?", (group, now_ms))
