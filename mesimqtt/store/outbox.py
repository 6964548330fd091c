"""The outbox of webhooks: endpoints, what waits for them, and dead letters: statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.store import seals
from mesimqtt.store.ends import END

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

INSERT_ROW = "INSERT INTO outbox (id, webhook_id, letter_key, created_at, count, body) VALUES (?,?,?,?,?,?)"
DELETE_UPTO = "DELETE FROM outbox WHERE webhook_id = ? AND id <= ?"
SEAL = "UPDATE webhook SET batch_last = ? WHERE id = ?"
SUCCEEDED = """UPDATE webhook SET attempts = 0, next_at = 0, error = '', succeeded_at = ?, sent = sent + ?,
    batch_last = max(batch_last, ?) WHERE id = ?"""
TRIED = "UPDATE webhook SET attempts = ?, next_at = ?, error = ? WHERE id = ?"
SET_ACTIVE = "UPDATE webhook SET active = ?, error = ?, attempts = 0, next_at = 0 WHERE id = ?"
_COLUMNS = (
    "id, name, is_fixed, url, events, payload, format, batch_max, batch_age_ms, salt, former_salt, former_until, "
    "active, batch_last, attempts, next_at, error, succeeded_at, sent, created_at"
)
_LETTER = "id, letter_key, created_at, died_at, count, attempts, reason"
_ROWS_AT_ONCE = 1_000
DAMAGED = "its row is damaged: delete it and make it again"
_FIND = f"SELECT {_COLUMNS}, {seals.columns('webhook')} FROM webhook"
_ROW_END = 20  # how many columns a WebhookRow has


class WebhookRow(NamedTuple):
    """An endpoint as it is kept. `is_fixed`: it comes from the settings, and the row holds its state alone.

    `batch_last`: the last row of the batch that is being sent. `events` are filters with spaces between.
    Times are milliseconds since 1970.
    """

    id: int
    name: str
    is_fixed: int
    url: str
    events: str
    payload: int
    format: str
    batch_max: int
    batch_age_ms: int
    salt: bytes
    former_salt: bytes
    former_until: int
    active: int
    batch_last: int
    attempts: int
    next_at: int
    error: str
    succeeded_at: int
    sent: int
    created_at: int


class OutboxRow(NamedTuple):
    """A page of events for one endpoint. `letter_key`: the webhook-id under which it was sent before it died."""

    id: int
    letter_key: str
    created_at: int
    events: int
    body: bytes


class Letter(NamedTuple):
    """A dead letter without its body. `letter_key`: its webhook-id."""

    id: int
    letter_key: str
    created_at: int
    died_at: int
    events: int
    attempts: int
    reason: str


def webhooks(connection: sqlite3.Connection) -> list[WebhookRow]:
    """Return all endpoints, in the order of their names; a damaged one is switched off, and goes nowhere."""
    return [_whole(connection, row) for row in connection.execute(f"{_FIND} ORDER BY name").fetchall()]


def find(connection: sqlite3.Connection, name: str) -> WebhookRow | None:
    """Return the endpoint of this name; a damaged one is switched off, and goes nowhere."""
    row = connection.execute(f"{_FIND} WHERE name = ?", (name,)).fetchone()
    return _whole(connection, row) if row else None


def _whole(connection: sqlite3.Connection, row: tuple[Any, ...]) -> WebhookRow:
    found = WebhookRow(*row[:_ROW_END])
    if seals.is_whole(connection, "webhook", row[_ROW_END:]):
        return found
    return found._replace(
        url="", events="", payload=0, format="standard", salt=b"", former_salt=b"", active=0, error=DAMAGED
    )


def renew(connection: sqlite3.Connection, number: int) -> None:
    """Take a damaged endpoint for whole, of which the settings have just given everything anew."""
    connection.execute("UPDATE webhook SET salt = x'', former_salt = x'', former_until = 0 WHERE id = ?", (number,))
    seals.seal(connection, "webhook", "id = ?", number)


def add(connection: sqlite3.Connection, name: str, now_ms: int, *, is_fixed: bool = False, salt: bytes = b"") -> bool:
    """Make an endpoint that `change` then fills; False if there is one of this name."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO webhook (name, is_fixed, url, events, payload, format, batch_max, batch_age_ms, salt, "
        "former_salt, former_until, active, batch_last, attempts, next_at, error, succeeded_at, sent, created_at) "
        "VALUES (?, ?, '', '', 0, 'standard', 0, -1, ?, x'', 0, 1, 0, 0, 0, '', 0, 0, ?)",
        (name, int(is_fixed), salt, now_ms),
    )
    return cursor.rowcount == 1


def change(connection: sqlite3.Connection, number: int, values: dict[str, object]) -> None:
    """Set columns of an endpoint; the names of columns are the caller's own constants."""
    columns = ", ".join(f"{column} = ?" for column in values)
    connection.execute(f"UPDATE webhook SET {columns} WHERE id = ?", (*values.values(), number))


def delete(connection: sqlite3.Connection, number: int) -> bool:
    """Remove an endpoint with all that waits for it and its dead letters; True: there is more, call it again.

    So that a commit that messages wait for never takes long.
    """
    for table in ("outbox", "dead_letter"):
        some = f"SELECT id FROM {table} WHERE webhook_id = ? LIMIT ?"
        if connection.execute(f"DELETE FROM {table} WHERE id IN ({some})", (number, _ROWS_AT_ONCE)).rowcount:
            return True
    connection.execute("DELETE FROM webhook WHERE id = ?", (number,))
    return False


