"""The HTTP door: its connections and their deadlines, inside the broker's own loop and behind the broker's listener."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from mesimqtt.api.connection import HttpConnection, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.api.application import Application
    from mesimqtt.api.connection import Listener
    from mesimqtt.settings import Http

SWEEP_S = 1.0
GRACE_S = 1.0  # for answers that are under way when the server ends
# What a browser is told with every answer: this is data, for nobody's cache, frame or guess.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

log = logging.getLogger(__name__)


class Door:
    """Makes the protocol of each connection, looks at its deadlines, and ends them all.

    `take_over` goes on with a connection that asks for a WebSocket: its address, its transport, what was read.
    """

    def __init__(
        self,
        settings: Http,
        application: Application,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        take_over: Callable[[str, asyncio.Transport, bytes], None],
        stalled_s: float,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._wall = wall
        self.take_over = take_over
        self.loop = asyncio.get_running_loop()
        self.state = ServerState()
        self.config = Config(
            application, http=HttpConnection, ws="none", lifespan="off", interface="asgi3", log_config=None,
            access_log=False, server_header=False, date_header=False, proxy_headers=False,
        )  # fmt: skip
        self.config.load()
        self._application = application
        self._stalled_s = stalled_s
        self._connections: dict[HttpConnection, None] = {}  # the longest open one first
        self._sweep_at = 0.0
        self._is_closing = False
        self._grace_s = GRACE_S
        self._empty = asyncio.Event()
        self._date()

    def connection(self, listener: Any, address: str | None = None) -> HttpConnection:  # noqa: ANN401 - the broker's
        """Make the protocol of an accepted connection, for an address that was admitted, if one is given."""
        counted: Listener = listener
        return HttpConnection(self, counted, address)

    def opened(self, connection: HttpConnection) -> None:
        """Count a connection; where there are too many, one that rests makes room, or it must go itself."""
        if self._is_closing:
            connection.transport.close()
        elif len(self._connections) >= self.settings.connections_max and not self._make_room():
            connection.phase = Phase.END
            connection.transport.abort()
        self._connections[connection] = None

    def closed(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def tick(self, now: float) -> None:
        """End connections whose time is over, and those that read nothing of their answer."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        self._date()
        self._application.keys.tick(now)
        for connection in list(self._connections):
            unwritten = connection.transport.get_write_buffer_size()
            if unwritten and unwritten == connection.unwritten:
                if now - connection.unwritten_since >= self._stalled_s:
                    connection.transport.abort()
                continue
            connection.unwritten, connection.unwritten_since = unwritten, now
            if connection.due and now >= connection.due and not unwritten:
                connection.late()

    def drain(self, retry_after_s: int) -> None:
        """Refuse what is asked from now on: the server stops, and is back after so many seconds."""
        self._application.retry_after_s = retry_after_s

    def hurry(self) -> None:
        """Wait for no answer any more."""
        self._grace_s = 0.0
        self._empty.set()

    async def close(self) -> None:
        """Answer what is being answered, and end every connection."""
        self._is_closing = True
        for connection in list(self._connections):
            connection.shutdown()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self._grace_s)
        for connection in list(self._connections):
            connection.transport.abort()
        tasks = list(self.state.tasks)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> bool:
        for connection in self._connections:
            if connection.phase is Phase.IDLE and not connection.transport.is_closing():
                connection.transport.close()
                return True
        return False

    def _date(self) -> None:
        self.state.default_headers = [(b"date", formatdate(self._wall(), usegmt=True).encode()), *HEADERS]
