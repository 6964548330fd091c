"""Our server and mosquitto, each in a process of its own, to say the same to both."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mesimqtt.bench.servers import Mosquitto, find_mosquitto
from mesimqtt.testing.process import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mesimqtt.proof.grammar.play import Address


@contextlib.contextmanager
def both(folder: Path) -> Iterator[tuple[Address, Address]]:
    """Start both; yield where ours and where theirs listens. Raises MesimqttError where mosquitto is not installed."""
    theirs = Mosquitto(folder, 0, find_mosquitto())
    with theirs.started() as target, Server(folder / "data", options=("--open",)) as server:
        yield (server.host, server.port), target.address
