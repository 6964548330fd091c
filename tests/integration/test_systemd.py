"""The unit file and the server agree, and systemd is told the truth; the log's file on a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.raw_client import RawClient, play
from mesimqtt.settings import Drain
from mesimqtt.testing.process import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).resolve().parents[2]
UNIT = HOME / "config" / "mesimqtt.service"
# Refuses memory that is written and run, as MemoryDenyWriteExecute does, where the kernel can (Linux 6.3).
_STRICT = "import ctypes,os,sys; ctypes.CDLL(None).prctl(65,1,0,0,0); os.execv(sys.argv[1], sys.argv[1:])"


class Unit(dict[str, list[str]]):
    """The keys of a unit with all that is said for each."""

    def __init__(self) -> None:
        super().__init__()
        for line in UNIT.read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self.setdefault(key, []).append(value)


@pytest.fixture
def told(tmp_path, monkeypatch) -> Iterator[socket.socket]:
    """What systemd would listen on; servers that are started now find it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listening


def next_of(listening: socket.socket, wanted: str) -> str:
    """Return the next message that says `wanted`."""
    while True:
        text = listening.recv(4096).decode()
        if wanted in text.split("\n"):
            return text


def test_systemd_is_told_everything(tmp_path: Path, told: socket.socket) -> None:
    """Ready once it serves, alive again and again, reloading and ready again, stopping."""
    with Server(tmp_path / "data") as server:
        assert f"STATUS=serving on mqtt 127.0.0.1:{server.port}" in next_of(told, "READY=1")
        for _ in range(3):
            assert "WATCHDOG=1" == next_of(told, "WATCHDOG=1")
        server.send_signal(signal.SIGHUP)
        assert re.search(r"MONOTONIC_USEC=\d+", next_of(told, "RELOADING=1"))
        assert "READY=1" == next_of(told, "READY=1")
        server.send_signal(signal.SIGTERM)
        assert "STATUS=taking leave" in next_of(told, "STOPPING=1")
        wait_until(lambda: not server.is_running)


def test_a_loop_that_hangs_gives_no_sign_of_life(tmp_path: Path, told: socket.socket) -> None:
    """The watchdog's sign comes from the loop that serves clients, not from a thread beside it."""
    with Server(tmp_path / "data") as server:
        next_of(told, "WATCHDOG=1")
        os.kill(server.pid, signal.SIGSTOP)
        told.settimeout(0.5)
        try:
            with pytest.raises(TimeoutError):
                next_of(told, "nothing more")
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_the_units_command_is_one_of_ours() -> None:
    """Its options exist; the data folder is the StateDirectory."""
    unit = Unit()
    (command,) = unit["ExecStart"]
    _, name, *options = shlex.split(command)
    shown = subprocess.run(
        [sys.executable, "-m", "mesimqtt", name, "--help"], capture_output=True, text=True, check=True
    ).stdout

    assert "serve" == name
    assert [] == [option for option in options if option.startswith("--") and option not in shown]
    assert f"/var/lib/{unit['StateDirectory'][0]}" == options[options.index("--data") + 1]
    assert ["/bin/kill -HUP $MAINPID"] == unit["ExecReload"]
    assert (["notify"], ["main"]) == (unit["Type"], unit["NotifyAccess"])


def test_the_unit_waits_long_enough_and_restarts_what_can_be_restarted(tmp_path: Path) -> None:
    """`TimeoutStopSec` is far above `drain.timeout_s`; a mistake in the configuration is not tried again."""
    unit = Unit()
    config = tmp_path / "mesimqtt.yaml"
    config.write_text("nonsense: 1\n")
    wrong = subprocess.run(
        [sys.executable, "-m", "mesimqtt", "serve", "--config", str(config), "--data", str(tmp_path / "data")],
        capture_output=True, check=False,
    )  # fmt: skip

    assert int(unit["TimeoutStopSec"][0]) >= 5 * Drain().timeout_s
    assert ["on-failure"] == unit["Restart"]
    assert [str(wrong.returncode)] == unit["RestartPreventExitStatus"]


