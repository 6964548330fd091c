"""paho-mqtt 2: 3.1.1 and 5.0, over TCP and WebSocket."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.subscribeoptions import SubscribeOptions

from interop.guest import DEADLINE_S, Guest, Properties, Received, Will

if TYPE_CHECKING:
    from collections.abc import Sequence


class Paho(Guest):
    """A paho client with its network thread, callbacks of version 2; it does not come back by itself."""

    client: paho.Client

    def come(
        self, filters: Sequence[tuple[str, int]] = (), *, keeps: bool = False, will: Will | None = None
    ) -> bool | None:
        five = self.kind.version == 5
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if five else not keeps,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            transport="websockets" if self.kind.transport == "ws" else "tcp",
            reconnect_on_failure=False,
        )
        self.client.username_pw_set(self.who.address, self.who.token)
        if will:
            self.client.will_set(will.topic, will.payload, will.qos, will.retain)
        answers: dict[str, Any] = {}
        done = threading.Event()

        def connected(_client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
            answers["connack"] = (reason, flags.session_present)
            done.set()

        def granted(_client: Any, _data: Any, _number: Any, reasons: Any, _properties: Any) -> None:
            answers["suback"] = [reason.value for reason in reasons]
            done.set()

        self.client.on_connect, self.client.on_subscribe = connected, granted
        self.client.on_message = lambda _client, _data, message: self.took(as_received(message))
        options: dict[str, Any] = {"clean_start": not keeps, "properties": expiry(keeps)} if five else {}
        port = self.house.ws_port if self.kind.transport == "ws" else self.house.port
        self.client.connect(self.house.host, port, **options)
        self.client.loop_start()
        assert done.wait(DEADLINE_S), "no CONNACK"
        reason, session_present = answers["connack"]
        assert not reason.is_failure, reason
        if filters:
            done.clear()
            wanted = [(name, SubscribeOptions(qos)) for name, qos in filters] if five else list(filters)
            self.client.subscribe(wanted)
            assert done.wait(DEADLINE_S), "no SUBACK"
            assert [qos for _, qos in filters] == answers["suback"]
        return bool(session_present)

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        given = for_paho(properties, PacketTypes.PUBLISH) if properties else None
        self.client.publish(topic, payload, qos, retain, given).wait_for_publish(DEADLINE_S)

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self) -> None:
        found: Any = self.client.socket()
        if found is not None:  # its own thread may have closed it just now
            with contextlib.suppress(OSError):
                getattr(found, "_socket", found).shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def close(self) -> None:
        if hasattr(self, "client"):
            self.vanish()


def expiry(keeps: bool) -> PahoProperties:
    """Return the CONNECT properties of a session that ends with its connection, or is kept for an hour."""
    found = PahoProperties(PacketTypes.CONNECT)
    found.SessionExpiryInterval = 3600 if keeps else 0
    return found


def for_paho(properties: Properties, packet_type: int) -> PahoProperties:
    """Return properties in paho's words."""
    found = PahoProperties(packet_type)
    for name, value in (
        ("ContentType", properties.content_type),
        ("ResponseTopic", properties.response_topic),
        ("CorrelationData", properties.correlation),
        ("MessageExpiryInterval", properties.expiry_s),
        ("UserProperty", list(properties.user) or None),
    ):
        if value is not None:
            setattr(found, name, value)
    return found


def as_received(message: Any) -> Received:
    """Return a message of paho (or aiomqtt) as the tests compare it."""
    given = getattr(message, "properties", None)
    shown = Properties(
        getattr(given, "ContentType", None),
        getattr(given, "ResponseTopic", None),
        getattr(given, "CorrelationData", None),
        getattr(given, "MessageExpiryInterval", None),
        tuple(getattr(given, "UserProperty", ())),
    )
    return Received(str(message.topic), bytes(message.payload), message.qos, bool(message.retain), shown)
