"""A real server in a process of its own: `mesimqtt.testing`'s, and the waiting that goes with it."""

from __future__ import annotations

import signal
from typing import Any

from mesimqtt.testing import process
from mesimqtt.testing.nursery import shared
from mesimqtt.testing.process import ServerError, wait_until
from stopwatch import seen_running_s

__all__ = ["Server", "ServerError", "stopped", "wait_until"]


class Server(process.Server):
    """A server that is forked, as its commands are: most of a start is importing, and the suite starts hundreds.

    How a process of one's own starts is the matter of test_serve.py and test_systemd.py.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"nursery": shared(), **options})


def stopped(server: process.Server) -> tuple[int, float]:
    """Stop a server with SIGTERM; return its exit code, and how many seconds it took (stopwatch.py)."""
    server.send_signal(signal.SIGTERM)
    took_s = seen_running_s(lambda: server.is_running)
    return server.wait(), took_s
