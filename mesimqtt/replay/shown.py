"""Packets as text, for who looks at a recording: one line a packet, passwords and tokens left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine.packets import FIVE

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = (
    "0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
    "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip
_SHOWN_MAX = 120
_CONNECT, _CONNACK, _PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE = 1, 2, 3, 8, 10
_WITH_ID = frozenset({4, 5, 6, 7, 8, 9, 10, 11})


class Shown:
    """One direction of one connection; `version` is that of its MQTT, once CONNECT has told it."""

    def __init__(self, *, is_mqtt: bool | None = None) -> None:
        self.version = 4
        self._rest = b""
        self._is_mqtt = is_mqtt  # None: the first byte tells

    def lines(self, data: bytes) -> Iterator[str]:
        """Yield a line for each packet that is whole now; what is not MQTT is shown by its first line."""
        if self._is_mqtt is None:
            self._is_mqtt = data[:1] in (b"\x10", b"\x20")
        if not self._is_mqtt:
            first = data.partition(b"\r\n")[0]
            yield f"{len(data)} bytes: {_text(first)}"
            return
        self._rest += data
        while (found := _whole(self._rest)) is not None:
            start, end = found
            packet, self._rest = self._rest[:end], self._rest[end:]
            try:
                yield self._line(packet[0], packet[start:end])
            except (IndexError, UnicodeDecodeError):
                yield f"{_NAMES[packet[0] >> 4]} that cannot be read, {end} bytes"

    def _line(self, first: int, body: bytes) -> str:
        kind = first >> 4
        name = _NAMES[kind]
        if kind == _CONNECT:
            return self._connect(body)
        if kind == _CONNACK:
            return f"CONNACK code={body[1]} session={body[0]}"
        if kind == _PUBLISH:
            return self._publish(first, body)
        packet_id = f" id={int.from_bytes(body[:2], 'big')}" if kind in _WITH_ID and len(body) > 1 else ""
        if kind in (_SUBSCRIBE, _UNSUBSCRIBE):
            return f"{name}{packet_id} {' '.join(self._filters(body, has_options=kind == _SUBSCRIBE))}"
        rest = body[2:] if packet_id else body
        return f"{name}{packet_id}{' ' + rest[:16].hex() if rest else ''}"

    def _connect(self, body: bytes) -> str:
        self.version = body[6]
        flags, position = body[7], 10
        if self.version == FIVE:
            position = _past_properties(body, position)
        client_id, position = _string(body, position)
        if flags & 4:
            position = _past_properties(body, position) if self.version == FIVE else position
            _, position = _string(body, position)
            position += 2 + int.from_bytes(body[position : position + 2], "big")
        user = _string(body, position)[0] if flags & 0x80 else "-"
        secret = " password=(hidden)" if flags & 0x40 else ""
        return f"CONNECT version={self.version} client={client_id!r} user={user!r} clean={flags >> 1 & 1}{secret}"

    def _publish(self, first: int, body: bytes) -> str:
        topic, position = _string(body, 0)
        qos = first >> 1 & 3
        packet_id = ""
        if qos:
            packet_id = f" id={int.from_bytes(body[position : position + 2], 'big')}"
            position += 2
        if self.version == FIVE:
            position = _past_properties(body, position)
        marks = f"{' dup' if first & 8 else ''}{' retain' if first & 1 else ''}"
        return f"PUBLISH qos={qos}{packet_id}{marks} {topic} {_text(body[position:])}"

    def _filters(self, body: bytes, *, has_options: bool) -> Iterator[str]:
        position = _past_properties(body, 2) if self.version == FIVE else 2
        while position < len(body):
            name, position = _string(body, position)
            if has_options:
                name, position = f"{name}@{body[position]}", position + 1
            yield name


def _whole(data: bytes) -> tuple[int, int] | None:
    """Return where the body of the first packet begins and ends; None while it is not all there."""
    size = shift = 0
    for position in range(1, min(len(data), 5)):
        size |= (data[position] & 127) << shift
        shift += 7
        if data[position] < 128:
            end = position + 1 + size
            return (position + 1, end) if end <= len(data) else None
    return None


def _string(body: bytes, position: int) -> tuple[str, int]:
    size = int.from_bytes(body[position : position + 2], "big")
    return body[position + 2 : position + 2 + size].decode(), position + 2 + size


def _past_properties(body: bytes, position: int) -> int:
    size = shift = 0
    while True:
        byte = body[position]
        size |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return position + size


def _text(data: bytes) -> str:
    """Return bytes as a text of a bounded length that is safe in a terminal."""
    shown = data[:_SHOWN_MAX].decode("utf-8", "backslashreplace")
    printable = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in shown)
    return printable + (f"… ({len(data)} bytes)" if len(data) > _SHOWN_MAX else "")
