"""Checksums: what stands in the store is what was stored, or it is found not to be."""

from __future__ import annotations

import random

import pytest

from mesimqtt.domain.messages import PAIR, Conversation
from mesimqtt.store import integrity, messages, scheduled
from mesimqtt.store.integrity import CORRUPT, MESSAGE_COLUMNS, SCHEDULED_COLUMNS, of_letter, of_message, of_scheduled
from unit.store.desk import pair
from unit.store.rows import insert, memory

ROW = (1 << 60, 5, 7, 0, 3, "phone", "42", 1_790_000_000_000, 1_890_000_000_000, 3, "type=1", b"hello")
NAMES = [name.strip() for name in MESSAGE_COLUMNS.split(",")]


@pytest.mark.parametrize("place", range(17))
def test_every_column_counts(place):
    """A message of which any one column is another has another checksum, also where it was NULL."""
    row = [*ROW, 0, 0, None, None, None]
    before = of_message(*row)
    value = row[place]
    row[place] = (
        value + b"!" if isinstance(value, bytes) else f"{value}!" if isinstance(value, str) else (value or 0) + 1
    )

    assert before != of_message(*row)
    assert not integrity.holds(row, before)


def test_one_flipped_bit_is_found():
    """Each bit of a payload, flipped alone, makes another checksum."""
    before, payload = of_message(*ROW), ROW[-1]
    for bit in range(8 * len(payload)):
        altered = bytearray(payload)
        altered[bit // 8] ^= 1 << bit % 8

        assert before != of_message(*ROW[:-1], bytes(altered))


def test_checksums_are_frozen():
    """What was stored by an earlier version is verified by every later one: these numbers never change."""
    waiting = (1, 2, 0, 3, "phone", "42", 4, 5, 0, 6, 3, "when=9", b"hello", None)

    assert of_message(*ROW) == integrity.of_fresh(ROW)
    assert [2598567030, 2257031970, 3253718525, 2653673747] == [
        of_message(*ROW), of_message(*ROW, 0x21, 1, 2, 3, 4), of_scheduled(waiting),
        of_letter(b"free/a", b"hello", b"", 1, 9, 2, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [None, 1.5, b"x", "x", 1 << 70, "\udc80"])
def test_what_is_no_value_of_a_message_does_not_hold(value):
    """Whatever a damaged row holds in the place of a number, a text or bytes: it is damaged, and nothing is raised."""
    checksum = of_message(*ROW)
    for place in range(12):
        row = [*ROW, 0, 0, None, None, None]
        if row[place] != value:
            row[place] = value
            integrity.holds(row, checksum)

            assert not (integrity.holds(row, checksum) and place not in (14, 15, 16))


def stored(count=5):
    """Return a connection, a conversation in it and `count` messages of it."""
    connection = memory()
    insert(connection, "conversation", id=1, kind=PAIR, a=1, b=2, last_seq=count)
    for seq in range(1, count + 1):
        insert(connection, "message", id=seq, conversation_id=1, seq=seq, sender_id=1, cid=f"c{seq}", payload=b"text")
    return connection, Conversation(1, PAIR, 1, 2, count)


@pytest.mark.parametrize(
    "column", ["payload", "params", "cid", "sender_id", "kind", "expires_at", "state", "edited_by"]
)
def test_a_damaged_row_is_a_gap(column):
    """A page leaves it out and has the others; by its mid it is there without a byte of it, and marked."""
    connection, conversation = stored()
    connection.execute(f"UPDATE message SET {column} = 9 WHERE id = 3")  # noqa: S608 - a name of ours
    found = messages.by_mid(connection, 3)

    assert [1, 2, 4, 5] == [message.mid for message in messages.page(connection, conversation, 0, 10)]
    assert (CORRUPT, b"", "") == (found.state, found.payload, found.params)


def test_a_page_of_damaged_rows_is_not_the_end():
    """Where more rows in a row are damaged than a page holds, the next whole ones are found all the same."""
    connection, conversation = stored(9)
    connection.execute("UPDATE message SET payload = x'00' WHERE id < 8")

    assert [8, 9] == [message.mid for message in messages.page(connection, conversation, 0, 3)]


def test_a_text_that_is_no_utf8(tmp_path):
    """A flipped bit that makes a text no UTF-8 hides no other row; the row is damaged like any other."""
    connection, conversation = stored()
    connection.execute("UPDATE message SET cid = CAST(x'ff6f' AS TEXT) WHERE id = 2")

    assert [1, 3, 4, 5] == [message.mid for message in messages.page(connection, conversation, 0, 10)]
    assert CORRUPT == messages.by_mid(connection, 2).state
    assert "text" == connection.execute("SELECT 'text'").fetchone()[0]


def test_what_the_committer_writes_holds(desk):
    """Every message of a commit has its checksum, whatever it is."""
    desk.accept("1", "2", conversation=pair(), payload=random.Random(1).randbytes(3000))

    assert [] == list(integrity.damaged_messages(desk.database.connection()))
    assert 2 == len(desk.all("SELECT 1 FROM message WHERE checksum <> 0"))


def test_damaged_messages_are_listed():
    """For who checks a store: each damaged mid, and whether the server has set it apart already."""
    connection, _ = stored()
    connection.execute("UPDATE message SET payload = x'00' WHERE id IN (2, 4)")
    connection.execute("UPDATE message SET state = ? WHERE id = 4", (CORRUPT,))

    assert [(2, False), (4, True)] == list(integrity.damaged_messages(connection))
    assert [(4, True)] == list(integrity.damaged_messages(connection, 3))


def test_the_type_of_a_value_counts():
    """A flipped bit can make bytes a text of the same bytes: that is damage, too."""
    checksum = of_letter(b"free/a", b"hello", b"", 1, 9, 2, 3)

    assert integrity.letter_holds(checksum, b"free/a", b"hello", b"", 1, 9, 2, 3)
    for row in (("free/a", b"hello", b""), (b"free/a", "hello", b""), (b"free/a", b"hello", "")):
        assert not integrity.letter_holds(checksum, *row, 1, 9, 2, 3)


def test_a_damaged_scheduled_message_says_so():
    """One that waits for its time and is not what was stored has no bytes left, and says that it is not whole."""
    connection = memory()
    row = scheduled.Row(1, 2, 0, 3, "phone", "42", 4, 5, 0, 6, 3, "when=9", b"hello", None)
    scheduled.accept(connection, row, None, most=9)
    assert scheduled.find(connection, 1).is_whole
    scheduled.replace(connection, 1, b"other")
    assert (True, b"other") == (scheduled.find(connection, 1).is_whole, scheduled.find(connection, 1).payload)
    connection.execute("UPDATE scheduled SET payload = x'01'")
    (found,) = scheduled.due(connection, 9, 9)

    assert (False, b"") == (found.is_whole, found.payload)
    scheduled.replace(connection, 1, b"legal again")
    assert not scheduled.find(connection, 1).is_whole
    assert 14 == len(SCHEDULED_COLUMNS.split(","))
