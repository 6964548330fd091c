"""An engine without sockets, store or messaging, and raw connections to it: what fuzz targets speak to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.chance import SeededChance
from mesimqtt.engine.engine import Engine
from mesimqtt.engine.packets import walk
from mesimqtt.hooks import Decision, Identity
from mesimqtt.settings import Limits
from mesimqtt.testing import wire

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import Action, ConnectRequest, Refusal

NOW = 1000.0
_ALLOW = Decision(allow=True, rule="open")


class OpenGate:
    """Lets everybody in and everything through."""

    def authenticate(self, connection: Connection, request: ConnectRequest) -> Identity | Refusal | None:  # noqa: ARG002 - the port's
        """Let in."""
        return Identity(request.username or "open")

    def decide(self, connection: Connection, action: Action, topic: str) -> Decision | None:  # noqa: ARG002 - the port's
        """Allow."""
        return _ALLOW

    def audit(self, connection: Connection, action: Action, topic: str, rule: str) -> None:
        """Tell nobody: nothing is denied."""


def make_engine(limits: Limits | None = None) -> Engine:
    """Return an engine whose clock stands still and whose every choice is the same each time."""
    return Engine(
        limits or Limits(),
        gate=OpenGate(),
        claim=None,
        keeper=None,
        observer=None,
        now=NOW,
        chance=SeededChance(1),
    )


class RawPeer:
    """A client's end that sends any bytes and keeps what comes, packet by packet."""

    def __init__(self, engine: Engine) -> None:
        self.connection = engine.open("192.0.2.1", "default", NOW)
        self._engine = engine

    def send(self, data: bytes) -> None:
        """Send what is not empty, as one segment; nothing is sent to a connection that is closed."""
        if data and not self.connection.closing:
            self.connection.receive(data, NOW)

    def take(self) -> list[bytes]:
        """Return the packets that have come since the last look, raw."""
        data = b"".join(self.connection.out)
        self.connection.out.clear()
        if self.connection in self._engine.dirty:
            self._engine.dirty.remove(self.connection)
        packets, at = [], 0
        for _, size in walk(data):
            packets.append(data[at : at + size])
            at += size
        if at != len(data):
            packets.append(data[at:])  # what is no packet stays visible
        return packets


def watcher(engine: Engine, *, version: int = 4) -> RawPeer:
    """Return a peer that is subscribed to everything at QoS 2, its answers taken."""
    peer = RawPeer(engine)
    properties = b"\0" if version == 5 else b""
    peer.send(wire.packet(0x10, b"\0\4MQTT" + bytes((version, 2, 0, 0)) + properties + wire.text("watcher")))
    peer.send(wire.packet(0x82, b"\0\1" + properties + wire.text("#") + b"\2"))
    peer.take()
    return peer
