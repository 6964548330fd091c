"""Where a free topic goes: one `Route` per topic, built once and used until something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import shares
from mesimqtt.engine.grants import Receiver, receiver
from mesimqtt.engine.packets import FIVE, check_topic
from mesimqtt.engine.shares import Members, Share
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.session import Session
    from mesimqtt.engine.topic_tree import Found

_ROUTES_MAX = 50_000
_ROUTES_PER_CONNECTION = 256
_ASKED_MAX = 5_000  # receivers that are asked about at once, where a plugin needs time for its answer
_VISITS_MAX = 20_000  # levels of cached topics looked at for one change of subscriptions: some milliseconds
_STALE = -1
TOO_LONG = "limit"  # the rule that a topic over the limits meets


class Group:
    """The receivers of one topic that take the blocks of one protocol version as they are, by QoS granted."""

    __slots__ = ("granted_one", "granted_some", "granted_two", "granted_zero", "online")

    def __init__(self) -> None:
        self.online: list[Connection] = []  # all of them: the receivers of QoS 0
        self.granted_zero: list[Connection] = []
        self.granted_one: list[Session] = []  # clean sessions
        self.granted_two: list[Session] = []
        self.granted_some: list[Session] = []  # granted_one and granted_two

    def add(self, connection: Connection, session: Session, qos: int) -> None:
        """Sort a receiver in."""
        self.online.append(connection)
        if not qos:
            self.granted_zero.append(connection)
        elif session.clean:
            (self.granted_one if qos == 1 else self.granted_two).append(session)
            self.granted_some.append(session)


NOBODY = Group()  # never added to


class Route:
    """The receivers of one topic, valid while `version` is the engine's.

    The engine's version is that of all permissions; a change of subscriptions retires the routes it concerns.
    `four` and `five` take blocks of packets without properties; `single` takes each message by itself.
    """

    __slots__ = (
        "everyone",
        "five",
        "four",
        "is_plain_five",
        "is_plain_four",
        "keeps_retain",
        "kept",
        "only_five",
        "only_four",
        "raw",
        "shared",
        "single",
        "topic",
        "version",
    )

    def __init__(self, raw: bytes, topic: str, version: int) -> None:
        self.raw = raw
        self.topic = topic
        self.version = version
        self.four = self.five = NOBODY
        self.single: Sequence[Receiver] = ()  # connected: identifiers, no-local, aliases, Maximum Packet Size
        self.kept: Sequence[Receiver] = ()  # kept sessions with QoS 1 or 2, connected or not
        self.shared: Sequence[Members] = ()
        self.everyone: Sequence[Receiver] = ()  # all but `shared`
        self.keeps_retain = False  # somebody wants RETAIN as it was published
        self.only_four = self.only_five = True  # at QoS 0 nobody but that group
        self.is_plain_four = self.is_plain_five = True  # at QoS 1 and 2 nobody but its `granted_some`

    @property
    def is_empty(self) -> bool:
        """Tell whether no subscription matches."""
        return not self.everyone and not self.shared

    def retire(self) -> None:
        """Be of no use any more. Connections may hold a route for long, but not its receivers."""
        self.version = _STALE
        self.four = self.five = NOBODY
        self.single = self.kept = self.shared = self.everyone = ()

    def seal(self) -> None:
        """Work out what the hot path asks."""
        alone = not self.single and not self.shared
        self.only_four = alone and not self.five.online
        self.only_five = alone and not self.four.online
        self.is_plain_four = self.only_four and not self.kept and not self.four.granted_zero
        self.is_plain_five = self.only_five and not self.kept and not self.five.granted_zero


DENIED = Route(b"", "", _STALE)  # goes nowhere


def admit(connection: Connection, raw: bytes) -> Route | None:
    """Return the route for a publish of `connection`: DENIED if it may not, None if that is not known yet."""
    engine = connection.engine
    topic = check_topic(raw)
    if len(raw) > engine.limits.topic_max or topic.count("/") >= engine.limits.topic_levels_max:
        return _denied(connection, topic, TOO_LONG)
    decision = engine.gate.decide(connection, Action.PUBLISH, topic)
    if decision is None:
        return None
    if not decision.allow:
        return _denied(connection, topic, decision.rule)
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


def _denied(connection: Connection, topic: str, rule: str) -> Route:
    connection.engine.gate.audit(connection, Action.PUBLISH, topic, rule)
    if connection.five is not None:
        connection.five.denied_by = "" if topic.startswith("$") else rule  # nobody publishes there
    return DENIED


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


def _fill(engine: Engine, route: Route, found: Found) -> Connection | None:
    """Sort the matching subscribers into a route; if rights are not known yet, ask for all, return whose comes last."""
    everyone: list[Receiver] = []
    single: list[Receiver] = []
    kept: list[Receiver] = []
    shared: list[Members] = []
    four, five = Group(), Group()
    unknown: list[Connection | None] = []
    decide = engine.gate.decide

    def may(session: Session) -> bool | None:
        connection = session.connection
        decision = None if connection is None else decide(connection, Action.RECEIVE, route.topic)
        return None if decision is None else decision.allow

    for subscriber, grant in found.items():
        if len(unknown) > _ASKED_MAX:
            break
        if isinstance(subscriber, Share):
            members = shares.members(subscriber, receiver, may)
            if isinstance(members, Members):
                shared.append(members)
            else:
                unknown.append(members.connection)
            continue
        target = receiver(subscriber, grant)
        connection = subscriber.connection
        if connection is not None and not (allowed := may(subscriber)):
            if allowed is None:
                unknown.append(connection)
            continue
        is_kept = bool(target.qos) and not subscriber.clean
        if connection is None and not is_kept:
            continue
        everyone.append(target)
        route.keeps_retain = route.keeps_retain or target.keeps_retain
        if is_kept:
            kept.append(target)
        if connection is not None:
            if target.is_plain and connection.is_plain:
                (five if connection.version == FIVE else four).add(connection, subscriber, target.qos)
            else:
                single.append(target)
    if unknown:
        return unknown[-1]
    route.four = four if four.online else NOBODY
    route.five = five if five.online else NOBODY
    route.everyone, route.single, route.kept, route.shared = everyone, single, kept, shared
    route.seal()
    return None


def invalidate(engine: Engine, topic_filters: Iterable[str]) -> None:
    """Forget the routes that a change of these subscriptions concerns; all, where finding those would take too long."""
    left = _VISITS_MAX
    for topic_filter in topic_filters:
        found, visits = engine.routes.search(shares.inner_filter(topic_filter), left)
        left -= visits
        if left < 0:
            engine.permissions_changed()
            return
        for route in found:
            engine.routes.pop(route.topic)
            route.retire()
