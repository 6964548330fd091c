"""amqtt Session objects for plugins that ask for them; made on demand, one per connection."""

from __future__ import annotations

import time
from math import floor
from typing import TYPE_CHECKING

from amqtt.session import Session as AmqttSession

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.session import Session as EngineSession
    from mesimqtt.hooks import ConnectRequest, Identity, Refusal


class Transitions:
    """What plugins ask of amqtt's state machine. A machine of its own per session would cost 0.1 ms each."""

    __slots__ = ("_session", "state")

    def __init__(self, session: PluginSession) -> None:
        self._session = session
        self.state = "new"

    def connect(self) -> None:
        """Take note that the client is connected."""
        self.state = "connected"
        self._session.last_connect_time = floor(time.time())
        self._session.last_disconnect_time = None

    def disconnect(self) -> None:
        """Take note that the client is gone."""
        self.state = "disconnected"
        self._session.last_disconnect_time = floor(time.time())

    def is_connected(self) -> bool:
        """Tell whether the client is connected."""
        return self.state == "connected"

    def is_disconnected(self) -> bool:
        """Tell whether the client has been connected and is gone."""
        return self.state == "disconnected"

    def is_new(self) -> bool:
        """Tell whether the client has never been connected."""
        return self.state == "new"


class PluginSession(AmqttSession):
    """An amqtt Session that shows the engine's session: what a plugin reads is true, its queues stay empty."""

    def __init__(self, engine_session: EngineSession | None = None) -> None:
        self.engine_session = engine_session
        self.verdict: Identity | Refusal | None = None  # what a plugin of ours says beside yes or no
        super().__init__()

    def _init_states(self) -> None:
        self.transitions = Transitions(self)  # type: ignore[assignment] # what plugins use of a Machine

    @property
    def inflight_in_count(self) -> int:
        """Return how many QoS 2 messages await the client's PUBREL."""
        session = self.engine_session
        return len(session.incoming) if session is not None and session.incoming is not None else 0

    @property
    def inflight_out_count(self) -> int:
        """Return how many messages await the client's acknowledgement."""
        return len(self.engine_session.inflight) if self.engine_session is not None else 0

    @property
    def retained_messages_count(self) -> int:
        """Return how many messages wait for the client."""
        return len(self.engine_session.queue) if self.engine_session is not None else 0


class Sessions:
    """The amqtt sessions of live connections."""

    def __init__(self) -> None:
        self._sessions: dict[Connection, PluginSession] = {}
        self.tls_of: Callable[[Connection], ssl.SSLObject | None] = _no_tls

    def begin(self, connection: Connection, request: ConnectRequest) -> PluginSession:
        """Make the session of a client that is being authenticated, with what it claims of itself."""
        session = PluginSession()
        session.client_id = request.client_id
        session.username = request.username
        session.password = None if request.password is None else request.password.decode("utf-8", "replace")
        session.clean_session = request.clean_start
        session.remote_address = request.remote_address
        session.ssl_object = self.tls_of(connection)
        self._sessions[connection] = session
        return session

    def of(self, connection: Connection) -> PluginSession:
        """Return the session of an authenticated connection."""
        session = self._sessions.get(connection)
        if session is None:
            session = self._sessions[connection] = PluginSession()
            session.username = connection.user
        if session.engine_session is None:
            self._fill(session, connection)
        return session

    def connected(self, connection: Connection) -> None:
        """Bring the session up to date, if a plugin has asked for it."""
        session = self._sessions.get(connection)
        if session is not None:
            self._fill(session, connection)

    def end(self, connection: Connection) -> None:
        """Forget the session of a connection that is gone or refused."""
        self._sessions.pop(connection, None)

    @staticmethod
    def offline(engine_session: EngineSession) -> PluginSession:
        """Return a session for a client that is not connected."""
        session = PluginSession(engine_session)
        session.client_id = engine_session.client_id
        session.username = engine_session.user
        session.clean_session = engine_session.clean
        session.transitions.disconnect()
        return session

    @staticmethod
    def _fill(session: PluginSession, connection: Connection) -> None:
        session.engine_session = connection.session
        session.client_id = connection.client_id
        session.clean_session = connection.clean
        session.remote_address = connection.remote_address
        session.keep_alive = connection.keep_alive_s
        session.parent = int(connection.session_present)
        will = connection.will
        if will is not None:
            session.will_flag = True
            session.will_topic = will.topic
            session.will_message = will.payload
            session.will_qos = will.qos
            session.will_retain = will.retain
        session.transitions.connect()


def _no_tls(_connection: Connection) -> None:
    """Know of no TLS: sessions without sockets."""
