"""Tells amqtt's plugins what happened in the engine, in amqtt's words (`engine.ports.Observer`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqtt.broker import RetainedApplicationMessage
from amqtt.events import BrokerEvents, MQTTEvents
from amqtt.session import IncomingApplicationMessage

from mesimqtt.broker.events import EventRunner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amqtt.session import Session

    from mesimqtt.broker.events import Callback
    from mesimqtt.broker.sessions import Sessions
    from mesimqtt.engine.connection import Connection


START_S = 10.0  # how long the start waits for one plugin


class FixedHeader:
    """The stand-in of a packet's fixed header: what plugins ask of it."""

    __slots__ = ("packet_type",)

    def __init__(self, packet_type: int) -> None:
        self.packet_type = packet_type


class Packet:
    """The stand-in of a packet: its type and its length. Its contents have already been dealt with."""

    __slots__ = ("bytes_length", "fixed_header")

    def __init__(self, packet_type: int, size: int) -> None:
        self.fixed_header = FixedHeader(packet_type)
        self.bytes_length = size

    def __repr__(self) -> str:
        return f"Packet(packet_type={self.fixed_header.packet_type}, bytes_length={self.bytes_length})"


class Bridge:
    """Fires amqtt's events at the plugins that have a callback for them, and at no others."""

    def __init__(
        self,
        callbacks: dict[str, list[Callback]],
        sessions: Sessions,
        *,
        loop: asyncio.AbstractEventLoop,
        answer_s: float = START_S,
        on_connected: Callable[[Connection], None],
        on_reauthenticated: Callable[[Connection], None],
        on_disconnected: Callable[[Connection], None],
    ) -> None:
        """Take the plugin manager's callbacks, one list per event."""
        self.runner = EventRunner(loop, answer_s)
        self._sessions = sessions
        self._on_connected = on_connected
        self._on_reauthenticated = on_reauthenticated
        self._on_disconnected = on_disconnected
        self._callbacks = callbacks
        self._connected = callbacks.get(BrokerEvents.CLIENT_CONNECTED, [])
        self._disconnected = callbacks.get(BrokerEvents.CLIENT_DISCONNECTED, [])
        self._subscribed = callbacks.get(BrokerEvents.CLIENT_SUBSCRIBED, [])
        self._unsubscribed = callbacks.get(BrokerEvents.CLIENT_UNSUBSCRIBED, [])
        self._received = callbacks.get(BrokerEvents.MESSAGE_RECEIVED, [])
        self._broadcast = callbacks.get(BrokerEvents.MESSAGE_BROADCAST, [])
        self._retained = callbacks.get(BrokerEvents.RETAINED_MESSAGE, [])
        self._packet_received = callbacks.get(MQTTEvents.PACKET_RECEIVED, [])
        self._packet_sent = callbacks.get(MQTTEvents.PACKET_SENT, [])
        self._has_messages = bool(self._received or self._broadcast or self._retained)
        # The engine tells of messages, too, only where it looks at every packet.
        self.packets = self._has_messages or bool(self._packet_received or self._packet_sent)

    async def run(self, event: BrokerEvents, *, timeout_s: float = START_S) -> None:
        """Fire an event of start or shutdown and wait for it, for so long per plugin."""
        await self.runner.run(self._callbacks.get(event, []), timeout_s)

    def connected(self, connection: Connection) -> None:
        """Tell that a client is connected."""
        self._sessions.connected(connection)
        if self._connected:
            session = self._sessions.of(connection)
            self.runner.fire(self._connected, client_id=connection.client_id, client_session=session)
        self._on_connected(connection)

    def reauthenticated(self, connection: Connection) -> None:
        """Tell no plugin: amqtt has no such event."""
        self._on_reauthenticated(connection)

    def disconnected(self, connection: Connection, reason: str) -> None:  # noqa: ARG002 - the port's signature
        """Tell that a client is gone."""
        if self._disconnected:
            session = self._sessions.of(connection)
            session.transitions.disconnect()
            self.runner.fire(self._disconnected, client_id=connection.client_id, client_session=session)
        self._sessions.end(connection)
        self._on_disconnected(connection)

    def subscribed(self, connection: Connection, topic_filter: str, qos: int) -> None:
        """Tell that a subscription was granted."""
        if self._subscribed:
            self.runner.fire(self._subscribed, client_id=connection.client_id, topic=topic_filter, qos=qos)

    def unsubscribed(self, connection: Connection, topic_filter: str) -> None:
        """Tell that a subscription ended."""
        if self._unsubscribed:
            self.runner.fire(self._unsubscribed, client_id=connection.client_id, topic=topic_filter)

    def published(self, connection: Connection, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Tell that a message on a free topic passed the access check."""
        if not self._has_messages:
            return
        message = IncomingApplicationMessage(None, topic, qos, payload, retain)
        if self._received:
            self.runner.fire(self._received, client_id=connection.client_id, message=message)
        if self._broadcast:
            self.runner.fire(self._broadcast, client_id=connection.client_id, message=message)
        if retain:
            self.retained(self._sessions.of(connection) if self._retained else None, topic, payload, qos)

    def retained(self, session: Session | None, topic: str, payload: bytes, qos: int | None) -> None:
        """Tell that a retained message was set or, with an empty payload, cleared."""
        if self._retained:
            message = RetainedApplicationMessage(session, topic, payload, qos)
            self.runner.fire(self._retained, client_id=None, retained_message=message)

    def packet(self, connection: Connection, packet_type: int, size: int, sent: bool) -> None:
        """Tell of one packet, in or out."""
        callbacks = self._packet_sent if sent else self._packet_received
        if callbacks:
            session = self._sessions.of(connection)
            self.runner.fire(callbacks, packet=Packet(packet_type, size), session=session)
