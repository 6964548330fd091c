"""Who takes part in a conversation: verified wherever it is read, so that damage gives nothing to a stranger.

A conversation's row has a checksum of whom it is between. A pair's lanes must be those of its two users; a lane in a
group has a checksum of whose it is, from which seq and up to which. What does not hold is passed over as if it were
not there, and the log says so once.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.messages import GROUP, PAIR
from mesimqtt.store.integrity import conversation_holds, lane_holds, of_conversation

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

log = logging.getLogger(__name__)
APART = 128  # `conversation.kind` of a damaged one that stood where another has to begin
LANE_COLUMNS = "l.conversation_id, l.user_id, l.floor, l.until, l.gaps, l.checksum"
CONVERSATION_COLUMNS = "c.checksum, c.id, c.kind, c.a, c.b"
PLACE_COLUMNS = f"{CONVERSATION_COLUMNS}, {LANE_COLUMNS}"
_CONVERSATION_END, _PLACE_END = 5, 11  # how many columns these are
_TOLD_MAX = 10_000
_STRAYS = """SELECT l.conversation_id FROM lane l JOIN conversation c ON c.id = l.conversation_id
    WHERE c.kind = 0 AND l.user_id NOT IN (c.a, c.b) LIMIT ?"""
_WITHOUT = """SELECT c.id, m.user_id FROM member m JOIN conversation c ON c.kind = 1 AND c.a = m.group_id AND c.b = 0
    WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.conversation_id = c.id AND l.user_id = m.user_id) LIMIT ?"""
_STRAYS_MAX = 1_000
HIGHEST_SEQ = "coalesce((SELECT max(m.seq) FROM message m WHERE m.conversation_id = c.id), 0)"
_SET_BACK = f"SELECT c.id FROM conversation c WHERE c.last_seq < {HIGHEST_SEQ} LIMIT ?"
_SET_ON = f"UPDATE conversation AS c SET last_seq = {HIGHEST_SEQ} WHERE c.id = ? AND c.last_seq < {HIGHEST_SEQ}"


class Odd:
    """What of a store was found to be damaged: `told` in the log.

    To be put right: `strays`, conversations, `rows`, a table and the columns of a row (seals.py), and `ends`, a table
    and a column (ends.py).
    """

    __slots__ = ("ends", "rows", "strays", "told")

    def __init__(self) -> None:
        self.told: set[tuple[object, ...]] = set()
        self.strays: deque[int] = deque(maxlen=_TOLD_MAX)  # from any thread
        self.ends: deque[tuple[str, str]] = deque(maxlen=_TOLD_MAX)
        self.rows: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=_TOLD_MAX)


def is_between(connection: sqlite3.Connection, checksum: object, number: int, kind: int, a: int, b: int) -> bool:
    """Tell whether a conversation is between whom it was stored, from its CONVERSATION_COLUMNS."""
    if conversation_holds(checksum, number, kind, a, b):
        return True
    tell(
        connection,
        ("conversation", number),
        f"between whom conversation {number} was is damaged: nobody gets anything of it, and its two users begin a new "
        "one, its group takes no messages. Look at the disk, and restore a backup (mesimqtt check names all of them)",
    )
    return False


def is_his(  # noqa: PLR0917 - the columns, in their order
    connection: sqlite3.Connection,
    kind: int,
    a: int,
    b: int,
    number: int,
    user: int,
    floor: int,
    until: int | None,
    gaps: str,
    checksum: object,
) -> bool:
    """Tell whether a lane is its user's, from what its conversation is (which must hold) and its LANE_COLUMNS."""
    if kind == PAIR and user in (a, b):
        return True
    if kind == GROUP and lane_holds(checksum, number, user, floor, until, gaps):
        return True
    then = (
        f"remove user {user} from the group and add him again"
        if kind == GROUP
        else "it is given back to whose it is, if that is certain"
    )
    is_new = tell(
        connection,
        ("lane", number, user),
        f"whose place {user} has in conversation {number}, or since when, is damaged: he gets nothing of it. "
        f"Look at the disk; {then}, or restore a backup (mesimqtt check names all of them)",
    )
    if is_new and kind == PAIR:
        connection.odd.strays.append(number)  # type: ignore[attr-defined] # the store's own connection
    return False


def whole(connection: sqlite3.Connection, found: sqlite3.Cursor) -> list[tuple[Any, ...]]:
    """Return what was found of lanes, selected as PLACE_COLUMNS and more, without those that are not what was stored.

    Each is id, kind, a and b of its conversation, and the more.
    """
    rows = []
    for row in found.fetchall():
        conversation, lane = row[:_CONVERSATION_END], row[_CONVERSATION_END:_PLACE_END]
        if is_between(connection, *conversation) and is_his(connection, *conversation[2:], *lane):
            rows.append((*conversation[1:], *row[_PLACE_END:]))
    return rows


