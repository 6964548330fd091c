"""Ties from a user to an address: contacts, pairs, blocks and whose presence he follows."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.policies import Block
from mesimqtt.store import seals

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


_WHOLE = f"SELECT {seals.columns('tie')} FROM tie"
_ALL = str(int(Block.ALL))  # what a block is of that keeps off everything
_ONE = f"{_WHOLE} WHERE user_id = ? AND kind = ? AND peer = ?"


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
    """Make ties or change their values; one that was there, and is whole, keeps its beginning."""
    for peer in peers:
        if _is_damaged(connection, user, kind, peer):
            cut(connection, user, kind, [peer])
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
    """Tell whether there is a tie; a damaged one is none."""
    row = connection.execute(_ONE, (user, kind, peer)).fetchone()
    return row is not None and seals.is_whole(connection, "tie", row)


def _is_damaged(connection: sqlite3.Connection, user: int, kind: Tie, peer: str) -> bool:
    row = connection.execute(_ONE, (user, kind, peer)).fetchone()
    return row is not None and not seals.is_whole(connection, "tie", row)


def page(connection: sqlite3.Connection, user: int, kind: Tie, after: str, limit: int) -> list[TieRow]:
    """Return up to `limit` ties in the order of their addresses, beginning after `after`.

    Of damaged ones blocks alone, which then are of everything: what protects somebody is not lost by that.
    """
    rows = connection.execute(
        f"{_WHOLE} WHERE user_id = ? AND kind = ? AND peer > ? ORDER BY peer LIMIT ?", (user, kind, after, limit)
    )
    found = [(TieRow(*row[3:]), seals.is_whole(connection, "tie", row)) for row in rows.fetchall()]
    if kind == Tie.BLOCK:
        return [row if is_whole else _in_full(row) for row, is_whole in found]
    return [row for row, is_whole in found if is_whole]


def _in_full(row: TieRow) -> TieRow:
    return TieRow(row.peer, _ALL, row.since if type(row.since) is int else 0)


def towards(connection: sqlite3.Connection, kind: Tie, peer: str, group: int) -> list[tuple[int, str]]:
    """Return (user, value) of the members of a group who have a tie to somebody; of damaged ones as `page` does."""
    rows = connection.execute(
        f"""SELECT {seals.columns("tie", "t")} FROM tie t JOIN member m ON m.user_id = t.user_id AND m.group_id = ?
        WHERE t.peer = ? AND t.kind = ?""",
        (group, peer, kind),
    )
    found = [(row[1], row[4], seals.is_whole(connection, "tie", row)) for row in rows.fetchall()]
    return [(user, value if is_whole else _ALL) for user, value, is_whole in found if is_whole or kind == Tie.BLOCK]


def forget(connection: sqlite3.Connection, user: int, address: str) -> None:
    """Remove all ties of a user who is deleted, and all to him: the next one of that address is somebody else."""
    connection.execute("DELETE FROM tie WHERE user_id = ?", (user,))
    connection.execute("DELETE FROM tie WHERE peer = ?", (address,))
