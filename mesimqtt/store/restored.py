"""A database that was put back from a copy: what must be another than it was, because the world has gone on since.

After the copy was made its server gave numbers that the copy knows nothing of, and clients remember them. A number
that is given again would be taken for what it meant before, and what it stands for be dropped as a repetition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.ids import first_mid_at
from mesimqtt.store import history, messages
from mesimqtt.store.policies import RAISE_COUNTER
from mesimqtt.store.transaction import transaction

if TYPE_CHECKING:
    import sqlite3

# Packet ids go round in a ring of 32 768 for each kind: the other side of it is the farthest from what a client has.
HALF_RING = 16_384
# Starts of the server since the copy: more than anybody makes of a server that is well.
_STARTS = 1_000
_ADD_STARTS = """INSERT INTO counter (name, value) VALUES ('presence', ?1)
    ON CONFLICT DO UPDATE SET value = value + ?1"""
_ROW_BITS = 10  # a row of the outbox is numbered by the time, in milliseconds, and so many bits (store/recorder.py)

_STATEMENTS = (
    # A client that sends QoS 2 may have used these ids again since: what is new would be taken for known, and dropped.
    "DELETE FROM incoming",
    # How the connections of then ended, nobody knows; what a will would say of them is old.
    "DELETE FROM will",
    "UPDATE session SET next_n = next_n + {half_ring}",
    "UPDATE device SET ceiling = ceiling + {half_ring}",
    # Whatever waits may have been delivered after the copy: it comes with DUP, as after a crash.
    "UPDATE device SET online = 2 WHERE online = 0",
)


def begin_anew(connection: sqlite3.Connection, now_ms: int) -> None:
    """Change, in one transaction, what must not go on as the copy has it. Raises sqlite3.Error.

    Mids: above all that can have been drawn until now. Webhooks: what waits is a batch of its own under a new id, so
    that a receiver who knows the former one does not drop what stood behind it. Presence: versions go on growing.
    """
    with transaction(connection):
        history.recover_own(connection, messages.last_mid(connection) - history.UNKEPT_MIDS)
        for statement in _STATEMENTS:
            connection.execute(statement.format(half_ring=HALF_RING))
        (first,) = connection.execute("SELECT coalesce(min(id), 0) FROM outbox").fetchone()
        moved = max((now_ms << _ROW_BITS) - first, 0)
        connection.execute("UPDATE outbox SET id = -id - ?", (moved,))  # by way of what no row has: none meets another
        connection.execute("UPDATE outbox SET id = -id")
        connection.execute("UPDATE webhook SET batch_last = 0, attempts = 0, next_at = 0")
        connection.execute(_ADD_STARTS, (_STARTS,))
        connection.execute(RAISE_COUNTER, (messages.MID_FLOOR, first_mid_at(now_ms)))
