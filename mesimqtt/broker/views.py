"""What plugins see of the engine through amqtt's context: sessions, subscriptions, retained messages."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

from amqtt.broker import RetainedApplicationMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.broker.sessions import PluginSession, Sessions
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.session import Session


class RetainedView(MutableMapping[str, RetainedApplicationMessage]):
    """The engine's retained messages as the dict that amqtt's plugins read and write."""

    def __init__(self, engine: Engine, retain: Callable[[str, bytes, int], None]) -> None:
        self._engine = engine
        self._retain = retain

    def __getitem__(self, topic: str) -> RetainedApplicationMessage:
        message = self._engine.retained.get(topic)
        if message is None:
            raise KeyError(topic)
        return RetainedApplicationMessage(None, message.topic, message.payload, message.qos)

    def __setitem__(self, topic: str, message: RetainedApplicationMessage) -> None:
        self._retain(topic, bytes(message.data), message.qos or 0)

    def __delitem__(self, topic: str) -> None:
        if topic not in self:
            raise KeyError(topic)
        self._retain(topic, b"", 0)

    def __contains__(self, topic: object) -> bool:
        return isinstance(topic, str) and self._engine.retained.get(topic) is not None

    def __iter__(self) -> Iterator[str]:
        retained = self._engine.retained
        return iter([message.topic for message in retained.match("#") + retained.match("$SYS/#")])

    def __len__(self) -> int:
        return len(self._engine.retained)


def plugin_session(session: Session, sessions: Sessions) -> PluginSession:
    """Return the amqtt session that stands for an engine's session."""
    return sessions.offline(session) if session.connection is None else sessions.of(session.connection)


def plugin_sessions(engine: Engine, sessions: Sessions) -> dict[str, tuple[PluginSession, None]]:
    """Return all sessions by client id. Where two users have the same one, a connected one is shown."""
    found: dict[str, tuple[PluginSession, None]] = {}
    for session in engine.sessions.values():
        if session.client_id not in found or session.connection is not None:
            found[session.client_id] = (plugin_session(session, sessions), None)
    return found


def plugin_subscriptions(engine: Engine, sessions: Sessions) -> dict[str, list[tuple[PluginSession, int]]]:
    """Return all subscriptions to free topics by filter."""
    found: dict[str, list[tuple[PluginSession, int]]] = {}
    for session in engine.sessions.values():
        shown = plugin_session(session, sessions) if session.subscriptions else None
        for topic_filter, grant in session.subscriptions.items():
            if shown is not None:
                found.setdefault(topic_filter, []).append((shown, grant & 3))
    return found
