"""Servers that are forked from one that has imported the server: like any other, and gone with who asked for them."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from integration.server import Server, ServerError, wait_until
from mesimqtt.testing.nursery import Nursery


def is_there(pid: int) -> bool:
    """Tell whether a process is alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_forked_server_is_one_like_any_other(tmp_path: Path) -> None:
    """It prints its line, holds its folder, obeys signals and has exit codes; commands print and fail as usual."""
    with Nursery() as nursery:
        server = Server(tmp_path / "data", nursery=nursery)
        assert {"alice", "bob"} == server.add_users("alice", "bob").keys()
        with server:
            assert "alice" in server.run("user", "list")
            second = Server(server.data, nursery=nursery)
            second.begin()
            assert 2 == second.wait()
            assert "is in use by another mesimqtt server" in second.printed
            with pytest.raises(ServerError, match="ended with 1"):
                server.run("user", "add", "alice")
            assert 0 == server.stop()
            server.start()
            server.send_signal(signal.SIGKILL)
            assert -signal.SIGKILL == server.wait()


def test_it_is_where_its_owner_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in the folder and the environment that its owner has when it starts, and not when the nursery did."""
    monkeypatch.setenv("MESIMQTT_LIMITS__FILTERS_MAX", "many")
    with Nursery() as nursery:
        monkeypatch.chdir(tmp_path)
        server = Server(Path("data"), nursery=nursery)
        server.begin()
        assert 2 == server.wait()
        assert "limits.filters_max" in server.printed
        monkeypatch.delenv("MESIMQTT_LIMITS__FILTERS_MAX")
        server.start()
        server.stop()
        monkeypatch.setenv("MESIMQTT_LIMITS__PAYLOAD_MAX", "many")
        server.begin()
        assert 2 == server.wait()
        assert "limits.payload_max" in server.printed

    assert (tmp_path / "data" / "mesimqtt.db").exists()


def test_what_is_forked_goes_with_its_nursery(tmp_path: Path) -> None:
    """Nothing is left running when the nursery is closed; an end that does not come in time is told."""
    with Nursery() as nursery:
        server = Server(tmp_path / "data", nursery=nursery)
        server.start()
        pid = server.pid
        with pytest.raises(subprocess.TimeoutExpired):
            nursery.start(
                ["serve", "--data", str(tmp_path / "other"), "--mqtt", "127.0.0.1:0"], stdout=1, stderr=2
            ).wait(0)
        assert is_there(pid)

    wait_until(lambda: not is_there(pid), what="the end of the server")


def is_taken(port: int) -> bool:
    """Tell whether somebody who asks for a port gets it not."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def test_a_port_is_kept_between_two_lives(tmp_path: Path) -> None:
    """Whoever else wants a port while the server is down gets another one; clients are refused meanwhile."""
    with Server(tmp_path / "data") as server:
        port = server.port
        server.kill()
        assert is_taken(port) is (sys.platform == "linux")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 60)
        server.start()

        assert port == server.port
        assert 0 == server.stop()
