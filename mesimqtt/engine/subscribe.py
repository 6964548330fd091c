"""SUBSCRIBE and UNSUBSCRIBE: decided as a whole first, so that a pending answer leaves nothing half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import codes, packets5, properties, replay, routes, shares
from mesimqtt.engine.grants import (
    IDENTIFIER_SHIFT,
    NO_LOCAL,
    RESERVED,
    RETAIN_HANDLING,
    RETAIN_IF_NEW,
    RETAIN_NEVER,
)
from mesimqtt.engine.packets import (
    FIVE,
    SUBACK_FAILURE,
    UNSUBACK,
    MalformedError,
    ack,
    check_text,
    is_filter,
    read_field,
    suback,
)
from mesimqtt.engine.replay import Waiting
from mesimqtt.engine.topic_tree import has_wildcard
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.session import Session

_FILTERS_PER_PACKET = 10_000  # or `limits.filters_max`, if that is more; a packet of 1 MiB holds 260,000
_LEVELS = 4  # of topics that may be looked at for each of `limits.retained_visits_max`


class _Plan:
    """What a SUBSCRIBE will do: a code per filter (None: the claim says), denials to tell, retained to send."""

    __slots__ = ("codes", "denials", "fresh", "is_decided", "levels", "retained", "visits")

    def __init__(self) -> None:
        self.codes: list[int | None] = []
        self.denials: list[tuple[str, str]] = []
        self.fresh: set[str] = set()
        self.retained: list[Waiting] = []
        self.visits = 0
        self.levels = 0
        self.is_decided = True  # what of `retained` may be received was known at once

    def deny(self, topic_filter: str, rule: str, code: int = codes.NOT_AUTHORIZED) -> None:
        self.codes.append(code)
        self.denials.append((topic_filter, rule))


def subscribe(connection: Connection, body: bytes) -> bool:
    """Take the body of a SUBSCRIBE; False if the gate does not know yet and it is to be tried again."""
    session, engine = connection.session, connection.engine
    packet_id, identifier, requests = _read(connection, body, with_options=True)
    plan = _Plan()
    if session is None:
        return False
    # All are asked about at once, so that a gate which needs time for its answer needs it once.
    known = [_decide(connection, session, plan, *request, identifier) for request in requests]
    if not all(known):
        return False
    for topic_filter, rule in plan.denials:
        engine.gate.audit(connection, Action.SUBSCRIBE, topic_filter, rule)
    answer, granted, claimed = bytearray(), [], []
    for (topic_filter, options), decided in zip(requests, plan.codes, strict=True):
        code = decided
        if code is None and engine.claim is not None:
            code = engine.claim.subscribe(connection, topic_filter, options & 3, identifier)
            if code < SUBACK_FAILURE:
                claimed.append(topic_filter)
        elif code is not None and code < SUBACK_FAILURE:
            _add(connection, session, topic_filter, options | identifier << IDENTIFIER_SHIFT)
            granted.append(topic_filter)
        answer.append(SUBACK_FAILURE if code is None else code)
        if answer[-1] < SUBACK_FAILURE and engine.observer is not None:
            engine.observer.subscribed(connection, topic_filter, answer[-1])
    routes.invalidate(engine, granted)
    if connection.version == FIVE:
        packet = packets5.suback(packet_id, bytes(answer))
    else:
        packet = suback(packet_id, bytes(min(code, SUBACK_FAILURE) for code in answer))
    if claimed or session.key:
        engine.reply(connection, packet)
        if claimed:
            engine.open_batch().granted(connection, claimed)
    else:
        connection.send(packet)
    replay.begin(connection, session, plan.retained)
    return True


def _read(connection: Connection, body: bytes, *, with_options: bool) -> tuple[int, int, list[tuple[str, int]]]:
    """Return packet id, Subscription Identifier (0: none) and the filters with their options."""
    end, most = len(body), max(_FILTERS_PER_PACKET, connection.engine.limits.filters_max)
    if end < 2:
        raise MalformedError("SUBSCRIBE or UNSUBSCRIBE without a packet id")
    packet_id = body[0] << 8 | body[1]
    if not packet_id:
        raise MalformedError("packet id 0")
    position, identifier = 2, 0
    is_five = connection.version == FIVE
    if is_five:
        allowed = properties.IN_SUBSCRIBE if with_options else properties.IN_UNSUBSCRIBE
        found, position = properties.read(body, position, end, allowed)
        identifier = found.number(properties.SUBSCRIPTION_ID, 0)
    requests: list[tuple[str, int]] = []
    while position < end:
        raw, position = read_field(body, position, end)
        if not raw:
            raise MalformedError("empty filter")  # [MQTT-4.7.3-1]
        options = 0
        if with_options:
            if position >= end:
                raise MalformedError("filter without a QoS")
            options = body[position]
            _check_options(options, is_five=is_five)
            position += 1
        if len(requests) >= most:  # refusing each of them would hold everybody up
            raise MalformedError("too many filters in one packet", codes.QUOTA_EXCEEDED)
        requests.append((check_text(raw), options))
    if not requests:  # [MQTT-3.8.3-3], [MQTT-3.10.3-2]
        raise MalformedError("no filter", codes.PROTOCOL_ERROR)
    return packet_id, identifier, requests


def _check_options(options: int, *, is_five: bool) -> None:
    if options & 3 == 3 or (not is_five and options > 2) or options & RESERVED:  # [MQTT-3.8.3-4], [MQTT-3.8.3-5]
        raise MalformedError("reserved bits or QoS 3 in subscription options")
    if options & RETAIN_HANDLING == RETAIN_HANDLING:
        raise MalformedError("Retain Handling 3", codes.PROTOCOL_ERROR)


def _decide(
    connection: Connection, session: Session, plan: _Plan, topic_filter: str, options: int, identifier: int
) -> bool:
    """Add the decision on one filter to `plan`; False if it is not known yet."""
    engine = connection.engine
    limits = engine.limits
    wanted = topic_filter
    if topic_filter.partition("/")[0] == "$share":
        found = shares.split(topic_filter)
        if found is None:
            plan.codes.append(codes.TOPIC_FILTER_INVALID)
            return True
        if options & NO_LOCAL:  # [MQTT-3.8.3-4]
            raise MalformedError("No Local on a shared subscription", codes.PROTOCOL_ERROR)
        wanted = found[1]
    is_shared = wanted is not topic_filter
    size = len(topic_filter.encode())
    claimed = engine.claim is not None and wanted.partition("/")[0] == engine.root_name
    too_many = len(plan.codes) >= limits.filters_max  # one packet holds thousands of filters
    if too_many or not is_filter(wanted):
        plan.codes.append(codes.QUOTA_EXCEEDED if too_many else codes.TOPIC_FILTER_INVALID)
    elif claimed and is_shared:
        plan.deny(topic_filter, "root")
    elif claimed:
        plan.codes.append(None if size <= limits.root_topic_max else codes.TOPIC_FILTER_INVALID)
    elif size > limits.topic_max or wanted.count("/") >= limits.topic_levels_max:
        plan.deny(topic_filter, "limit", codes.TOPIC_FILTER_INVALID)
    else:
        decision = engine.gate.decide(connection, Action.SUBSCRIBE, wanted)
        if decision is None:
            plan.codes.append(None)  # counted, so that no more is asked about than may be granted
            return False
        if not decision.allow:
            plan.deny(topic_filter, decision.rule)
            return True
        is_new = topic_filter not in session.subscriptions and topic_filter not in plan.fresh
        if is_new:
            if len(session.subscriptions) + len(plan.fresh) >= limits.filters_max:
                plan.deny(topic_filter, "limit", codes.QUOTA_EXCEEDED)
                return True
            plan.fresh.add(topic_filter)
        handling = options & RETAIN_HANDLING  # [MQTT-3.3.1-9] to [MQTT-3.3.1-11]; none for shared ones
        if not is_shared and handling != RETAIN_NEVER and (is_new or handling != RETAIN_IF_NEW):
            _plan_retained(connection, plan, topic_filter, options | identifier << IDENTIFIER_SHIFT)
        plan.codes.append(options & 3)
    return True


def _plan_retained(connection: Connection, plan: _Plan, topic_filter: str, grant: int) -> None:
    engine = connection.engine
    most = engine.limits.retained_visits_max
    if plan.visits >= most or (plan.levels >= _LEVELS * most and has_wildcard(topic_filter)):
        return
    found, levels = engine.retained.search(topic_filter)
    plan.visits += len(found)
    plan.levels += levels
    for message in found:
        if message.expires_at and message.expires_at <= engine.now:
            continue
        decision = engine.gate.decide(connection, Action.RECEIVE, message.topic) if plan.is_decided else None
        if decision is None:  # then one after another, when their turn comes: there may be a hundred thousand
            plan.is_decided = False
        if decision is None or decision.allow:  # for each filter, as if it came alone [MQTT-3.8.4-4]
            plan.retained.append(Waiting(message, grant, decision is not None))


def _add(connection: Connection, session: Session, topic_filter: str, grant: int) -> None:
    engine = connection.engine
    session.subscriptions[topic_filter] = grant
    shares.attach(engine, session, topic_filter, grant)
    if session.key:
        engine.keeper.save_subscription(session, topic_filter, grant)


def unsubscribe(connection: Connection, body: bytes) -> None:
    """Take the body of an UNSUBSCRIBE; UNSUBACK follows whatever was subscribed [MQTT-3.10.4-5]."""
    session, engine = connection.session, connection.engine
    packet_id, _, requests = _read(connection, body, with_options=False)
    if session is None:
        return
    removed = []
    answer = bytearray()
    for topic_filter, _ in requests:
        if engine.claim is not None and topic_filter.partition("/")[0] == engine.root_name:
            existed = engine.claim.unsubscribe(connection, topic_filter)
        else:
            existed = session.subscriptions.pop(topic_filter, None) is not None
            if existed:
                shares.detach(engine, session, topic_filter)
                removed.append(topic_filter)
                if session.key:
                    engine.keeper.drop_subscription(session, topic_filter)
        answer.append(0 if existed else codes.NO_SUBSCRIPTION_EXISTED)
        if existed and engine.observer is not None:
            engine.observer.unsubscribed(connection, topic_filter)
    routes.invalidate(engine, removed)
    is_five = connection.version == FIVE
    packet = packets5.unsuback(packet_id, bytes(answer)) if is_five else ack(UNSUBACK, packet_id)
    if session.key:
        engine.reply(connection, packet)
    else:
        connection.send(packet)
