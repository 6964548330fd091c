"""The fixtures: a server on real sockets, and one in virtual time without any (docs/testing.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesimqtt.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mesimqtt.testing.live import LiveServer


@pytest.fixture
def mesimqtt_server(tmp_path: Path) -> Iterator[LiveServer]:
    """Give a server on a free port, in a thread of this process; it starts when it is first asked for its port."""
    from mesimqtt.testing.live import LiveServer  # noqa: PLC0415 - amqtt costs half a second, the other needs none

    server = LiveServer(tmp_path / "mesimqtt-data")
    yield server
    server.stop()


@pytest.fixture
def mesimqtt_world(tmp_path: Path) -> Iterator[World]:
    """Give a server in virtual time: engine, messaging and store are the real ones, sockets there are none."""
    world = World(tmp_path / "mesimqtt-world")
    yield world
    world.close()
