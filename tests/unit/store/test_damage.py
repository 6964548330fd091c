"""Before SQLite looks at a log: a commit that was cut off is its end, a flipped bit is damage."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3

import pytest

from mesimqtt.domain.errors import StoreError
from mesimqtt.store import damage
from mesimqtt.store.database import Database, is_locked

ROW = "INSERT INTO retained (topic, payload, qos) VALUES (?, ?, 0)"
FRAME = 24 + 4096


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A data folder as a process left it that was killed: ten commits in its log."""
    folder, copy = (tmp_path_factory.mktemp("x") / name for name in ("data", "killed"))
    database = Database(folder)
    database.open()
    connection = database.connection()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(10):
        connection.execute(ROW, (f"t{number}", random.Random(number).randbytes(3000)))
    copy.mkdir()
    for name in ("mesimqtt.db", "mesimqtt.db-wal", "mesimqtt.db-shm"):
        shutil.copy(folder / name, copy / name)
    database.close()
    return copy


@pytest.fixture
def folder(killed, tmp_path):
    """A copy of it."""
    return shutil.copytree(killed, tmp_path / "data")


def log_of(folder):
    return folder / "mesimqtt.db-wal"


def altered(folder, at, *, bit=0):
    """Flip a bit of the log."""
    data = bytearray(log_of(folder).read_bytes())
    data[at] ^= 1 << bit
    log_of(folder).write_bytes(data)


def topics(database):
    return [topic for (topic,) in database.connection().execute("SELECT topic FROM retained ORDER BY topic")]


def test_a_whole_log_is_used(folder):
    """What a killed process committed is there, and nothing is said."""
    database = Database(folder)
    database.open()

    assert [f"t{number}" for number in range(10)] == topics(database)
    database.close()


