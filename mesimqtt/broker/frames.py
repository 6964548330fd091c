"""WebSocket frames, sans I/O (RFC 6455): what a client sends becomes MQTT's bytes, what we send becomes one frame.

MQTT's packets may span frames and share them [MQTT-6.0.0-2], so the payload of a frame goes on as it comes:
nothing of a frame is kept but its head, whatever length it announces.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without a compiled wheel
    from websockets.utils import apply_mask

BINARY, TEXT, CLOSE, PING, PONG = 0x2, 0x1, 0x8, 0x9, 0xA
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NOT_ACCEPTED, NOT_TEXT, TOO_BIG = 1000, 1001, 1002, 1003, 1007, 1009
NO_CODE = 1005  # stands for a Close frame without a code; never sent
CONTROL_MAX = 125
_FIN = 0x80
_CLOSE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))  # RFC 6455, section 7.4


def frame(opcode: int, payload: bytes) -> bytes:
    """Return `payload` as one frame of a server, which masks nothing."""
    return frame_head(opcode, len(payload)) + payload


def frame_head(opcode: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a server's frame."""
    if size <= CONTROL_MAX:
        return bytes((_FIN | opcode, size))
    if size < 0x10000:
        return bytes((_FIN | opcode, 126, size >> 8, size & 0xFF))
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big")


def close_frame(code: int) -> bytes:
    """Return a Close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") if code != NO_CODE else b"")


def _whole_frames(data: bytes, position: int, parts: list[bytes]) -> int:
    """Take the usual case in one go: whole, final, binary, masked frames; return where something else begins."""
    end = len(data)
    take = parts.append
    while end - position >= 6 and data[position] == 0x82:
        size = data[position + 1]
        if size == 0xFE and end - position >= 8:
            size = data[position + 2] << 8 | data[position + 3]
            start = position + 8
            if size <= CONTROL_MAX:
                break
        elif 0x80 <= size < 0xFE:
            size &= 0x7F
            start = position + 6
        else:
            break
        stop = start + size
        if stop > end:
            break
        take(apply_mask(data[start:stop], data[start - 4 : start]))
        position = stop
    return position


class FrameReader:
    """Reads a client's frames. `size_max` bounds the length that a frame may announce.

    After `feed`: `ping` holds the payload of the last Ping, if any came; `code` is set once the connection is
    over, by the client's Close (`is_closed`) or by what it must not send (`reason`).
    """

    __slots__ = (
        "_control", "_is_fragmented", "_left", "_mask", "_opcode", "_rest", "_size_max", "code", "is_closed", "ping",
        "reason",
    )  # fmt: skip

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._rest = b""  # the beginning of a head
        self._left = 0  # bytes that the current frame still has
        self._mask = b""
        self._opcode = 0
        self._control: bytearray | None = None  # the payload of a control frame that is not whole
        self._is_fragmented = False
        self.ping: bytes | None = None
        self.code = 0
        self.is_closed = False
        self.reason = ""

    def feed(self, data: bytes) -> bytes:
        """Take what was read; return MQTT's part of it."""
        if self.code:
            return b""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        parts: list[bytes] = []
        position, end = 0, len(data)
        if self._left:
            position = self._go_on(data, position, parts)
        while position < end and not self.code:
            if not self._is_fragmented:
                position = _whole_frames(data, position, parts)
                if position >= end:
                    break
            after = self._head(data, position, end)
            if after < 0:
                self._rest = data[position:]
                break
            position = self._go_on(data, after, parts)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _head(self, data: bytes, position: int, end: int) -> int:
        """Read a frame's head; return where its payload begins, -1 if it is not whole."""
        if end - position < 2:
            return -1
        first, second = data[position], data[position + 1]
        opcode, size = first & 0x0F, second & 0x7F
        reason, code = self._fault(first, second)
        start = position + 2
        if not reason and size > CONTROL_MAX:
            width = 2 if size == 126 else 8
            if end < start + width:
                return -1
            size = int.from_bytes(data[start : start + width], "big")
            start += width
            if size > self._size_max:
                reason, code = "a frame is too big", TOO_BIG
            elif size <= CONTROL_MAX or (width == 8 and size < 0x10000):
                reason = "a length is not written in the shortest way"
        if reason:
            self._fail(code, reason)
            return end
        if end < start + 4:
            return -1
        self._mask = data[start : start + 4]
        self._left = size
        self._opcode = opcode
        if opcode & 0x8:
            self._control = bytearray()
        else:
            self._is_fragmented = not first & _FIN
        return start + 4

    def _fault(self, first: int, second: int) -> tuple[str, int]:
        """Return what is wrong with the first two bytes of a frame, and its code."""
        opcode = first & 0x0F
        code = PROTOCOL_ERROR
        reason = ""
        if first & 0x70:
            reason = "reserved bits, but no extension was agreed"
        elif not second & 0x80:
            reason = "a client's frame is not masked"
        elif opcode & 0x8:
            if opcode > PONG:
                reason = "unknown opcode"
            elif not first & _FIN or second & 0x7F > CONTROL_MAX:
                reason = "a control frame is long or in parts"
        elif opcode == TEXT:
            reason, code = "MQTT comes in binary frames", NOT_ACCEPTED  # [MQTT-6.0.0-1]
        elif opcode > BINARY:
            reason = "unknown opcode"
        elif (opcode == 0) is not self._is_fragmented:
            reason = "a continuation without a beginning, or a beginning within a message"
        return reason, code

    def _go_on(self, data: bytes, position: int, parts: list[bytes]) -> int:
        """Take what is here of the current frame's payload; return the position behind it."""
        if self.code:
            return len(data)
        stop = min(position + self._left, len(data))
        size = stop - position
        if size:
            payload = apply_mask(data[position:stop], self._mask)
            turn = size & 3
            if turn:
                self._mask = self._mask[turn:] + self._mask[:turn]
            self._left -= size
            if self._control is None:
                parts.append(payload)
            else:
                self._control += payload
        if self._control is not None and not self._left:
            payload, self._control = bytes(self._control), None
            self._take_control(payload)
        return stop

    def _take_control(self, payload: bytes) -> None:
        if self._opcode == PING:
            self.ping = payload
        elif self._opcode == CLOSE:
            self._take_close(payload)

    def _take_close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        is_known = code in _CLOSE_CODES or 3000 <= code < 5000 or not payload
        if len(payload) == 1 or not is_known:
            self._fail(PROTOCOL_ERROR, "a Close frame is malformed")
            return
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            self._fail(NOT_TEXT, "a Close frame's reason is not UTF-8")
            return
        self.is_closed = True
        self._fail(code, "the client closed the WebSocket")

    def _fail(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
