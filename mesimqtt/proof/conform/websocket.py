"""A WebSocket's client end, sans I/O, as far as MQTT needs it (RFC 6455)."""

from __future__ import annotations

import base64
import hashlib
import os

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_HEAD_MAX = 16_384
_FRAME_MAX = 4 * 2**20  # bytes: some of the largest packets at once


class WebSocketError(Exception):
    """The other side speaks no WebSocket for MQTT; the text says what it said."""


class WebSocketClient:
    """`request` opens it; `receive` takes what came and returns MQTT's bytes; what must go back is in `answers`."""

    def __init__(self, host: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._accept = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode()).digest()).decode()  # noqa: S324 - RFC 6455 wants it
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mqtt", "", "",
        ]  # fmt: skip
        self.request = "\r\n".join(lines).encode()
        self.answers: list[bytes] = []
        self.is_open = False
        self.is_closed = False
        self._buffer = bytearray()

    def receive(self, data: bytes) -> bytes:
        """Return the MQTT bytes that are whole now. Raises WebSocketError."""
        self._buffer += data
        if not self.is_open and not self._opened():
            return b""
        out = bytearray()
        while (found := self._frame()) is not None:
            opcode, payload = found
            if opcode in {0, _BINARY}:
                out += payload
            elif opcode == _PING:
                self.answers.append(frame(payload, _PONG))
            elif opcode == _CLOSE:
                self.is_closed = True
                self.answers.append(frame(payload[:2], _CLOSE))
            elif opcode != _PONG:
                raise WebSocketError(f"a frame with opcode {opcode}: MQTT comes in binary frames [MQTT-6.0.0-1]")
        return bytes(out)

    def _opened(self) -> bool:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            if len(self._buffer) > _HEAD_MAX:
                raise WebSocketError("an HTTP answer without an end")
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if first.split(" ")[1:2] != ["101"] or fields.get("sec-websocket-accept") != self._accept:
            raise WebSocketError(f"the server opens no WebSocket: {first[:100]}")
        if fields.get("sec-websocket-protocol") != "mqtt":
            raise WebSocketError("the server does not choose the subprotocol mqtt [MQTT-6.0.0-4]")
        self.is_open = True
        self._buffer = bytearray(rest)
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        raw = self._buffer
        if len(raw) < 2:
            return None
        size, start = raw[1], 2
        if size & 0x80:
            raise WebSocketError("a masked frame from a server")
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(raw[2:start])
        if size > _FRAME_MAX and len(raw) >= start:
            raise WebSocketError(f"a frame of {size} bytes, more than the kit takes ({_FRAME_MAX})")
        if len(raw) < start + size:
            return None
        payload = bytes(raw[start : start + size])
        opcode = raw[0] & 15
        del raw[: start + size]
        return opcode, payload


def frame(payload: bytes, opcode: int = _BINARY) -> bytes:
    """Return a client's frame, masked."""
    size, mask = len(payload), os.urandom(4)
    head = bytes((0x80 | opcode,))
    if size <= 125:
        head += bytes((0x80 | size,))
    else:
        head += b"\xfe" + size.to_bytes(2) if size < 0x10000 else b"\xff" + size.to_bytes(8)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return head + mask + (int.from_bytes(payload) ^ key).to_bytes(size)