@pytest.mark.parametrize("at", [5, 17, 26, 32, 32 + 9, 32 + 17, 32 + 24, 32 + 3 * FRAME + 500, -FRAME, -1])
def test_a_flipped_bit_in_the_log_is_refused(folder, at):
    """In its header, a frame's, a page, and the last frame: whatever would undo commits; nothing is changed by that."""
    size = log_of(folder).stat().st_size
    altered(folder, at % size, bit=3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        StoreError, match=r"is damaged: frame \d+ of its log .* restore a backup; or, .*damaged_log: cut"
    ):
        Database(folder).open()

    assert not is_locked(folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def test_an_operator_may_go_on_without_what_is_lost(folder, caplog):
    """With `damaged_log: cut` what stands before the damage is used, and the log says so."""
    altered(folder, 32 + 5 * FRAME + 100)
    database = Database(folder, cuts_log=True)
    database.open()

    assert 0 < len(topics(database)) < 10
    assert "what was committed behind it is lost, as configured" in caplog.text
    database.close()


@pytest.mark.parametrize("left", [1, FRAME, 2 * FRAME, 4 * FRAME])
def test_a_log_that_was_cut_off_is_refused(folder, left):
    """A log shorter than what the killed process had synced is damage."""
    data = log_of(folder).read_bytes()
    log_of(folder).write_bytes(data[:-left])
    with pytest.raises(StoreError, match="is damaged"):
        Database(folder).open()


@pytest.mark.parametrize("frames", [1, 2])
def test_a_commit_that_was_cut_off_is_the_end(folder, frames):
    """After a power cut there is no index, and the last commit may be torn: that is no damage."""
    (folder / "mesimqtt.db-shm").unlink()
    data = bytearray(log_of(folder).read_bytes())
    data[-frames * FRAME + 30 : -frames * FRAME + 600] = bytes(570)
    log_of(folder).write_bytes(data)
    database = Database(folder)
    database.open()

    assert 9 == len(topics(database))
    database.close()


def test_without_an_index_all_but_the_last_commit_is_looked_after(folder):
    """A flipped bit is found wherever a later commit carries on from it."""
    (folder / "mesimqtt.db-shm").unlink()
    log = log_of(folder).read_bytes()
    commits = [n for n in range((len(log) - 32) // FRAME) if log[32 + n * FRAME + 4 : 32 + n * FRAME + 8] != bytes(4)]
    last = commits[-2] + 1  # the first frame of the last commit
    for seed in range(60):
        at = random.Random(seed).randrange(32, 32 + last * FRAME)
        data = bytearray(log)
        data[at] ^= 1 << seed % 8

        assert damage.in_log(bytes(data)) is not None, f"bit {seed % 8} at {at}"


def test_an_index_of_another_log_says_nothing(folder):
    """Salts, checksum and both copies of the index must be right before it is believed."""
    log, index = log_of(folder).read_bytes(), bytearray((folder / "mesimqtt.db-shm").read_bytes())
    cut = log[: 32 + 3 * FRAME]
    assert damage.in_log(cut, bytes(index)) is not None
    index[16] ^= 1
    assert damage.in_log(cut, bytes(index)) is None
    index[48 + 16] ^= 1

    assert damage.in_log(cut, bytes(index)) is None
    assert damage.in_log(cut, b"") is None
    assert damage.in_log(b"", bytes(index)) is None


def test_a_database_that_was_altered_while_it_was_stopped(tmp_path, caplog):
    """After a stop in good order its bytes are known: the next start says if they are others, and goes on."""
    folder = tmp_path / "data"
    for is_altered in (False, False, True, False):
        path = folder / "mesimqtt.db"
        if is_altered:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("INSERT INTO progress (name, value) VALUES ('x', 0)")
                connection.commit()
        database = Database(folder)
        database.open()
        database.close(in_order=True)

        assert is_altered == ("was changed while no server ran" in caplog.text)
        caplog.clear()
    assert 0o600 == (folder / "mesimqtt.db-sum").stat().st_mode & 0o777


def test_a_database_that_was_removed_while_it_was_stopped(tmp_path, caplog):
    """What is left of its checksum bars no start: the log says that the data is gone, once, and a new one begins."""
    folder = tmp_path / "data"
    database = Database(folder)
    database.open()
    database.close(in_order=True)
    (folder / "mesimqtt.db").unlink()
    database.open()
    database.close()
    said = caplog.text
    caplog.clear()
    database.open()
    database.close()

    assert 1 == said.count("mesimqtt.db is gone, although the last stop left it. This server begins with no data")
    assert "" == caplog.text
    assert not (folder / "mesimqtt.db-sum").exists()


def test_a_checksum_of_what_cannot_be_read_bars_one_start_alone(tmp_path):
    """Whatever keeps the database from being compared, the next start does not meet it again."""
    database = Database(tmp_path)
    (tmp_path / "mesimqtt.db").mkdir()
    (tmp_path / "mesimqtt.db-sum").write_text(f"{(tmp_path / 'mesimqtt.db').stat().st_size} 0")
    with pytest.raises(StoreError, match=r"cannot open .*mesimqtt\.db is no regular file, but a folder"):
        database.open()
    (tmp_path / "mesimqtt.db").rmdir()
    database.open()
    database.close()


def test_a_killed_process_leaves_no_checksum(tmp_path):
    """What is kept over a stop goes at the start, so that it is never older than the database."""
    database = Database(tmp_path)
    database.open()
    database.close(in_order=True)
    database.open()
    assert not (tmp_path / "mesimqtt.db-sum").exists()
    database.close()

    assert not (tmp_path / "mesimqtt.db-sum").exists()
    (tmp_path / "mesimqtt.db-sum").write_text("nonsense")
    database.open()
    database.close()


def test_a_damaged_structure_is_refused(tmp_path):
    """The check at the start names the file, what is wrong, and what to do; a check that is stopped says so."""
    database = Database(tmp_path)
    database.open()
    assert database.check(lambda: False)
    connection = database.connection()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'message_conversation_id_seq'")
    database.close()
    database.open()
    with pytest.raises(StoreError, match=r"mesimqtt\.db is damaged \(.+\); look at the disk, and restore a backup"):
        database.check(lambda: False)
    database.close()
