"""A crowd that does not read, and comes back and does not read again, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from mesimqtt.proof.processes.helper import play, tell
from mesimqtt.proof.processes.link import Device, Link
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_ONCE: Final = 100
RECEIVE_BUFFER: Final = 4_096
KEEP_ALIVE_S: Final = 1_200  # it is not for their silence that they are cut
LOOK_S: Final = 0.1  # who does not read notices its end only where it writes: the second time
LOOKS: Final = 300
COME_BACK: Final = "come back"
WHO_WAS_CUT: Final = "who was cut"
NICE: Final = 10  # what attackers work is not to be what the server lacks


class Reader(Link):
    """A device that reads nothing once it has come, or everything if it is not slow."""

    def __init__(self, device: Device, *, is_slow: bool = True) -> None:
        me = f"m/{device.user}/in"
        super().__init__(device, [(f"{me}/u/#", 1), (f"{me}/g/#", 1)])
        self.numbers: dict[bytes, list[int]] = {b"u": [], b"g": []}
        self._is_slow = is_slow
        self.is_mute = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have no room for much."""
        if self._is_slow:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        super().connection_made(transport)

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Take messages and acknowledge them, unless it is mute."""
        answer = b""
        for packet in packets:
            if packet.kind == stream.PUBLISH and not self.is_mute:
                message = stream.decode_publish(packet)
                self.numbers[message.payload[:1]].append(int(message.payload[1:9]))
                answer += stream.puback(message.packet_id)
        return answer


async def _come(readers: list[Reader], port: int) -> None:
    for first in range(0, len(readers), AT_ONCE):
        some = readers[first : first + AT_ONCE]
        await asyncio.gather(*(one.connect(port) for one in some))
        for one in some:
            one.hold(True)


async def crowd(asked: dict[str, Any], questions: AsyncIterator[Any]) -> None:
    """Come, and read nothing from then on; when asked, say how many were cut, or come back like that."""
    os.nice(NICE)
    readers = [Reader(Device(user, name, token, keep_alive_s=KEEP_ALIVE_S)) for user, name, token in asked["devices"]]
    await _come(readers, asked["port"])
    tell()
    async for what in questions:
        if what == COME_BACK:
            for one in readers:
                one.is_mute = True
            await _come(readers, asked["port"])
            tell()
            continue
        for _ in range(LOOKS):
            cut = sum(one.lost.is_set() for one in readers)
            if cut == len(readers):
                break
            for one in readers:
                one.write(stream.PING)
            await asyncio.sleep(LOOK_S)
        tell(cut=cut)


if __name__ == "__main__":
    play(crowd)
