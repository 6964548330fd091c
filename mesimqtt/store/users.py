"""Users: their rows, profiles and what goes with them when they are deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.strict_json import read_kept
from mesimqtt.store import seals, ties, wills
from mesimqtt.store.ties import Tie

if TYPE_CHECKING:
    import sqlite3

DELETED = -1
FORMER = "\0deleted:"  # nobody's address; behind it stand the number and the address of before
_COLUMNS = f"""{seals.columns("user")}, profile,
    EXISTS (SELECT 1 FROM tie WHERE tie.user_id = user.id AND tie.kind = {Tie.BLOCK:d})"""
_SEAL_END = 1 + len(seals.SEALED["user"])
_AT_ONCE = 500  # numbers that one statement names
_NO_PROFILE = "{}"
SEEN = "UPDATE user SET seen_at = max(seen_at, ?) WHERE id = ?"
_SESSIONS = 'SELECT id FROM session WHERE "user" = ?'


class UserRow(NamedTuple):
    """A user as he is kept. `active` 0: disabled; times in milliseconds.

    `rules` and `privacy` are JSON, as they are kept; `is_blocking`: there is somebody whom he blocks.
    """

    id: int
    address: str
    active: int
    created_at: int
    profile: dict[str, str]
    policy: str = ""
    rules: str = "{}"
    privacy: str = "{}"
    expires_at: int | None = None
    is_blocking: int = 0


def find(connection: sqlite3.Connection, address: str) -> UserRow | None:
    """Return the user with this address; a damaged one is none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM user WHERE address = ? AND active >= 0",
        (address,),
    ).fetchone()
    return _whole(connection, row) if row else None


def by_id(connection: sqlite3.Connection, number: int) -> UserRow | None:
    """Return the user with this number; None once deleted, or damaged."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM user WHERE id = ? AND active >= 0",
        (number,),
    ).fetchone()
    return _whole(connection, row) if row else None


def former(connection: sqlite3.Connection, number: int) -> UserRow | None:
    """Return a deleted user under the address that he had: statuses and messages go on naming him."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM user WHERE id = ? AND active = ?",
        (number, DELETED),
    ).fetchone()
    found = _whole(connection, row) if row else None
    return found and found._replace(address=found.address.removeprefix(FORMER).partition(":")[2], active=0)


def had_namesake(connection: sqlite3.Connection, address: str) -> bool:
    """Tell whether a deleted user had this address. It looks through all who were deleted: not for the hot path."""
    sql = "SELECT 1 FROM user WHERE address >= ?1 AND address < ?2 AND address = ?1 || id || ':' || ?3 LIMIT 1"
    return connection.execute(sql, (FORMER, f"{FORMER}:", address)).fetchone() is not None


def addresses(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, str]:
    """Return the addresses of users by number; a deleted one keeps the name that he had."""
    found: dict[int, str] = {}
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        rows = connection.execute(f"SELECT {seals.columns('user')} FROM user WHERE id IN ({marks})", some)
        for row in [each for each in rows.fetchall() if seals.is_whole(connection, "user", each)]:
            number, address = row[1:3]
            found[number] = address.removeprefix(FORMER).partition(":")[2] if address.startswith(FORMER) else address
    return found


def page(connection: sqlite3.Connection, after: str, limit: int) -> list[UserRow]:
    """Return up to `limit` users in the order of their addresses, beginning after `after`."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM user WHERE address > ? AND active >= 0 ORDER BY address LIMIT ?",
        (after, limit),
    )
    return [_user(row) for row in rows]  # also who is damaged: an operator sees that there is somebody


def add(connection: sqlite3.Connection, address: str, now_ms: int, profile: dict[str, str] | None = None) -> bool:
    """Make a user; False if there is one with this address."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO user (address, active, created_at, profile) VALUES (?, 1, ?, ?)",
        (address, now_ms, pack(profile or {})),
    )
    return cursor.rowcount == 1


def set_active(connection: sqlite3.Connection, number: int, *, active: bool) -> bool:
    """Disable or enable a user; tell whether that changed anything."""
    cursor = connection.execute(
        "UPDATE user SET active = ? WHERE id = ? AND active = ?", (int(active), number, int(not active))
    )
    return cursor.rowcount == 1


def set_profile(connection: sqlite3.Connection, number: int, profile: dict[str, str]) -> None:
    """Replace a user's profile."""
    connection.execute("UPDATE user SET profile = ? WHERE id = ?", (pack(profile), number))


