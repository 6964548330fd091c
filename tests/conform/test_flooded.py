"""The kit against a server that sends without end: the connection is given up, and why is said."""

from __future__ import annotations

import asyncio

import pytest

from mesimqtt.proof.conform import client, codec
from mesimqtt.proof.conform.heard import Heard
from mesimqtt.proof.conform.people import Person
from mesimqtt.proof.conform.stage import Options
from mesimqtt.proof.conform.websocket import WebSocketClient, WebSocketError
from mesimqtt.testing import wire
from mesimqtt.testing.wire5 import WireError


class Flood:
    """A link on which one packet comes after the other."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.given = 0
        self.is_closed = False

    def write(self, data: bytes) -> None:
        pass

    async def read(self) -> bytes:
        self.given += len(self.packet)
        return self.packet

    def close(self) -> None:
        self.is_closed = True


class Listening:
    """As much of a stage as a client needs that only listens."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.options = Options()
        self.noted = []

    def next_connection(self) -> int:
        return 1

    def note(self, text: str) -> None:
        self.noted.append(text)


@pytest.mark.parametrize("payload", [b"", bytes(256 * 1024)])
def test_packets_without_end(payload):
    """Small ones are counted, large ones measured; then the connection is closed, and it is said why."""
    flood, stage = Flood(wire.publish("m/bob/in/x", payload, qos=0)), Listening()

    async def listen():
        listening = client.Client(stage, Person(stage, "bob", ""), "phone", flood, five=False)
        async with asyncio.timeout(20):
            await listening._task
        return listening

    listening = asyncio.run(listen())

    assert flood.is_closed
    assert listening.is_closed
    assert flood.given <= client.BYTES_MAX + len(flood.packet)
    assert len(listening.inbox) <= client.PACKETS_MAX
    assert any("more than the kit takes of one connection" in each for each in stage.noted)


def test_a_packet_that_is_too_large_is_not_waited_for():
    """Its length alone says so."""
    with pytest.raises(WireError, match="a packet of 268435455 bytes, more than the kit takes"):
        list(codec.Cutter().feed(b"\x30\xff\xff\xff\x7f"))
    socket = WebSocketClient("127.0.0.1:1", "/mqtt")
    socket.is_open = True
    with pytest.raises(WebSocketError, match="a frame of 1099511627776 bytes, more than the kit takes"):
        socket.receive(b"\x82\x7f" + (2**40).to_bytes(8))
