"""Ties from a user to an address: contacts, pairs, blocks and whose presence he follows."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


class Tie(IntEnum):
    """What ties a user to somebody. By address, so that it says nothing of whether there is such a user."""

    CONTACT = 1
    PAIR = 2
    BLOCK = 3
    FOLLOW = 4


class TieRow(NamedTuple):
    """One tie. `value`: a contact's name, the kinds of a block; `since` in milliseconds."""

    peer: str
    value: str
    since: int


def put(connection: sqlite3.Connection, user: int, kind: Tie, peers: dict[str, str], now_ms: int) -> None:
    """Make ties or change their values; one that was there keeps its beginning."""
    connection.executemany(
        """INSERT INTO tie (user_id, kind, peer, value, since) VALUES (?,?,?,?,?)
        ON CONFLICT DO UPDATE SET value = excluded.value""",
        [(user, kind, peer, value, now_ms) for peer, value in peers.items()],
    )


def cut(connection: sqlite3.Connection, user: int, kind: Tie, peers: Iterable[str]) -> list[str]:
    """Remove ties; return whose there were."""
    statement = "DELETE FROM tie WHERE user_id = ? AND kind = ? AND peer = ?"
    return [peer for peer in peers if connection.execute(statement, (user, kind, peer)).rowcount]


def count(connection: sqlite3.Connection, user: int, kind: Tie) -> int:
    """Return how many ties of a kind a user has."""
    row = connection.execute("SELECT count(*) FROM tie WHERE user_id = ? AND kind = ?", (user, kind)).fetchone()
    return int(row[0])


def has(connection: sqlite3.Connection, user: int, kind: Tie, peer: str) -> bool:
    """Tell whether there is a tie."""
    row = connection.execute("SELECT 1 FROM tie WHERE user_id = ? AND kind = ? AND peer = ?", (user, kind, peer))
    return row.fetchone() is not None


def page(connection: sqlite3.Connection, user: int, kind: Tie, after: str, limit: int) -> list[TieRow]:
    """Return up to `limit` ties in the order of their addresses, beginning after `after`."""
    rows = connection.execute(
        """SELECT peer, value, since FROM tie WHERE user_id = ? AND kind = ? AND peer > ?
        ORDER BY peer LIMIT ?""",
        (user, kind, after, limit),
    )
    return [TieRow(*row) for row in rows]


def towards(connection: sqlite3.Connection, kind: Tie, peer: str, group: int) -> list[tuple[int, str]]:
    """Return (user, value) of the members of a group who have a tie to somebody."""
    return connection.execute(
        """SELECT t.user_id, t.value FROM tie t JOIN member m ON m.user_id = t.user_id AND m.group_id = ?
        WHERE t.peer = ? AND t.kind = ?""",
        (group, peer, kind),
    ).fetchall()


def forget(connection: sqlite3.Connection, user: int, address: str) -> None:
    """Remove all ties of a user who is deleted, and all to him: the next one of that address is somebody else."""
    connection.execute("DELETE FROM tie WHERE user_id = ?", (user,))
    connection.execute("DELETE FROM tie WHERE peer = ?", (address,))
