"""Answers to requests with an Idempotency-Key: their statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3


class Kept(NamedTuple):
    """What is known of a key: what was asked, and the sealed answer."""

    digest: bytes
    status: int
    answer: bytes


def find(connection: sqlite3.Connection, owner: str, key_hash: bytes, since_ms: int) -> Kept | None:
    """Return what was kept of a key, unless it is older than `since_ms`."""
    row = connection.execute(
        "SELECT digest, status, answer FROM idempotency WHERE owner = ? AND key_hash = ? AND created_at >= ?",
        (owner, key_hash, since_ms),
    ).fetchone()
    return Kept(*row) if row is not None else None


def add(connection: sqlite3.Connection, owner: str, key_hash: bytes, kept: Kept, now_ms: int) -> None:
    """Keep the answer to a key; one that has run out is replaced."""
    connection.execute(
        "INSERT OR REPLACE INTO idempotency (owner, key_hash, digest, status, answer, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (owner, key_hash, kept.digest, kept.status, kept.answer, now_ms),
    )


def is_any_older(connection: sqlite3.Connection, before_ms: int) -> bool:
    """Tell whether something is kept that is older than `before_ms`."""
    return (
        connection.execute("SELECT 1 FROM idempotency WHERE created_at < ? LIMIT 1", (before_ms,)).fetchone()
        is not None
    )


def purge(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Forget up to `limit` answers that are older than `before_ms`; return how many."""
    return connection.execute(
        """DELETE FROM idempotency WHERE (owner, key_hash) IN
        (SELECT owner, key_hash FROM idempotency WHERE created_at < ? ORDER BY created_at LIMIT ?)""",
        (before_ms, limit),
    ).rowcount


def size(connection: sqlite3.Connection, owner: str) -> tuple[int, int]:
    """Return how many keys of an owner are kept, and how many bytes their answers have."""
    found: tuple[int, int] = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(LENGTH(answer)), 0) FROM idempotency WHERE owner = ?", (owner,)
    ).fetchone()
    return found