def last_id(connection: sqlite3.Connection) -> int:
    """Return the highest number of a row or a dead letter."""
    found = connection.execute(
        f"""SELECT max(coalesce((SELECT max(id) FROM outbox WHERE id < {END}), 0),
        coalesce((SELECT max(id) FROM dead_letter WHERE id < {END}), 0),
        coalesce((SELECT max(batch_last) FROM webhook WHERE batch_last < {END}), 0))"""
    ).fetchone()
    return int(found[0])


def waiting(connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Return (events, bytes) that wait, by endpoint."""
    rows = connection.execute("SELECT webhook_id, sum(count), sum(length(body)) FROM outbox GROUP BY webhook_id")
    return {number: (events, size) for number, events, size in rows}


def waiting_for(connection: sqlite3.Connection, number: int) -> tuple[int, int]:
    """Return (events, bytes) that wait for one endpoint."""
    found: tuple[int, int] = connection.execute(
        "SELECT coalesce(sum(count), 0), coalesce(sum(length(body)), 0) FROM outbox WHERE webhook_id = ?", (number,)
    ).fetchone()
    return found


def next_batch(
    connection: sqlite3.Connection, number: int, *, after: int, sealed: int, alone: bool, events: int, size: int
) -> list[OutboxRow]:
    """Return the rows of the next batch behind the row `after`; none if nothing waits.

    A batch that was sent before is made of the same rows again, whatever has come since: up to `sealed`, or, where it
    needed no seal (`alone`), its first row. So is a dead letter that is sent again: it stands alone.
    """
    rows: list[OutboxRow] = []
    count = total = 0
    cursor = connection.execute(
        "SELECT id, letter_key, created_at, count, body FROM outbox"
        " WHERE webhook_id = ? AND id > ? ORDER BY id LIMIT ?",
        (number, after, _ROWS_AT_ONCE),
    )
    for found in map(OutboxRow._make, cursor):
        if rows and rows[0].id <= sealed:
            if found.id > sealed:
                break
        elif rows and (
            alone or rows[0].letter_key or found.letter_key or count + found.events > events
            or total + len(found.body) > size
        ):  # fmt: skip
            break
        rows.append(found)
        count += found.events
        total += len(found.body)
    return rows


def bury(
    connection: sqlite3.Connection, number: int, rows: Sequence[OutboxRow], key: str, attempts: int, reason: str,
    now_ms: int, most: int,
) -> int:  # fmt: skip
    """Make a dead letter of a batch; return how many events the bound `most` (letters) drops for ever."""
    connection.execute(
        "INSERT INTO dead_letter (id, webhook_id, letter_key, created_at, died_at, count, attempts, reason, body) "
        "VALUES (?,?,?,?,?,?,?,?,?)",
        (
            rows[0].id, number, key, rows[0].created_at, now_ms, sum(row.events for row in rows), attempts, reason,
            b",".join(row.body for row in rows),
        ),
    )  # fmt: skip
    connection.execute(DELETE_UPTO, (number, rows[-1].id))
    connection.execute("UPDATE webhook SET attempts = 0 WHERE id = ?", (number,))
    return _drop(
        connection,
        "webhook_id = ? AND id <= (SELECT id FROM dead_letter WHERE webhook_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (number, number, most),
    )


def forget_letters(connection: sqlite3.Connection, before_ms: int) -> int:
    """Drop the dead letters that died before a time; return how many events that were."""
    return _drop(connection, "died_at < ?", (before_ms,))


def _drop(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> int:
    dropped = connection.execute(f"SELECT coalesce(sum(count), 0) FROM dead_letter WHERE {where}", values).fetchone()[0]
    if dropped:
        connection.execute(f"DELETE FROM dead_letter WHERE {where}", values)
    return int(dropped)


def letters(connection: sqlite3.Connection, number: int, after: int, limit: int) -> list[Letter]:
    """Return dead letters of an endpoint, the oldest first, behind the number `after`."""
    rows = connection.execute(
        f"SELECT {_LETTER} FROM dead_letter WHERE webhook_id = ? AND id > ? ORDER BY id LIMIT ?",
        (number, after, limit),
    )
    return [Letter(*row) for row in rows]


def dead_of(connection: sqlite3.Connection, number: int) -> int:
    """Return how many dead letters an endpoint has."""
    found = connection.execute("SELECT count(*) FROM dead_letter WHERE webhook_id = ?", (number,)).fetchone()
    return int(found[0])


def revive(
    connection: sqlite3.Connection, number: int, wanted: Sequence[int], draw: Callable[[], int], limit: int
) -> list[tuple[int, int, int]]:
    """Put dead letters (none named: the oldest `limit`) behind what waits, each under its old webhook-id.

    Return (number of the letter, events, bytes) of each.
    """
    numbers = list(wanted) or [each.id for each in letters(connection, number, 0, limit)]
    found = []
    for each in numbers:
        row = connection.execute(
            "SELECT letter_key, created_at, count, body FROM dead_letter WHERE id = ? AND webhook_id = ?",
            (each, number),
        ).fetchone()
        if row is None:
            continue
        key, created_at, count, body = row
        connection.execute(INSERT_ROW, (draw(), number, key, created_at, count, body))
        connection.execute("DELETE FROM dead_letter WHERE id = ?", (each,))
        found.append((each, count, len(body)))
    return found


def were_online(connection: sqlite3.Connection) -> list[int]:
    """Return the users who had a connected device when the server went down under them."""
    rows = connection.execute("SELECT DISTINCT user_id FROM device WHERE online = 1")
    return [row[0] for row in rows]
