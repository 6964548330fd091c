"""A client of a transcript with 128 bytes for a whole packet, as PubSubClient on a microcontroller has."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from mesimqtt.testing import stream as wire
from scenarios.actors import Actor, ActorError, ConnectRefusedError, Received

if TYPE_CHECKING:
    from scenarios.actors import Login
    from scenarios.language import ClientSpec

PACKET_MAX = 128


class TinyDevice(Actor):
    """3.1.1, clean session, publishes at QoS 0; no packet of more than 128 bytes, in or out."""

    def __init__(self, spec: ClientSpec, login: Login, board: threading.Condition) -> None:
        super().__init__(spec, login, board)
        self._socket: socket.socket | None = None
        self._reader: threading.Thread | None = None
        self._answers: list[wire.Packet] = []
        self._packet_id = 0

    def connect(self, filters: list[tuple[str, int]]) -> None:
        self._answers = []
        self.connection += 1
        self._socket = socket.create_connection((self.login.host, self.login.port), timeout=60)
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, args=(self._socket,), daemon=True)
        self._reader.start()
        login = self.login
        self._send(wire.connect(self.spec.client_id, login.user, login.token, keep_alive_s=self.spec.keep_alive_s))
        code = self._answer(wire.CONNACK).body[1]
        if code:
            self.close()
            raise ConnectRefusedError(code)
        self.is_open = True
        self.granted = [self.subscribe(topic_filter, qos) for topic_filter, qos in filters]

    def subscribe(self, topic_filter: str, qos: int) -> int:
        self._packet_id += 1
        self._send(wire.subscribe(self._packet_id, [(topic_filter, qos)]))
        return self._answer(wire.SUBACK).body[2]

    def publish(self, topic: str, payload: bytes, qos: int | None, *, retain: bool = False) -> None:
        if qos or retain:
            raise ActorError("this device publishes at QoS 0 and retains nothing")
        self._send(wire.publish(topic, payload))

    def disconnect(self) -> None:
        self._send(wire.GOODBYE)
        self._end()

    def lose_link(self) -> None:
        self.lost_links += 1
        self._end()

    def close(self) -> None:
        if self._socket is not None:
            self._end()

    def _send(self, packet: bytes) -> None:
        if len(packet) > PACKET_MAX:
            raise ActorError(f"this device cannot send {len(packet)} bytes, only {PACKET_MAX}")
        if self._socket is None:
            raise ActorError("it is not connected")
        self._socket.sendall(packet)

    def _answer(self, kind: int) -> wire.Packet:
        def found() -> list[wire.Packet]:
            return [packet for packet in self._answers if packet.kind == kind]

        self.wait(found, f"the answer of type {kind}")
        with self.board:
            answer = found()[0]
            self._answers.remove(answer)
        return answer

    def _end(self) -> None:
        self.is_open = False
        sock, self._socket = self._socket, None
        if sock is None:
            raise ActorError("it is not connected")
        with contextlib.suppress(OSError):  # the server may have closed it before us
            sock.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join(60)
        sock.close()

    def _read(self, sock: socket.socket) -> None:
        reader = wire.Reader()
        with contextlib.suppress(OSError):  # reset by the server: the same as closed
            while data := sock.recv(65536):
                for packet in reader.feed(data):
                    self._take(sock, packet)
        if self._socket is sock:
            self.changed(is_open=False)

    def _take(self, sock: socket.socket, packet: wire.Packet) -> None:
        if packet.size > PACKET_MAX:
            self.complaints.append(f"a packet of {packet.size} bytes came to a device that takes {PACKET_MAX}")
        if packet.kind != wire.PUBLISH:
            with self.board:
                self._answers.append(packet)
                self.board.notify_all()
            return
        message = wire.decode_publish(packet)
        self.arrived(
            Received(message.topic, message.payload, message.qos, message.retain, message.dup, self.connection)
        )
        if message.qos:
            sock.sendall(wire.puback(message.packet_id))
