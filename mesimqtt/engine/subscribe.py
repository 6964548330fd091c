"""SUBSCRIBE and UNSUBSCRIBE: decided as a whole first, so that a pending answer leaves nothing half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import kept, routes
from mesimqtt.engine.packets import (
    PUBLISH,
    SUBACK_FAILURE,
    UNSUBACK,
    MalformedError,
    ack,
    check_text,
    is_filter,
    publish_head,
    read_field,
    suback,
)
from mesimqtt.engine.window import Run, send_run
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.retained import RetainedMessage
    from mesimqtt.engine.session import Session

_FILTERS_PER_PACKET = 10_000  # or `limits.filters_max`, if that is more; a packet of 1 MiB holds 260,000
_RETAIN_IN_QOS = 4  # how the keeper's `qos` says that a queued message is a retained one


class _Plan:
    """What a SUBSCRIBE will do: a code per filter (None: the claim says), denials to tell, retained to send."""

    __slots__ = ("codes", "denials", "fresh", "retained", "visits")

    def __init__(self) -> None:
        self.codes: list[int | None] = []
        self.denials: list[tuple[str, str]] = []
        self.fresh: set[str] = set()
        self.retained: dict[str, tuple[RetainedMessage, int]] = {}
        self.visits = 0

    def deny(self, topic_filter: str, rule: str) -> None:
        self.codes.append(SUBACK_FAILURE)
        self.denials.append((topic_filter, rule))


def subscribe(connection: Connection, body: bytes) -> bool:
    """Take the body of a SUBSCRIBE; False if the gate does not know yet and it is to be tried again."""
    session, engine = connection.session, connection.engine
    packet_id, requests = _read(body, engine.limits.filters_max, with_qos=True)
    plan = _Plan()
    if session is None or not all(_decide(connection, session, plan, name, qos) for name, qos in requests):
        return False
    for topic_filter, rule in plan.denials:
        engine.gate.audit(connection, Action.SUBSCRIBE, topic_filter, rule)
    codes, granted, claimed = bytearray(), [], []
    for (topic_filter, qos), decided in zip(requests, plan.codes, strict=True):
        code = decided
        if code is None and engine.claim is not None:
            code = engine.claim.subscribe(connection, topic_filter, qos)
            if code != SUBACK_FAILURE:
                claimed.append(topic_filter)
        elif code is not None and code != SUBACK_FAILURE:
            _add(connection, session, topic_filter, code)
            granted.append(topic_filter)
        codes.append(SUBACK_FAILURE if code is None else code)
        if codes[-1] != SUBACK_FAILURE and engine.observer is not None:
            engine.observer.subscribed(connection, topic_filter, codes[-1])
    routes.invalidate(engine, granted)
    packet = suback(packet_id, bytes(codes))
    if claimed or session.key:
        engine.reply(connection, packet)
        if claimed:
            engine.open_batch().granted(connection, claimed)
    else:
        connection.send(packet)
    _send_retained(connection, session, list(plan.retained.values()))
    return True


def _read(body: bytes, filters_max: int, *, with_qos: bool) -> tuple[int, list[tuple[str, int]]]:
    end, most = len(body), max(_FILTERS_PER_PACKET, filters_max)
    if end < 2:
        raise MalformedError("SUBSCRIBE or UNSUBSCRIBE without a packet id")
    packet_id = body[0] << 8 | body[1]
    if not packet_id:
        raise MalformedError("packet id 0")
    position = 2
    requests: list[tuple[str, int]] = []
    while position < end:
        raw, position = read_field(body, position, end)
        if not raw:
            raise MalformedError("empty filter")  # [MQTT-4.7.3-1]
        qos = 0
        if with_qos:
            if position >= end or body[position] > 2:  # [MQTT-3.8.3-4]
                raise MalformedError("filter without a QoS, or with a reserved one")
            qos = body[position]
            position += 1
        if len(requests) >= most:  # refusing each of them would hold everybody up
            raise MalformedError("too many filters in one packet")
        requests.append((check_text(raw), qos))
    if not requests:  # [MQTT-3.8.3-3], [MQTT-3.10.3-2]
        raise MalformedError("no filter")
    return packet_id, requests


def _decide(connection: Connection, session: Session, plan: _Plan, topic_filter: str, qos: int) -> bool:
    """Add the decision on one filter to `plan`; False if it is not known yet."""
    engine = connection.engine
    limits = engine.limits
    size = len(topic_filter.encode())
    first_level = topic_filter.partition("/")[0]
    claimed = engine.claim is not None and first_level == engine.root_name
    too_many = len(plan.codes) >= limits.filters_max  # one packet holds thousands of filters
    if too_many or not is_filter(topic_filter) or first_level == "$share":
        plan.codes.append(SUBACK_FAILURE)
    elif claimed:
        plan.codes.append(None if size <= limits.root_topic_max else SUBACK_FAILURE)
    elif size > limits.topic_max or topic_filter.count("/") >= limits.topic_levels_max:
        plan.deny(topic_filter, "limit")
    else:
        decision = engine.gate.decide(connection, Action.SUBSCRIBE, topic_filter)
        if decision is None:
            return False
        if not decision.allow:
            plan.deny(topic_filter, decision.rule)
            return True
        if topic_filter not in session.subscriptions and topic_filter not in plan.fresh:
            if len(session.subscriptions) + len(plan.fresh) >= limits.filters_max:
                plan.deny(topic_filter, "limit")
                return True
            plan.fresh.add(topic_filter)
        if not _plan_retained(connection, plan, topic_filter, qos):
            return False
        plan.codes.append(qos)
    return True


def _plan_retained(connection: Connection, plan: _Plan, topic_filter: str, qos: int) -> bool:
    engine = connection.engine
    if plan.visits >= engine.limits.retained_visits_max:
        return True
    found = engine.retained.match(topic_filter)
    plan.visits += len(found)
    for message in found:
        granted = min(qos, message.qos)
        planned = plan.retained.get(message.topic)
        if planned is not None:  # two filters of one SUBSCRIBE select it: once, at the higher QoS
            if planned[1] < granted:
                plan.retained[message.topic] = (message, granted)
            continue
        decision = engine.gate.decide(connection, Action.RECEIVE, message.topic)
        if decision is None:
            return False
        if decision.allow:
            plan.retained[message.topic] = (message, granted)
    return True


def _add(connection: Connection, session: Session, topic_filter: str, qos: int) -> None:
    engine = connection.engine
    session.subscriptions[topic_filter] = qos
    engine.tree.add(topic_filter, session, qos)
    if session.key:
        engine.keeper.save_subscription(session, topic_filter, qos)


def _send_retained(connection: Connection, session: Session, messages: list[tuple[RetainedMessage, int]]) -> None:
    """Send what a new subscription selects, with RETAIN 1 [MQTT-3.3.1-8], bounded like any queue."""
    engine = connection.engine
    left = engine.limits.queue_bytes_max
    for message, qos in messages:
        raw = message.topic.encode()
        left -= len(message.payload) + len(raw)
        if left < 0:
            engine.counters.dropped += 1
            continue
        if qos and session.key:
            kept.enqueue(engine, session, raw, message.payload, qos | _RETAIN_IN_QOS)
            continue
        head = publish_head(PUBLISH | qos << 1 | 1, raw, len(message.payload))
        if qos:
            packet = b"".join((head, b"\0\0", message.payload))
            send_run(session, Run(packet, len(packet), len(head), 1, qos))
            continue
        packet = head + message.payload
        engine.counters.messages_out += 1
        if session.key:
            engine.reply(connection, packet)  # after the SUBACK, which waits for the commit
        elif connection.congested:
            connection.hold(packet, 1)
        else:
            connection.send(packet)


def unsubscribe(connection: Connection, body: bytes) -> None:
    """Take the body of an UNSUBSCRIBE; UNSUBACK follows whatever was subscribed [MQTT-3.10.4-5]."""
    session, engine = connection.session, connection.engine
    packet_id, requests = _read(body, engine.limits.filters_max, with_qos=False)
    if session is None:
        return
    removed = []
    for topic_filter, _ in requests:
        if engine.claim is not None and topic_filter.partition("/")[0] == engine.root_name:
            engine.claim.unsubscribe(connection, topic_filter)
        elif session.subscriptions.pop(topic_filter, None) is not None:
            engine.tree.remove(topic_filter, session)
            removed.append(topic_filter)
            if session.key:
                engine.keeper.drop_subscription(session, topic_filter)
        else:
            continue
        if engine.observer is not None:
            engine.observer.unsubscribed(connection, topic_filter)
    routes.invalidate(engine, removed)
    packet = ack(UNSUBACK, packet_id)
    if session.key:
        engine.reply(connection, packet)
    else:
        connection.send(packet)
