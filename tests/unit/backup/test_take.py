"""A backup: what is in it, who may read it, what it never touches, and what an interrupted one leaves."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from stat import S_IMODE

import pytest

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import BackupError
from mesimqtt.backup.shelf import backups, find, prune
from mesimqtt.backup.take import take
from mesimqtt.domain.errors import MesimqttError
from unit.backup.conftest import NOW_S
from unit.backup.test_verify import rewrite

DAY_S = 86_400


def names(folder):
    """Return everything below a folder, by its name there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_is_in_a_backup(world, data, shelf):
    """Database, secret and manifest, in a folder named by its moment, all private; beside a server that has it."""
    taken = take(data, shelf, now=NOW_S)

    assert taken.path.parent == shelf
    assert taken.path.name == "2026-09-21T15-13-20Z"
    assert ["manifest.json", "mesimqtt.db", "token.secret"] == names(taken.path)
    modes = {S_IMODE(path.stat().st_mode) for path in (shelf, taken.path, *taken.path.iterdir())}
    assert {0o700, 0o600} == modes
    found = manifest.read(taken.path)
    (folder,) = found.folders
    assert taken.manifest == found
    assert (2, 4, 1, 4) == folder.facts[1:2] + folder.facts[3:6]
    assert {"mesimqtt.db", "token.secret"} == {each.path for each in found.files}
    assert [] == world.fatal


def test_everything_a_server_has_beside_its_database(data, shelf, tmp_path):
    """Keys of others, the note of the configuration and that file itself, and further applications with theirs."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "chat.yaml").write_text("log_level: DEBUG\n")
    (data / "serve.json").write_text(json.dumps({"config": str(tmp_path / "etc" / "chat.yaml")}))
    (data / "jwks.cache").write_text("[]")
    (data / "search.db").write_text("is made again")
    shop = data / "apps" / "shop"
    first = take(data, shelf, now=NOW_S).path
    shop.mkdir(parents=True)
    for name in ("mesimqtt.db", "token.secret"):
        (shop / name).write_bytes((first / name).read_bytes())
    (shop / "serve.json").write_text(json.dumps({"config": str(tmp_path / "etc" / "gone.yaml")}))
    taken = take(data, shelf, now=NOW_S + 1)

    files = {each.path for each in taken.manifest.files}
    ours = {"mesimqtt.db", "token.secret", "serve.json", "jwks.cache", "configuration/chat.yaml"}
    assert ours | {f"apps/shop/{name}" for name in ("mesimqtt.db", "token.secret", "serve.json")} == files
    assert ["", "apps/shop"] == [each.path for each in taken.manifest.folders]
    (note,) = taken.notes
    assert "gone.yaml is not in the backup" in note
    assert {0o700} == {S_IMODE(path.stat().st_mode) for path in taken.path.rglob("*") if path.is_dir()}


def test_what_was_taken_back_is_in_no_byte_of_it(world, data, shelf):
    """A message that was deleted before is not in the copy, not even as a remainder."""
    alice = world.listener("alice", "pad")
    alice.publish("u/bob/secret", "a secret that is taken back")
    ((mid,),) = world.rows("SELECT max(id) FROM message")
    alice.publish(f"u/bob/recall/recall={mid:016x}", "")
    copied = (take(data, shelf, now=NOW_S).path / "mesimqtt.db").read_bytes()

    assert b"message 1" in copied
    assert b"a secret that is taken back" not in copied


def test_no_backup_is_overwritten(data, shelf):
    """Two in one second are two; what lies beside them stays."""
    shelf.mkdir()
    (shelf / "mine.txt").write_text("mine")
    made = [take(data, shelf, now=NOW_S).path for _ in range(3)]

    assert made == backups(shelf)
    assert ["2026-09-21T15-13-20Z", "2026-09-21T15-13-20Z-2", "2026-09-21T15-13-20Z-3"] == [each.name for each in made]
    assert made[-1] == find(shelf)
    (made[-1] / "manifest.json").unlink()
    with pytest.raises(BackupError, match=rf"{made[-1].name} is damaged: .*has one: {made[-2]}"):
        find(shelf)
    with pytest.raises(BackupError, match=r"is damaged: it has no .*; choose another"):
        find(made[-1])
    assert "mine" == (shelf / "mine.txt").read_text()


def test_an_interrupted_backup_leaves_none(data, shelf):
    """What a killed one left is none, whatever is in it, and goes with the next; after an error nothing is left."""
    whole = take(data, shelf, now=NOW_S).path
    left = shelf / ".partial-2026-09-21T15-13-21Z"
    left.mkdir()
    for each in whole.iterdir():
        (left / each.name).write_bytes(each.read_bytes())

    def fail(_):
        raise BackupError("not whole")

    assert [whole] == backups(shelf)
    with pytest.raises(BackupError, match="not whole"):
        take(data, shelf, now=NOW_S + 2, prove=fail)
    assert [".lock", whole.name] == sorted(each.name for each in shelf.iterdir())


def test_one_at_a_time(data, shelf):
    """Who makes a backup while another is made there is told to wait, and disturbs nothing."""
    shelf.mkdir()
    descriptor = os.open(shelf / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(BackupError, match="another backup is being made"):
            take(data, shelf, now=NOW_S)
    finally:
        os.close(descriptor)

    assert [] == backups(shelf)


def test_keep_removes_the_oldest_of_this_server_alone(data, shelf, tmp_path):
    """The newest N stay; another server's, what is damaged and what is no backup stay too, and do not count."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "mesimqtt.db").write_bytes((take(data, shelf, now=NOW_S).path / "mesimqtt.db").read_bytes())
    (other / "token.secret").write_bytes(b"o" * 32)
    foreign = take(other, shelf, now=NOW_S - DAY_S).path
    damaged = take(data, shelf, now=NOW_S - 2 * DAY_S).path
    (damaged / "manifest.json").write_text("{}")
    (shelf / "2020-01-01T00-00-00Z").mkdir()
    made = [take(data, shelf, now=NOW_S + number * DAY_S, keep=2).path for number in range(1, 4)]

    assert [damaged, foreign, *made[-2:]] == backups(shelf)
    assert (shelf / "2020-01-01T00-00-00Z").is_dir()


