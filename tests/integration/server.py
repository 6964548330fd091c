"""A real server in a process of its own: `mesimqtt.testing`'s, and the waiting that goes with it."""

from __future__ import annotations

import signal

from mesimqtt.testing.process import Server, ServerError, wait_until
from stopwatch import seen_running_s

__all__ = ["Server", "ServerError", "stopped", "wait_until"]


def stopped(server: Server) -> tuple[int, float]:
    """Stop a server with SIGTERM; return its exit code, and how many seconds it took (stopwatch.py)."""
    server.send_signal(signal.SIGTERM)
    took_s = seen_running_s(lambda: server.is_running)
    return server.wait(), took_s
