"""A client that does anything, at random: plain, over WebSocket, 3.1.1 or 5.0; it answers, or not, and may just go."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

from mesimqtt.testing import wire, wire5

if TYPE_CHECKING:
    from random import Random

FIVE = 5
_PUBLISH, _PUBREC, _PUBREL, _DISCONNECT = 3, 5, 6, 14
_GOOD_BYE_S = 0.2


class Client:
    """One connection. What it sends follows from the random numbers; when it sends it, from the machine too."""

    def __init__(self, random: Random, user: str, token: str, version: int) -> None:
        self.user = user
        self.version = version
        self._random = random
        self._token = token
        self._packet_id = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_framed = False
        self._rest = b""

    # ---- its life ----------------------------------------------------------------------------------------------------

    async def open(self, port: int, path: str = "") -> None:
        """Connect; over WebSocket if there is a path. Raises OSError."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        if path:
            self._writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
            )
            with contextlib.suppress(asyncio.IncompleteReadError):
                await self._reader.readuntil(b"\r\n\r\n")
            self._is_framed = True
        self._reading = asyncio.create_task(self._read())

    def connect(self, device: str, *, clean: bool, keep_alive: int) -> None:
        """Send CONNECT, sometimes with a will, seldom with a token that is not good."""
        draw = self._random
        password = (self._token if draw.random() > 0.05 else self._token[:-2]).encode()
        will_topic = draw.choice(("free/wills", f"m/{self.user}/out/u/bob/w1"))
        if self.version == FIVE:
            values: dict[str, Any] = {
                "session_expiry_interval": draw.choice((0, 5, 3600)), "receive_maximum": draw.choice((5, 65535)),
                "user": self.user, "password": password, "keep_alive": keep_alive, "clean": clean,
            }  # fmt: skip
            self.send(wire5.connect(device, **values))
            return
        will = (will_topic, b"gone", 1, False) if draw.random() < 0.3 else None
        self.send(
            wire.connect(device, clean=clean, user=self.user, password=password, keep_alive=keep_alive, will=will)
        )

    async def close(self, how: str) -> None:
        """End: `bye` in good order, `cut` by a reset, else by just closing."""
        writer = self._writer
        if writer is None:
            return
        if how == "bye":
            self.send(wire.DISCONNECT if self.version != FIVE else wire5.disconnect())
        if how == "cut" and (found := writer.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):  # the server was faster
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _GOOD_BYE_S)
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    @property
    def is_gone(self) -> bool:
        """Tell whether the server has ended it."""
        return self._reading is None or self._reading.done()

    def rest(self, *, is_resting: bool) -> None:
        """Read nothing for now, or again."""
        transport = self._writer.transport if self._writer is not None else None
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            (transport.pause_reading if is_resting else transport.resume_reading)()

    # ---- what it sends -----------------------------------------------------------------------------------------------

    def send(self, *packets: bytes) -> None:
        """Send packets in one piece, seldom in two."""
        data = b"".join(packets)
        if self._writer is None or self._writer.is_closing():
            return
        if self._is_framed:
            data = _frame(data)
        if self._random.random() < 0.1 and len(data) > 2:
            half = len(data) // 2
            self._writer.write(data[:half])
            data = data[half:]
        self._writer.write(data)

    def subscribe(self, *filters: tuple[str, int]) -> None:
        """Subscribe."""
        if self.version == FIVE:
            self.send(wire5.subscribe(*filters, packet_id=self._next_id()))
        else:
            self.send(wire.subscribe(*filters, packet_id=self._next_id()))

    def unsubscribe(self, name: str) -> None:
        """Unsubscribe."""
        if self.version == FIVE:
            self.send(wire5.unsubscribe(name, packet_id=self._next_id()))
        else:
            self.send(wire.unsubscribe(name, packet_id=self._next_id()))

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Publish."""
        self.send(self.packet(topic, payload, qos, retain=retain))

    def packet(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> bytes:
        """Return a PUBLISH."""
        packet_id = self._next_id() if qos else 0
        if self.version == FIVE:
            return wire5.publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain)
        return wire.publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain)

    def ping(self) -> None:
        """Ask whether the server is there."""
        self.send(wire.PINGREQ)

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 60_000 + 1
        return self._packet_id

    # ---- what it answers ---------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        reader = self._reader
        while reader is not None:
            try:
                data = await reader.read(65_536)
            except OSError:
                return
            if not data:
                return
            self._rest += data
            for packet in self._unframed() if self._is_framed else self._packets():
                self._answer(packet)

    def _unframed(self) -> list[bytes]:
        """Return the packets within the server's frames."""
        found: list[bytes] = []
        while len(self._rest) >= 2:
            size, start = self._rest[1] & 127, 2
            if size > 125:
                more = 2 if size == 126 else 8
                size, start = int.from_bytes(self._rest[2 : 2 + more], "big"), 2 + more
            if len(self._rest) < start + size:
                break
            opcode, payload = self._rest[0] & 15, self._rest[start : start + size]
            self._rest = self._rest[start + size :]
            if opcode == 2:
                kept, self._rest = self._rest, payload
                found += self._packets()
                self._rest = kept
        return found

    def _packets(self) -> list[bytes]:
        """Return the packets that are whole."""
        found: list[bytes] = []
        while len(self._rest) >= 2:
            size = shift = 0
            for start in range(1, min(len(self._rest), 5)):
                size |= (self._rest[start] & 127) << shift
                shift += 7
                if self._rest[start] < 128:
                    break
            else:
                break
            end = start + 1 + size
            if len(self._rest) < end:
                break
            found.append(self._rest[:1] + self._rest[start + 1 : end])
            self._rest = self._rest[end:]
        return found

    def _answer(self, packet: bytes) -> None:
        """Acknowledge, mostly."""
        kind, qos = packet[0] >> 4, packet[0] >> 1 & 3
        if self._random.random() < 0.05:
            return
        if kind == _PUBLISH and qos:
            position = 3 + int.from_bytes(packet[1:3], "big")
            number = int.from_bytes(packet[position : position + 2], "big")
            self.send(wire.ack("PUBACK" if qos == 1 else "PUBREC", number))
        elif kind == _PUBREL:
            self.send(wire.ack("PUBCOMP", int.from_bytes(packet[1:3], "big")))
        elif kind == _PUBREC:
            self.send(wire.ack("PUBREL", int.from_bytes(packet[1:3], "big")))


def _frame(data: bytes) -> bytes:
    """Return a client's binary frame; its mask is zero, which changes nothing."""
    size = len(data)
    if size < 126:
        head = bytes((0x82, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x82, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x82, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + data
