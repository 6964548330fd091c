"""Servers that are forked from one that has imported the server: like any other, and gone with who asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from integration.server import Server, ServerError, wait_until
from mesimqtt.testing.nursery import Nursery

if TYPE_CHECKING:
    from pathlib import Path


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
