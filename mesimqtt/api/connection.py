"""One connection of HTTP: uvicorn's protocol with our bounds and deadlines, until it ends or becomes a WebSocket."""

from __future__ import annotations

import json
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mesimqtt.api.problems import problem

if TYPE_CHECKING:
    import asyncio

    from mesimqtt.api.door import Door

LINGER_S = 1.0  # for a client to read why it was refused, while what it still sends is dropped
LOCAL = "unix"  # stands for the address of who comes through a Unix socket, as in the broker
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_ONCE = frozenset({b"host", b"content-length", b"content-type", b"authorization", b"idempotency-key", b"expect"})
_LENGTH = re.compile(rb"\d{1,15}")


class Phase(IntEnum):
    """What a connection waits for."""

    HEAD = 0
    BODY = 1
    ANSWER = 2
    IDLE = 3
    END = 4


class Listener(Protocol):
    """What counts connections: the broker's listener."""

    def admit(self, address: str) -> bool:
        """Count a connection; False where there are enough."""

    def leave(self, address: str) -> None:
        """Take back what `admit` counted."""


class HttpConnection(HttpToolsProtocol):
    """What uvicorn leaves open is bounded here: how long a request may take, how big it is, and how it is written.

    `due` is when the peer must have done what `phase` waits for; the door looks at it a few times a second.
    """

    def __init__(self, door: Door, listener: Listener, address: str | None = None) -> None:
        super().__init__(door.config, door.state, {}, door.loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.access_log = False
        self._door = door
        self._listener = listener
        self.address = address
        self.is_made = False
        self.phase = Phase.HEAD
        self.due = 0.0
        self.unwritten = 0  # at the door's last look
        self.unwritten_since = 0.0
        self._head_size = 0
        self._data = b""

    @property
    def is_over(self) -> bool:
        """Tell whether no further request is read."""
        return self.phase is Phase.END

    # ---- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, unless there are too many of its address."""
        self.transport = cast("asyncio.Transport", transport)
        self.is_made = True
        self.flow = FlowControl(self.transport)
        if self.address is None:
            peer = transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) and peer else LOCAL
            if not self._listener.admit(address):
                self.phase = Phase.END
                self.transport.abort()
                return
            self.address = address
        self.transport.set_write_buffer_limits(high=64 * 1024, low=16 * 1024)
        self.client = (self.address, 0)
        self.server = ("", None)
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.due = self._door.clock() + self._door.settings.head_deadline_s
        self._door.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that is gone."""
        self.phase = Phase.END
        self._door.closed(self)
        if self.address is not None:
            self._listener.leave(self.address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a read; what is wrong with it is answered, and the connection ends."""
        if self.phase is Phase.END:
            return
        if self.phase is Phase.IDLE:
            self._expect_head()
        elif self.phase is Phase.ANSWER and not self.cycle.keep_alive:
            return  # the last request has said that it is the last
        self._data = data
        if self.phase is Phase.HEAD:
            self._head_size += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(upgrade)
            return
        except httptools.HttpParserError:
            if not self.is_over:
                self.refuse(400, "bad-request", "this is no request of HTTP/1.1, or one that could be read in two ways")
            return
        finally:
            self._data = b""
        if self.phase is Phase.HEAD and self._head_size > self._door.settings.head_max:
            self._refuse_head()

    # ---- httptools ---------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self.phase is not Phase.END:
            super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; too many of them are refused when they are all there."""
        if self.phase is not Phase.END and len(self.headers) <= self._door.settings.headers_max:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the request, if its head says one thing and not two."""
        if self.phase is Phase.END:
            return
        if self.phase is Phase.ANSWER and not self.cycle.keep_alive:
            self.phase = Phase.END  # pipelined behind a last request
            return
        fault = self._fault()
        if fault is not None:
            self.refuse(*fault)
            return
        is_pipelined = self.phase is Phase.ANSWER
        super().on_headers_complete()
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            self.phase = Phase.BODY
            if not is_pipelined:
                self.due = self._door.clock() + self._door.settings.body_deadline_s

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self.phase is not Phase.END:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that a request is whole."""
        if self.phase is Phase.END or (self.parser.should_upgrade() and self._should_upgrade()):
            return
        super().on_message_complete()
        if not self.cycle.response_complete:
            self.phase, self.due = Phase.ANSWER, 0.0
        elif self.phase is Phase.BODY:  # it was answered before it was whole
            self._rest()

    def on_response_complete(self) -> None:
        """Go on with the next request of a pipeline, or wait for one."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self.phase is Phase.BODY:
                self.due = self._door.clock() + self._door.settings.body_deadline_s
        elif self.phase is Phase.END:
            self.transport.close()
        elif self.phase is Phase.ANSWER:
            self._rest()

    # ---- for the door ------------------------------------------------------------------------------------------

    def late(self) -> None:
        """End a connection whose time is over: who is in the middle of a request is told."""
        if self.phase is Phase.IDLE or not self._head_size or self.phase is Phase.END:
            self.transport.close()
        elif self.phase is Phase.HEAD:
            self.refuse(408, "too-slow", f"a head takes at most {self._door.settings.head_deadline_s:g} s")
        elif self.phase is Phase.BODY:
            if self.cycle.response_started:
                self.transport.close()
            else:
                self.refuse(408, "too-slow", f"a body takes at most {self._door.settings.body_deadline_s:g} s")

    def refuse(self, status: int, code: str, detail: str) -> None:
        """Answer what cannot be read as a request, and end: nothing after it is looked at."""
        cycle: RequestResponseCycle | None = self.cycle
        is_free = cycle is None or cycle.response_complete
        if cycle is not None and self.phase is Phase.BODY and not is_free and not cycle.response_started:
            cycle.disconnected = True  # its body will never be whole
            cycle.message_event.set()
            is_free = not self.pipeline
        if is_free:
            body = json.dumps(problem(status, code, detail)).encode()
            fields = [
                *self.server_state.default_headers,
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            head = b"".join(b"%b: %b\r\n" % field for field in fields)
            self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self.due = self._door.clock() + LINGER_S if is_free else 0.0

    # ---- inside ------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        self.phase = Phase.IDLE
        self.due = self._door.clock() + self._door.settings.keep_alive_s

    def _expect_head(self) -> None:
        self.phase = Phase.HEAD
        self._head_size = 0
        self.due = self._door.clock() + self._door.settings.head_deadline_s

    def _refuse_head(self) -> None:
        settings = self._door.settings
        self.refuse(
            431, "head-too-large", f"a head has at most {settings.head_max} bytes and {settings.headers_max} headers"
        )

    def _fault(self) -> tuple[int, str, str] | None:
        """Return why a head is refused; None: it is good."""
        settings = self._door.settings
        found: dict[bytes, bytes] = {}
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                return 400, "bad-request", "a header is malformed"
            if name in found and name in _ONCE:
                return 400, "bad-request", f"the header {name.decode()} stands twice"
            found[name] = value
        if size > settings.head_max or len(self.headers) > settings.headers_max:
            detail = f"a head has at most {settings.head_max} bytes and {settings.headers_max} headers"
            return 431, "head-too-large", detail
        if b"host" not in found and self.parser.get_http_version() != "1.0":
            return 400, "bad-request", "one Host header is needed"
        length = found.get(b"content-length")
        if b"transfer-encoding" in found and (length is not None or found[b"transfer-encoding"].lower() != b"chunked"):
            return 400, "bad-request", "a body has a Content-Length, or is chunked, and nothing else"
        if length is not None and not _LENGTH.fullmatch(length):
            return 400, "bad-request", "Content-Length is a number"
        if length is not None and int(length) > settings.body_max:
            return 413, "too-large", f"a body has at most {settings.body_max} bytes"
        return None

    def _upgraded(self, upgrade: httptools.HttpParserUpgrade) -> None:
        """Hand a WebSocket over, with its request as it was read; any other protocol is ignored, as it may be."""
        if self._get_upgrade() != b"websocket":
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        head += [b"\r\n", self._data[upgrade.args[0] :] if upgrade.args else b""]
        self.phase = Phase.END
        self._door.closed(self)
        self._door.take_over(self.address or "", self.transport, b"".join(head))

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() == b"websocket"

    def _unset_keepalive_if_required(self) -> None:
        """Do nothing: the door looks at `due`."""