def test_the_unit_is_closed(tmp_path: Path) -> None:
    """No privilege, no capability, nothing of the system to write, and a restart policy that ends."""
    unit = Unit()
    closed = (
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateUsers",
        "MemoryDenyWriteExecute",
    )

    assert ["strict"] == unit["ProtectSystem"]
    assert [[""], [""]] == [unit["CapabilityBoundingSet"], unit["AmbientCapabilities"]]
    assert [] == [key for key in closed if unit.get(key) != ["yes"]]
    assert "@system-service" == unit["SystemCallFilter"][0]
    assert ["AF_INET AF_INET6 AF_UNIX"] == unit["RestrictAddressFamilies"]
    assert ["0700"] == unit["StateDirectoryMode"]
    assert int(unit["StartLimitBurst"][0]) > 0


@pytest.mark.tools("systemd-analyze")
def test_systemd_itself_accepts_the_unit(tmp_path: Path) -> None:
    """Every line is understood, and its own measure of exposure (0 best, 10 worst) is below 2."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/mesimqtt/bin/mesimqtt", sys.executable))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    measured = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(copy)], capture_output=True, text=True, check=False
    )

    assert (0, "") == (checked.returncode, checked.stderr)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", measured.stdout)
    assert exposure is not None
    assert float(exposure[1]) < 2


def test_it_runs_without_memory_that_is_written_and_run(tmp_path: Path) -> None:
    """`MemoryDenyWriteExecute=yes` takes nothing from the server, HTTP and tokens included."""
    with Server(
        tmp_path / "data", options=("--http", "127.0.0.1:0"), wrapper=(sys.executable, "-c", _STRICT)
    ) as server:
        token = server.add_users("alice")["alice"]

        async def story() -> None:
            client = await RawClient.connect(server.port, "phone", "alice", token)
            await client.publish("m/alice/out/u/alice/c1", b"hi", qos=1)
            await client.close()

        play(story)
        assert "ok" == json.loads(server.run("op", "health"))["status"]
        assert 0 == server.stop()


def test_the_log_in_a_file(tmp_path: Path) -> None:
    """Mode 0600, nothing on standard error, no secret in it at any level; SIGHUP opens it again."""
    path = tmp_path / "mesimqtt.log"
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(f"log_level: DEBUG\nlog_format: json\nlog: {{file: '{path}'}}\n")
    with Server(tmp_path / "data", config=config) as server:
        token = server.add_users("alice")["alice"]

        async def story() -> None:
            client = await RawClient.connect(server.port, "phone", "alice", token)
            await client.subscribe("m/bob/in/#")
            await client.close()
            wrong = await RawClient.connect(server.port, "phone", "alice", token[:-1])
            await wrong.close()

        play(story)
        wait_until(lambda: "refused" in path.read_text())
        path.rename(tmp_path / "taken.log")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: path.exists() and "SIGHUP" in path.read_text())
        assert 0 == server.stop()
    whole = path.read_text() + (tmp_path / "taken.log").read_text()

    assert 0o600 == path.stat().st_mode & 0o777
    assert [] == [line for line in whole.splitlines() if not json.loads(line)["message"]]
    assert token[:-1] not in whole
    assert token.rpartition(".")[2] not in whole
    assert [f"ready mqtt 127.0.0.1:{server.port}"] == server.printed.splitlines()


def test_a_log_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    """A full disk: its lines come on standard error, and clients notice nothing."""
    config = tmp_path / "mesimqtt.yaml"
    config.write_text("log: {file: /dev/full}\n")
    with Server(tmp_path / "data", config=config) as server:
        token = server.add_users("alice")["alice"]

        async def story() -> None:
            client = await RawClient.connect(server.port, "phone", "alice", token)
            await client.publish("m/alice/out/u/alice/c1", b"hi", qos=1)
            await client.close()

        play(story)
        assert 0 == server.stop()

    assert "the log cannot be written (No space left on device)" in server.printed
    assert "listener default on 127.0.0.1" in server.printed
