"""The data folder: whose it is, who may read it, who holds it, and how each connection writes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mesimqtt.domain.errors import InUseError, StoreError
from mesimqtt.domain.messages import PAIR, Conversation
from mesimqtt.store import conversations
from mesimqtt.store.database import APPLICATION_ID, Database, is_locked
from mesimqtt.store.migrations import VERSION

HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def opened(folder):
    database = Database(folder)
    database.open()
    return database


def descriptors():
    """Return the files that this process has open."""
    return sorted(str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())


def modes(folder):
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


def test_a_folder_is_made_with_its_parents(tmp_path):
    """A missing parent is no obstacle; the folder itself is private."""
    folder = tmp_path / "not" / "yet" / "here"
    opened(folder).close()

    assert 0o700 == folder.stat().st_mode & 0o777
    assert (folder / "mesimqtt.db").is_file()


def test_every_file_is_private_whatever_the_umask(folder):
    """Nobody else may read the database, its -wal and -shm, or the lock."""
    before = os.umask(0)
    try:
        database = opened(folder)
        database.connection().execute("INSERT INTO retained (topic, payload, qos) VALUES ('a', x'01', 0)")
        found = modes(folder)
        database.close()
    finally:
        os.umask(before)

    assert dict.fromkeys(["lock", "mesimqtt.db", "mesimqtt.db-shm", "mesimqtt.db-wal"], "0o600") == found


def test_every_connection_writes_through(folder):
    """On each thread's connection: WAL, synchronous FULL, and a second of patience with a lock."""
    database = opened(folder)
    found, names = [], ("journal_mode", "synchronous", "busy_timeout")

    def look():
        connection = database.connection()
        found.append([connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
        database.close_thread()

    look()
    for _ in range(2):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    database.close()

    assert [["wal", 2, 1000]] * 4 == found


def test_a_fresh_file_is_marked_as_ours(folder):
    """The file carries the application's id and the version, also after it was closed."""
    opened(folder).close()
    connection = sqlite3.connect(folder / "mesimqtt.db")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    connection.close()

    assert [APPLICATION_ID, VERSION] == found


@pytest.mark.parametrize("mark", [0, 0x47504B47])
def test_a_file_of_another_program_is_refused(folder, mark):
    """An SQLite file that is not ours is left as it is."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "mesimqtt.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.execute(f"PRAGMA application_id = {mark}")
    connection.close()
    with pytest.raises(StoreError, match="another program; choose another --data"):
        opened(folder)

    connection = sqlite3.connect(folder / "mesimqtt.db")
    assert [("theirs",)] == connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()


def test_newer_data_is_refused(folder):
    """Data of a newer version is refused, and the folder is free again afterwards."""
    opened(folder).close()
    connection = sqlite3.connect(folder / "mesimqtt.db")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match=f"version {VERSION + 1}, this program knows {VERSION}"):
        opened(folder)

    assert not is_locked(folder)


@pytest.mark.parametrize("what", ["no database", "a folder", "a cut file"])
def test_what_is_no_database_is_one_sentence(folder, what):
    """Garbage in the database's place is a StoreError that names the file; lock and connection are given back."""
    path = folder / "mesimqtt.db"
    if what == "a folder":
        path.mkdir(parents=True)
    else:
        folder.mkdir()
        path.write_bytes(b"this is not a database" * 100 if what == "no database" else b"SQLite format 3\0" + bytes(90))
    before = descriptors()
    said = r"mesimqtt\.db is damaged \(.*\); look at the disk, and restore a backup"
    with pytest.raises(StoreError, match=r"cannot open .*mesimqtt\.db" if what == "a folder" else said):
        opened(folder)

    assert not is_locked(folder)
    assert before == descriptors()


def test_a_folder_without_write_permission(tmp_path):
    """Where nothing may be written, that is said, with what to do; as root the test gives its rights away first."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(StoreError, match=r"cannot write in the data folder .*: Permission denied; choose another"):
            opened(folder)
        with pytest.raises(StoreError, match=r"cannot make the data folder .*: Permission denied; choose another"):
            opened(folder / "data")
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def test_a_file_in_the_folders_place(tmp_path):
    """A data folder that is a file is refused in one sentence."""
    (tmp_path / "data").write_text("x")
    with pytest.raises(StoreError, match=r"cannot make the data folder .*: File exists"):
        opened(tmp_path / "data")

    assert "x" == (tmp_path / "data").read_text()


def test_a_folder_that_another_process_holds(folder):
    """While another process has the lock the folder is in use; when it dies, without a word, the folder is free."""
    folder.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert "held" == holder.stdout.readline().strip()
        with pytest.raises(InUseError, match="in use by another mesimqtt server"):
            opened(folder)
        assert is_locked(folder)
        assert not (folder / "mesimqtt.db").exists()
        holder.kill()
        holder.wait()

    assert not is_locked(folder)
    opened(folder).close()


def test_a_folder_is_held_while_it_is_open(folder):
    """A second opening in the same process is refused too, until the first is closed."""
    first = opened(folder)
    with pytest.raises(InUseError):
        opened(folder)
    first.close()

    assert not is_locked(folder)
    opened(folder).close()


def test_nobody_holds_a_folder_that_is_not_there(folder):
    """Asking for the lock of a missing folder makes nothing."""
    assert not is_locked(folder)
    assert not folder.exists()


def test_a_connection_that_cannot_be_opened_is_an_error_of_sqlite(folder):
    """A thread whose connection fails sees SQLite's own error, which the committer knows how to judge."""
    database = opened(folder)
    database.close_thread()
    shutil.rmtree(folder)
    with pytest.raises(sqlite3.OperationalError, match="unable to open") as raised:
        database.connection()
    database.close()

    assert sqlite3.SQLITE_CANTOPEN == raised.value.sqlite_errorcode & 0xFF


def test_a_place_that_cannot_be_given_back_leaves_no_transaction(folder):
    """The disk is full, say, and SQLite has rolled back: that is what is raised, and the next transaction begins."""
    database = opened(folder)
    connection = database.connection()
    conversations.create(connection, Conversation(0, PAIR, 1, 2, 0))
    connection.execute("UPDATE lane SET user_id = 3 WHERE user_id = 2")
    connection.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON lane BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END"
    )
    with pytest.raises(sqlite3.Error, match="database or disk is full"):
        database.put_right(lambda: False)
    connection.execute("DROP TRIGGER full")

    assert database.put_right(lambda: False)
    assert [(1,), (2,)] == connection.execute("SELECT user_id FROM lane ORDER BY user_id").fetchall()
    database.close()
