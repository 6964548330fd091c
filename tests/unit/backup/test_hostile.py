"""A backup that somebody else has made: it harms nothing, and a sentence tells what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import BackupError
from mesimqtt.backup.restore import restore
from mesimqtt.backup.take import take
from mesimqtt.backup.verify import verify
from mesimqtt.cli.main import app
from mesimqtt.domain.errors import StoreError
from mesimqtt.domain.findings import Level
from mesimqtt.store.database import Database, open_reader
from unit.backup.conftest import NOW_S
from unit.backup.test_verify import rewrite

LATER_MS = int((NOW_S + 60) * 1000)


@pytest.fixture
def backup(data, shelf, tmp_path):
    """A backup that is whole, of a server that has a configuration."""
    (tmp_path / "chat.yaml").write_text("log_level: DEBUG\n")
    (data / "serve.json").write_text(json.dumps({"config": str(tmp_path / "chat.yaml")}))
    return take(data, shelf, now=NOW_S).path


def refused(backup, place):
    """Return what `restore` and `restore --verify` say, who must say the same and make nothing."""
    with pytest.raises(BackupError) as told:
        restore(backup, place, now_ms=LATER_MS)
    with pytest.raises(BackupError) as again:
        list(verify(backup))
    assert str(told.value) == str(again.value)
    assert not place.exists()
    return str(told.value)


@pytest.mark.parametrize("is_listed", [False, True])
def test_no_folder_elsewhere_is_removed(backup, tmp_path, is_listed):
    """A configuration is a file of the backup, and beside one that stands where it stood nothing is removed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "conf.yaml").write_text("log_level: DEBUG\n")
    (victim / "photos").write_text("mine")
    name = str(victim / "conf.yaml")

    def change(body):
        body["folders"][0] |= {"configuration": name, "configured": name}
        if is_listed:
            next(each for each in body["files"] if each["path"].startswith("configuration/"))["path"] = name

    rewrite(backup, change)

    assert f"{name!r} is no configuration in a backup" in refused(backup, tmp_path / "place")
    assert "mine" == (victim / "photos").read_text()


def file(path):
    """Return a change that adds a file to a manifest."""
    empty = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    return lambda body: body["files"].append({"path": path} | empty)


def folder(**said):
    """Return a change of the server's own folder."""
    return lambda body: body["folders"][0].update(said)


def facts(**said):
    """Return a change of what a manifest says of the database."""
    return lambda body: body["folders"][0]["facts"].update(said)


@pytest.mark.parametrize(
    "change",
    [
        folder(configuration="configuration/../../victim/conf.yaml"),
        folder(configuration="configuration/"),
        folder(configuration="configuration/none.yaml"),
        folder(configuration="token.secret"),
        folder(configuration=7),
        folder(configured="/srv/chat\0.yaml"),
        folder(configured=["/srv/chat.yaml"]),
        folder(path="apps"),
        folder(path="apps/.."),
        folder(path="other/shop"),
        lambda body: body.update(folders=[]),
        lambda body: body.update(folders={}),
        lambda body: body.update(folders=body["folders"] * 2),
        lambda body: body.update(folders="x"),
        lambda body: body.update(files="x"),
        lambda body: body["files"].append(body["files"][0]),
        lambda body: body["files"][0].update(bytes="x"),
        lambda body: body["files"][0].update(bytes=-1),
        lambda body: body["files"][0].update(bytes=True),
        lambda body: body["files"][0].update(bytes=1.5),
        lambda body: body["files"][0].update(sha256="x"),
        lambda body: body["files"][0].update(sha256=None),
        lambda body: body["files"][1].update(bytes=2**40),
        lambda body: body["files"][0].update(path=7),
        lambda body: body.update(time_ms="x"),
        lambda body: body.update(time_ms=None),
        lambda body: body.update(time="\x1b[2Jnow"),
        lambda body: body.update(mesimqtt=1),
        lambda body: body.update(mesimqtt="1\n2"),
        lambda body: body.update(installation=[]),
        facts(schema="x"),
        facts(users=None),
        facts(seqs_sha256=1),
        lambda body: body["folders"][0].update(facts=[]),
        *map(
            file,
            [
                "lock", "ballast", "control.sock", "mesimqtt.db-sum", "mesimqtt.db-wal", "search.db", ".restoring",
                "configuration/other.yaml", "apps/shop/mesimqtt.db", "./token.secret", "token.secret/", "token\0secret",
            ],
        ),
    ],
)  # fmt: skip
def test_what_no_backup_says(backup, tmp_path, change):
    """Of another type, of a name that is the server's or leads elsewhere, or twice: damaged, and nothing is made."""
    rewrite(backup, change)

    assert "is damaged, or no manifest of ours" in refused(backup, tmp_path / "place")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "[" * 900 + "]" * 900 + "}", '{"a": 1, "a": 2}'])
