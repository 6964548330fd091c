"""What of a batch cannot be written is found by writing each piece alone: nobody else's message fails for it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mesimqtt.domain.messages import Step
    from mesimqtt.store.batch import Batch, Rider

log = logging.getLogger(__name__)


def is_environment(error: BaseException) -> bool:
    """Tell whether a write failed for the disk, the file or the lock, and not for what was to be written."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) != sqlite3.SQLITE_ERROR
    return type(error) is sqlite3.DatabaseError or isinstance(error, MemoryError)


def sift(
    connection: sqlite3.Connection,
    batch: Batch,
    *,
    accept: Callable[[sqlite3.Connection, Batch], None],
    number: Callable[[sqlite3.Connection, list[Step]], None],
    upserts: tuple[str, str],
) -> bool:
    """Take out of the batch what cannot be written: tried again for ever, it would stop every commit.

    Messages that cannot be written become its `refused`. True: nothing else was in the way, so that the rest can be
    committed now. Everything is undone. Raises sqlite3.Error where the disk is in the way.
    """
    lane, cursor = upserts
    connection.execute("BEGIN IMMEDIATE")
    try:
        guilty = [part for part in _parts(batch) if not _works(_apart, connection, part, accept, what=_name(part))]
        kept = len(batch.steps) + len(batch.lanes) + len(batch.cursors) + len(batch.rows) + len(batch.fragile)
        batch.steps = [step for step in batch.steps if _works(number, connection, [step])]
        batch.lanes = {k: row for k, row in batch.lanes.items() if _works(connection.execute, lane, row)}
        batch.cursors = {k: row for k, row in batch.cursors.items() if _works(connection.execute, cursor, row)}
        batch.rows = [(sql, row) for sql, row in batch.rows if _works(connection.execute, sql, row)]
        batch.fragile = [(sql, row) for sql, row in batch.fragile if _works(connection.execute, sql, row)]
        left = len(batch.steps) + len(batch.lanes) + len(batch.cursors) + len(batch.rows) + len(batch.fragile)
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    if not guilty or left < kept:
        return False
    out = {id(part.accepts[0]) for part in guilty}
    batch.refused = guilty
    batch.accepts = [message for message in batch.accepts if id(message) not in out]
    batch.riders = [rider for rider in batch.riders if id(rider.message) not in out]
    return True


@contextlib.contextmanager
def taken_back(batch: Batch) -> Iterator[None]:
    """Where the rest cannot be written either, let everything of the batch fail together, what was refused, too."""
    try:
        yield
    except BaseException:
        for part in batch.refused:
            batch.accepts += part.accepts
            batch.riders += part.riders
        batch.refused = []
        raise


def _parts(batch: Batch) -> Iterator[Batch]:
    """Yield each message as a batch of its own, with what rides on it."""
    riders: dict[int, list[Rider]] = {}
    for rider in batch.riders:
        riders.setdefault(id(rider.message), []).append(rider)
    for message in batch.accepts:
        part = type(batch)()
        part.accepts, part.riders = [message], riders.get(id(message), [])
        yield part


def _apart(connection: sqlite3.Connection, part: Batch, accept: Callable[[sqlite3.Connection, Batch], None]) -> None:
    """Write one message; what was written of one that cannot be is undone."""
    connection.execute("SAVEPOINT apart")
    try:
        accept(connection, part)
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite rolls back by itself on a full disk
            connection.execute("ROLLBACK TO apart")
            connection.execute("RELEASE apart")
        raise
    connection.execute("RELEASE apart")


def _name(part: Batch) -> str:
    message = part.accepts[0]
    return f"message {message.mid:x} of user {message.sender_id} cannot be written: it is refused, and no other"


def _works(write: Callable[..., object], *values: Any, what: str = "") -> bool:  # noqa: ANN401 - SQLite's own types
    try:
        write(*values)
    except Exception as error:
        if is_environment(error):
            raise
        log.exception("store: %s", what or "dropped a change that cannot be written")
        return False
    return True
