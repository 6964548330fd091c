"""`restore --verify`: every damage of a backup is found, and nothing is touched."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest

from mesimqtt.backup import manifest
from mesimqtt.backup.manifest import BackupError
from mesimqtt.backup.take import take
from mesimqtt.backup.verify import verify
from mesimqtt.domain.findings import Level
from unit.backup.conftest import NOW_S


@pytest.fixture
def backup(data, shelf):
    """A backup that is whole."""
    return take(data, shelf, now=NOW_S).path


def troubles(backup):
    """Return what is not OK, as `check: what`."""
    found = [each for part in verify(backup) for each in part if each.level is not Level.OK]
    assert all(each.mend and each.means for each in found)
    return [f"{each.check}: {each.what}" for each in found]


def test_a_whole_backup_is_whole_and_untouched(backup):
    """All looks are OK; no file is made or changed, and a folder that nobody may write suffices."""
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in backup.iterdir()}
    backup.chmod(0o500)
    checks = [each.check for part in verify(backup) for each in part]
    backup.chmod(0o700)

    assert [] == troubles(backup)
    assert {"manifest", "files", "file", "sequences", "cursors", "statuses", "checksums", "contents"} <= set(checks)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in backup.iterdir()}


def flip(path, at, bit=1):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0, 100, 5_000, 50_000, -1])
def test_one_flipped_bit_anywhere(backup, at):
    """The hash of the file is another."""
    flip(backup / "mesimqtt.db", at)

    assert "files: mesimqtt.db is not what was written: its hash is another" == troubles(backup)[0]


def test_files_that_are_short_or_gone(backup):
    """Each is named."""
    (backup / "token.secret").write_bytes(b"short")
    short = troubles(backup)
    (backup / "mesimqtt.db").unlink()
    gone = troubles(backup)

    assert ["files: token.secret is not what was written: 5 bytes of 32"] == short
    assert "files: mesimqtt.db: No such file or directory" in gone
    assert any(each.startswith("contents: cannot read the database") for each in gone)


def rewrite(backup, change):
    """Change a manifest, as if it had been written so."""
    path = backup / "manifest.json"
    body = json.loads(path.read_bytes())
    body.pop("sha256")
    change(body)
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    path.write_text(json.dumps(body | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))


def test_a_backup_of_data_that_was_damaged_before(data, shelf):
    """Its hashes are right; what is in it is not whole all the same."""
    with closing(sqlite3.connect(data / "mesimqtt.db")) as connection, connection:
        connection.execute("DELETE FROM message WHERE seq = 2")
    found = troubles(take(data, shelf, now=NOW_S).path)

    assert ["sequences: messages are missing that nobody has removed: 1 of conversation 1"] == found


def test_another_database_than_the_manifest_says(backup):
    """Its counts and its conversations' last seqs are compared, too."""

    def change(body):
        body["folders"][0]["facts"] |= {"messages": 7, "seqs_sha256": "0" * 64}

    rewrite(backup, change)
    (found,) = troubles(backup)

    assert found.startswith("contents: not what the manifest says: messages 4 instead of 7, seqs_sha256")


def test_a_manifest_that_names_no_secret(backup):
    """A backup without what signs tokens is not complete."""
    rewrite(backup, lambda body: body["files"].pop())

    assert ["files: token.secret is not in it"] == troubles(backup)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body.update(format=2, mesimqtt="9.9"), r"made by a newer mesimqtt \(9.9, format 2\)"),
        (lambda body: body["files"][0].update(path="../elsewhere"), "no manifest of ours"),
        (lambda body: body["files"][0].update(path="/etc/passwd"), "no manifest of ours"),
        (lambda body: body["folders"][0].update(path="a/../.."), "no manifest of ours"),
        (lambda body: body.pop("time_ms"), "no manifest of ours"),
        (lambda body: body.update(extra=1), "no manifest of ours"),
        (lambda body: body.update(format="1"), "no manifest of ours"),
    ],
)
def test_manifests_that_are_refused(backup, change, words):
    """Of a newer format, with a way out of the backup, or of somebody else."""
    rewrite(backup, change)

    with pytest.raises(BackupError, match=words):
        manifest.read(backup)


def test_a_manifest_that_was_altered_or_cut(backup):
    """It has a hash of itself; any flipped bit or missing end is found."""
    path = backup / "manifest.json"
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        content = bytearray(whole)
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(BackupError):
            manifest.read(backup)
    path.write_bytes(whole[:-10])

    with pytest.raises(BackupError, match="is no JSON"):
        manifest.read(backup)
    path.unlink()
    with pytest.raises(BackupError, match="is no backup"):
        manifest.read(backup)
