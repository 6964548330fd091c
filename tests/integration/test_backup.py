"""Backups of a real server: while it runs, put back on another folder, where real clients go on."""

from __future__ import annotations

import io
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stdout
from pathlib import Path

from integration.server import Server, wait_until
from mesimqtt.cli.main import run
from mesimqtt_client import Client

HOME = Path(__file__).resolve().parent.parent.parent
COMMAND = (sys.executable, "-m", "mesimqtt")


def ask(*arguments):
    """Run a command in this process, which is quicker; return its exit code and its JSON."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = run([*map(str, arguments), "--json"])
    return code, json.loads(said.getvalue() or "null")


def client(server, user, token, device):
    """Return a client that has started."""
    made = Client(f"mqtt://{server.host}:{server.port}", token=token, user=user, device=device)
    made.start()
    return made


class Bob:
    """bob's phone, which notes what it shows."""

    def __init__(self, server, token):
        self.shown = []
        self.client = Client(f"mqtt://{server.host}:{server.port}", token=token, device="phone")
        self.client.on_message(lambda message: self.shown.append((message.mid, message.text)))
        self.client.start()


def test_clients_go_on_after_a_restore(tmp_path):
    """A backup beside a busy server, its machine lost, the backup put back: tokens are good, what waited arrives."""
    first = Server(tmp_path / "data")
    tokens = first.add_users("alice", "bob")
    with first:
        alice = client(first, "alice", tokens["alice"], "pad")
        for number in range(200):
            alice.send("bob", f"before {number}")
        alice.send("bob", "the last one before").wait("sent", timeout=20)
        code, made = ask("backup", tmp_path / "shelf", "--data", first.data)
        alice.send("bob", "lost").wait("sent", timeout=20)
        alice.close()
        first.kill()
    restored = ask("restore", tmp_path / "shelf", "--data", tmp_path / "again")[1]
    with Server(tmp_path / "again") as second:
        bob = Bob(second, tokens["bob"])
        wait_until(lambda: len(bob.shown) >= 201, deadline_s=20, what="what waited for bob")
        alice = client(second, "alice", tokens["alice"], "pad")
        alice.send("bob", "after").wait("delivered", timeout=20)
        wait_until(lambda: len(bob.shown) >= 202, deadline_s=20, what="the message after it")
        alice.close()
        bob.client.close()
        checked, found = ask("check", "--data", second.data)

    assert (0, made["path"], 201) == (code, restored["backup"], made["folders"][0]["messages"])
    texts = [text for _, text in bob.shown]
    assert [*(f"before {number}" for number in range(200)), "the last one before", "after"] == texts
    assert 202 == len({mid for mid, _ in bob.shown})
    assert (0, []) == (checked, [each for each in found["findings"] if each["level"] != "ok"])


def test_the_drill_of_the_documentation(tmp_path):
    """The five lines of docs/backup.md as they stand there, but for folders and port; a client's old token is good."""
    text = (HOME / "docs" / "backup.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- run by tests/integration/test_backup.py -->\n```sh\n(.*?)```", text, re.DOTALL)
    lines = block[1].replace("/mnt/", f"{tmp_path}/").replace("/srv/", f"{tmp_path}/").replace(":1885", ":0")
    *commands, serve = [line.partition("#")[0].strip() for line in lines.strip().splitlines()]
    served = Server(tmp_path / "chat")
    tokens = served.add_users("alice", "bob")
    with served:
        served.run("send", "--from", "alice", "--to", "bob", "hello")
        for command in commands:
            program, *arguments = shlex.split(command)
            assert "mesimqtt" == program
            subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, timeout=180)
        drill = Server(tmp_path / "drill", options=shlex.split(serve)[6:])
        assert f"--data {drill.data} --mqtt 127.0.0.1:0 --ws off --http off" in serve
        with drill:
            bob = Bob(drill, tokens["bob"])
            wait_until(lambda: bob.shown, deadline_s=20, what="the message in the drill")
            bob.client.close()

    assert 4 == len(commands)
    assert ["hello"] == [text for _, text in bob.shown]


