"""One connection of HTTP: uvicorn's protocol with our bounds and deadlines, until it ends or becomes a WebSocket."""

from __future__ import annotations

import asyncio
import json
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mesimqtt.api.problems import problem

if TYPE_CHECKING:
    from mesimqtt.api.door import Door

SLICE = 4 * 1024
LINGER_S = 1.0  # for a client to read why it was refused, while what it still sends is dropped
_LINGERING = frozenset({413, 431})  # much may still come, and closing on it would take the answer away
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


class Cycle(RequestResponseCycle):
    """One request and its answer; an answer that is whole goes out in one write, not head and body apart."""

    _held: Any = None

    async def receive(self) -> Any:  # noqa: ANN401 - ASGI's messages
        """Return a part of the body; what is whole needs no wait, and no further reading."""
        if self.more_body or self.disconnected or self.response_complete or self.waiting_for_100_continue:
            return await super().receive()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:  # noqa: ANN401 - ASGI's messages
        """Take a part of the answer."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._held = message
            return
        held, self._held = self._held, None
        if held is None or message.get("more_body"):
            if held is not None:
                await super().send(held)
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        is_last = False
        parts = [STATUS_LINE[held["status"]]]
        for name, value in (*self.default_headers, *held["headers"]):
            parts.append(b"%b: %b\r\n" % (name, value))
            is_last = is_last or name == b"connection"
        if is_last:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += [b"\r\n", b"" if self.scope["method"] == "HEAD" else message["body"]]
        self.transport.write(b"".join(parts))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


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
        self._rest = b""  # of a read, that is not parsed yet

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
        """Parse a read; what is wrong with it is answered, and the connection ends.

        A pipeline is taken a slice at a time, the next when its requests are answered: a read holds thousands.
        """
        self._rest += data
        while self._rest and not self.pipeline:
            if self.phase is Phase.END or (self.phase is Phase.ANSWER and not self.cycle.keep_alive):
                self._rest = b""  # the last request has said that it is the last
                return
            part, self._rest = self._rest[:SLICE], self._rest[SLICE:]
            if self.phase is Phase.IDLE:
                self._expect_head()
            if self.phase is Phase.HEAD:
                self._head_size += len(part)
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                self._upgraded(part[upgrade.args[0] :] if upgrade.args else b"")
                return
            except httptools.HttpParserError:
                if not self.is_over:
                    reason = "this is no request of HTTP/1.1, or one that could be read in two ways"
                    self.refuse(400, "bad-request", reason)
                return
            if self.phase is Phase.HEAD and self._head_size > self._door.settings.head_max:
                self._refuse_head()
        if self._rest:
            self.flow.pause_reading()

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
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        before: RequestResponseCycle | None = self.cycle
        is_pipelined = self.phase is Phase.ANSWER
        self.cycle = self._cycle()
        self.phase = Phase.BODY
        if not is_pipelined:
            self.due = self._door.clock() + self._door.settings.body_deadline_s
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

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
            self._idle()

    def on_response_complete(self) -> None:
        """Go on with the next request of a pipeline, or wait for one."""
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self.phase is Phase.BODY:
                self.due = self._door.clock() + self._door.settings.body_deadline_s
        elif self.phase is Phase.END:
            self.transport.close()
        elif self.phase is Phase.ANSWER:
            self._idle()
        if not self.pipeline:
            self.flow.resume_reading()
            if self._rest:
                self.loop.call_soon(self.data_received, b"")

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
        self.phase = Phase.END
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
        if is_free and status not in _LINGERING:
            self.transport.close()
        self.due = self._door.clock() + LINGER_S if is_free else 0.0

    # ---- inside ------------------------------------------------------------------------------------------------

    def _cycle(self) -> Cycle:
        path, _, query = self.url.partition(b"?")
        scope = cast("dict[str, Any]", self.scope)
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = path.decode("ascii", "replace")
        scope["raw_path"], scope["query_string"] = path, query
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _idle(self) -> None:
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
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0") or (b"host" not in found and version == "1.1"):
            return 400, "bad-request", "this is HTTP/1.1, with one Host header"
        if not self.url.startswith(b"/") or not self.url.isascii():
            return 400, "bad-request", "a path begins with / and is percent-encoded"
        length = found.get(b"content-length")
        if b"transfer-encoding" in found and (length is not None or found[b"transfer-encoding"].lower() != b"chunked"):
            return 400, "bad-request", "a body has a Content-Length, or is chunked, and nothing else"
        if length is not None and not _LENGTH.fullmatch(length):
            return 400, "bad-request", "Content-Length is a number"
        if length is not None and int(length) > settings.body_max:
            return 413, "too-large", f"a body has at most {settings.body_max} bytes"
        return None

    def _upgraded(self, behind: bytes) -> None:
        """Hand a WebSocket over, with its request as it was read; any other protocol is ignored, as it may be."""
        if self._get_upgrade() != b"websocket":
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        head += [b"\r\n", behind, self._rest]
        self.phase = Phase.END
        self._door.closed(self)
        self._door.take_over(self.address or "", self.transport, b"".join(head))

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() == b"websocket"

    def _unset_keepalive_if_required(self) -> None:
        """Do nothing: the door looks at `due`."""
