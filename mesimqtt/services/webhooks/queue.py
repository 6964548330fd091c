"""What waits for one endpoint, and the batch that is its turn: composed of the same rows however often it is tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.events import envelope
from mesimqtt.services.webhooks.sign import signed
from mesimqtt.store import outbox

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.messaging.webhooks import Endpoint
    from mesimqtt.services.webhooks.ports import Post


class Composed(NamedTuple):
    """A batch ready to be sent: rows up to `last`, in all `events` and `size` bytes as they are kept."""

    key: str
    first: int
    last: int
    events: int
    size: int
    body: bytes
    headers: dict[str, str]


@dataclass(slots=True)
class Queue:
    """How far one endpoint is. `events` and `size` wait; rows up to `after` are done, those up to `sealed` a batch.

    `is_busy`: something is being read, committed or sent. `is_settled`: what is done is committed.
    `is_first`: nothing was sent since the start, so that the first row may have been sent before it.
    """

    endpoint: Endpoint
    poster: Post
    events: int = 0
    size: int = 0
    after: int = 0
    sealed: int = 0
    attempts: int = 0
    next_at: int = 0
    began_at: int = 0
    is_busy: bool = False
    is_settled: bool = True
    is_first: bool = True

    def next_batch(self, connection: sqlite3.Connection, size_max: int) -> list[outbox.OutboxRow]:
        """Return the rows whose turn it is."""
        endpoint = self.endpoint
        return outbox.next_batch(
            connection, endpoint.id, after=self.after, sealed=self.sealed, alone=self.is_first,
            events=endpoint.batch_max, size=size_max,
        )  # fmt: skip

    def compose(self, connection: sqlite3.Connection, size_max: int, now_ms: int) -> Composed | None:
        """Return the batch whose turn it is, signed; None if nothing waits. Runs in the reader's thread."""
        rows = self.next_batch(connection, size_max)
        if not rows:
            return None
        first = rows[0]
        key = first.letter_key or key_of(self.endpoint.id, first.id)
        body = envelope(
            self.endpoint.format,
            first.created_at,
            iso(first.created_at),
            first.id,
            b",".join(row.body for row in rows),
        )
        headers = signed(key, body, self.endpoint.secrets, now_ms)
        return Composed(
            key,
            first.id,
            rows[-1].id,
            sum(row.events for row in rows),
            sum(len(row.body) for row in rows),
            body,
            headers,
        )


def iso(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key_of(webhook_id: int, row_id: int) -> str:
    """Return the webhook-id of a batch: the same however often it is sent."""
    return f"msg_{webhook_id}_{row_id:x}"