def clear_place(connection: sqlite3.Connection, number: int, kind: int, a: int, b: int) -> None:
    """Put a damaged conversation aside that stands where another has to begin. It keeps its checksum."""
    connection.execute("UPDATE conversation SET kind = ?, a = id, b = 0 WHERE id = ?", (APART, number))
    log.error("store: the damaged conversation %d is put aside: another begins (%d, %d, %d)", number, kind, a, b)


def stray_in(connection: sqlite3.Connection, number: int, a: int, b: int) -> int:
    """Return under whose number the lane of a pair stands that is missing: nobody else can have one there; 0: none."""
    row = connection.execute(
        "SELECT user_id FROM lane WHERE conversation_id = ? AND user_id NOT IN (?, ?) LIMIT 1", (number, a, b)
    ).fetchone()
    return int(row[0]) if row else 0


def without_place(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return (conversation, user) of members of groups who have no place in the conversation. Raises sqlite3.Error."""
    return connection.execute(_WITHOUT, (_STRAYS_MAX,)).fetchall()


def survey(connection: sqlite3.Connection) -> list[int]:
    """Say which members of groups have no place there; return what `put_right` can mend. Raises sqlite3.Error."""
    for number, user in without_place(connection):
        tell_without(connection, number, user)
    return strays(connection) + set_back(connection)


def tell_without(connection: sqlite3.Connection, number: int, user: int) -> None:
    """Say that a member has no place in the conversation of his group, which he gets when he enters it."""
    tell(
        connection,
        ("lane", number, user),
        f"user {user} is a member of a group without a place in its conversation, {number}: it is damaged, he gets "
        f"nothing of it. Look at the disk; remove user {user} from the group and add him again, or restore a backup",
    )


def strays(connection: sqlite3.Connection) -> list[int]:
    """Return conversations of two in which a third one has a place. Raises sqlite3.Error."""
    return [number for (number,) in connection.execute(_STRAYS, (_STRAYS_MAX,))]


def set_back(connection: sqlite3.Connection) -> list[int]:
    """Return conversations with messages beyond their last seq: nobody would be given these. Raises sqlite3.Error."""
    return [number for (number,) in connection.execute(_SET_BACK, (_STRAYS_MAX,))]


def put_right(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Give the place that a third one has in a conversation of two to whose it is, as far as that is certain.

    And let no message stand beyond a conversation's last seq. Raises sqlite3.Error.
    """
    for number in set(numbers):
        if connection.execute(_SET_ON, (number,)).rowcount == 1:
            log.error(
                "store: the last seq of conversation %d was damaged: it has messages beyond it, and goes on behind "
                "them; look at the disk (mesimqtt check)", number,
            )  # fmt: skip
        row = connection.execute(
            f"SELECT {CONVERSATION_COLUMNS} FROM conversation c WHERE c.id = ?", (number,)
        ).fetchone()
        if row is None or not is_between(connection, *row) or row[2] != PAIR:
            continue
        users = {
            user for (user,) in connection.execute("SELECT user_id FROM lane WHERE conversation_id = ?", (number,))
        }
        missing, third = {*row[3:]} - users, users - {*row[3:]}
        if not missing:  # whose it is has a new one by now
            for user in third:
                connection.execute("DELETE FROM lane WHERE conversation_id = ? AND user_id = ?", (number, user))
        elif len(missing) == len(third) == 1:
            values = (*missing, number, *third)
            connection.execute("UPDATE lane SET user_id = ? WHERE conversation_id = ? AND user_id = ?", values)
            log.error(
                "store: whose a place in conversation %d is was damaged: it stood under %s and is %d's again; look at "
                "the disk (mesimqtt check)", number, *third, *missing,
            )  # fmt: skip


def seal(connection: sqlite3.Connection, number: int, kind: int, a: int, b: int) -> None:
    """Give a conversation that was just inserted its checksum."""
    checksum = of_conversation(number, kind, a, b)
    connection.execute("UPDATE conversation SET checksum = ? WHERE id = ?", (checksum, number))


def tell(connection: sqlite3.Connection, key: tuple[object, ...], text: str) -> bool:
    """Log damage once for each place; a connection that is not the store's has nowhere to keep what was told."""
    odd: Odd | None = getattr(connection, "odd", None)
    if odd is not None:
        if key in odd.told or len(odd.told) >= _TOLD_MAX:
            return False
        odd.told.add(key)
    log.error("store: %s", text)
    return odd is not None
