"""A connection as a recorded or replayed server sees it: its protocol, and a transport that is nothing but calls."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where what the server does to a connection goes: to the socket, or to whoever compares it."""

    def write(self, number: int, data: bytes) -> None:
        """Take bytes for connection `number`."""

    def end_line(self, number: int, how: str) -> None:
        """Take note that the server closes it (`close`), cuts it (`abort`) or writes no more (`eof`)."""

    def unwritten(self, number: int) -> int:
        """Return how many bytes it has not taken yet."""

    def read(self, number: int, *, is_wanted: bool) -> None:
        """Read on, or not for now."""

    def bound(self, number: int, high: int, low: int) -> None:
        """Have the server told from how much unwritten output on it is to pause, and when to go on."""


class FarEnd(asyncio.Transport):
    """What a protocol writes to. Nothing here depends on the socket but what is asked of the outlet."""

    def __init__(self, number: int, info: dict[str, Any], outlet: Outlet, line: Line) -> None:
        super().__init__()
        self._number = number
        self._info = info
        self._outlet = outlet
        self._line = line
        self._is_closing = False
        self._is_ended = False
        self._is_reading = True

    def fileno(self) -> int:
        """Return -1: this stands for the socket, and nobody writes past it."""
        return -1

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's signature
        """Return what was known of the connection when it was opened."""
        if name == "socket":
            return self
        found = self._info.get(name, default)
        return tuple(found) if name == "peername" and isinstance(found, list) else found

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return whose input this is."""
        protocol: asyncio.BaseProtocol = self._line.protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the input to another protocol from now on."""
        self._line.protocol = protocol

    def is_closing(self) -> bool:
        """Tell whether the server has closed it, or knows that it is gone."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Tell whether it reads."""
        return self._is_reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set from how much unwritten output on the protocol is told to pause, and when to go on."""
        self._outlet.bound(self._number, high or 0, low or 0)

    def get_write_buffer_size(self) -> int:
        """Return how much is unwritten."""
        return self._outlet.unwritten(self._number)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        if data and not (self._is_closing or self._is_ended):
            self._outlet.write(self._number, bytes(data))

    def can_write_eof(self) -> bool:
        """Tell that the connection can be closed one way."""
        return bool(self._info.get("can_write_eof"))

    def write_eof(self) -> None:
        """Write nothing more."""
        if not (self._is_closing or self._is_ended):
            self._is_ended = True
            self._outlet.end_line(self._number, "eof")

    def pause_reading(self) -> None:
        """Leave in the socket what the peer sends."""
        if self._is_reading and not self._is_closing:
            self._is_reading = False
            self._outlet.read(self._number, is_wanted=False)

    def resume_reading(self) -> None:
        """Read on."""
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            self._outlet.read(self._number, is_wanted=True)

    def close(self) -> None:
        """Close once everything is written."""
        if not self._is_closing:
            self._is_closing = True
            self._outlet.end_line(self._number, "close")

    def abort(self) -> None:
        """Close; what is unwritten is lost."""
        self._is_closing = True
        self._outlet.end_line(self._number, "abort")

    def gone(self) -> None:
        """Take note that there is no connection any more."""
        self._is_closing = True


class Line:
    """One connection: what happens to it is called in, in the order in which it was written down."""

    def __init__(self, number: int, info: dict[str, Any], outlet: Outlet, make: Callable[[], Any]) -> None:
        self.number = number
        self.protocol: Any = None
        self.transport = FarEnd(number, info, outlet, self)
        self._make = make

    def opened(self) -> None:
        """Make the protocol and give it its transport."""
        self.protocol = self._make()
        self._tell(self.protocol.connection_made, self.transport)

    def data(self, data: bytes) -> None:
        """Give it what was read."""
        if not self.transport.is_closing():
            self._tell(self.protocol.data_received, data)

    def paused(self) -> None:
        """Tell that it does not read."""
        self._tell(self.protocol.pause_writing)

    def resumed(self) -> None:
        """Tell that it reads again."""
        self._tell(self.protocol.resume_writing)

    def lost(self) -> None:
        """Tell that it is gone."""
        self.transport.gone()
        self._tell(self.protocol.connection_lost, None)

    def _tell(self, call: Callable[..., object], *about: object) -> None:
        try:
            call(*about)
        except Exception:
            log.exception("a connection failed; it is closed, the others go on")
            self.transport.abort()
