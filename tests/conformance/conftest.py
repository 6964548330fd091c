"""The worlds of the conformance tests: every test on the bare engine, those marked `sockets` also over TCP."""

from __future__ import annotations

import pytest

from conformance.peer import EngineWorld, LoopThread, SocketWorld
from conformance.peer5 import Five


def pytest_configure(config):
    config.addinivalue_line("markers", "sockets: this conformance test runs over TCP as well")
    config.addinivalue_line("markers", "extra: a conformance test of what no numbered statement says")
    config.addinivalue_line("markers", "limits(**changes): limits of the server in this conformance test")


def pytest_generate_tests(metafunc):
    if "world" in metafunc.fixturenames:
        over_tcp = metafunc.definition.get_closest_marker("sockets")
        metafunc.parametrize("world", ["engine", "stored", "tcp"] if over_tcp else ["engine", "stored"], indirect=True)


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
    if request.param == "tcp":
        found = SocketWorld(request.getfixturevalue("loop_thread"), **limits)
    else:
        found = EngineWorld(is_stored=request.param == "stored", **limits)
    yield found
    found.finish()


@pytest.fixture
def five(world):
    """The same server, seen by clients of MQTT 5.0."""
    return Five(world)