def test_a_backup_that_fails_removes_nothing(data, shelf):
    """Only a backup that is complete makes an older one superfluous."""
    first = take(data, shelf, now=NOW_S, keep=1).path

    def fail(_):
        raise BackupError("not whole")

    with pytest.raises(BackupError):
        take(data, shelf, now=NOW_S + 1, keep=1, prove=fail)
    assert [first] == backups(shelf)


def test_an_older_backup_that_cannot_be_removed(data, shelf):
    """The new one is made and counts; what stands in the way of the old one is a note."""
    first = take(data, shelf, now=NOW_S).path

    def bar(_):
        (shelf / f".removed-{first.name}").write_text("a file where the old one would go")

    taken = take(data, shelf, now=NOW_S + 1, keep=1, prove=bar)
    assert ([first, taken.path], ()) == (backups(shelf), taken.removed)
    (note,) = taken.notes
    assert f"the backup is made, but older ones in {shelf} could not be removed: Not a directory" == note


@pytest.mark.parametrize("folder", ["", "apps/shop"])
def test_without_its_secret_there_is_no_backup(data, shelf, folder):
    """What nobody could get into again is not called a backup: the sentence says what to do."""
    whole = take(data, shelf, now=NOW_S).path
    if folder:
        (data / folder).mkdir(parents=True)
        (data / folder / "mesimqtt.db").write_bytes((whole / "mesimqtt.db").read_bytes())
    else:
        (data / "token.secret").unlink()
    with pytest.raises(BackupError, match=r"there is no token.secret in .*: put it back from an older backup, or "):
        take(data, shelf, now=NOW_S + 1)
    assert [whole] == backups(shelf)


def test_backups_of_nobody_are_not_removed(data, shelf):
    """Those without a secret, as earlier versions made them, are of any server: none of them goes."""
    made = [take(data, shelf, now=NOW_S + number).path for number in range(3)]
    for each in made:
        rewrite(each, lambda body: body.update(installation=""))

    assert ([], made) == (prune(shelf, 1, ""), backups(shelf))


def test_what_cannot_be_backed_up_says_why(data, tmp_path):
    """No data, a place within the data, a file in place of a folder, a database of somebody else."""
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mesimqtt.db").write_bytes(b"")

    for source, target, words in (
        (tmp_path / "nothing", tmp_path / "b", "there is no data of mesimqtt"),
        (data, data, "lies in the data folder"),
        (data, data / "backups" / "daily", "lies in the data folder"),
        (data, tmp_path / "file", "cannot write in"),
        (tmp_path / "foreign", tmp_path / "b", "of another program"),
        (data, Path("/proc/mesimqtt"), r"a backup in /proc/mesimqtt cannot be written: there is no disk below /proc"),
    ):
        with pytest.raises(MesimqttError, match=words):
            take(source, target, now=NOW_S)
    assert not (tmp_path / "b").exists() or [] == backups(tmp_path / "b")


def test_no_backup_where_there_is_none(tmp_path):
    """`find` says how to make one."""
    with pytest.raises(BackupError, match="make one with: mesimqtt backup"):
        find(tmp_path)
    with pytest.raises(BackupError, match="cannot look into"):
        find(tmp_path / "nowhere")
