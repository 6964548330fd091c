"""Who floods, in a process of his own: everybody in turn as fast as it goes, then their group at a steady pace."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

from mesimqtt.proof.processes.crowd import NICE
from mesimqtt.proof.processes.helper import play, tell
from mesimqtt.proof.processes.link import Device, Link
from mesimqtt.testing import stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIZE: Final = 100_000
DIRECT: Final = 4  # messages to each user
WINDOW: Final = 8


class Flooder(Link):
    """Sends, a few on the way at a time."""

    def __init__(self, device: Device) -> None:
        super().__init__(device, [])
        self._room = asyncio.Semaphore(WINDOW)
        self._count = 0
        self.acknowledged = 0

    async def send(self, to: str, number: int) -> None:
        """Send one message, once there is room."""
        await self._room.acquire()
        self._count += 1
        kind = to[:1].encode()
        topic = f"m/{self.device.user}/out/{to}/{self._count}"
        payload = kind + b"%08d" % number + bytes(SIZE)
        self.write(stream.publish(topic, payload, qos=1, packet_id=self._count % 60_000 + 1))

    async def all_accepted(self) -> None:
        """Wait until everything is acknowledged."""
        for _ in range(WINDOW):
            await self._room.acquire()

    def packets(self, packets: list[stream.Packet]) -> bytes:
        """Make room for each acknowledgement."""
        for packet in packets:
            if packet.kind == stream.PUBACK:
                self.acknowledged += 1
                self._room.release()
        return b""


async def flood(asked: dict[str, Any], questions: AsyncIterator[Any]) -> None:
    """Come; when asked, flood at so many bytes a second, and say how late the last message was."""
    os.nice(NICE)
    one = Flooder(Device(*asked["device"]))
    await one.connect(asked["port"])
    tell()
    async for _ in questions:
        for number in range(DIRECT):
            for user in asked["users"]:
                await one.send(f"u/{user}", number)
        began = time.monotonic()
        for number in range(asked["messages"]):
            due = began + number * SIZE / asked["bytes_a_second"]
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await one.send(f"g/{asked['group']}", number)
        late_s = max(0.0, time.monotonic() - due)
        await one.all_accepted()
        tell(accepted=one.acknowledged, late_s=late_s)


if __name__ == "__main__":
    play(flood)
