"""Who belongs to a group, and when: the writing statements, each set to be run in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import GROUP, Conversation
from mesimqtt.store import conversations
from mesimqtt.store.users import DELETED, FORMER

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


def create_group(connection: sqlite3.Connection, address: str, now_ms: int) -> None:
    """Insert a group and its conversation."""
    cursor = connection.execute(
        """INSERT INTO "group" (address, active, created_at, profile) VALUES (?, 1, ?, '{}')""", (address, now_ms)
    )
    conversations.create(connection, Conversation(0, GROUP, cursor.lastrowid or 0, 0))


def enter(
    connection: sqlite3.Connection, group: int, conversation: int, users: Iterable[int], role: str, now_ms: int
) -> None:
    """Make users members, who see what comes after the seq of this moment."""
    floor = conversations.last_seq(connection, conversation)
    for user in users:
        connection.execute(
            """INSERT OR REPLACE INTO member (group_id, user_id, role, send, receive, joined_at)
            VALUES (?,?,?,1,1,?)""",
            (group, user, role, now_ms),
        )
        conversations.create_lane(connection, conversation, user, floor)
        connection.execute(
            """DELETE FROM cursor WHERE conversation_id = ?
            AND device_id IN (SELECT id FROM device WHERE user_id = ?)""",
            (conversation, user),
        )


def leave(connection: sqlite3.Connection, group: int, conversation: int, users: Iterable[int]) -> int:
    """End the membership of users; return the last seq that they may see."""
    last = conversations.last_seq(connection, conversation)
    for user in users:
        connection.execute("DELETE FROM member WHERE group_id = ? AND user_id = ?", (group, user))
        connection.execute(
            "UPDATE lane SET until = ? WHERE conversation_id = ? AND user_id = ?", (last, conversation, user)
        )
    return last


def delete_group(connection: sqlite3.Connection, group: int, conversation: int) -> int:
    """Delete a group, whose row stays under an address that nobody can have; return the last seq."""
    (address,) = connection.execute('SELECT address FROM "group" WHERE id = ?', (group,)).fetchone()
    connection.execute(
        'UPDATE "group" SET address = ?, active = ? WHERE id = ?', (f"{FORMER}{group}:{address}", DELETED, group)
    )
    connection.execute("DELETE FROM member WHERE group_id = ?", (group,))
    last = conversations.last_seq(connection, conversation)
    # Who left before keeps the end that he has: what came later was never his to see.
    connection.execute("UPDATE lane SET until = ? WHERE conversation_id = ? AND until IS NULL", (last, conversation))
    return last


def rights(connection: sqlite3.Connection, group: int) -> dict[int, tuple[bool, bool]]:
    """Return user id -> (may send, may receive)."""
    rows = connection.execute("SELECT user_id, send, receive FROM member WHERE group_id = ?", (group,))
    return {user: (bool(send), bool(receive)) for user, send, receive in rows}
