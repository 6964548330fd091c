"""A real server in a process of its own: `mesimqtt.testing`'s, and the waiting that goes with it."""

from __future__ import annotations

from mesimqtt.testing.process import Server, ServerError, wait_until

__all__ = ["Server", "ServerError", "wait_until"]
