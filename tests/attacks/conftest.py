"""One server for all attacks; while they run, two innocents chat on it and must notice nothing."""

from __future__ import annotations

import itertools

import pytest

from attacks.target import Chat, Target

_CHATS = itertools.count(1)
LATE_S = 1.0  # the machine is shared with the attackers; measured on a quiet one: 0.1 s


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    """A server with production.yaml; its CONNECT deadline is shorter, so that a test may wait for it."""
    quicker = ("limits:\n", "log_level: DEBUG\nlimits:\n  connect_deadline_s: 1.5\n")
    server = Target(tmp_path_factory.mktemp("target"), quicker)
    yield server
    assert 0 == server.stop()
    assert "Traceback" not in server.log
    assert [] == [user for user, token in server.tokens.items() if token.rpartition(".")[2] in server.log]


@pytest.fixture(scope="module", autouse=True)
def innocents(request, target):
    """Whatever a file of attacks does: every message of the innocents arrives, in order and in time."""
    # Tests go to whichever worker is idle, so that one may come back to a file: its cids are to be new ones.
    name = f"{request.module.__name__.rpartition('test_')[2]}.{next(_CHATS)}"
    chat = Chat(target, f"ann.{name}", f"ben.{name}")
    yield
    chat.end()
    assert chat.sent == chat.got
    assert max(chat.late) < LATE_S
