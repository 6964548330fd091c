"""A backup is put back: into an empty folder only, whole or not at all, and never by a program that is too old."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from stat import S_IMODE

import pytest

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import BackupError
from mesimqtt.backup.restore import restore
from mesimqtt.backup.take import take
from mesimqtt.backup.verify import verify
from mesimqtt.domain.errors import InUseError, StoreError
from mesimqtt.domain.findings import Level
from mesimqtt.store import integrity
from mesimqtt.store.database import Database
from mesimqtt.store.migrations import MIGRATIONS, VERSION
from unit.backup.conftest import NOW_S
from unit.backup.test_verify import flip, rewrite
from unit.messaging.world import SECRET, World

LATER_MS = int((NOW_S + 60) * 1000)


@pytest.fixture
def backup(data, shelf):
    """A backup that is whole."""
    return take(data, shelf, now=NOW_S).path


@pytest.fixture
def place(tmp_path):
    """Where it is put; not there yet."""
    return tmp_path / "restored"


def texts(folder):
    """Return the payloads of all messages in a data folder."""
    with closing(sqlite3.connect(folder / "mesimqtt.db")) as connection:
        return [row[0].decode() for row in connection.execute("SELECT payload FROM message ORDER BY id")]


def test_it_is_all_there_and_private(backup, place):
    """Database and secret; what was copied opens, and nothing of the restore itself is left."""
    restore(backup, place, now_ms=LATER_MS)
    database = Database(place)
    database.open()
    database.close()

    assert ["message 0", "message 1", "message 2", "waits"] == texts(place)
    assert SECRET == (place / "token.secret").read_bytes()
    assert {"mesimqtt.db", "token.secret", "lock"} == {each.name for each in place.iterdir()}
    assert {0o700, 0o600} == {S_IMODE(each.stat().st_mode) for each in (place, *place.iterdir())}


@pytest.mark.parametrize("name", ["mesimqtt.db", "token.secret", "holiday.jpg"])
def test_never_over_anything(backup, place, name):
    """A folder that holds anything stays as it is; the sentence says what to do."""
    place.mkdir()
    (place / name).write_text("mine")
    with pytest.raises(BackupError, match=r"is not empty, .*--data DIR.*mv .*restored .*restored.old"):
        restore(backup, place, now_ms=LATER_MS)

    assert [name] == [each.name for each in place.iterdir()]
    assert "mine" == (place / name).read_text()


def test_an_empty_disk_is_empty(backup, place):
    """What a file system puts into its own root does not count, nor does a lock that nobody holds."""
    (place / "lost+found").mkdir(parents=True)
    (place / "lock").touch()
    restore(backup, place, now_ms=LATER_MS)

    assert 4 == len(texts(place))


def test_a_folder_that_a_server_has_just_taken(backup, place):
    """It is in use, and stays as it is."""
    place.mkdir()
    descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(InUseError):
            restore(backup, place, now_ms=LATER_MS)
    finally:
        os.close(descriptor)

    assert ["lock"] == [each.name for each in place.iterdir()]


def test_what_is_not_whole_is_not_restored(backup, place):
    """Nothing is made, not even the folder."""
    flip(backup / "mesimqtt.db", 50_000)
    with pytest.raises(BackupError, match=r"is not whole, so nothing was restored: files: mesimqtt\.db"):
        restore(backup, place, now_ms=LATER_MS)

    assert not place.exists()


def test_what_was_damaged_before_is_put_back_and_said(world, data, shelf, place):
    """A message that the disk had altered, and one that it lost, bar nothing: the rest is there, it reaches nobody."""
    with closing(sqlite3.connect(data / "mesimqtt.db")) as connection, connection:
        connection.execute("UPDATE message SET payload = x'774169' WHERE seq = 4")
        connection.execute("DELETE FROM message WHERE seq = 2")
    taken = take(data, shelf, now=NOW_S)
    done = restore(taken.path, place, now_ms=LATER_MS)
    after = World(place, start_ms=LATER_MS)
    after.tokens = world.tokens
    after.listener("alice").publish("u/bob/new", "goes on")
    received = [each.payload for each in after.listener("bob").received("u/")]
    fatal = after.fatal
    after.close()

    assert ["sequences"] == [each.check for each in taken.already]
    assert [
        ("sequences", "messages are missing that nobody has removed: 1 of conversation 1"),
        ("checksums", f"1 messages are not what was stored: {done.already[1].what[-16:]}"),
    ] == [(each.check, each.what) for each in done.already]
    assert [b"goes on"] == received
    assert ["message 0", "message 2", "wAi", "goes on"] == texts(place)
    assert [] == fatal


@pytest.mark.parametrize(
    "damage",
    ["DROP TABLE tie", "UPDATE sqlite_master SET rootpage = 3 WHERE name = 'message_conversation_id_seq'"],
)
def test_a_file_that_is_none_of_ours_is_not_restored(backup, place, damage):
    """Its schema is not ours, or SQLite finds its pages damaged, although its hash is the one of the manifest."""
    with closing(sqlite3.connect(backup / "mesimqtt.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(damage)

    def change(body):
        described = manifest.describe(backup, backup / "mesimqtt.db")
        body["files"][0] |= {"bytes": described.bytes, "sha256": described.sha256}

    rewrite(backup, change)
    with pytest.raises(BackupError, match=r"is not whole, so nothing was restored: (schema|file): "):
        restore(backup, place, now_ms=LATER_MS)
    assert not place.exists()


@pytest.mark.parametrize("moved", [(), ("token.secret",), ("token.secret", "configuration")])
def test_an_interrupted_restore_is_none(data, shelf, place, tmp_path, moved):
    """Until its last step there is no data, and no server begins with an empty database. Again, and it is done."""
    (tmp_path / "chat.yaml").write_text("log_level: DEBUG\n")
    (data / "serve.json").write_text(json.dumps({"config": str(tmp_path / "chat.yaml")}))
    backup = take(data, shelf, now=NOW_S).path
    (tmp_path / "chat.yaml").unlink()
    restore(backup, place, now_ms=LATER_MS)
    stage = place / ".restoring"  # as it was before it was moved
    stage.mkdir()
    for each in list(place.iterdir()):
        if each.name not in ("lock", ".restoring", *moved):
            each.rename(stage / each.name)
    with pytest.raises(StoreError, match="was interrupted; do it again: mesimqtt restore"):
        Database(place).open()
    again = restore(backup, place, now_ms=LATER_MS)

    assert 4 == len(texts(place))
    assert place / "configuration" / "chat.yaml" == again.configuration
    assert not stage.exists()


def test_the_last_step_was_done(backup, place):
    """A kill after it leaves an empty folder, which the server's start removes."""
    restore(backup, place, now_ms=LATER_MS)
    (place / ".restoring").mkdir()
    database = Database(place)
    database.open()
    database.close()

    assert not (place / ".restoring").exists()


