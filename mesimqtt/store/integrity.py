"""Checksums of what is stored to be read back later: made in its commit, verified wherever it is given out.

A message's covers what it is: its place in its conversation, sender, times, parameters and bytes, and whether it was
edited or taken back. A conversation's covers between whom it is, a lane's whose it is, since when and until when
(parties.py); that of a lane in a conversation of two is not looked at.

It is a CRC-32: one flipped bit, and any run of 32 flipped bits, is always found.
Reads that give out nothing of a message do without: how many wait, which mids are due, which seqs are one's own.
"""

from __future__ import annotations

from struct import Struct
from struct import error as _struct_error
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

CORRUPT = 0x80  # `message.state` of what was damaged in the store: nobody gets it any more
CORRUPT_REASON = "corrupt"
MESSAGE_COLUMNS = (
    "id, conversation_id, seq, kind, sender_id, device, cid, ts, expires_at, flags, params, payload, state, traceless, "
    "edits, edited_by, recalls"
)  # in the order in which `of_message` takes them
SCHEDULED_COLUMNS = (
    "id, sender_id, kind, target_id, device, cid, ts, due, state, change, flags, params, payload, amends"
)
_HEAD, _LATER, _SCHEDULED, _LETTER = Struct("<8q"), Struct("<5q"), Struct("<10q"), Struct("<5q")
_PLACE = Struct("<4q")
_NOT_ENDED = -1
_FORMS = tuple("\0".join(["%s"] * count) for count in range(16))
_pack_head = _HEAD.pack
_RESEAL = "UPDATE message SET checksum = ? WHERE id = ?"


def of_fresh(row: tuple[Any, ...]) -> int:
    """Return the checksum of a message that is being stored, from 12 columns: as `of_message`, and quicker."""
    mid, conversation, seq, kind, sender, device, cid, ts, expires_at, flags, params, payload = row
    head = _pack_head(mid, conversation, seq, kind, sender, ts, expires_at, flags)
    return crc32(head + f"{device}\0{cid}\0{params}".encode() + payload)


def of_message(  # noqa: PLR0917 - the columns, in their order
    mid: int,
    conversation: int,
    seq: int,
    kind: int,
    sender: int,
    device: str,
    cid: str,
    ts: int,
    expires_at: int,
    flags: int,
    params: str,
    payload: bytes,
    state: int = 0,
    traceless: int = 0,
    edits: int | None = None,
    edited_by: int | None = None,
    recalls: int | None = None,
) -> int:
    """Return the checksum of a message. Frozen: what is stored was made by it.

    Raises struct.error, TypeError or UnicodeError for values that no message has.
    """
    head = _pack_head(mid, conversation, seq, kind, sender, ts, expires_at, flags)
    found = crc32(payload, crc32(head + f"{device}\0{cid}\0{params}".encode()))
    if state or traceless or edits is not None or edited_by is not None or recalls is not None:
        found = crc32(_LATER.pack(state, traceless, edits or 0, edited_by or 0, recalls or 0), found)
    return found


def of_scheduled(row: Sequence[Any]) -> int:
    """Return the checksum of a message that waits for its time, from its SCHEDULED_COLUMNS. Frozen.

    Raises struct.error, TypeError or UnicodeError for values that no message has.
    """
    mid, sender, kind, target, device, cid, ts, due, state, change, flags, params, payload, amends = row
    head = _SCHEDULED.pack(mid, sender, kind, target, ts, due or 0, state, change, flags, amends or 0)
    return crc32(payload, crc32(head + f"{device}\0{cid}\0{params}".encode()))


def of_letter(
    topic: bytes, payload: bytes, properties: bytes, qos: int, expires_at: int, session: int = 0, n: int = 0
) -> int:
    """Return the checksum of a message of a free topic that is retained, or queued as `n` of a session. Frozen.

    Raises struct.error or TypeError for values that no message has.
    """
    return crc32(payload, crc32(_LETTER.pack(session, n, qos, expires_at, len(topic)) + topic + properties))


def of_will(row: Sequence[Any]) -> int:
    """Return the checksum of a will, from its columns but that and when it is due. Frozen.

    Raises struct.error, TypeError, AttributeError or UnicodeError for values that none has.
    """
    key, user, client_id, jti, who, topic, payload, qos, properties, delay_s = row
    head = _LETTER.pack(key, qos, delay_s, len(topic), len(properties))
    return crc32(payload, crc32(head + f"{user}\0{client_id}\0{jti}\0{who}\0".encode() + topic + properties))


def of_conversation(number: int, kind: int, a: int, b: int) -> int:
    """Return the checksum of between whom a conversation is. Frozen.

    Raises struct.error or TypeError for values that none has.
    """
    return crc32(_PLACE.pack(number, kind, a, b))


