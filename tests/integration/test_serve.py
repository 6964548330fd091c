"""`mesimqtt serve` and its neighbours as processes: start, stop, refuse, and what commands do to live connections."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from integration.raw_client import RawClient, play
from integration.server import stopped, wait_until
from mesimqtt.cli import link
from mesimqtt.cli.link import perform
from mesimqtt.cli.main import run
from mesimqtt.testing.process import Server
from stopwatch import Stopwatch, seen_running_s

if TYPE_CHECKING:
    from pathlib import Path

STOP_S = 3.0
REVOKE_S = 1.0
_MESIMQTT = (sys.executable, "-m", "mesimqtt")


def refused(*arguments: str) -> str:
    """Run a command that must end with exit code 2 and one line; return the line."""
    ended = subprocess.run([*_MESIMQTT, *arguments], capture_output=True, text=True, check=False, timeout=90)
    assert (2, "") == (ended.returncode, ended.stdout)
    lines = [line for line in ended.stderr.splitlines() if not line[:4].isdigit()]  # the log apart
    assert 1 == len(lines)
    return lines[0]


def test_serve_says_when_it_is_ready_and_ends_in_order(tmp_path: Path) -> None:
    """One line per listener; SIGTERM ends it with 0 within 3 s, with clients connected."""

    async def connected(server: Server, token: str) -> None:
        client = await RawClient.connect(server.port, "phone", "alice", token)
        assert (0, 1) == (client.code, await client.subscribe("m/alice/in/#", 1))
        code, took_s = await asyncio.to_thread(stopped, server)

        assert 0 == code
        assert took_s < STOP_S
        told = await client.ended()
        assert b'{"event":"closing","retry_after":' in told
        assert 1 == told.count(b"m/alice/in/session")
        await client.close()

    with Server(tmp_path / "data") as server:
        token = server.add_users("alice")["alice"]
        play(lambda: connected(server, token))

    assert "Traceback" not in server.printed
    assert "Loading plugins" not in server.printed
    assert token not in server.printed
    assert not (tmp_path / "data" / "control.sock").exists()


@pytest.mark.parametrize("act", ["token_revoke by address", "token_revoke by jti", "user_disable", "user_delete"])
def test_a_command_ends_live_connections_within_a_second(tmp_path: Path, act: str) -> None:
    """Revoked, disabled or deleted: a JWT's and a short token's connections are closed, and let in no more."""
    with Server(tmp_path / "data") as server:
        perform(server.data, "user_add", addresses=["alice", "bob"])
        issued = [
            perform(server.data, "token_issue", addresses=["alice"], short=short)["tokens"][0]
            for short in (False, True)
        ]
        other = perform(server.data, "token_issue", addresses=["bob"])["tokens"][0]["token"]

        def acted() -> None:
            if act == "token_revoke by jti":
                for each in issued:
                    perform(server.data, "token_revoke", what=each["jti"])
            elif act == "token_revoke by address":
                perform(server.data, "token_revoke", what="alice")
            else:
                perform(server.data, act, addresses=["alice"])

        async def story() -> None:
            clients = [
                await RawClient.connect(server.port, f"device{number}", "alice", each["token"])
                for number, each in enumerate(issued)
            ]
            bob = await RawClient.connect(server.port, "phone", "bob", other)
            assert [0, 0, 0] == [client.code for client in [*clients, bob]]
            await clients[0].subscribe("m/alice/in/#", 1)
            await asyncio.to_thread(acted)
            watch = Stopwatch()
            rests = [await client.ended() for client in clients]
            assert watch.elapsed_s < REVOKE_S
            again = [await RawClient.connect(server.port, "again", "alice", each["token"]) for each in issued]
            await bob.ping()

            assert [b"", b""] == rests
            assert [5, 5] == [client.code for client in again]
            for client in [*clients, *again, bob]:
                await client.close()

        play(story)


def test_a_second_server_and_a_port_in_use(tmp_path: Path) -> None:
    """Both are told in one line that says what to do, and the first server goes on."""
    with Server(tmp_path / "data") as server:
        second = refused("serve", "--data", str(server.data), "--mqtt", "127.0.0.1:0", "--ws", "off", "--http", "off")
        other = ("--data", str(tmp_path / "other"))
        port = refused("serve", *other, "--mqtt", f"127.0.0.1:{server.port}", "--ws", "off", "--http", "off")

        assert f"{server.data} is in use by another mesimqtt server; stop it or choose another --data" in second
        assert (
            f"127.0.0.1:{server.port} is in use; stop the other server there or choose another port: --mqtt ADDR:PORT"
            in port
        )
        assert server.run("user", "list").startswith("ADDRESS")


def refused_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must end with exit code 2 and one line, in this process, which is quicker."""
    capsys.readouterr()
    assert 2 == run(list(arguments))
    shown = capsys.readouterr()
    assert ("", 1) == (shown.out, shown.err.count("\n"))
    return shown.err


