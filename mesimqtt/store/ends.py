"""Numbers that only grow, brought to their end by damage: the next one would not fit, and whatever needs it would fail.

No server comes to 2^62 in any of them. The two highest bits are taken away again, which is what the number was if one
of them was flipped; where another row has that number it stays, and is passed over by who looks for the highest.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)
END = 1 << 62
COUNTED = (
    ("message", "id"), ("scheduled", "id"), ("conversation", "last_seq"), ("step", "change"), ("lane", "read_change"),
    ("lane", "acked"), ("lane", "delivered"), ("lane", "read"), ("cursor", "acked"), ("cursor", "device_id"),
    ("device", "id"), ("device", "ceiling"), ("device", "status_change"), ("device", "read_change"), ("session", "id"),
    ("session", "next_n"), ("will", "id"), ("outbox", "id"), ("dead_letter", "id"), ("webhook", "batch_last"),
    ("counter", "value"),
)  # fmt: skip


def survey(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return table and column of each number that has come to its end. Raises sqlite3.Error."""
    return [place for place in COUNTED if _count(connection, *place)]


def put_right(connection: sqlite3.Connection, found: list[tuple[str, str]]) -> None:
    """Take the highest bits away again. To be called in a transaction. Raises sqlite3.Error."""
    for table, column in found:
        before = _count(connection, table, column)
        if not before:  # a checksum told what it was (mending.py)
            continue
        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {column} & {END - 1} WHERE {_is_over(column)}")
        left = _count(connection, table, column)
        log.error(
            "store: %d of column %s of %s had come to their end by damage, and are what they were but for the highest "
            "bits%s; look at the disk (mesimqtt check)", before - left, column, table,
            f"; {left} stay, for others have their numbers" if left else "",
        )  # fmt: skip


def _count(connection: sqlite3.Connection, table: str, column: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {table} WHERE {_is_over(column)}").fetchone()
    return int(count)


def _is_over(column: str) -> str:
    return f"({column} >= {END} OR {column} < 0)"
