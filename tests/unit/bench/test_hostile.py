"""Attackers: they come, they are counted, they go with the measurement, and a failure of theirs is told."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from mesimqtt.bench.attackers import KINDS, attacked
from mesimqtt.bench.figures import Periods
from mesimqtt.bench.hostile import measure_hostile
from mesimqtt.bench.loop import BenchError
from mesimqtt.bench.machine import Process
from mesimqtt.bench.scenarios import all_scenarios
from mesimqtt.bench.servers import Target

SHORT = Periods(warm_up_s=0.02, measure_s=0.05, stall_s=2.0)


def test_every_kind_is_a_scenario() -> None:
    """What attackers can do is measured, each kind by its name."""
    assert {f"hostile-{kind}" for kind in KINDS} == {
        one.name for one in all_scenarios() if one.name.startswith("hostile-")
    }


def test_a_measurement_under_attack(port: int) -> None:
    """The good clients go on while the storm is there, and both figures are told."""
    target = Target("pipe", ("127.0.0.1", port), Process(None))
    found = measure_hostile(target, SHORT, "subscribe")

    assert found.is_whole
    assert 10.0 == found.extra["attackers"]
    assert found.extra["idle p99 ms"] > 0
    assert found.extra["times idle"] > 0
    assert found.received > 100


def test_attackers_end_with_the_measurement(port: int) -> None:
    """No process is left behind."""
    with attacked("subscribe", ("127.0.0.1", port)) as attack:
        attack.wait()
        folder = Path(f"/proc/{attack.pid}")
        assert folder.exists()

    assert not folder.exists()


def test_an_attack_that_cannot_be_made() -> None:
    """A server that does not answer is told, not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with attacked("filters", address) as attack, pytest.raises(BenchError, match="cannot connect"):
        attack.wait()


def test_half_open_connections() -> None:
    """Half of them say nothing, the others begin a CONNECT that they never finish."""
    seen: list[bytes] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def serve() -> None:
            while len(seen) < 60:
                sock, _ = server.accept()
                with sock:
                    sock.settimeout(0.02)
                    try:
                        seen.append(sock.recv(100))
                    except TimeoutError:
                        seen.append(b"")
            done.set()

        thread = threading.Thread(target=serve)
        with attacked("half-open", server.getsockname()):
            thread.start()
            assert done.wait(20)
        thread.join()

    assert {b"", b"\x10\x0e\x00\x04MQ"} == set(seen)