def test_a_configuration_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unreadable, no YAML, an unknown key, a wrong value, no listener, a listener nowhere: the line names the place."""
    wrong = {
        "limits: {payload_maximum: 1}": "unknown key 'limits.payload_maximum'; see config/default.yaml",
        "limits: {payload_max: big}": "limits.payload_max: ",
        "limits: [": "line 2 is not YAML",
        "broker: {listeners: {default: {type: tcp, bind: here}}}": "'default': bind: 'here' is not ADDR:PORT",
        "broker: {listeners: {default: {type: tcp, port: 1883}}}": "'default': bind: '' is not ADDR:PORT",
        "broker: {listeners: {}}": "broker.listeners needs a listener named default",
    }
    file = tmp_path / "mesimqtt.yaml"
    options = ("serve", "--data", str(tmp_path / "data"), "--config", str(file), "--http", "off")
    missing = refused_here(capsys, *options)

    assert f"cannot read the configuration {file}: No such file or directory; check --config" in missing
    for text, told in wrong.items():
        file.write_text(f"{text}\n")
        assert told in refused_here(capsys, *options)


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    """An unknown level, a listener without its certificate, a plugin that is not there: the server does not start."""
    wrong = {
        "log_level: LOUD": "log_level: 'LOUD' is none of DEBUG, INFO",
        "broker: {listeners: {default: {type: ws, bind: '127.0.0.1:0', ssl: true}}, plugins: {}}": "TLS needs certfile",
        "broker: {listeners: {default: {type: tcp, bind: '127.0.0.1:0'}}, plugins: {no.such.Plugin: {}}}": "no.such",
    }
    file = tmp_path / "mesimqtt.yaml"

    for text, told in wrong.items():
        file.write_text(f"{text}\n")
        assert told in refused("serve", "--data", str(tmp_path / "data"), "--config", str(file), "--http", "off")


def test_data_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data of a newer version, a file of another program, a folder that cannot be made: no command touches them."""
    newer, foreign = tmp_path / "newer", tmp_path / "foreign"
    run(["user", "add", "alice", "--data", str(newer)])
    foreign.mkdir()
    for path, pragma in ((newer, "user_version = 99"), (foreign, "application_id = 7")):
        connection = sqlite3.connect(path / "mesimqtt.db")
        connection.execute("CREATE TABLE IF NOT EXISTS other (x)")
        connection.execute(f"PRAGMA {pragma}")
        connection.close()

    assert "install a newer mesimqtt" in refused(
        "--data", str(newer), "serve", "--mqtt", "127.0.0.1:0", "--ws", "off", "--http", "off"
    )
    assert "install a newer mesimqtt" in refused_here(capsys, "user", "list", "--data", str(newer))
    assert "is an SQLite file of another program" in refused_here(capsys, "user", "list", "--data", str(foreign))
    assert "cannot make the data folder" in refused_here(capsys, "user", "add", "bob", "--data", "/dev/null/data")


