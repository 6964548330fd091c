"""A client of a transcript that is paho-mqtt, 3.1.1, with its acknowledgements in the transcript's hand."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from integration.server import wait_until
from scenarios.actors import Actor, ActorError, ConnectRefusedError, Received
from scenarios.language import DEADLINE_S

if TYPE_CHECKING:
    import threading

    from scenarios.actors import Login
    from scenarios.language import ClientSpec

# paho turns the return codes of 3.1.1 into reason codes of 5.0; this is the way back.
_RETURN_CODES = {132: 1, 133: 2, 136: 3, 134: 4, 135: 5}


class Paho(Actor):
    """A paho client that does not come back by itself."""

    def __init__(self, spec: ClientSpec, login: Login, board: threading.Condition) -> None:
        super().__init__(spec, login, board)
        self._client: paho.Client | None = None
        self._answered = False
        self._subacks: dict[int, list[int]] = {}
        self._pending: list[tuple[int, int]] = []

    def connect(self, filters: list[tuple[str, int]]) -> None:
        spec, login = self.spec, self.login
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=spec.client_id,
            clean_session=not spec.keeps_session,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=not spec.acknowledges,
        )
        client.username_pw_set(login.user or "", login.token)
        if spec.will:
            client.will_set(spec.will.topic, spec.will.payload, spec.will.qos)
        # Without this each publish behind an acknowledgement waits 40 ms for the kernel [RFC 896].
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        self.connection += 1
        self._answered, self.refusal, self.granted, self._pending, self._subacks = False, None, [], [], {}
        self._client = client
        client.connect(login.host, login.port, keepalive=spec.keep_alive_s)
        client.loop_start()
        try:
            self.wait(lambda: self._answered, "CONNACK")
            if self.refusal is not None:
                raise ConnectRefusedError(self.refusal)
            self.granted = [self.subscribe(topic_filter, qos) for topic_filter, qos in filters]
        except ActorError:
            self._drop()
            raise

    def subscribe(self, topic_filter: str, qos: int) -> int:
        _, packet_id = self._connected().subscribe(topic_filter, qos)
        if packet_id is None:
            raise ActorError("paho could not send SUBSCRIBE")
        self.wait(lambda: packet_id in self._subacks, f"SUBACK for {topic_filter}")
        return self._subacks[packet_id][0]

    def publish(self, topic: str, payload: bytes, qos: int | None, *, retain: bool = False) -> None:
        information = self._connected().publish(topic, payload, 1 if qos is None else qos, retain)
        information.wait_for_publish(DEADLINE_S)
        if not information.is_published():
            raise ActorError(f"no acknowledgement within {DEADLINE_S:g} s")

    def acknowledge(self) -> None:
        pending, self._pending = self._pending, []
        for packet_id, qos in pending:
            self._connected().ack(packet_id, qos)
        # paho writes in its own thread: what follows in the story comes after it.
        wait_until(lambda: not self._connected().want_write(), what="the acknowledgements were written")

    def disconnect(self) -> None:
        client = self._connected()
        self.is_open = False
        client.disconnect()
        self._drop()

    def lose_link(self) -> None:
        self.lost_links += 1
        client = self._connected()
        self.is_open = False
        if isinstance(sock := client.socket(), socket.socket):
            sock.shutdown(socket.SHUT_RDWR)
        self._drop()

    def close(self) -> None:
        if self._client is not None:
            self.is_open = False
            self._client.disconnect()
            self._drop()

    def _connected(self) -> paho.Client:
        if self._client is None:
            raise ActorError("it is not connected")
        return self._client

    def _drop(self) -> None:
        client, self._client = self._client, None
        self.is_open = False
        if client is not None:
            client.loop_stop()

    def _on_socket_open(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        refusal = _RETURN_CODES.get(reason.value, reason.value) if reason.is_failure else None
        self.changed(_answered=True, is_open=refusal is None, refusal=refusal)

    def _on_disconnect(self, client: paho.Client, *_: Any) -> None:
        if client is self._client:
            self.changed(is_open=False)

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, packet_id: int, codes: list[Any], _properties: Any
    ) -> None:
        self.changed(_subacks={**self._subacks, packet_id: [code.value for code in codes]})

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if not self.spec.acknowledges:
            self._pending.append((message.mid, message.qos))
        payload = bytes(message.payload)
        self.arrived(Received(message.topic, payload, message.qos, message.retain, message.dup, self.connection))
