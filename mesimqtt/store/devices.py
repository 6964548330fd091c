"""Devices and their cursors: statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.seqset import SeqSet
from mesimqtt.store.ends import END
from mesimqtt.store.parties import PLACE_COLUMNS, whole

if TYPE_CHECKING:
    import sqlite3

INSERT = """INSERT INTO device (id, user_id, client_id, ceiling, status_change, read_change, wants_status, packet_max,
    filters, online, seen_at) VALUES (?,?,?,?,?,?,?,?,?,1,?)"""
COPY_CURSORS = """INSERT OR REPLACE INTO cursor (device_id, conversation_id, acked, acked_above)
    SELECT ?, conversation_id, acked, acked_above FROM lane WHERE user_id = ?"""
UPDATE = """UPDATE device SET ceiling = ?, status_change = ?, read_change = ?, wants_status = ?, packet_max = ?,
    filters = ?, online = ?, seen_at = ? WHERE id = ?"""
RAISE_CEILING = "UPDATE device SET ceiling = max(ceiling, ?) WHERE id = ?"
FORGET_FILTERS = "UPDATE device SET filters = '{}' WHERE id = ?"
DELETE = "DELETE FROM device WHERE id = ?"
DELETE_CURSORS = "DELETE FROM cursor WHERE device_id = ?"
_PENDING = """SELECT {place}, c.last_seq, {acked}, {above} FROM lane l
    JOIN conversation c ON c.id = l.conversation_id {join}
    WHERE l.user_id = ? AND min(c.last_seq, coalesce(l.until, c.last_seq)) > {acked} ORDER BY c.id"""
_WITH_CURSOR = _PENDING.format(
    place=PLACE_COLUMNS,
    acked="max(coalesce(k.acked, 0), l.floor)",  # a cursor from before the user left and came back is behind the floor
    above="coalesce(k.acked_above, '')",
    join="LEFT JOIN cursor k ON k.device_id = ? AND k.conversation_id = l.conversation_id",
)
_WITHOUT_CURSOR = _PENDING.format(place=PLACE_COLUMNS, acked="l.acked", above="l.acked_above", join="")


class DeviceRow(NamedTuple):
    """A device as it is kept."""

    id: int
    client_id: str
    ceiling: int
    status_change: int
    read_change: int
    wants_status: int
    packet_max: int
    filters: str
    online: int
    seen_at: int


class Pending(NamedTuple):
    """A conversation in which a device has not acknowledged everything."""

    conversation_id: int
    kind: int
    a: int
    b: int
    last_seq: int
    acked: int
    acked_above: str


_COLUMNS = "id, client_id, ceiling, status_change, read_change, wants_status, packet_max, filters, online, seen_at"


def of_user(connection: sqlite3.Connection, user: int) -> list[DeviceRow]:
    """Return a user's devices, the longest unseen first."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM device WHERE user_id = ? ORDER BY seen_at, id", (user,))
    return [DeviceRow(*row) for row in rows]


def find(connection: sqlite3.Connection, user: int, client_id: str) -> DeviceRow | None:
    """Return one device."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM device WHERE user_id = ? AND client_id = ?",
        (user, client_id),
    ).fetchone()
    return DeviceRow(*row) if row else None


def last_id(connection: sqlite3.Connection) -> int:
    """Return the highest device id that was given; cursors of a device that is gone must not become another's."""
    row = connection.execute(
        f"""SELECT max(coalesce(max(id), 0), coalesce((SELECT max(device_id) FROM cursor WHERE device_id < {END}), 0))
        FROM device WHERE id < {END}"""
    ).fetchone()
    return int(row[0] or 0)


def unseen_since(connection: sqlite3.Connection, before_ms: int) -> list[int]:
    """Return the devices of which nothing was kept since `before_ms`; who is online knows better."""
    return [row[0] for row in connection.execute("SELECT id FROM device WHERE seen_at < ?", (before_ms,))]


def pending(connection: sqlite3.Connection, user: int, device: int) -> list[Pending]:
    """Return the conversations that hold something for a device; `device` 0 is one without a cursor."""
    rows = connection.execute(_WITH_CURSOR, (device, user)) if device else connection.execute(_WITHOUT_CURSOR, (user,))
    return [Pending(*row) for row in whole(connection, rows)]


def cursor(connection: sqlite3.Connection, device: int, conversation: int) -> SeqSet:
    """Return what a device has acknowledged of a conversation."""
    row = connection.execute(
        "SELECT acked, acked_above FROM cursor WHERE device_id = ? AND conversation_id = ?", (device, conversation)
    ).fetchone()
    return SeqSet(*row) if row else SeqSet()


def read_marks(connection: sqlite3.Connection, user: int, change: int) -> list[tuple[int, int, int, str, int]]:
    """Return (kind, a, b, payload, change) of a user's own read marks newer than `change`."""
    rows = connection.execute(
        f"""SELECT {PLACE_COLUMNS}, l.read_payload, l.read_change FROM lane l
        JOIN conversation c ON c.id = l.conversation_id
        WHERE l.user_id = ? AND l.read_change > ? ORDER BY l.read_change""",
        (user, change),
    )
    return [(kind, a, b, payload, newest) for _, kind, a, b, payload, newest in whole(connection, rows)]


def last_read_change(connection: sqlite3.Connection, user: int) -> int:
    """Return the highest change number of a user's read marks."""
    row = connection.execute("SELECT max(read_change) FROM lane WHERE user_id = ?", (user,)).fetchone()
    return int(row[0] or 0)
