"""`mesimqtt serve` with every kind of listener at once: what it prints, real clients on each, new certificates."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from integration.certificates import Authority
from integration.server import Server, wait_until

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
broker:
  listeners:
    default: {type: tcp, bind: "127.0.0.1:0"}
    six: {type: tcp, bind: "[::1]:0"}
    tls: {type: tcp, bind: "127.0.0.1:0", ssl: true, certfile: server.pem, keyfile: server.key, cafile: ca.pem}
    local: {type: tcp, bind: "unix:mqtt.sock"}
    wss: {type: ws, bind: "127.0.0.1:0", ssl: true, certfile: server.pem, keyfile: server.key}
listeners:
  tls: {certificate_user: cn}
"""


def serial(port: int, authority: Authority) -> str:
    """Return the serial number of the certificate that a port shows."""
    trust = ssl.create_default_context(cafile=authority.file)
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return str(wrapped.getpeercert()["serialNumber"])


def received(*where: str) -> str:
    """Return the first message that mosquitto_sub prints at QoS 1, as alice with a fresh client id."""
    command = (shutil.which("mosquitto_sub"), "-q", "1", "-C", "1", "-W", "30", "-t", "m/alice/in/u/#", *where)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def test_websocket_alone(tmp_path: Path) -> None:
    """With `--mqtt off` the WebSocket is all that listens, and says so; `listen` says what it lacks."""
    command = [sys.executable, "-m", "mesimqtt", "--data", str(tmp_path / "data")]
    options = ["--mqtt", "off", "--ws", "127.0.0.1:0", "--http", "off", "--json"]
    with subprocess.Popen([*command, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert ("ws", "127.0.0.1", False) == (said["ready"], said["host"], said["tls"])
        subprocess.run([*command, "user", "add", "alice"], check=True, capture_output=True)
        heard = subprocess.run([*command, "listen", "--as", "alice"], check=False, capture_output=True, text=True)
        process.terminate()

    assert 0 == process.returncode
    assert "the server has no plain MQTT listener on TCP, which this command needs" in heard.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the server is started: the configuration names its files without a path."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_listener_says_ready_and_works(folder: Path) -> None:
    """One line for each; certificates, Unix sockets and IPv6 lead to one inbox; SIGHUP takes a new one."""
    authority = Authority(folder)
    authority.server()
    card = authority.issue("alice", "alice")
    (folder / "config.yaml").write_text(CONFIG)
    with Server(folder / "data", config=folder / "config.yaml", options=("--ws", "127.0.0.1:0")) as server:
        wait_until(lambda: server.printed.count("ready ") == 5, what="a line for each listener")
        found = re.findall(r"^ready (\w+) (?:(\[::1\]|127\.0\.0\.1):(\d+)|(unix:\S+))$", server.printed, re.MULTILINE)
        assert ["mqtt", "mqtt", "mqtt", "mqtt", "ws"] == [kind for kind, *_ in found]
        assert ["127.0.0.1", "[::1]", "127.0.0.1", "", "127.0.0.1"] == [host for _, host, *_ in found]
        assert "unix:mqtt.sock" == found[3][3]
        six, tls, wss = found[1][2], found[2][2], int(found[4][2])

        token = server.add_users("alice", "bob")["alice"]
        server.run("send", "--from", "bob", "--to", "alice", "hello")
        shown = ("--cafile", "ca.pem", "--cert", f"{card}.pem", "--key", f"{card}.key")
        account = ("-u", "alice", "-P", token)
        assert "hello" == received("-i", "a", "-h", "localhost", "-p", tls, *shown)
        server.run("send", "--from", "bob", "--to", "alice", "again")
        assert "again" == received("-i", "b", "--unix", "mqtt.sock", *account)
        server.run("send", "--from", "bob", "--to", "alice", "six")
        assert "six" == received("-i", "c", "-h", "::1", "-p", six, *account)

        before = serial(wss, authority)
        authority.server()
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: serial(wss, authority) != before, what="the new certificate")
        again = "certificates, keys of others and files of rules are read again"
        wait_until(lambda: again in server.printed, what="the line of the signal")
        assert 0 == server.stop()

    assert not (folder / "mqtt.sock").exists()
