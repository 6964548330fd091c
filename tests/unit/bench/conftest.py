"""What the tests of the bench share."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from mesimqtt.bench.limit import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a process-less pipe that joins publishers and subscribers."""
    pipe = Pipe()
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            pipe.turn(0.02)
        pipe.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield pipe.port
    is_over.set()
    thread.join()
