"""Where a free topic goes: one `Route` per topic, built once and used until something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine.packets import check_topic
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.session import Session

_ROUTES_MAX = 50_000
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
        self.online: Sequence[Connection] = ()  # everyone who is connected: the receivers of QoS 0
        self.granted_zero: Sequence[Connection] = ()
        self.granted_one: Sequence[Session] = ()  # clean sessions
        self.granted_two: Sequence[Session] = ()
        self.granted_some: Sequence[Session] = ()  # granted_one and granted_two
        self.kept: Sequence[tuple[Session, int]] = ()  # kept sessions with QoS 1 or 2, connected or not

    def retire(self) -> None:
        """Be of no use any more. Connections may hold a route for long, but not its receivers."""
        self.version = _STALE
        self.online = self.granted_zero = self.granted_one = self.granted_two = self.granted_some = self.kept = ()


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
    if route is not None and route.version == engine.version:
        return route
    route = Route(raw, topic, engine.version)
    found = engine.tree.match(topic)
    if found and (unknown := _fill(engine, route, found)) is not None:
        return unknown
    routes = engine.routes
    if len(routes) >= _ROUTES_MAX and (oldest := routes.pop(routes.oldest())) is not None:
        oldest.retire()
    routes.put(topic, route)
    return route


def _fill(engine: Engine, route: Route, found: dict[Session, int]) -> Connection | None:
    """Sort the matching sessions into a route; return a connection whose right is not known yet."""
    online: list[Connection] = []
    granted: tuple[list[Connection], list[Session], list[Session]] = ([], [], [])
    kept: list[tuple[Session, int]] = []
    decide = engine.gate.decide
    for session, qos in found.items():
        connection = session.connection
        if connection is not None:
            decision = decide(connection, Action.RECEIVE, route.topic)
            if decision is None:
                return connection
            if not decision.allow:
                continue
            online.append(connection)
            if not qos:
                granted[0].append(connection)
            elif session.clean:
                (granted[1] if qos == 1 else granted[2]).append(session)
        if qos and not session.clean:
            kept.append((session, qos))
    route.online, route.kept = online, kept
    route.granted_zero, route.granted_one, route.granted_two = granted
    route.granted_some = [*route.granted_one, *route.granted_two]
    route.is_plain = not route.kept and not route.granted_zero
    return None


def invalidate(engine: Engine, topic_filters: Iterable[str]) -> None:
    """Forget exactly the routes that a change of these subscriptions concerns."""
    for topic_filter in topic_filters:
        for route in engine.routes.match(topic_filter):
            engine.routes.pop(route.topic)
            route.retire()
