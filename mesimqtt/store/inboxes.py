"""How full inboxes are: bounds that cost little for many users, exact counts where a bound does not suffice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.store.messages import inbox_size, last_mid

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_ROWS_MAX = 20_000  # messages looked at in one call, so that other readers get their turn


class Filling(NamedTuple):
    """At most so many messages and bytes wait for a user; exactly so many if `is_exact`."""

    user_id: int
    messages: int
    bytes: int
    is_exact: bool


def measure(
    connection: sqlite3.Connection, users: Sequence[int], *, messages_enough: int, bytes_enough: int, payload_max: int
) -> tuple[list[Filling], int]:
    """Return how full the inboxes of the first of `users` are: of as many as one call may look at, at least one.

    A bound from the watermarks suffices where it is at most `messages_enough` and `bytes_enough`. Beside it stands the
    newest mid that was counted.
    """
    connection.execute("BEGIN")
    try:
        newest = last_mid(connection)
        return _measure(connection, users, messages_enough, bytes_enough, payload_max), newest
    finally:
        connection.execute("COMMIT")


def _measure(
    connection: sqlite3.Connection, users: Sequence[int], messages_enough: int, bytes_enough: int, payload_max: int
) -> list[Filling]:
    marks = ",".join("?" * len(users))
    bounds = dict(
        connection.execute(
            f"""SELECT l.user_id, sum(max(0, min(c.last_seq, coalesce(l.until, c.last_seq)) - l.acked)) FROM lane l
            JOIN conversation c ON c.id = l.conversation_id WHERE l.user_id IN ({marks}) GROUP BY l.user_id""",
            tuple(users),
        ).fetchall()
    )
    found: list[Filling] = []
    looked_at = 0
    for user in users:
        bound = bounds.get(user, 0)
        if bound <= messages_enough and bound * payload_max <= bytes_enough:
            found.append(Filling(user, bound, bound * payload_max, is_exact=False))
            continue
        if looked_at >= _ROWS_MAX:
            break
        looked_at += bound
        found.append(Filling(user, *inbox_size(connection, user), is_exact=True))
    return found
