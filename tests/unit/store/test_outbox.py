"""The outbox: which rows are a batch, what becomes of dead letters, and how an endpoint goes."""

from __future__ import annotations

import pytest

from mesimqtt.store import outbox
from unit.store.rows import memory


@pytest.fixture
def connection():
    """A database with one endpoint, whose number is 1."""
    found = memory()
    outbox.add(found, "crm", 1)
    return found


def put(connection, *rows, number=1):
    """Put rows of (id, events, bytes, former webhook-id) into the outbox."""
    for row_id, events, size, key in rows:
        connection.execute(outbox.INSERT_ROW, (row_id, number, key, row_id, events, b"x" * size))


def batch(connection, *, after=0, sealed=0, alone=False, events=100, size=1_000):
    found = outbox.next_batch(connection, 1, after=after, sealed=sealed, alone=alone, events=events, size=size)
    return [row.id for row in found]


def test_a_batch_ends_at_its_bounds(connection):
    """Events and bytes are bounded, and one row that is larger than a batch is a batch."""
    put(connection, (1, 60, 10, ""), (2, 40, 10, ""), (3, 1, 10, ""), (4, 1, 5_000, ""), (5, 1, 10, ""))

    assert [1, 2] == batch(connection)
    assert [3] == batch(connection, after=2)
    assert [4] == batch(connection, after=3)
    assert [5] == batch(connection, after=4)
    assert [] == batch(connection, after=5)


def test_a_sealed_batch_is_the_same_again(connection):
    """What it was made of counts, not the bounds in force, nor what has come since."""
    put(connection, *[(number, 1, 10, "") for number in range(1, 9)])

    assert [1, 2, 3] == batch(connection, sealed=3, events=2)
    assert [1, 2, 3] == batch(connection, sealed=3, alone=True)
    assert [4, 5] == batch(connection, after=3, sealed=3, events=2)
    assert [4] == batch(connection, after=3, sealed=3, alone=True)


def test_a_dead_letter_that_is_sent_again_stands_alone(connection):
    """It is never mixed with others, before or behind it."""
    put(connection, (1, 1, 1, ""), (2, 1, 1, "msg_old"), (3, 1, 1, "msg_older"), (4, 1, 1, ""), (5, 1, 1, ""))

    assert [[1], [2], [3], [4, 5]] == [batch(connection, after=after) for after in (0, 1, 2, 3)]


def test_only_an_endpoint_s_own_rows_are_its_batch(connection):
    """Others' rows between its own are passed over."""
    put(connection, (1, 1, 1, ""), (3, 1, 1, ""))
    put(connection, (2, 1, 1, ""), number=2)

    assert [1, 3] == batch(connection)
    assert {1: (2, 2), 2: (1, 1)} == outbox.waiting(connection)
    assert (2, 2) == outbox.waiting_for(connection, 1)


def test_dead_letters_are_bounded_and_the_oldest_go(connection):
    """What goes is counted in events."""
    put(connection, *[(number, number, 1, "") for number in range(1, 6)])
    dropped = []
    for number in range(1, 6):
        rows = outbox.next_batch(connection, 1, after=0, sealed=0, alone=True, events=1, size=1)
        dropped.append(outbox.bury(connection, 1, rows, f"msg_{number}", 3, "no", 7, 3))

    assert [0, 0, 0, 1, 2] == dropped
    assert [3, 4, 5] == [letter.id for letter in outbox.letters(connection, 1, 0, 10)]
    assert 0 == outbox.forget_letters(connection, 7)
    assert 12 == outbox.forget_letters(connection, 8)
    assert [] == batch(connection)


def test_an_endpoint_goes_a_page_at_a_time(connection):
    """However much waits, no single transaction takes long; others' rows stay."""
    put(connection, *[(number, 1, 1, "") for number in range(1, 2_502)])
    put(connection, (5_000, 1, 1, ""), number=2)
    calls = 1
    while outbox.delete(connection, 1):
        calls += 1

    assert 4 == calls
    assert None is outbox.find(connection, "crm")
    assert {2: (1, 1)} == outbox.waiting(connection)


def test_numbers_go_on_above_all_that_were_given(connection):
    """The highest number counts, wherever it stands."""
    assert 0 == outbox.last_id(connection)
    put(connection, (7, 1, 1, ""))
    assert 7 == outbox.last_id(connection)
    connection.execute(outbox.SUCCEEDED, (1, 1, 9, 1))
    connection.execute(outbox.DELETE_UPTO, (1, 9))

    assert 9 == outbox.last_id(connection)
