"""The open store: its ballast, its reader, and how it closes, on a full disk too."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading

import pytest

from mesimqtt.domain.errors import InUseError, StoreError
from mesimqtt.settings import Store as StoreSettings
from mesimqtt.store import store as store_module
from mesimqtt.store.committer import Health
from mesimqtt.store.database import is_locked, sentence
from mesimqtt.store.store import Store
from unit.messaging.world import FakeLoop
from unit.store.desk import NOW_MS, ROW

MIB = 1024 * 1024


class Disk:
    """What the store asks about free space; `free` is the answer."""

    def __init__(self, free):
        self.free = free

    def disk_usage(self, path):
        return self


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def opened(folder, ballast=MIB):
    return Store(
        folder, StoreSettings(ballast_bytes=ballast), loop=FakeLoop(), now=lambda: 0.0, now_ms=lambda: NOW_MS,
        on_fatal=print, inline=True,
    )  # fmt: skip


def turn(store):
    """Do what the store scheduled on its loop."""
    store.committer._schedule.__self__.run()


def ballast_of(folder):
    path = folder / "ballast"
    return path.stat().st_size if path.exists() else None


def test_the_ballast_is_real_and_private(folder):
    """It is made at the start, takes its blocks on the disk, and nobody else may read it."""
    before = os.umask(0)
    store = opened(folder)
    os.umask(before)
    found = (folder / "ballast").stat()

    assert (MIB, 0o600) == (found.st_size, found.st_mode & 0o777)
    assert found.st_blocks * 512 >= MIB
    assert store.has_room()
    asyncio.run(store.close())


def test_the_ballast_stays_over_a_restart(folder):
    """It is not written again at every start, and follows the settings when they change."""
    asyncio.run(opened(folder).close())
    made = (folder / "ballast").stat().st_mtime_ns
    asyncio.run(opened(folder).close())
    assert made == (folder / "ballast").stat().st_mtime_ns
    sizes = []
    for size in (MIB // 2, 2 * MIB, 0):
        asyncio.run(opened(folder, size).close())
        sizes.append(ballast_of(folder))

    assert [MIB // 2, 2 * MIB, None] == sizes


def test_without_a_ballast_there_is_always_room(folder):
    """Switched off, the disk itself is the limit, and nothing is made or dropped."""
    store = opened(folder, 0)
    store.drop_ballast()

    assert (True, None) == (store.has_room(), ballast_of(folder))
    asyncio.run(store.close())


def test_a_dropped_ballast_is_remade_when_there_is_room_for_both(folder, monkeypatch):
    """After a full disk new messages are refused until the ballast fits again beside what they need."""
    disk = Disk(0)
    monkeypatch.setattr(store_module, "shutil", disk)
    store = opened(folder)
    store.drop_ballast()
    found = []
    for free in (0, MIB, 2 * MIB - 1, 2 * MIB, 0):
        disk.free = free
        found.append((store.has_room(), ballast_of(folder)))

    assert [(False, None)] * 3 + [(True, MIB)] * 2 == found
    asyncio.run(store.close())


def test_no_room_for_the_ballast_at_the_start(folder, monkeypatch, caplog):
    """A server on a disk that is full already starts, says so, refuses new messages, and leaves no half ballast."""
    written = []

    def write(descriptor, data):
        written.append(data)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    monkeypatch.setattr(store_module, "shutil", Disk(0))
    with monkeypatch.context() as full:
        full.setattr(store_module.os, "write", write)
        store = opened(folder)

    assert (False, None) == (store.has_room(), ballast_of(folder))
    assert "no room for the ballast file of 1048576 bytes: No space left on device" in caplog.text
    asyncio.run(store.close())


def limit(store, pages):
    """Let the file have no more than `pages` pages, as a full disk would."""
    store._database.connection().execute(f"PRAGMA max_page_count = {pages}")


def fill(store):
    """Write until the disk is full; return how many rows were committed."""
    number = 0
    while store.health is Health.OK:
        number += 1
        store.committer.batch.fragile.append((ROW.replace("x'01'", "zeroblob(4000)"), (f"fill{number}",)))
        store.committer.wake()
        turn(store)
    return number - 1


def test_on_a_full_disk_states_can_still_be_written(folder):
    """What was refused is not there, what was committed is; with some room states are written again, then closed."""
    store = opened(folder, 0)
    limit(store, 200)
    count = fill(store)
    assert Health.FULL is store.health
    store.committer.row("UPDATE retained SET qos = 1 WHERE topic = ?", "fill1")
    store.committer.tick(0.0, 1.0)
    turn(store)

    assert Health.OK is store.health  # an acknowledgement takes no page of its own
    assert [(count, 1)] == store.read.execute("SELECT count(*), sum(qos) FROM retained").fetchall()
    assert [("ok",)] == store.read.execute("PRAGMA integrity_check").fetchall()
    asyncio.run(store.close())


def test_closing_on_a_full_disk(folder):
    """A store that cannot write closes all the same, gives the folder free, and has lost nothing it committed."""
    store = opened(folder, 0)
    limit(store, 200)
    count = fill(store)
    store.committer.row(ROW.replace("x'01'", "zeroblob(9000)"), "never")
    store.committer.wake()
    turn(store)
    assert Health.FULL is store.health

    async def close():
        store.committer._schedule = asyncio.get_running_loop().call_soon
        await asyncio.wait_for(store.close(), 20)

    asyncio.run(close())
    assert not is_locked(folder)
    again = opened(folder, 0)

    assert [(count,)] == again.read.execute("SELECT count(*) FROM retained").fetchall()
    asyncio.run(again.close())


def test_closing_commits_what_is_left(folder):
    """What waited for the next commit is in the store after a good end."""
    store = opened(folder, 0)

    async def close():
        store.committer._schedule = asyncio.get_running_loop().call_soon
        store.committer.row(ROW, "a")
        store.committer.lazily(0.0)
        await asyncio.wait_for(store.close(), 20)

    asyncio.run(close())
    again = opened(folder, 0)

    assert [("a",)] == again.read.execute("SELECT topic FROM retained").fetchall()
    asyncio.run(again.close())


def test_closing_writes_the_wal_back(folder):
    """After a good end one file holds everything; beside it stands what its bytes add up to."""
    store = opened(folder, 0)
    store.committer.row(ROW, "a")
    store.committer.wake()
    turn(store)
    asyncio.run(store.close())
    connection = sqlite3.connect(f"file:{folder / 'mesimqtt.db'}?mode=ro&immutable=1", uri=True)

    assert ["lock", "mesimqtt.db", "mesimqtt.db-sum"] == sorted(path.name for path in folder.iterdir())
    assert [("a",)] == connection.execute("SELECT topic FROM retained").fetchall()
    connection.close()


def test_a_store_that_cannot_be_opened_is_a_store_error(folder):
    """The second store on a folder is refused, and the first is not disturbed."""
    store = opened(folder, 0)
    with pytest.raises(InUseError):
        opened(folder, 0)

    assert store.read.execute("SELECT count(*) FROM user").fetchone() == (0,)
    asyncio.run(store.close())


def test_reading_aside(folder, caplog):
    """Reads run in their thread, in order, with a connection of their own; one that fails is logged and stops none."""
    answers = []

    async def story():
        store = Store(
            folder, StoreSettings(ballast_bytes=0), loop=asyncio.get_running_loop(), now=lambda: 0.0,
            now_ms=lambda: NOW_MS, on_fatal=print,
        )  # fmt: skip
        await store.committer.run(lambda connection: connection.execute(ROW, ("a",)) and None)
        done = asyncio.Event()
        for sql in ("SELECT topic FROM retained", "SELECT * FROM missing", "SELECT 2"):
            store.read_later(lambda c, sql=sql: c.execute(sql).fetchall(), answers.append)
        own = store.read
        store.read_later(lambda c: 1 // 0, answers.append)
        store.read_later(lambda c: c is own, answers.append)
        store.read_later(lambda c: c.execute("PRAGMA synchronous").fetchone(), lambda row: done.set())
        await asyncio.wait_for(done.wait(), 20)
        await store.close()

    asyncio.run(story())

    assert [[("a",)], [(2,)], False] == answers
    assert "a read failed" in caplog.text
    assert "cannot read: no such table: missing" in caplog.text


def test_a_read_that_the_disk_failed_is_tried_again(folder):
    """A device waits for its page: after a fault of the disk it gets it, once, without asking again."""
    store = opened(folder, 0)
    answers, tries = [], []

    def read(connection):
        tries.append(connection)
        if len(tries) < 3:
            raise sqlite3.OperationalError("disk I/O error")
        return connection.execute("SELECT 7").fetchone()

    store.read_later(read, answers.append)
    for _ in range(4):
        store.retry_reads()

    assert ([(7,)], 3) == (answers, len(tries))
    asyncio.run(store.close())


def test_a_computation_holds_up_neither_reads_nor_the_end(tmp_path):
    """What is slow on purpose runs beside them: backlogs are read meanwhile, and the server ends without it."""
    go = threading.Event()

    async def story():
        store = Store(
            tmp_path / "data", StoreSettings(ballast_bytes=0), loop=asyncio.get_running_loop(), now=lambda: 0.0,
            now_ms=lambda: NOW_MS, on_fatal=print,
        )  # fmt: skip
        slow = asyncio.ensure_future(store.compute(lambda: go.wait(60)))
        await asyncio.sleep(0)
        found = await store.ask(lambda connection: connection.execute("SELECT 1").fetchall())
        await store.close()
        was_waiting = not slow.done()
        go.set()
        return found, was_waiting, await slow

    assert ([(1,)], True, True) == asyncio.run(story())


def big(folder):
    """A store whose check takes more than one look at the clock, and whose log says so."""
    store = opened(folder, 0)
    connection = store.read
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.executemany(ROW, [(f"topic/{number}",) for number in range(20_000)])
    connection.execute("COMMIT")
    return store


def test_a_small_database_is_checked_at_once(folder, caplog):
    """Its structure is known to be good before anybody comes, and nothing is said."""
    caplog.set_level("INFO")
    store = opened(folder, 0)
    store.check(lambda: 0.0)

    assert "" == caplog.text
    asyncio.run(store.close())


def test_a_large_database_is_checked_beside_the_work(folder, caplog):
    """When the time is up the check goes on table by table; what it finds stops the server with a sentence."""
    caplog.set_level("INFO")
    fatal, ticks = [], iter(range(1_000_000))
    store = big(folder)
    store._on_fatal = fatal.append
    store.check(lambda: float(next(ticks)))
    assert ("is checked beside the work" in caplog.text, []) == (True, fatal)
    (root,) = store.read.execute("SELECT rootpage FROM sqlite_master WHERE name = 'retained'").fetchone()
    asyncio.run(store.close())
    with (folder / "mesimqtt.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 8)
    again = opened(folder, 0)
    again._on_fatal = fatal.append
    check = again._database.check
    again._database.check = lambda stop, table="": bool(table) and check(stop, table=table)  # as of a larger one
    again.check(lambda: 0.0)

    assert 1 == len(fatal)
    assert "is damaged (" in fatal[0]
    again.abandon()


def test_no_check_is_made_where_none_is_wanted(folder):
    """With check_s 0 a start looks at nothing."""
    settings = StoreSettings(ballast_bytes=0, check_s=0)
    store = Store(
        folder, settings, loop=FakeLoop(), now=lambda: 0.0, now_ms=lambda: NOW_MS, on_fatal=print, inline=True
    )
    store._database.check = None
    store.check(lambda: 0.0)
    asyncio.run(store.close())


def test_a_full_disk_is_no_damage(folder):
    """What fails for want of room says so, and does not send anybody to his backups."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with (
        pytest.raises(StoreError, match=r"for the disk is full; make room, and start again$"),
        sentence(folder / "x.db"),
    ):
        raise error