def held(data: Path) -> int:
    """Take the data folder's lock, as a server or a command does."""
    data.mkdir(mode=0o700)
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_a_server_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the socket is missing or mute: a clear line after the wait, exit code 2, and nothing is touched."""
    monkeypatch.setattr(link, "HELLO_S", 0.3)
    data = tmp_path / "data"
    descriptor = held(data)
    missing = run(["user", "list", "--data", str(data)])
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(data / "control.sock"))
        mute.listen()
        silent = run(["user", "list", "--data", str(data)])
    os.close(descriptor)
    told = capsys.readouterr().err.splitlines()

    assert (2, 2) == (missing, silent)
    assert 2 == len(told)
    assert all(f"a process holds {data}, but does not answer within" in line for line in told)


def test_serve_waits_for_a_command_that_has_the_folder(tmp_path: Path) -> None:
    """A command opens the data for a moment: a server that starts just then waits instead of failing."""
    descriptor = held(tmp_path / "data")
    release = threading.Timer(0.8, os.close, [descriptor])
    release.start()
    with Server(tmp_path / "data") as server:
        release.join()

        assert server.run("user", "add", "alice") == "added alice\n"


def test_a_token_issued_while_the_server_is_down_is_signed_alike(tmp_path: Path) -> None:
    """Commands on a stopped folder use the configuration that its server had: its issuer, for instance."""
    config = tmp_path / "mesimqtt.yaml"
    config.write_text("tokens: {issuer: example.org}\n")
    server = Server(tmp_path / "data", config=config)
    with server:
        server.run("user", "add", "alice")
        server.stop()
        token = server.issue("alice")["alice"]
        server.start()

        async def story() -> None:
            client = await RawClient.connect(server.port, "phone", "alice", token)
            await client.close()

            assert 0 == client.code

        play(story)
        server.stop()
        config.unlink()

        told = refused("token", "issue", "alice", "--data", str(server.data))

        assert f"cannot read the configuration {config}, which {server.data / 'serve.json'} names" in told
        assert "put it back, or start the server once: mesimqtt serve" in told


def test_a_secret_that_is_gone_is_told_of(tmp_path: Path) -> None:
    """A new one is made, and a warning says what that means; the first start says nothing. A stop has its lines."""
    server = Server(tmp_path / "data")
    with server:
        server.run("user", "add", "alice")
        server.issue("alice")
        server.stop()
        first = server.printed
        (server.data / "token.secret").unlink()
        server.start()
        server.stop()

        assert "token.secret is gone" not in first
        assert "token.secret is gone: another one is made" in server.printed
        assert "stopping: clients are told" in server.printed.split("token.secret is gone")[1]


def test_up_gives_lines_that_work(tmp_path: Path) -> None:
    """A server with alice and bob; its port is in the lines; a second time they are there already; Ctrl-C ends it.

    No line is wider than a terminal, and no start leaves a good token of the one before.
    """
    for _ in range(2):
        command = [*_MESIMQTT, "up", "--data", str(tmp_path / "data"), "--mqtt", "127.0.0.1:0", "--json"]
        command += ["--ws", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        with process, process.stdout as out:
            said = json.loads(out.readline())
            lines = list(said["lines"].values())
            sent = subprocess.run(["bash", "-c", lines[1]], check=False, timeout=90)
            received = subprocess.run(
                ["bash", "-c", lines[2] + " -C 1"], check=False, timeout=90, capture_output=True, text=True
            )
            over_http = subprocess.run(
                ["bash", "-c", lines[-1]], check=False, timeout=90, capture_output=True, text=True
            )
            process.send_signal(signal.SIGINT)

            assert 0 == process.wait(60)
        assert '"name":"sent"' in over_http.stdout
        assert ["alice", "bob"] == sorted(said["tokens"])
        assert said["ws"].startswith("ws://127.0.0.1:")
        assert all(f"{said['port']}" in line for line in lines[:-1])
        assert [] == [row for line in lines for row in line.splitlines() if len(row) > 80]
        assert 0 == sent.returncode
        assert received.stdout.startswith("m/bob/in/u/alice/")
        assert received.stdout.endswith((" hi bob\n", " hi from curl\n"))  # the second time what curl sent comes first
    for user in ("alice", "bob"):
        tokens = perform(tmp_path / "data", "token_list", address=user)["tokens"]

        assert ["valid", "revoked"] == [each["state"] for each in tokens]


def test_the_demo_happens(tmp_path: Path) -> None:
    """Every step really happened, within ten seconds; in a folder that was there before, too."""
    for _ in range(2):
        command = [*_MESIMQTT, "demo", "--json", "--data", str(tmp_path / "data")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            took_s = seen_running_s(lambda: process.poll() is None)
            shown, errors = process.communicate()

        assert (0, "") == (process.returncode, errors)
        assert took_s < 10
        told = " ".join(f"{step['who']}: {step['what']}" for step in json.loads(shown)["steps"])
        for part in ("is sent: on disk", "bob: connects and receives 'hi bob'", "alice: delivered", "alice: read"):
            assert part in told


def test_listen_prints_what_a_user_receives(tmp_path: Path) -> None:
    """As many as wanted are printed and count as delivered; the next one is held back and comes the next time."""
    with Server(tmp_path / "data") as server:
        perform(server.data, "user_add", addresses=["alice", "bob"])
        mids = [perform(server.data, "send", sender="alice", to="bob", text=f"nr {n}")["mid"] for n in (1, 2, 3)]
        first = server.run("listen", "--as", "bob", "--count", "2", "--timeout", "60").splitlines()
        left = perform(server.data, "inbox", address="bob")
        second = json.loads(server.run("listen", "--as", "bob", "--count", "1", "--timeout", "60", "--json"))
        none = subprocess.run(
            [*_MESIMQTT, "listen", "--as", "bob", "--count", "1", "--timeout", "0.5", "--data", str(server.data)],
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip

        assert [f"alice  {mids[0]}  nr 1", f"alice  {mids[1]}  nr 2"] == first
        assert 1 == left["messages"]
        assert {"from": "alice", "mid": mids[2], "seq": 3, "text": "nr 3"} == second
        assert (1, "", "mesimqtt: 0 of 1 messages within 0.5 s\n") == (none.returncode, none.stdout, none.stderr)
    server.start()
    server.stop()

    assert "start one with: mesimqtt serve" in refused("listen", "--as", "bob", "--data", str(server.data))


def test_two_that_listen_both_hear(tmp_path: Path) -> None:
    """A second `listen` as the same user takes another device's name, and with the same name it is refused."""
    with Server(tmp_path / "data") as server:
        perform(server.data, "user_add", addresses=["alice", "bob"])
        options = ("--as", "bob", "--data", str(server.data))
        command = [*_MESIMQTT, "listen", *options, "--count", "1", "--timeout", "60"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in "12"]
        wait_until(lambda: perform(server.data, "stats")["connections"] == 2, deadline_s=60, what="two that listen")
        same = refused("listen", *options, "--device", "mesimqtt-listen")
        mid = perform(server.data, "send", sender="alice", to="bob", text="hello")["mid"]
        heard = [process.communicate(timeout=60)[0] for process in both]
        devices = perform(server.data, "user_show", address="bob")["devices"]

        assert [f"alice  {mid}  hello\n"] * 2 == heard
        assert {"mesimqtt-listen", "mesimqtt-listen-2"} == {each["device"] for each in devices}
        assert "`mesimqtt listen` runs already as bob's device mesimqtt-listen; end it, or name another" in same