@pytest.mark.parametrize("version", range(1, VERSION))
def test_older_data_is_brought_up_to_date(backup, place, version):
    """A backup of any earlier version is good, and becomes what this version needs; a newer one is refused."""
    (backup / "mesimqtt.db").unlink()
    with closing(sqlite3.connect(backup / "mesimqtt.db", isolation_level=None)) as connection:
        integrity.prepare(connection)
        for statement in (each for statements in MIGRATIONS[:version] for each in statements):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("PRAGMA application_id = 0x4D657369")
        connection.execute("INSERT INTO user (id, address, active, created_at, profile) VALUES (1, 'alice', 1, 0, '')")
    facts = {"schema": version, "users": 1, "messages": 0, "conversations": 0, "seqs": 0}

    def change(body):
        described = manifest.describe(backup, backup / "mesimqtt.db")
        body["files"][0] |= {"bytes": described.bytes, "sha256": described.sha256}
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        body["folders"][0]["facts"] |= facts | {"seqs_sha256": empty}

    rewrite(backup, change)
    looked = verify(backup)
    restore(backup, place, now_ms=LATER_MS)
    with closing(sqlite3.connect(place / "mesimqtt.db")) as connection:
        found = connection.execute("SELECT address, policy FROM user").fetchall()
        assert (VERSION,) == connection.execute("PRAGMA user_version").fetchone()

    assert [("alice", "")] == found
    assert [(Level.WARNING, "restore it, which brings the data up to date, and then run: mesimqtt check")] == [
        (each.level, each.mend) for each in looked.unlike if each.level is not Level.OK
    ]
    rewrite(backup, lambda body: body["folders"][0]["facts"].update(schema=VERSION + 1))
    with pytest.raises(BackupError, match=f"has data of version {VERSION + 1} .*install that version or a newer one"):
        restore(backup, place.with_name("other"), now_ms=LATER_MS)


