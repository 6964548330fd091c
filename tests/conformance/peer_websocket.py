"""The WebSocket of the conformance tests: its frames by hand, below the same Peer."""

from __future__ import annotations

import base64
import hashlib

from conformance.peer import SocketWire, SocketWorld
from integration.raw_websocket import REQUEST, masked, request

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
ACCEPT = base64.b64encode(
    hashlib.sha1(f"{REQUEST['Sec-WebSocket-Key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324 - RFC 6455 wants it
)


class WebSocketWire(SocketWire):
    """A WebSocket on a blocking socket: what is written is one binary frame, what is read are payloads of such."""

    def __init__(self, port, **changes):
        super().__init__(port)
        self.head = b""
        self.codes = []  # of the Close frames that came
        self._frames = b""
        self.write_raw(request(**changes))
        while b"\r\n\r\n" not in self.head and (more := super().read()):
            self.head += more
        self.head, _, self._frames = self.head.partition(b"\r\n\r\n")

    def write_raw(self, data):
        """Write bytes that are no frame, or a frame of the test's own."""
        super().write(data)

    def write(self, data):
        self.write_raw(masked(data))

    def read(self):
        while (payload := self._payload()) is None:
            more = super().read()
            if not more:
                return b""
            self._frames += more
        return payload

    def _payload(self):
        """Return the payload of the next frame if it is whole; that of a control frame is nothing."""
        raw = self._frames
        if len(raw) < 2:
            return None
        size, start = raw[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(raw[2:start])
        if len(raw) < start + size:
            return None
        payload, self._frames = raw[start : start + size], raw[start + size :]
        if raw[0] == 0x80 | CLOSE:
            self.codes.append(int.from_bytes(payload[:2]))
            return None if not self._frames else self._payload()
        assert 0x80 | BINARY == raw[0], "MQTT comes in whole binary frames"
        assert payload, "a frame without a payload says nothing"
        return payload


class WebSocketWorld(SocketWorld):
    """A broker that listens for WebSockets beside TCP."""

    listeners = {"web": {"type": "ws", "bind": "127.0.0.1:0"}}  # noqa: RUF012 - read only

    @property
    def web_port(self):
        return next(port for name, _, port in self.broker.bound if name == "web")

    def _wire(self):
        return WebSocketWire(self.web_port)
