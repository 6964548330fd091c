"""One network connection: paho between a socket and the core. The only place that imports paho, for both shells.

Why paho's external event loop (`loop_read`, `loop_write`, `loop_misc`) and not its thread, nor aiomqtt:
- One road for both shells: a thread with a selector, or asyncio's `add_reader`, moves the same few calls.
- paho's own thread lets callers' threads write too, and calls back under its own locks; here all calls have one owner.
- aiomqtt 2 acknowledges a message as soon as it is in its queue, before the program has seen it, and offers no other
  way (its issue 345). A receipt of this contract is that PUBACK, so it would be a lie. It would be one dependency more
  for what is a hundred lines here, and it leaves reconnecting and resending to its caller all the same.
- A fresh paho client for each connection: what must be sent again is the outbox's to say (same cid, section 2), and a
  second memory of unacknowledged packets inside paho would only send it twice.
"""

from __future__ import annotations

import itertools
import socket
import ssl
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.reasoncodes import ReasonCode

    from mesimqtt_client._options import Options
    from mesimqtt_client._outbox import Entry
    from mesimqtt_client._protocol import Core

READS_MAX: Final = 64
PUBLISHES_MAX: Final = 100  # unacknowledged PUBLISH packets of ours on the wire
_SERVER_UNAVAILABLE: Final = 136  # paho's name for CONNACK 3; all other refusals would be repeated


class _Paho(mqtt.Client):
    """paho, but for two things: it leaves the socket of a failed TLS handshake open, and knows no other sockets."""

    make_socket: Callable[[], socket.socket] | None = None  # the simulation's are in memory

    def _create_socket(self) -> mqtt.SocketLike:
        return self.make_socket() if self.make_socket is not None else super()._create_socket()

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        context = self._ssl_context or ssl.create_default_context()
        tls_socket = context.wrap_socket(tcp_sock, server_hostname=self.host, do_handshake_on_connect=False)
        try:
            tls_socket.settimeout(self.connect_timeout)
            tls_socket.do_handshake()
        except OSError:
            tls_socket.close()
            raise
        return tls_socket


class Link:
    """A connection from its opening to its end; a new one is made for the next try."""

    def __init__(
        self,
        core: Core,
        options: Options,
        *,
        on_closing: Callable[[], None],
        make_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        self._core = core
        self._options = options
        self._on_closing = on_closing
        self._in_flight: dict[int, Entry] = {}
        self._is_leaving = False
        self._is_dropped = False
        self._has_progressed = False
        self._descriptor = -1
        self.lost_reason = "closed by the server"
        self._paho = paho = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id=options.device,
            clean_session=options.clean_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        paho.make_socket = make_socket
        paho.max_inflight_messages_set(0)  # PUBLISHES_MAX is our window; paho shall not keep a queue of its own
        paho.connect_timeout = options.connect_timeout_s
        if options.tls is not None:
            paho.tls_set_context(options.tls)
        paho.on_connect = self._on_connect
        paho.on_subscribe = self._on_subscribe
        paho.on_publish = self._on_publish
        paho.on_message = self._on_message
        paho.on_socket_close = self._on_socket_close
        paho.on_socket_register_write = self._on_socket_register_write

    def open(self) -> None:
        """Connect the socket, and TLS, and queue CONNECT. Blocks. Raises OSError or ValueError."""
        self._paho.username_pw_set(self._options.user, self._options.read_token())
        self._paho.connect(self._options.host, self._options.port, self._options.keep_alive_s)
        sock = self._paho.socket()
        if isinstance(sock, socket.socket):
            # A PUBACK and a PUBLISH behind one another would wait 40 ms for each other's TCP acknowledgement.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._descriptor = sock.fileno()

    @property
    def is_open(self) -> bool:
        """Tell whether there is still a socket."""
        return not self._is_dropped and self._paho.socket() is not None

    @property
    def wants_write(self) -> bool:
        """Tell whether bytes wait for the socket."""
        return self.is_open and self._paho.want_write()

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector; also while it is being closed."""
        return self._descriptor

    def read(self) -> None:
        """Take what has arrived, up to `READS_MAX` packets while there are any; paho reads one at a time."""
        for turn in itertools.count():
            self._has_progressed = False
            if not self._checked(self._paho.loop_read()):
                return
            sock = self._paho.socket()
            is_hidden = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0  # decrypted bytes that no selector sees
            if not is_hidden and (not self._has_progressed or turn >= READS_MAX):
                return

    def write(self) -> None:
        """Write what the socket takes."""
        self._checked(self._paho.loop_write())

    def tick(self) -> None:
        """Keep the connection alive, or notice that it is not; once a second."""
        self._checked(self._paho.loop_misc())

    def pump(self) -> None:
        """Hand to paho what the core wants to be sent now."""
        if not self.is_open or self._is_leaving:
            return
        core = self._core
        while core.due_acks:
            self._paho.ack(core.due_acks.popleft(), 1)
        while core.due_unsubscriptions:
            self._paho.unsubscribe(core.due_unsubscriptions.popleft())
        while core.due_subscriptions:
            self._paho.subscribe([(name, 1) for name in core.due_subscriptions.popleft()])
        if core.state != "online":
            return
        while len(self._in_flight) < PUBLISHES_MAX and (entry := core.outbox.next_due()) is not None:
            info = self._paho.publish(entry.topic, entry.payload, entry.qos)
            if entry.qos:
                self._in_flight[info.mid] = entry

    def leave(self) -> None:
        """Queue DISCONNECT after everything else; the link closes once it is written."""
        self.pump()
        if self.is_open and not self._is_leaving:
            self._is_leaving = True
            self._paho.disconnect()

    def drop(self, reason: str) -> None:
        """Close the socket now."""
        sock = self._paho.socket()
        if self._is_dropped or sock is None:
            return
        self.lost_reason = reason
        self._is_dropped = True  # paho has no verb for this, and would go on believing in the socket
        self._paho.on_socket_close = None
        self._on_closing()
        sock.close()

    def _checked(self, code: MQTTErrorCode) -> bool:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.lost_reason = mqtt.error_string(code)
        return self.is_open

    def _on_connect(
        self, _client: mqtt.Client, _data: object, flags: mqtt.ConnectFlags, code: ReasonCode, _properties: object
    ) -> None:
        if code.is_failure:
            self._core.refused(str(code).lower(), is_final=code.value != _SERVER_UNAVAILABLE)
        else:
            self._core.accepted(session_present=flags.session_present)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: object, _mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        self._core.subscribed(is_granted=not any(code.is_failure for code in codes))

    def _on_publish(
        self, _client: mqtt.Client, _data: object, mid: int, _code: ReasonCode, _properties: object
    ) -> None:
        self._has_progressed = True
        entry = self._in_flight.pop(mid, None)
        if entry is not None:
            self._core.outbox.acknowledge(entry)

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self._has_progressed = True
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # the core logs and acknowledges what it does not know
        self._core.receive(topic, bytes(message.payload), message.mid if message.qos else None)

    def _on_socket_close(self, _client: mqtt.Client, _data: object, _socket: object) -> None:
        self._on_closing()  # before the descriptor is closed: a selector must forget it first

    def _on_socket_register_write(self, _client: mqtt.Client, _data: object, _socket: object) -> None:
        """Be there: with this callback set, paho never writes by itself, from whatever thread."""
