"""What systemd is told of this process (sd_notify): that it is ready, reloads, stops, and is alive."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from mesimqtt.configuration import Supervision

_BEATS = 3  # within the time after which systemd takes the process for dead


class Supervisor:
    """The other end of NOTIFY_SOCKET; without one, nobody is told, and nothing is done."""

    def __init__(self, supervision: Supervision) -> None:
        self._address = supervision.socket
        self._watchdog_s = supervision.watchdog_s

    def ready(self, loop: asyncio.AbstractEventLoop, status: str) -> None:
        """Tell that the server serves; from now on tell that its loop turns, if systemd wants to know."""
        self._tell("READY=1", f"STATUS={status}")
        if self._address and self._watchdog_s:
            self._beat(loop)

    def reloading(self) -> None:
        """Tell that files are being read again; `reloaded` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Tell that they were read."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """Tell that the server takes leave."""
        self._tell("STOPPING=1", "STATUS=taking leave of the clients")

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tell("WATCHDOG=1")
        loop.call_later(self._watchdog_s / _BEATS, self._beat, loop)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is of the abstract namespace. Whoever does not listen holds up nobody.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.setblocking(False)
            told.sendto("\n".join(lines).encode(), address)
