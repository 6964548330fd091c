"""`mesimqtt check` on a stopped folder: the database is held against what the last stop left."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

from mesimqtt.cli.main import run


@pytest.fixture
def folder(stopped_data):
    """A data folder as a command left it that stopped in good order."""
    return stopped_data


def check(folder, capsys):
    """Return the exit code, and what is said of the last stop."""
    capsys.readouterr()
    code = run(["check", "--quick", "--json", "--data", str(folder)])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, [(each["level"], each["what"], each["means"]) for each in found if each["check"] == "stop"]


def mends(folder, capsys):
    """Return what is to be done about each failure, by what was looked at."""
    capsys.readouterr()
    assert 1 == run(["check", "--quick", "--json", "--data", str(folder)])
    found = json.loads(capsys.readouterr().out)["findings"]
    return {(each["check"], each["mend"]) for each in found if each["level"] == "failure"}


@pytest.mark.parametrize("name", ["mesimqtt.db", "mesimqtt.db-wal"])
def test_a_pipe_in_the_databases_place(folder, capsys, name):
    """It is to be moved away: nothing is restored over it, no mode of it is changed, and no disk has altered it."""
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name, 0o644)
    away = "look who made it, and move it away"

    assert {("data", away), ("file", away)} == mends(folder, capsys)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_the_last_stop_left(folder, capsys):
    """Byte for byte the same is said; nothing is changed by the look."""
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    code, found = check(folder, capsys)

    assert (0, [("ok", "the database is what the last stop left, byte for byte", "")]) == (code, found)
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_one_bit_that_no_structure_tells_of(folder, capsys):
    """In a page that nobody uses, say: it is a failure with what it means, each time until somebody starts a server."""
    flip(folder / "mesimqtt.db", 95)  # the version of SQLite that wrote last
    once, again = check(folder, capsys), check(folder, capsys)

    assert once == again
    ((level, what, means),) = once[1]
    assert (1, "failure") == (once[0], level)
    assert "mesimqtt.db was changed while no server ran: its bytes are not those that the last stop left" == what
    assert "what was acknowledged may not be in it as it was" == means


def test_a_database_that_is_gone(folder, capsys):
    """It is no folder without data: the last stop left some."""
    (folder / "mesimqtt.db").unlink()
    ((level, what, means),) = check(folder, capsys)[1]

    assert ("failure", "mesimqtt.db is gone, although the last stop left it") == (level, what)
    assert "a start begins with no data" == means


@pytest.mark.parametrize("text", [None, b"", b"12", b"x y", b"1 2 3", b"9" * 100])
def test_where_it_is_not_known(folder, capsys, text):
    """Without a checksum, or with one that cannot be read, nothing is said of it."""
    if text is None:
        (folder / "mesimqtt.db-sum").unlink()
    else:
        (folder / "mesimqtt.db-sum").write_bytes(text)

    assert (0, []) == check(folder, capsys)


def test_a_folder_that_somebody_has(folder, capsys):
    """A server is changing it: what the last stop left says nothing."""
    flip(folder / "mesimqtt.db", 95)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        found = check(folder, capsys)
    finally:
        os.close(descriptor)

    assert (0, []) == found


@pytest.mark.parametrize("words", [["check"], ["user", "list"], ["stats"]])
def test_a_restore_that_was_interrupted(tmp_path, capsys, words):
    """A command that only looks says what happened and how to go on, as the server does; not to begin anew."""
    (tmp_path / ".restoring").mkdir()
    (tmp_path / ".restoring" / "mesimqtt.db").touch()
    code = run([*words, "--data", str(tmp_path)])
    said = capsys.readouterr().err

    assert (2, True) == (code, "was interrupted; do it again: mesimqtt restore DIR --data" in said)
    assert "user add" not in said
