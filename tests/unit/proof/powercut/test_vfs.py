"""The real store on a disk of ours: what it is told, how it fails, and what is there after a cut."""

from __future__ import annotations

import random
import sqlite3

import pytest

from mesimqtt.proof.powercut.disk import Disk, PowerCut
from mesimqtt.proof.powercut.vfs import PowerCutDisk, failure

ROW = "INSERT INTO retained (topic, payload, qos) VALUES (?, x'01', 0)"
IOERR_FSYNC, FULL = sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_FULL


@pytest.fixture
def power():
    power = PowerCutDisk(Disk(), random.Random(1))
    yield power
    power.close()


@pytest.fixture
def database(power, tmp_path):
    database = power.database(tmp_path)
    database.open()
    yield database
    database.close()


def commit(connection, *topics):
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(ROW, [(topic,) for topic in topics])
    connection.execute("COMMIT")


def topics(connection):
    return [topic for (topic,) in connection.execute("SELECT topic FROM retained ORDER BY topic")]


def test_it_is_opened_with_the_real_pragmas(database):
    """WAL and FULL are those of the shipped store; nothing of the proof changes them."""
    connection = database.connection()
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert ["wal", 2] == found
    assert database.suspects is connection.suspects


def test_it_speaks_like_sqlite3(database):
    """Counts, ids, rows, transactions and functions are those that the store knows."""
    connection = database.connection()
    assert -1 == connection.execute("BEGIN").rowcount
    assert connection.in_transaction
    assert 3 == connection.executemany(ROW, [("a",), ("b",), ("c",)]).rowcount
    inserted = connection.execute("INSERT INTO policy (name, rules) VALUES ('x', '{}')")
    assert (1, 2) == (inserted.rowcount, connection.execute("UPDATE retained SET qos = 1 WHERE topic < 'c'").rowcount)
    connection.execute("ROLLBACK")
    connection.create_function("twice", 1, lambda value: 2 * value, deterministic=True)

    assert not connection.in_transaction
    assert (4,) == connection.execute("SELECT twice(?)", (2,)).fetchone()
    assert ([], None) == (
        connection.execute("SELECT * FROM retained").fetchall(),
        connection.execute("SELECT * FROM retained").fetchone(),
    )


@pytest.mark.parametrize(
    ("sql", "values", "error"),
    [
        ("SELECT * FROM nothing", (), sqlite3.OperationalError),
        ("INSERT INTO retained (topic, payload, qos) VALUES ('a', NULL, 0)", (), sqlite3.IntegrityError),
        (ROW, ("a", "b"), sqlite3.ProgrammingError),
        (ROW, (object(),), sqlite3.ProgrammingError),
    ],
)
def test_it_fails_like_sqlite3(database, sql, values, error):
    """The same class of error, for mistakes of a statement and of its values."""
    with pytest.raises(error):
        database.connection().execute(sql, values)


@pytest.mark.parametrize("code", [IOERR_FSYNC, FULL, sqlite3.SQLITE_IOERR_READ])
def test_a_bad_disk_has_its_code(power, database, code):
    """A commit that the disk refuses raises OperationalError with SQLite's own code, and works again afterwards."""
    connection = database.connection()

    def fault(what, _name, _number):
        if what == "sync":
            raise failure(code)

    power.vfs.fault = fault
    with pytest.raises(sqlite3.OperationalError) as caught:
        commit(connection, "a")
    power.vfs.fault = None
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    commit(connection, "b")

    assert code == caught.value.sqlite_errorcode
    assert ["b"] == topics(connection)


def test_a_commit_survives_a_cut_and_nothing_else_does(power, database, tmp_path):
    """At every write of a commit the power goes: what was committed before is there, the commit itself whole or not."""
    connection = database.connection()
    commit(connection, "first")
    seen = set()
    for number in range(1, 40):
        power.disk.cut_at = power.disk.changes + number
        try:
            commit(connection, f"a{number}", f"b{number}")
            whole = True
        except PowerCut:
            whole = False
        power.cut()
        database.close()
        database = power.database(tmp_path)
        database.open()
        connection = database.connection()
        found = topics(connection)

        assert "first" in found
        assert (f"a{number}" in found) == (f"b{number}" in found)
        assert not whole or f"a{number}" in found
        seen.add((whole, f"a{number}" in found))

    assert {(True, True), (False, False)} <= seen
    assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
    database.close()


def test_short_and_misdirected(power, database):
    """A fault can shorten a read and move a write."""
    connection = database.connection()
    moved = []

    def fault(what, _name, number):
        if what == "write" and not moved:
            moved.append(number)
            return number + 4096
        return None

    power.vfs.fault = fault
    commit(connection, "a")
    power.vfs.fault = None

    assert 1 == len(moved)
