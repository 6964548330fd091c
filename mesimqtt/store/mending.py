"""Puts right one flipped bit in a row of who somebody is and what he may do: the row's checksum tells which it was.

Each bit of the row is turned back in thought; where exactly one of these rows has the checksum, it was that one.
A row in which more is wrong stays as it is, passed over wherever it is read (seals.py).
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, Any

from mesimqtt.store import seals
from mesimqtt.store.integrity import of_row, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Found = tuple[str, tuple[Any, ...]]  # a table and the columns of a row

log = logging.getLogger(__name__)
_SIGNS = (7, 15, 23, 31, 47, 63)  # the highest bit of a number of one, two, three … bytes, as SQLite keeps it
_ROWS_MAX = 1_000  # some 3 ms each
_SIZE_MAX = 2_048  # bytes of a row that is looked at


def survey(connection: sqlite3.Connection) -> list[Found]:
    """Look at every row that has such a checksum; return table and columns of what is damaged. Raises sqlite3.Error."""
    return [(table, row) for table in seals.SEALED for row in seals.damaged(connection, table)]


def put_right(connection: sqlite3.Connection, found: Iterable[Found]) -> list[Found]:
    """Turn back the bit that was flipped, where that is certain; return these rows as they are now.

    To be called in a transaction. What stays damaged is said in the log. Raises sqlite3.Error.
    """
    mended: list[Found] = []
    for number, (table, values) in enumerate(found):
        now = _mend(connection, table, values) if number < _ROWS_MAX else None
        if now is None:
            seals.tell_of(connection, table, values)
        else:
            mended.append((table, now))
    return mended


def _mend(connection: sqlite3.Connection, table: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Mend the row that was found with these values and return it; None if that cannot be."""
    names, quoted = seals.SEALED[table], f'"{table}"'
    place = " AND ".join(f"{name} IS ?" for name in seals.key_names(table))
    raw = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in names)
    key = seals.key_of(table, values)
    row = connection.execute(f"SELECT checksum, {raw} FROM {quoted} WHERE {place}", key).fetchone()
    if row is None or not isinstance(row[0], int) or sum(len(each or b"") for each in row[2::2]) > _SIZE_MAX:
        return None
    checksum, pieces = row[0], [_value(kind, piece) for kind, piece in zip(row[1::2], row[2::2], strict=True)]
    shown = [_shown(name, piece) for name, piece in zip(names, pieces, strict=True)]
    now = of_row(tuple(shown))
    found = list(_flips(names, pieces, shown, checksum))
    try:
        if len(found) == 1:
            at, value = found[0]
            connection.execute(f"UPDATE {quoted} SET {names[at]} = ? WHERE {place}", (value, *key))
            mended, what = (*values[:at], value, *values[at + 1 :]), f"{names[at]} is {value!r} again"
        elif not found and (now ^ checksum).bit_count() == 1:
            connection.execute(f"UPDATE {quoted} SET checksum = ? WHERE {place}", (now, *key))
            mended, what = values, "it was its checksum"
        else:
            return None
    except sqlite3.IntegrityError:  # another one stands in its place by now
        return None
    text = seals.what_of(table, values)
    log.error("store: %s was damaged by one flipped bit and is put right: %s; look at the disk", text, what)
    return mended


def _flips(names: tuple[str, ...], pieces: list[Any], shown: list[Any], checksum: int) -> Iterator[tuple[int, Any]]:
    """Yield the place of a column, and a value with which the row has the checksum."""
    for place, (name, piece) in enumerate(zip(names, pieces, strict=True)):
        row = shown.copy()
        for value in _candidates(piece):
            row[place] = _shown(name, value)
            if of_row(tuple(row)) == checksum:
                yield place, readable(value) if isinstance(value, _Text) else value


class _Text(bytes):
    """The bytes of a text, which may be no UTF-8 in a damaged row."""


def _value(kind: str, piece: bytes | None) -> Any:  # noqa: ANN401 - SQLite's types
    if piece is None:
        return None
    if kind == "integer":
        return int(piece)
    return _Text(piece) if kind == "text" else piece


def _shown(name: str, value: Any) -> object:  # noqa: ANN401 - SQLite's types
    """Return a value as it enters the checksum."""
    if name in seals.BLOBS and isinstance(value, int):
        return str(value)  # a flipped bit of its type makes a number of it
    if name in seals.BLOBS:
        return value if value is None else f"X'{bytes(value).hex().upper()}'"
    return readable(value) if isinstance(value, _Text) else value


def _candidates(value: Any) -> Iterator[Any]:  # noqa: ANN401 - SQLite's types
    """Yield what one bit can have made this value of, as far as its length stays the same."""
    if value is None:
        yield 0
    elif isinstance(value, int):
        yield from (value ^ (1 << bit) for bit in range(63))
        yield from (value ^ -(1 << bit) for bit in _SIGNS)
    else:
        make: Callable[[bytes], bytes] = type(value)
        for place, byte in enumerate(value):
            yield from (make(value[:place] + bytes([byte ^ 1 << bit]) + value[place + 1 :]) for bit in range(8))
