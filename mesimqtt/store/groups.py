"""Groups: reading, listing, their profile and flags; who belongs to them is in members.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.strict_json import read_kept
from mesimqtt.store import seals
from mesimqtt.store.users import DELETED, FORMER, pack

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = f"{seals.columns('group')}, profile"
_SEAL_END = 1 + len(seals.SEALED["group"])


class GroupRow(NamedTuple):
    """A group as it is kept. `active` 0: paused; `created_at` and `expires_at` (None: never) in milliseconds."""

    id: int
    address: str
    active: int
    created_at: int
    profile: dict[str, str]
    flags: int
    expires_at: int | None


def find(connection: sqlite3.Connection, address: str) -> GroupRow | None:
    """Return the group with this address; a damaged one is none."""
    row = connection.execute(
        f'SELECT {_COLUMNS} FROM "group" WHERE address = ? AND active >= 0',
        (address,),
    ).fetchone()
    return _whole(connection, row) if row else None


def by_id(connection: sqlite3.Connection, number: int) -> GroupRow | None:
    """Return the group with this number; None once deleted, or damaged."""
    row = connection.execute(
        f'SELECT {_COLUMNS} FROM "group" WHERE id = ? AND active >= 0',
        (number,),
    ).fetchone()
    return _whole(connection, row) if row else None


def former(connection: sqlite3.Connection, number: int) -> GroupRow | None:
    """Return a deleted group under the address that it had: statuses go on naming it."""
    row = connection.execute(
        f'SELECT {_COLUMNS} FROM "group" WHERE id = ? AND active = ?',
        (number, DELETED),
    ).fetchone()
    found = _whole(connection, row) if row else None
    return found and found._replace(address=found.address.removeprefix(FORMER).partition(":")[2], active=0)


def page(connection: sqlite3.Connection, after: str, limit: int) -> list[tuple[GroupRow, int]]:
    """Return up to `limit` groups with their number of members, in the order of their addresses, after `after`."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS}, (SELECT count(*) FROM member m WHERE m.group_id = "group".id) FROM "group"
        WHERE address > ? AND active >= 0 ORDER BY address LIMIT ?""",
        (after, limit),
    )
    return [(_group(row), row[-1]) for row in rows]  # also what is damaged: an operator sees that there is something


def page_of(connection: sqlite3.Connection, user: int, after: str, limit: int) -> list[tuple[GroupRow, int]]:
    """Return up to `limit` groups that a user is in, with their number of members, as `page` does."""
    rows = connection.execute(
        f"""SELECT {seals.columns("member", "m")}, {_COLUMNS}, (SELECT count(*) FROM member o
        WHERE o.group_id = "group".id) FROM "group" JOIN member m ON m.group_id = "group".id AND m.user_id = ?
        WHERE address > ? AND active >= 0 ORDER BY address LIMIT ?""",
        (user, after, limit),
    )
    end = 1 + len(seals.SEALED["member"])
    his = [row[end:] for row in rows.fetchall() if seals.is_whole(connection, "member", row[:end])]
    return [(group, row[-1]) for row in his if (group := _whole(connection, row[:-1])) is not None]


def public_page(connection: sqlite3.Connection, flag: int, after: str, limit: int) -> list[GroupRow]:
    """Return up to `limit` groups that have a flag, in the order of their addresses, after `after`."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM "group" WHERE address > ? AND active >= 0 AND flags & ? ORDER BY address LIMIT ?""",
        (after, flag, limit),
    )
    return [group for row in rows.fetchall() if (group := _whole(connection, row)) is not None]


def due(connection: sqlite3.Connection, now_ms: int, limit: int) -> list[str]:
    """Return groups whose time is over."""
    rows = connection.execute(
        'SELECT address FROM "group" WHERE expires_at IS NOT NULL AND expires_at <= ? AND active >= 0 LIMIT ?',
        (now_ms, limit),
    )
    return [row[0] for row in rows]


def set_profile(connection: sqlite3.Connection, number: int, profile: dict[str, str]) -> None:
    """Replace a group's profile."""
    connection.execute('UPDATE "group" SET profile = ? WHERE id = ?', (pack(profile), number))


def set_active(connection: sqlite3.Connection, number: int, *, active: bool) -> None:
    """Pause a group or let it go on."""
    connection.execute('UPDATE "group" SET active = ? WHERE id = ?', (int(active), number))


def set_flags(connection: sqlite3.Connection, number: int, flags: int) -> None:
    """Make a group another kind."""
    connection.execute('UPDATE "group" SET flags = ? WHERE id = ?', (flags, number))


def set_expiry(connection: sqlite3.Connection, number: int, expires_at: int | None) -> None:
    """Let a group end at a time (milliseconds), or never."""
    connection.execute('UPDATE "group" SET expires_at = ? WHERE id = ?', (expires_at, number))


def _whole(connection: sqlite3.Connection, row: tuple[Any, ...]) -> GroupRow | None:
    return _group(row) if seals.is_whole(connection, "group", row[:_SEAL_END]) else None


def _group(row: tuple[Any, ...]) -> GroupRow:
    _, number, address, active, created_at, flags, expires_at, profile, *_ = row
    return GroupRow(number, address, active, created_at, read_kept(profile), flags, expires_at)