def set_policy(connection: sqlite3.Connection, number: int, policy: str, rules: dict[str, str]) -> None:
    """Name a user's policy and what differs from it for him."""
    connection.execute("UPDATE user SET policy = ?, rules = ? WHERE id = ?", (policy, pack(rules), number))


def set_privacy(connection: sqlite3.Connection, number: int, privacy: dict[str, str]) -> None:
    """Replace what a user decides himself."""
    connection.execute("UPDATE user SET privacy = ? WHERE id = ?", (pack(privacy), number))


def set_end(connection: sqlite3.Connection, number: int, expires_at: int | None) -> None:
    """Set when a user is deleted by himself, in milliseconds; None: never."""
    connection.execute("UPDATE user SET expires_at = ? WHERE id = ?", (expires_at, number))


def ended(connection: sqlite3.Connection, now_ms: int, limit: int) -> list[str]:
    """Return addresses of users whose own end has come."""
    rows = connection.execute("SELECT address FROM user WHERE expires_at <= ? AND active >= 0 LIMIT ?", (now_ms, limit))
    return [row[0] for row in rows]


def outlived(connection: sqlite3.Connection, policy: str, before_ms: int, limit: int) -> list[str]:
    """Return addresses of users of a policy who were made before a time; who has an end of his own is left out."""
    rows = connection.execute(
        """SELECT address FROM user WHERE policy = ? AND created_at <= ? AND active >= 0 AND expires_at IS NULL
        LIMIT ?""",
        (policy, before_ms, limit),
    )
    return [row[0] for row in rows]


def seen_at(connection: sqlite3.Connection, number: int) -> int:
    """Return when a user was last seen, in milliseconds; 0: never. After a crash his devices know better."""
    row = connection.execute(
        """SELECT max(seen_at, coalesce((SELECT max(seen_at) FROM device WHERE user_id = user.id), 0)) FROM user
        WHERE id = ?""",
        (number,),
    ).fetchone()
    return int(row[0]) if row else 0


def delete(connection: sqlite3.Connection, user: UserRow, now_s: int) -> None:
    """Wipe a user's devices, memberships, tokens and sessions.

    The row stays under an address that nobody can have, so that the number, which messages of others name,
    is never given to somebody else. His conversations are judged by messaging, which knows the statuses.
    """
    connection.execute(
        """UPDATE user SET address = ?, active = ?, profile = '{}', policy = '', rules = '{}', privacy = '{}',
        expires_at = NULL, seen_at = 0 WHERE id = ?""",
        (f"{FORMER}{user.id}:{user.address}", DELETED, user.id),
    )
    connection.execute("UPDATE token SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL", (now_s, user.id))
    ties.forget(connection, user.id, user.address)
    connection.execute("DELETE FROM member WHERE user_id = ?", (user.id,))
    connection.execute("DELETE FROM scheduled WHERE sender_id = ?", (user.id,))
    connection.execute("DELETE FROM hidden WHERE user_id = ?", (user.id,))
    connection.execute("DELETE FROM given_up WHERE user_id = ?", (user.id,))
    connection.execute("DELETE FROM cursor WHERE device_id IN (SELECT id FROM device WHERE user_id = ?)", (user.id,))
    connection.execute("DELETE FROM device WHERE user_id = ?", (user.id,))
    for table in ("subscription", "queued", "incoming"):
        connection.execute(f"DELETE FROM {table} WHERE session_id IN ({_SESSIONS})", (user.address,))
    connection.execute('DELETE FROM session WHERE "user" = ?', (user.address,))
    connection.execute(wills.DROP_OF_USER, (user.address,))


def groups_of(connection: sqlite3.Connection, number: int) -> list[str]:
    """Return the addresses of the groups that a user is in."""
    rows = connection.execute(
        'SELECT g.address FROM member m JOIN "group" g ON g.id = m.group_id WHERE m.user_id = ? ORDER BY g.address',
        (number,),
    )
    return [row[0] for row in rows]


def pack(profile: dict[str, str]) -> str:
    """Return a profile as it is kept."""
    return json.dumps(profile, ensure_ascii=False, separators=(",", ":"))


def _whole(connection: sqlite3.Connection, row: tuple[Any, ...]) -> UserRow | None:
    return _user(row) if seals.is_whole(connection, "user", row[:_SEAL_END]) else None


def _user(row: tuple[Any, ...]) -> UserRow:
    _, number, address, active, created_at, policy, rules, privacy, expires_at, profile, is_blocking = row
    kept = read_kept(profile) if profile != _NO_PROFILE else {}
    return UserRow(number, address, active, created_at, kept, policy, rules, privacy, expires_at, is_blocking)
