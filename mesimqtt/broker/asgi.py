"""MQTT over the WebSockets that an ASGI application accepts: Starlette, FastAPI, whatever its server is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqtt.adapters import ReaderAdapter, WriterAdapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from mesimqtt.broker.broker import Broker

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

LISTENER = "asgi"
SUBPROTOCOL = "mqtt"
_GONE = (1000, "")
_UNSUPPORTED_DATA = 1003
_PROTOCOL_ERROR = 1002


class _Reader(ReaderAdapter):
    """Bytes of binary messages, however they are cut."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._rest = bytearray()  # what is taken from its front is not copied
        self.is_over = False
        self.code = 0  # why the connection is to be closed from here, 0: for no fault of the client

    async def read(self, n: int = -1) -> bytes:
        """Return exactly `n` bytes; none at the end."""
        while len(self._rest) < n and not self.is_over:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                self.is_over = True
            elif message.get("bytes") is None:  # [MQTT-6.0.0-1]
                self.is_over, self.code = True, _UNSUPPORTED_DATA
            else:
                self._rest += message["bytes"]
        if len(self._rest) < n:
            return b""
        found = bytes(self._rest[:n])
        del self._rest[:n]
        return found

    def feed_eof(self) -> None:
        """End."""
        self.is_over = True


class _Writer(WriterAdapter):
    """What is drained leaves as one binary message."""

    def __init__(self, send: Send, reader: _Reader, address: tuple[str, int]) -> None:
        self._send = send
        self._reader = reader
        self._address = address
        self._waiting = b""
        self._is_closed = False

    def write(self, data: bytes) -> None:
        """Keep `data` until it is drained."""
        self._waiting += data

    async def drain(self) -> None:
        """Send what was written."""
        data, self._waiting = self._waiting, b""
        if data and not self._reader.is_over:
            await self._send({"type": "websocket.send", "bytes": data})

    def get_peer_info(self) -> tuple[str, int]:
        """Return the client's address."""
        return self._address

    def get_ssl_info(self) -> None:
        """Know nothing of TLS: the application's server has it."""

    async def close(self) -> None:
        """Close, unless the client did."""
        if not self._is_closed and (not self._reader.is_over or self._reader.code):
            self._is_closed = True
            await self._send({"type": "websocket.close", "code": self._reader.code or _GONE[0]})


class WebSocketMount:
    """An ASGI application: mount it where MQTT over WebSocket is to be, for example under `/mqtt`.

    `broker` returns the running broker, None while there is none: then nobody is let in.
    """

    def __init__(self, broker: Callable[[], Broker | None]) -> None:
        self._broker = broker

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await _refuse_http(send)
            return
        if scope["type"] != "websocket":
            return
        await receive()  # websocket.connect
        broker = self._broker()
        if broker is None or SUBPROTOCOL not in scope.get("subprotocols", ()):  # [MQTT-6.0.0-3]
            await send({"type": "websocket.close", "code": _PROTOCOL_ERROR})
            return
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        host, port = (scope.get("client") or ("asgi", 0))[:2]
        reader = _Reader(receive)
        await broker.external_connected(reader, _Writer(send, reader, (host, port or 0)), LISTENER)


async def _refuse_http(send: Send) -> None:
    body = b"this is MQTT over WebSocket: use an MQTT client\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"upgrade", b"websocket")]
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": body})