def test_a_clock_that_is_behind(backup, place):
    """Before the moment of the backup nothing is restored: ids of messages come from the clock."""
    with pytest.raises(BackupError, match="the clock stands 3600 s before the backup"):
        restore(backup, place, now_ms=int(NOW_S * 1000) - 3_600_000)

    assert not place.exists()


def test_the_configuration(data, shelf, place, tmp_path):
    """Where it still stands as it was, it is used from there; else from the copy that came with the data."""
    config = tmp_path / "chat.yaml"
    config.write_text("log_level: DEBUG\n")
    (data / "serve.json").write_text(json.dumps({"config": str(config)}))
    backup = take(data, shelf, now=NOW_S).path
    same = restore(backup, place, now_ms=LATER_MS)
    assert not (place / "configuration").exists()
    config.write_text("log_level: INFO\n")
    other = restore(backup, place.with_name("other"), now_ms=LATER_MS)

    assert config == same.configuration
    assert place.with_name("other") / "configuration" / "chat.yaml" == other.configuration
    assert "log_level: DEBUG\n" == other.configuration.read_text()


def test_a_configuration_that_was_not_in_the_backup(data, shelf, place, tmp_path):
    """Commands do not look for what is not there."""
    (data / "serve.json").write_text(json.dumps({"config": str(tmp_path / "gone.yaml")}))
    backup = take(data, shelf, now=NOW_S).path

    assert restore(backup, place, now_ms=LATER_MS).configuration is None
    assert not (place / "serve.json").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config": 5}', '{"config": "a", "config": "b"}'])
def test_what_notes_the_configuration_and_cannot_be_read(data, shelf, place, text):
    """It is in no backup, and both say so; one that has it all the same is put back without, and says so."""
    (data / "serve.json").write_text(text)
    made = take(data, shelf, now=NOW_S)
    plain = restore(made.path, place, now_ms=LATER_MS)
    (made.path / "serve.json").write_text(text)
    found = manifest.describe(made.path, made.path / "serve.json")
    rewrite(made.path, lambda body: body["files"].append(asdict(found)))
    with_note = restore(made.path, place.with_name("other"), now_ms=LATER_MS)

    assert 1 == len(made.notes)
    assert "the configuration is not in the backup, nor what notes which it is: cannot read" in made.notes[0]
    assert (None, ()) == (plain.configuration, plain.notes)
    assert None is with_note.configuration
    assert "serve.json of the backup, which notes the configuration, cannot be read" in with_note.notes[0]
    assert not (place.with_name("other") / "serve.json").exists()


def test_where_there_is_no_disk(backup):
    """It is not said to be full."""
    with pytest.raises(BackupError, match=r"/proc/restored cannot be written: there is no disk below /proc; choose"):
        restore(backup, Path("/proc/restored"), now_ms=LATER_MS)


@pytest.mark.parametrize("was_begun", [False, True])
def test_a_restore_that_fails_while_it_copies(backup, place, was_begun):
    """Nothing of it is left, and the sentence says so; what bars a server from an earlier one's files stays."""
    if was_begun:
        (place / ".restoring" / "x").mkdir(parents=True)
        (place / "token.secret").write_bytes(SECRET)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(BackupError, match=r"cannot restore into .*: File too large") as told:
            restore(backup, place, now_ms=LATER_MS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert was_begun == (place / ".restoring").exists()
    assert was_begun == ("no server begins there: restore again" in str(told.value))
    assert was_begun != ("; nothing is left of it" in str(told.value))
    restore(backup, place, now_ms=LATER_MS)
    assert 4 == len(texts(place))


def test_further_applications_come_with_it(data, shelf, place):
    """Each is in its folder below the data, and begins anew like the first."""
    whole = take(data, shelf, now=NOW_S).path
    shutil.copytree(whole, data / "apps" / "shop", ignore=lambda *_: {"manifest.json"})
    restore(take(data, shelf, now=NOW_S).path, place, now_ms=LATER_MS)

    assert 4 == len(texts(place)) == len(texts(place / "apps" / "shop"))
    with closing(sqlite3.connect(place / "apps" / "shop" / "mesimqtt.db")) as connection:
        assert connection.execute("SELECT value FROM counter WHERE name = 'mid'").fetchone() is not None


def test_root_restores_for_another_user(backup, place):
    """What lies in a folder belongs to whom the folder belongs."""
    place.mkdir()
    owner = 65_534 if os.geteuid() == 0 else os.geteuid()
    os.chown(place, owner, -1)
    restore(backup, place, now_ms=LATER_MS)

    assert {owner} == {each.stat().st_uid for each in (place, *place.iterdir())}
