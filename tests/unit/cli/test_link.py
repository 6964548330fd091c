"""How a command meets a server that has no place for it."""

from __future__ import annotations

import socket
import threading

import pytest

from mesimqtt.cli.link import Control, RefusedError

BUSY = b'{"ok":false,"code":"busy","message":"too many commands at once; try again","exit":2}\n'
TIMES = 100


def hang_up(listening):
    """Tell everybody that the server is busy, and listen to nobody."""
    for _ in range(TIMES):
        caller, _address = listening.accept()
        caller.sendall(BUSY)
        caller.close()


def test_busy_is_said_however_soon_it_hangs_up(tmp_path, monkeypatch):
    """Whether the server hangs up before the question or after it, the command says that it is busy."""
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("control.sock")
        listening.listen(8)
        server = threading.Thread(target=hang_up, args=(listening,), daemon=True)
        server.start()
        found = set()
        for _ in range(TIMES):
            with pytest.raises(RefusedError) as refused:
                Control(tmp_path)
            found.add(refused.value.code)
        server.join(20)

    assert {"busy"} == found
