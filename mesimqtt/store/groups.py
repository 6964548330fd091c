"""Groups: reading, listing and their profile; who joins and leaves is messaging's, which knows the lanes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.store.users import DELETED, FORMER, pack

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = "id, address, active, created_at, profile"


class GroupRow(NamedTuple):
    """A group as it is kept. `active` 0: paused; `created_at` in milliseconds."""

    id: int
    address: str
    active: int
    created_at: int
    profile: dict[str, str]


class MemberRow(NamedTuple):
    """A member of a group and his rights; `joined_at` in milliseconds."""

    address: str
    role: str
    send: int
    receive: int
    joined_at: int


def find(connection: sqlite3.Connection, address: str) -> GroupRow | None:
    """Return the group with this address."""
    row = connection.execute(
        f'SELECT {_COLUMNS} FROM "group" WHERE address = ? AND active >= 0',
        (address,),
    ).fetchone()
    return _group(row) if row else None


def by_id(connection: sqlite3.Connection, number: int) -> GroupRow | None:
    """Return the group with this number; None once deleted."""
    row = connection.execute(
        f'SELECT {_COLUMNS} FROM "group" WHERE id = ? AND active >= 0',
        (number,),
    ).fetchone()
    return _group(row) if row else None


def former(connection: sqlite3.Connection, number: int) -> GroupRow | None:
    """Return a deleted group under the address that it had: statuses go on naming it."""
    row = connection.execute(
        f'SELECT {_COLUMNS} FROM "group" WHERE id = ? AND active = ?',
        (number, DELETED),
    ).fetchone()
    return _group(row)._replace(address=row[1].removeprefix(FORMER).partition(":")[2], active=0) if row else None


def page(connection: sqlite3.Connection, after: str, limit: int) -> list[tuple[GroupRow, int]]:
    """Return up to `limit` groups with their number of members, in the order of their addresses, after `after`."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS}, (SELECT count(*) FROM member m WHERE m.group_id = "group".id) FROM "group"
        WHERE address > ? AND active >= 0 ORDER BY address LIMIT ?""",
        (after, limit),
    )
    return [(_group(row[:5]), row[5]) for row in rows]


def members(connection: sqlite3.Connection, group: int) -> list[MemberRow]:
    """Return the members of a group in the order of their addresses."""
    rows = connection.execute(
        """SELECT u.address, m.role, m.send, m.receive, m.joined_at FROM member m JOIN user u ON u.id = m.user_id
        WHERE m.group_id = ? ORDER BY u.address""",
        (group,),
    )
    return [MemberRow(*row) for row in rows]


def set_profile(connection: sqlite3.Connection, number: int, profile: dict[str, str]) -> None:
    """Replace a group's profile."""
    connection.execute('UPDATE "group" SET profile = ? WHERE id = ?', (pack(profile), number))


def set_active(connection: sqlite3.Connection, number: int, *, active: bool) -> None:
    """Pause a group or let it go on."""
    connection.execute('UPDATE "group" SET active = ? WHERE id = ?', (int(active), number))


def set_right(connection: sqlite3.Connection, number: int, address: str, right: str, *, allowed: bool) -> bool:
    """Give or take a member's right to `send` or to `receive`; False if he is no member."""
    column = {"send": "send", "receive": "receive"}[right]
    cursor = connection.execute(
        f"""UPDATE member SET {column} = ? WHERE group_id = ?
        AND user_id = (SELECT id FROM user WHERE address = ?)""",
        (int(allowed), number, address),
    )
    return cursor.rowcount == 1


def _group(row: tuple[int, str, int, int, str]) -> GroupRow:
    return GroupRow(row[0], row[1], row[2], row[3], json.loads(row[4]))