def of_lane(conversation: int, user: int, floor: int, until: int | None, gaps: str) -> int:
    """Return the checksum of whose a lane is, and of what of its conversation he may see. Frozen.

    Raises struct.error, TypeError, AttributeError or UnicodeError for values that none has.
    """
    place = _PLACE.pack(conversation, user, floor, _NOT_ENDED if until is None else until)
    return crc32(gaps.encode(), crc32(place))


def of_row(values: tuple[object, ...]) -> int:
    """Return the checksum of a row, from its columns as seals.py selects them. Frozen."""
    return crc32((_FORMS[len(values)] % values).encode())


def holds(row: Sequence[Any], checksum: object) -> bool:
    """Tell whether a message, as its MESSAGE_COLUMNS, is what was stored under that checksum."""
    try:
        return of_message(*row) == checksum
    except (ValueError, TypeError, ArithmeticError, _struct_error):
        return False  # a flipped bit can make a number text, or a text no UTF-8


def scheduled_holds(row: Sequence[Any], checksum: object) -> bool:
    """Tell whether a scheduled message, as its SCHEDULED_COLUMNS, is what was stored under that checksum."""
    return _is_sum_of(of_scheduled, checksum, row)


def letter_holds(checksum: object, *row: Any) -> bool:  # noqa: ANN401 - `of_letter`'s, or what a damaged file holds
    """Tell whether a queued or retained message is what was stored under that checksum."""
    try:  # not by `_is_sum_of`: that would be a quarter of it, for each message of a page
        return of_letter(*row) == checksum
    except (ValueError, TypeError, ArithmeticError, _struct_error):
        return False


def will_holds(checksum: object, row: Sequence[Any]) -> bool:
    """Tell whether a will, as the columns that `of_will` takes, is what was stored under that checksum."""
    return _is_sum_of(of_will, checksum, row)


def conversation_holds(checksum: object, *row: Any) -> bool:  # noqa: ANN401 - `of_conversation`'s, or what a damaged file holds
    """Tell whether a conversation is between whom it was stored under that checksum."""
    return _is_sum_of(of_conversation, checksum, *row)


def lane_holds(checksum: object, *row: Any) -> bool:  # noqa: ANN401 - `of_lane`'s, or what a damaged file holds
    """Tell whether a lane is whose it was, from when and until when it was, under that checksum."""
    return _is_sum_of(of_lane, checksum, *row)


def _is_sum_of(make: Callable[..., int], checksum: object, *row: Any) -> bool:  # noqa: ANN401 - `make`'s, or what a damaged file holds
    """Tell whether `make` gives that checksum; of what has none, as nobody stored such values, it is none."""
    try:
        return make(*row) == checksum
    except (ValueError, TypeError, ArithmeticError, AttributeError, _struct_error):
        return False


def readable(text: bytes) -> str:
    """Return a text from the store, also where a flipped bit has made it no UTF-8: its row is read like any other."""
    return text.decode("utf-8", "backslashreplace")


def reseal(connection: sqlite3.Connection, mid: int) -> None:
    """Give a message whose row was changed on purpose its new checksum; what was changed must have been verified."""
    row = connection.execute(f"SELECT {MESSAGE_COLUMNS} FROM message WHERE id = ?", (mid,)).fetchone()
    if row is not None:
        connection.execute(_RESEAL, (of_message(*row), mid))


def suspect(connection: sqlite3.Connection, mid: int) -> None:
    """Note that a message is not what was stored: whoever has the store open looks into it (messaging/quarantine.py).

    A connection of the store collects them in `suspects`; a plain one of SQLite's has nowhere to.
    """
    suspects = getattr(connection, "suspects", None)
    if suspects is not None:
        suspects.append(mid)


def prepare(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the migrations and the triggers use."""
    connection.create_function("message_checksum", 12, of_message, deterministic=True)
    connection.create_function("letter_checksum", 7, _of_any_letter, deterministic=True)
    connection.create_function("conversation_checksum", 4, of_conversation, deterministic=True)
    connection.create_function("lane_checksum", 5, of_lane, deterministic=True)
    connection.create_function("row_checksum", -1, _of_columns, deterministic=True)


def _of_columns(*pieces: bytes | None) -> int:
    return of_row(tuple([None if piece is None else readable(piece) for piece in pieces]))


def _of_any_letter(topic: bytes | str, *row: Any) -> int:  # noqa: ANN401 - `of_letter`'s
    """Return the checksum of a letter whose topic may be text, as that of a retained one is."""
    return of_letter(topic.encode() if isinstance(topic, str) else topic, *row)


def damaged_messages(connection: sqlite3.Connection, after: int = 0) -> Iterator[tuple[int, bool]]:
    """Yield the mid of every message above `after` that is not what was stored, and whether the server knows it."""
    rows = connection.execute(f"SELECT {MESSAGE_COLUMNS}, checksum FROM message WHERE id > ? ORDER BY id", (after,))
    for row in rows:
        if not holds(row[:-1], row[-1]):
            yield row[0], row[12] == CORRUPT
