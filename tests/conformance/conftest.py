"""The worlds of the conformance tests: every test on the bare engine, those that are marked also over TCP."""

from __future__ import annotations

import pytest

from conformance.peer import DiskWorld, EngineWorld, LoopThread, SocketWorld
from conformance.peer5 import Five

MARKERS = (
    "sockets: this conformance test runs over TCP as well",
    "disk: this conformance test runs over TCP with sessions on disk as well",
    "stateless: this conformance test is about packets, and is not run again on an engine with a store",
    "extra: a conformance test of what no numbered statement says",
    "limits(**changes): limits of the server in this conformance test",
)


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_generate_tests(metafunc):
    if "world" in metafunc.fixturenames:
        marked = [name for name in ("sockets", "disk") if metafunc.definition.get_closest_marker(name)]
        stored = [] if metafunc.definition.get_closest_marker("stateless") else ["stored"]
        metafunc.parametrize("world", ["engine", *stored, *marked], indirect=True)


@pytest.fixture(scope="session")
def loop_thread():
    """An event loop in a thread of its own."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def world(request):
    """A server that lets everybody in; at the end nothing that it sent may be left unread."""
    marker = request.node.get_closest_marker("limits")
    limits = marker.kwargs if marker else {}
    if request.param == "sockets":
        found = SocketWorld(request.getfixturevalue("loop_thread"), **limits)
    elif request.param == "disk":
        found = DiskWorld(request.getfixturevalue("loop_thread"), request.getfixturevalue("tmp_path"), **limits)
    else:
        found = EngineWorld(is_stored=request.param == "stored", **limits)
    yield found
    found.finish()


@pytest.fixture
def five(world):
    """The same server, seen by clients of MQTT 5.0."""
    return Five(world)
