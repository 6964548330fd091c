"""Checksums of rows that say who somebody is and what he may do: nobody gets another's name or rights by damage.

The database makes them itself, by triggers in the commit of the row, so that no statement can forget it; one that
changes a damaged row leaves it damaged. They are verified where such a row is read; what does not hold is passed over
as if it were not there, and the log says so once. mending.py puts right what can be put right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.store.integrity import of_row
from mesimqtt.store.parties import tell

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

# Frozen: what is stored was made of these, in this order.
SEALED: dict[str, tuple[str, ...]] = {
    "token": ("jti", "user_id", "digest", "device", "scope", "packet_max", "issued_at", "expires_at", "revoked_at"),
    "user": ("id", "address", "active", "created_at", "policy", "rules", "privacy", "expires_at"),
    "group": ("id", "address", "active", "created_at", "flags", "expires_at"),
    "member": ("group_id", "user_id", "role", "joined_at", "granted", "denied", "admin"),
    "tie": ("user_id", "kind", "peer", "value", "since"),
    "policy": ("name", "rules"),
    "pin": (
        "id", "group_id", "digest", "role", "granted", "admin", "uses", "created_by", "created_at", "expires_at",
    ),
    "webhook": (
        "id", "name", "is_fixed", "url", "events", "payload", "format", "salt", "former_salt", "former_until", "active",
    ),
    "session": ("id", "user", "client_id"),
    "subscription": ("session_id", "topic_filter", "qos"),
}  # fmt: skip
BLOBS = frozenset({"digest", "salt", "former_salt"})
KEYS = {"member": 2, "tie": 3, "policy": 1, "subscription": 2}  # how many columns are the key, of tables without rowid
_SAID = {
    "token": ("token {0!r}", "it lets nobody in: issue another one"),
    "user": ("user {0} ({1!r})", "nobody is let in as him, nothing goes to him or comes from him: restore a backup"),
    "group": ("group {0} ({1!r})", "it takes no messages: restore a backup"),
    "member": ("what user {1} may do in group {0}", "he counts as no member: add him again"),
    "tie": (
        "whom user {0} has as contact or pair, follows or blocks ({2!r})",
        "a block is of everything, nothing else counts: make it again",
    ),
    "policy": ("policy {0!r}", "it does not count: make it again"),
    "pin": ("PIN {0} of group {1}", "nobody joins by it: make another one"),
    "webhook": ("webhook {1!r}", "nothing is sent there: delete it and make it again"),
    "session": ("session {0}, of {1!r} with client id {2!r}", "it is forgotten: its client subscribes again"),
    "subscription": ("subscription {1!r} of session {0}", "it is forgotten: its client subscribes again"),
}


def columns(table: str, alias: str = "") -> str:
    """Return what `is_whole` takes of a row, to be selected: its checksum, then its columns."""
    before = f"{alias or _quoted(table)}."
    return ", ".join([f"{before}checksum", *_named(table, before)])


def is_whole(connection: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> bool:
    """Tell whether a row, selected as its `columns`, is what was stored; one that is not is said in the log once."""
    values = row[1:]
    if of_row(values) == row[0]:
        return True
    if tell_of(connection, table, values):
        connection.odd.rows.append((table, values))  # type: ignore[attr-defined] # the store's own connection
    return False


def tell_of(connection: sqlite3.Connection, table: str, values: tuple[object, ...]) -> bool:
    """Say once in the log that a row is damaged, and what to do; tell whether it was the first time."""
    text = f"{what_of(table, values)} is damaged: {then(table)}. Look at the disk (mesimqtt check names all of them)"
    return tell(connection, (table, *key_of(table, values)), text)


def what_of(table: str, values: tuple[object, ...]) -> str:
    """Return in words what a row is."""
    return _SAID[table][0].format(*values)


def then(table: str) -> str:
    """Return what follows for a damaged row of a table, and what to do."""
    return _SAID[table][1]


def key_names(table: str) -> tuple[str, ...]:
    """Return the columns that name a row of a table."""
    return SEALED[table][: KEYS.get(table, 1)]


def key_of(table: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what names a row, from its columns."""
    return values[: KEYS.get(table, 1)]


def damaged(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of every row of a table that is not what was stored. Raises sqlite3.Error."""
    for row in connection.execute(f"SELECT {columns(table)} FROM {_quoted(table)}"):
        if of_row(row[1:]) != row[0]:
            yield row[1:]


def seal(connection: sqlite3.Connection, table: str, where: str, *values: object) -> None:
    """Give rows that were damaged, and were written anew as a whole, their checksum."""
    connection.execute(f"UPDATE {_quoted(table)} SET checksum = {_made_of(table, '')} WHERE {where}", values)


def statements() -> tuple[str, ...]:
    """Return what gives all tables their checksums and triggers. Frozen: a migration."""
    found: list[str] = []
    for table, names in SEALED.items():
        quoted, key, is_whole_still = _quoted(table), _key(table), f"old.checksum = {_made_of(table, 'old.')}"
        seal_it = f"UPDATE {quoted} SET checksum = {_made_of(table, 'new.')} WHERE {key}"
        changed = f"AFTER UPDATE OF {', '.join(names)} ON {quoted} WHEN {is_whole_still}"
        found += [
            f"ALTER TABLE {quoted} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
            f"UPDATE {quoted} SET checksum = {_made_of(table, '')}",
            f"CREATE TRIGGER {table}_made AFTER INSERT ON {quoted} BEGIN {seal_it}; END",
            f"CREATE TRIGGER {table}_changed {changed} BEGIN {seal_it}; END",
        ]
    return tuple(found)


def _made_of(table: str, before: str) -> str:
    """Return the SQL of a row's checksum. Columns go as bytes: a text that is no UTF-8 would not reach the function."""
    return f"row_checksum({', '.join(f'CAST({name} AS BLOB)' for name in _named(table, before))})"


def _named(table: str, before: str) -> list[str]:
    """Return the columns of a row as they enter its checksum."""
    return [f"nullif(quote({before}{name}), 'NULL')" if name in BLOBS else before + name for name in SEALED[table]]


def _key(table: str) -> str:
    names = key_names(table) if table in KEYS else ("rowid",)
    return " AND ".join(f"{name} = new.{name}" for name in names)


def _quoted(table: str) -> str:
    return f'"{table}"'
