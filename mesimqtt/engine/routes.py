"""Where a free topic goes: one `Route` per topic, built once and used until something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine.packets import check_topic
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.session import Session

_ROUTES_MAX = 10_000
_ROUTES_PER_CONNECTION = 256
_STALE = -1


class Route:
    """The receivers of one topic, valid while `version` is the engine's.

    The engine's version is that of all permissions; a change of subscriptions retires the routes it concerns.
    """

    __slots__ = (
        "granted_one",
        "granted_some",
        "granted_two",
        "granted_zero",
        "is_plain",
        "kept",
        "online",
        "raw",
        "topic",
        "version",
    )

    def __init__(self, raw: bytes, topic: str, version: int) -> None:
        self.raw = raw
        self.topic = topic
        self.version = version
        self.is_plain = True  # at QoS 1 and 2 nobody but `granted_some`
        self.online: list[Connection] = []  # everyone who is connected: the receivers of QoS 0
        self.granted_zero: list[Connection] = []
        self.granted_one: list[Session] = []  # clean sessions
        self.granted_two: list[Session] = []
        self.granted_some: list[Session] = []  # granted_one and granted_two
        self.kept: list[tuple[Session, int]] = []  # kept sessions with QoS 1 or 2, connected or not


DENIED = Route(b"", "", _STALE)  # goes nowhere


def admit(connection: Connection, raw: bytes) -> Route | None:
    """Return the route for a publish of `connection`: DENIED if it may not, None if that is not known yet."""
    engine = connection.engine
    topic = check_topic(raw)
    if len(raw) > engine.limits.topic_max or topic.count("/") >= engine.limits.topic_levels_max:
        engine.gate.audit(connection, Action.PUBLISH, topic, "limit")
        return DENIED
    decision = engine.gate.decide(connection, Action.PUBLISH, topic)
    if decision is None:
        return None
    if not decision.allow:
        engine.gate.audit(connection, Action.PUBLISH, topic, decision.rule)
        return DENIED
    route = find(engine, raw, topic)
    if not isinstance(route, Route):
        if route is not connection:
            route.wait(connection.resume)
        return None
    routes = connection.routes
    if connection.observed:
        return route  # not cached, so that each of its messages is looked at
    if routes is None:
        routes = connection.routes = {}
    elif len(routes) >= _ROUTES_PER_CONNECTION:
        routes.clear()
    routes[raw] = route
    return route


def find(engine: Engine, raw: bytes, topic: str) -> Route | Connection:
    """Return the route of a topic, or the connection whose right to receive is not known yet."""
    route = engine.routes.get(topic)
    if route is not None:
        return route
    route = Route(raw, topic, engine.version)
    decide = engine.gate.decide
    unknown: Connection | None = None
    for session, granted in engine.tree.match(topic).items():
        connection = session.connection
        if connection is not None:
            decision = decide(connection, Action.RECEIVE, topic)
            if decision is None:
                unknown = unknown or connection  # the others are asked now, too: one wait for all of them
                continue
            if not decision.allow:
                continue
            route.online.append(connection)
            if not granted:
                route.granted_zero.append(connection)
            elif session.clean:
                (route.granted_one if granted == 1 else route.granted_two).append(session)
        if granted and not session.clean:
            route.kept.append((session, granted))
    if unknown is not None:
        return unknown
    route.granted_some = route.granted_one + route.granted_two
    route.is_plain = not route.kept and not route.granted_zero
    routes = engine.routes
    if len(routes) >= _ROUTES_MAX and (oldest := routes.pop(routes.oldest())) is not None:
        _retire(oldest)
    routes.put(topic, route)
    return route


def invalidate(engine: Engine, topic_filters: Iterable[str]) -> None:
    """Forget exactly the routes that a change of these subscriptions concerns."""
    for topic_filter in topic_filters:
        for route in engine.routes.match(topic_filter):
            engine.routes.pop(route.topic)
            _retire(route)


def _retire(route: Route) -> None:
    route.version = _STALE
    for receivers in (route.online, route.granted_zero):
        receivers.clear()  # connections may hold the route for long, but not its receivers
    for sessions in (route.granted_one, route.granted_two, route.granted_some):
        sessions.clear()
    route.kept.clear()