def test_a_check_beside_a_running_server(tmp_path):
    """It reads while others write, and says what is wrong with exit code 1."""
    with Server(tmp_path / "data") as server:
        server.add_users("alice", "bob")
        server.run("send", "--from", "alice", "--to", "bob", "hello")
        good = ask("check", "--quick", "--data", server.data)
        whole = ask("check", "--data", server.data)
        (server.data / "token.secret").chmod(0o644)
        bad = ask("check", "--quick", "--data", server.data)

    assert [0, 0, 1] == [good[0], whole[0], bad[0]]
    assert len(good[1]["findings"]) < len(whole[1]["findings"])
    (found,) = [each for each in bad[1]["findings"] if each["level"] == "failure"]
    assert ("data", True) == (found["check"], found["mend"].startswith("chmod 600"))


def test_what_is_said_for_a_person(tmp_path):
    """Commands on what is not there, or not whole, name what to do, in one line and with the right exit code."""
    server = Server(tmp_path / "data")
    server.add_users("alice")
    made = ask("backup", tmp_path / "shelf", "--verify", "--keep", "2", "--data", server.data)[1]
    path = Path(made["path"])
    with (path / "mesimqtt.db").open("r+b") as file:
        file.seek(5_000)
        file.write(b"damage")
    codes = {
        arguments: ask(*arguments)[0]
        for arguments in (
            ("check", "--data", str(tmp_path / "nothing")),
            ("backup", str(tmp_path / "shelf"), "--data", str(tmp_path / "nothing")),
            ("restore", str(tmp_path / "nothing"), "--data", str(tmp_path / "new")),
            ("restore", str(path), "--verify"),
            ("restore", str(path), "--data", str(tmp_path / "new")),
            ("restore", str(path), "--data", str(server.data)),
        )
    }

    assert [2, 2, 2, 1, 2, 2] == list(codes.values()), codes
    assert not (tmp_path / "new").exists()
    assert (1, 0) == (made["folders"][0]["users"], made["folders"][0]["messages"])


def test_damaged_data_is_backed_up_restored_and_said(tmp_path):
    """`backup --verify` keeps it and ends with 1, `restore --verify` says what it is, and `restore` puts it back."""
    server = Server(tmp_path / "data")
    server.add_users("alice")
    with closing(sqlite3.connect(server.data / "mesimqtt.db")) as connection, connection:
        connection.execute("INSERT INTO hidden VALUES (9, 1, 1, 0)")
    code, made = ask("backup", tmp_path / "shelf", "--verify", "--data", server.data)
    verified = ask("restore", made["path"], "--verify")
    done = ask("restore", made["path"], "--data", tmp_path / "new")

    assert [1, 1, 0] == [code, verified[0], done[0]]
    assert (False, True) == (verified[1]["whole"], verified[1]["restorable"])
    said = [each["what"] for each in made["already"] if each["check"] == "references"]
    assert [
        f"1 rows of hidden belong to a {what} that there is not, such as {which}"
        for what, which in (("user", 9), ("message", 1))
    ] == said
    assert made["already"] == done[1]["already"]


def test_the_unit_for_backups(tmp_path):
    """The line that systemd runs is one that this program understands: with its folders it makes a backup."""
    unit = (HOME / "config" / "mesimqtt-backup.service").read_text(encoding="utf-8")
    program, *arguments = shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1])
    Server(tmp_path / "lib" / "mesimqtt").add_users("alice")
    arguments = [each.replace("/var/", f"{tmp_path}/") for each in arguments]

    assert 0 == ask(*arguments)[0]
    assert "/opt/mesimqtt/bin/mesimqtt" == program
    assert "mesimqtt-backup.service" in (HOME / "config" / "mesimqtt-backup.timer").read_text(encoding="utf-8")
    assert 1 == len(list((tmp_path / "lib" / "mesimqtt-backups").glob("20*")))


def test_a_killed_backup_leaves_none(tmp_path):
    """Whenever it is killed, what looks like a backup is whole; the next one works, and what was left is gone."""
    server, shelf = Server(tmp_path / "data"), tmp_path / "shelf"
    server.add_users("alice")
    process = subprocess.Popen([*COMMAND, "backup", str(shelf), "--data", str(server.data)], stdout=subprocess.DEVNULL)
    wait_until(lambda: shelf.exists() and (len(list(shelf.iterdir())) > 1 or process.poll() is not None), deadline_s=60)
    process.kill()
    process.wait()
    left = [each for each in shelf.iterdir() if not each.name.startswith(".")]
    made = ask("backup", shelf, "--data", server.data)[1]["path"]

    assert [0 for each in left] == [ask("restore", each, "--verify")[0] for each in left]
    assert {".lock", *(each.name for each in left), Path(made).name} == {each.name for each in shelf.iterdir()}
    assert 0 == ask("restore", shelf, "--verify")[0]
