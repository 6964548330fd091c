"""What stands in a data folder where the server has a file, and is none: it is refused at once, and holds up nobody."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from typer.testing import CliRunner

from mesimqtt.cli.main import app
from mesimqtt.domain.errors import MesimqttError, StoreError
from mesimqtt.files import kind_of, read_regular
from mesimqtt.record.start import copy_data
from mesimqtt.store.database import Database
from mesimqtt.store.notes import NoteError, configuration_of
from mesimqtt.tokens import load_secret

NAMES = [
    "mesimqtt.db", "mesimqtt.db-wal", "mesimqtt.db-shm", "mesimqtt.db-journal", "mesimqtt.db-sum", "search.db", "lock",
    "ballast", "token.secret", "jwks.cache", "jwks.new", "serve.json", "up.json",
]  # fmt: skip


def endless(path):
    path.symlink_to("/dev/zero")


MAKERS = {"a pipe": os.mkfifo, "a device": endless, "a folder": os.mkdir}


@pytest.fixture
def folder(stopped_data):
    """A data folder as a command left it that stopped in good order."""
    return stopped_data


def put(folder, name, kind):
    path = folder / name
    path.unlink(missing_ok=True)
    MAKERS[kind](path)
    return path


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_server_does_not_start_on_it(folder, name, kind):
    """Whatever its name is: the sentence names it and says what it is, and it is not touched."""
    path = put(folder, name, kind)
    with pytest.raises(StoreError) as told:
        Database(folder).open()

    if (name, kind) != ("lock", "a folder"):  # that the lock cannot be taken is said before
        assert f"{name} is no regular file, but {kind}" in str(told.value)
    assert kind == kind_of(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mesimqtt.db-wal", "a pipe"), ("mesimqtt.db-sum", "a device"), ("token.secret", "a pipe"),
        ("jwks.cache", "a device"), ("serve.json", "a pipe"), ("serve.json", "a folder"),
    ],
)  # fmt: skip
def test_a_check_says_it_and_a_backup_is_refused(folder, tmp_path, name, kind):
    """`check` names it as a failure and looks on; nothing is copied."""
    put(folder, name, kind)
    checked = CliRunner().invoke(app, ["check", "--data", str(folder)])
    copied = CliRunner().invoke(app, ["backup", str(tmp_path / "shelf"), "--data", str(folder)])

    assert 1 == checked.exit_code, checked.exception
    assert f"{name} is no regular file, but {kind}" in checked.stdout
    assert isinstance(copied.exception, MesimqttError)
    assert f"{name} is no regular file, but {kind}" in str(copied.exception)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_recording_copies_none(folder, tmp_path, kind):
    """What would be copied without end is refused."""
    put(folder, "jwks.cache", kind)
    with pytest.raises(StoreError, match=f"jwks.cache is no regular file, but {kind}"):
        copy_data(folder, tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("kind", MAKERS)
def test_a_secret_that_is_none(tmp_path, kind):
    """The secret alone, where nobody looked at the folder before."""
    MAKERS[kind](tmp_path / "token.secret")
    with pytest.raises(MesimqttError, match=r"token secret .*: token.secret is no regular file"):
        load_secret(tmp_path / "token.secret")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000, b'{"config": "a", "config": "b"}', b'{"config": 5}', b'{"config": "a\\u0000b"}', b"[]", b"\xff",
        b'{"config": ["a"]}', b'{"config": "\\ud800"}', b" " * 100_000, b"{}", b"",
    ],
)  # fmt: skip
def test_a_note_that_nobody_wrote(tmp_path, text):
    """Too deep, twice the same key, no text, no path, too long: one sentence that says what to do."""
    (tmp_path / "serve.json").write_bytes(text)
    with pytest.raises(NoteError, match=r"cannot read .*serve.json \(.*\); remove it, or start the server once"):
        configuration_of(tmp_path)


def test_a_link_is_an_operators_choice(folder, tmp_path):
    """A secret that another program mounts elsewhere is read."""
    secret = (folder / "token.secret").read_bytes()
    (folder / "token.secret").rename(tmp_path / "kept")
    (folder / "token.secret").symlink_to(tmp_path / "kept")

    assert secret == load_secret(folder / "token.secret")
    with closing(Database(folder)) as database:
        database.open()


def test_no_more_is_read_than_may_be(tmp_path):
    """A file that is larger than what belongs there is an error, and is not read to its end."""
    (tmp_path / "file").write_bytes(b"x" * 11)

    assert b"x" * 11 == read_regular(tmp_path / "file", size_max=11)
    with pytest.raises(OSError, match="file has more than 10 bytes"):
        read_regular(tmp_path / "file", size_max=10)
