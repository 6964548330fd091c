"""A connection on which the PyPI package `mqtt5` writes every packet of ours and reads every packet of the server's."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, TypeVar

import mqtt5

from interop.guest import DEADLINE_S

if TYPE_CHECKING:
    from interop.house import House, Person

P = TypeVar("P")


class CodecWire:
    """One TCP connection, packets in and out."""

    def __init__(self, house: House) -> None:
        self._socket = socket.create_connection((house.host, house.port), DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bytes = bytearray()

    def enter(self, who: Person, client_id: str, **options: Any) -> mqtt5.ConnAckPacket:
        """Connect; return the CONNACK, whatever it says."""
        options = {"clean_start": True, "keep_alive": 60, **options}
        password = options.pop("password", who.token.encode())
        self.send(mqtt5.ConnectPacket(client_id, username=who.address, password=password, **options))
        return self.read(mqtt5.ConnAckPacket)

    def send(self, packet: mqtt5.Packet) -> None:
        """Write a packet as the codec encodes it."""
        self._socket.sendall(packet.write())

    def read(self, kind: type[P]) -> P:
        """Read the next packet, which is of this kind and ends where its Remaining Length says."""
        while (size := self._size()) is None or len(self._bytes) < size:
            chunk = self._socket.recv(65_536)
            assert chunk, f"closed by the server; {kind.__name__} was expected"
            self._bytes += chunk
        raw = bytes(self._bytes[:size])
        del self._bytes[:size]
        packet, used = mqtt5.read(memoryview(raw))

        assert isinstance(packet, kind), packet
        assert size == used
        return packet

    def is_closed(self) -> bool:
        """Tell whether the server hangs up now, with nothing more to say."""
        return not self._bytes and self._socket.recv(1) == b""

    def close(self) -> None:
        """Cut the connection."""
        self._socket.close()

    def _size(self) -> int | None:
        """Return the length of the first packet, or None while its header is not here [MQTT 5.0, section 1.5.5]."""
        value = 0
        for index, byte in enumerate(self._bytes[1:5]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return 2 + index + value
        return None