def test_what_is_no_json_that_two_readers_read_alike(backup, tmp_path, text):
    """However deep it is nested."""
    (backup / "manifest.json").write_text(text)

    assert "manifest.json is " in refused(backup, tmp_path / "place")


def test_half_a_character(backup, tmp_path):
    """JSON can say it, and no file can be named so."""
    text = (backup / "manifest.json").read_text().replace("token.secret", "token\\ud800")
    (backup / "manifest.json").write_text(text)

    assert "is damaged" in refused(backup, tmp_path / "place")


def test_a_name_that_could_not_be_put_back(data, shelf, tmp_path):
    """It is told while the backup is made, and none is left that could not be read."""
    config = tmp_path / "chat\n.yaml"
    config.write_text("log_level: DEBUG\n")
    (data / "serve.json").write_text(json.dumps({"config": str(config)}))

    with pytest.raises(BackupError, match="is no configuration in a backup; give it another name"):
        take(data, shelf, now=NOW_S)
    assert [".lock"] == [each.name for each in shelf.iterdir()]


def test_a_manifest_without_end(backup, tmp_path):
    """It is not read."""
    with (backup / "manifest.json").open("ab") as file:
        file.truncate(manifest.MANIFEST_MAX + 1)

    assert "it is too large" in refused(backup, tmp_path / "place")


def pipe(path):
    """Make a pipe that nobody writes into."""
    os.mkfifo(path)


def endless(path):
    """Make a link to what never ends."""
    path.symlink_to("/dev/zero")


def elsewhere(path):
    """Make a link to a file that is just as it should be."""
    kept = path.with_name("kept")
    kept.write_bytes(WRITTEN[path.name])
    path.symlink_to(kept)


WRITTEN: dict[str, bytes] = {}


@pytest.mark.parametrize("make", [pipe, endless, elsewhere, Path.mkdir])
@pytest.mark.parametrize("name", ["token.secret", "mesimqtt.db", "serve.json", "configuration/chat.yaml"])
def test_what_is_no_file(backup, tmp_path, name, make):
    """Pipes, devices, links and folders in the place of a file: nobody waits for them or reads them, they are named."""
    path = backup / name
    WRITTEN[path.name] = path.read_bytes()
    path.unlink()
    make(path)
    found = [each.what for each in verify(backup).unlike if each.level is Level.FAILURE]

    assert f"{name}: {path.name} is no regular file" == found[0]
    with pytest.raises(BackupError, match=f"nothing was restored: .*{path.name} is no regular file"):
        restore(backup, tmp_path / "place", now_ms=LATER_MS)
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("make", [pipe, endless])
def test_a_manifest_that_is_no_file(backup, tmp_path, make):
    """It is no manifest."""
    (backup / "manifest.json").unlink()
    make(backup / "manifest.json")

    assert "manifest.json is no regular file" in refused(backup, tmp_path / "place")


def test_a_file_of_another_size_is_not_read(backup):
    """However large it is."""
    with (backup / "token.secret").open("ab") as file:
        file.truncate(2**40)
    found = [each.what for each in verify(backup).unlike if each.level is Level.FAILURE]

    assert [f"token.secret is not what was written: {2**40} bytes of 32"] == found


@pytest.mark.parametrize("make", [pipe, endless])
def test_a_configuration_that_has_become_something_else(backup, tmp_path, make):
    """Where it stood is no file now: the server takes the copy, and nobody waits."""
    (tmp_path / "chat.yaml").unlink()
    make(tmp_path / "chat.yaml")
    done = restore(backup, tmp_path / "place", now_ms=LATER_MS)

    assert tmp_path / "place" / "configuration" / "chat.yaml" == done.configuration


@pytest.mark.parametrize("make", [pipe, endless])
def test_data_whose_database_is_no_file(tmp_path, make):
    """Whoever opens it, to look, to copy or to serve, says so at once."""
    folder = tmp_path / "odd"
    folder.mkdir(mode=0o700)
    make(folder / "mesimqtt.db")

    with pytest.raises(sqlite3.Error, match=r"mesimqtt\.db is no regular file"):
        open_reader(folder / "mesimqtt.db")
    with pytest.raises(StoreError, match=r"cannot open .*mesimqtt\.db is no regular file"):
        Database(folder).open()
    asked = CliRunner().invoke(app, ["check", "--data", str(folder)])
    assert (1, True) == (asked.exit_code, "mesimqtt.db is no regular file" in asked.output)


def test_a_linked_database_is_an_operators_choice(data, shelf, tmp_path):
    """So is a linked secret or configuration: all of it is served, and backed up as what it is."""
    (tmp_path / "secrets").mkdir()
    (data / "token.secret").rename(tmp_path / "secrets" / "secret")
    (data / "token.secret").symlink_to(tmp_path / "secrets" / "secret")
    made = take(data, shelf, now=NOW_S).path

    assert not (made / "token.secret").is_symlink()
    assert verify(made).is_whole
