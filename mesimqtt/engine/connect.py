"""CONNECT: authentication, will check, take-over, CONNACK. In this order, nothing before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import arrival as packet
from mesimqtt.engine import codes, kept, packets5, properties, routes, wills
from mesimqtt.engine.arrival import NEVER_S, RefusedError
from mesimqtt.engine.packets import ACCEPTED, FIVE, NOT_AUTHORIZED, UNAVAILABLE, MalformedError, connack
from mesimqtt.engine.session import Session
from mesimqtt.engine.states import AUTHENTICATING, OPEN
from mesimqtt.hooks import Action, Identity, Refusal

if TYPE_CHECKING:
    from mesimqtt.engine.arrival import Arrival
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.properties import Value
    from mesimqtt.engine.will import Will

# What a client can do without, least needed first [MQTT-3.2.2-19].
_DISPENSABLE = (
    properties.RESPONSE_INFO,
    properties.TOPIC_ALIAS_MAXIMUM,
    properties.MAXIMUM_PACKET_SIZE,
    properties.RECEIVE_MAXIMUM,
)
_UNBOUNDED = 0xFFFF  # a Receive Maximum that need not be told


def arrive(connection: Connection, body: bytes, rest: bytes, now: float) -> None:
    """Take the body of a CONNECT and what follows it; ask the gate."""
    engine = connection.engine
    try:
        arrival = packet.read(body, connection)
    except RefusedError as error:
        refuse(connection, error.code, str(error), error.reason_code)
        return
    connection.arrival = arrival
    connection.client_id = arrival.request.client_id
    connection.clean_start = arrival.request.clean_start
    connection.keep_alive_s = arrival.keep_alive_s
    if not connection.client_id:
        connection.client_id = engine.make_client_id()
        connection.client_id_assigned = True
    connection.state = AUTHENTICATING
    connection.pending = bytearray(rest) if rest else None
    connection.need = 0
    verdict = engine.gate.authenticate(connection, arrival.request)
    if verdict is not None:
        authenticated(connection, verdict, now)
    if not connection.is_open and not connection.closing and len(rest) > engine.limits.packet_max_before_connect:
        raise MalformedError("too much input before authentication")


def refuse(connection: Connection, code: int, reason: str, reason_code: int = 0) -> None:
    """Answer with a CONNACK that refuses, and close [MQTT-3.2.2-5]. The reason goes to the log only."""
    connection.will = None  # who never was in leaves none
    if connection.version == FIVE:
        told = reason_code or codes.CONNACK_CODES.get(code, codes.UNSPECIFIED_ERROR)
        reference = connection.engine.mqtt.server_reference if told == codes.SERVER_UNAVAILABLE else ""
        if reference:
            moved: list[tuple[int, Value]] = [(properties.SERVER_REFERENCE, reference)]
            packet = packets5.connack(codes.USE_ANOTHER_SERVER, moved)
        else:
            packet = packets5.connack(told, [])
        most = connection.five.packet_max if connection.five is not None else 0
        if not 0 < most < len(packet):  # [MQTT-3.1.2-24]
            connection.send(packet)
    else:
        connection.send(connack(code))
    connection.close(reason, 0)


def authenticated(connection: Connection, verdict: Identity | Refusal, now: float) -> None:
    """Go on with the gate's verdict."""
    arrival = connection.arrival
    if connection.state is not AUTHENTICATING or arrival is None:
        return
    if isinstance(verdict, Refusal):
        refuse(connection, verdict.code, verdict.reason, verdict.reason_code)
        return
    connection.identity = verdict
    connection.user = verdict.user
    if arrival.will is not None:
        rule = _will_rule(connection, verdict, arrival.will)
        if rule is None:
            connection.paused = True
            return
        if rule:
            refuse(connection, NOT_AUTHORIZED, f"will denied: {rule}")
            return
        connection.will = arrival.will
    connection.paused = False
    connection.arrival = None
    _enter(connection, arrival, now)


def _will_rule(connection: Connection, identity: Identity, will: Will) -> str | None:
    """Return '' if this will may be kept, the rule that denies it, or None if that is not known yet."""
    engine = connection.engine
    limits = engine.limits
    claimed = engine.is_claimed(will.raw)
    most = limits.root_topic_max if claimed else limits.topic_max
    if len(will.raw) > most or (not claimed and will.topic.count("/") >= limits.topic_levels_max):
        return "limit"
    if claimed and engine.claim is not None:
        decision = engine.claim.will_decision(connection, identity, will.topic)
    else:
        pending = engine.gate.decide(connection, Action.WILL, will.topic)
        if pending is None:
            return None
        decision = pending
        if not decision.allow:
            engine.gate.audit(connection, Action.WILL, will.topic, decision.rule)
    return "" if decision.allow else decision.rule or "denied"


def _enter(connection: Connection, arrival: Arrival, now: float) -> None:
    """Take over or make the session, send CONNACK, tell the claim, redeliver."""
    engine, limits = connection.engine, connection.engine.limits
    expiry_s = _expiry(arrival, limits.session_expiry_s)
    connection.clean = not connection.user or (expiry_s == 0 and not _resumes(connection, arrival))
    if not connection.clean and not engine.make_room(connection.user, connection.client_id):
        refuse(
            connection, UNAVAILABLE, "too many persistent sessions of this user, all connected", codes.QUOTA_EXCEEDED
        )
        return
    bound(connection, arrival.packet_max, arrival.receive_maximum)
    if connection.packet_max and not _connack(connection, arrival, expiry_s):
        connection.close("takes no packet as large as CONNACK", 0)
        return
    session = _session_for(connection, engine)
    session.expiry_s = expiry_s
    session.connection = connection
    connection.session = session
    if session.key:
        engine.keeper.resumed(session)
    elif not session.clean:
        engine.keeper.save_session(session)
    if connection.will is not None:
        wills.keep(engine, connection)
    connection.state = OPEN
    connection.seen = now
    engine.enter(connection)
    timeout_s = connection.timeout_s
    if timeout_s < limits.connect_deadline_s:  # else the wheel comes by in time, and finds it open
        engine.wheel.put(connection, now + timeout_s)
    connection.send(_connack(connection, arrival, expiry_s))
    if session.subscriptions:
        routes.invalidate(engine, session.subscriptions)
    if engine.claim is not None:
        engine.claim.connected(connection)
    if engine.observer is not None:
        engine.observer.connected(connection)
    if session.connection is connection and not session.clean:
        kept.attach(engine, session)


def _expiry(arrival: Arrival, most_s: float) -> float:
    """Return how long the session outlives its connection: on 3.1.1 as long as any, or not at all."""
    if arrival.expiry_s is None:
        return 0 if arrival.request.clean_start else most_s
    return min(arrival.expiry_s, most_s)


def _resumes(connection: Connection, arrival: Arrival) -> bool:
    """Tell whether a session is there and wanted: one that ends with this connection may still begin before it."""
    if arrival.request.clean_start:
        return False
    session = connection.engine.sessions.get((connection.user, connection.client_id))
    return session is not None and not session.clean


def bound(connection: Connection, packet_max: int, receive_maximum: int) -> None:
    """Take the client's own limits, and those of its token."""
    identity, five, limits = connection.identity, connection.five, connection.engine.limits
    own = identity.packet_max if identity is not None else 0
    connection.packet_max = min(packet_max, own) if packet_max and own else packet_max or own
    connection.inflight_max = min(limits.inflight_max, receive_maximum)  # [MQTT-3.3.4-9]
    connection.counts_all = receive_maximum < 2 * limits.inflight_max
    if five is not None:
        five.packet_max, five.receive_maximum = packet_max, receive_maximum
    has_aliases = five is not None and bool(five.alias_maximum)
    connection.is_plain = not connection.packet_max and not connection.counts_all and not has_aliases


def _connack(connection: Connection, arrival: Arrival, expiry_s: float) -> bytes:
    """Return the CONNACK; empty if the client takes none of its size, even without what it can do without."""
    if connection.five is None:
        return connack(ACCEPTED, session_present=connection.session_present)
    given = _connack_properties(connection, arrival, expiry_s)
    packet = packets5.connack(ACCEPTED, given, session_present=connection.session_present)
    for identifier in _DISPENSABLE:
        if not 0 < connection.packet_max < len(packet):
            return packet
        given = [(name, value) for name, value in given if name != identifier]
        packet = packets5.connack(ACCEPTED, given, session_present=connection.session_present)
    return b"" if 0 < connection.packet_max < len(packet) else packet


def _connack_properties(connection: Connection, arrival: Arrival, expiry_s: float) -> list[tuple[int, Value]]:
    """Return what this server does otherwise than the client asked or a client must assume [MQTT 5.0, 3.2.2.3]."""
    engine, five = connection.engine, connection.five
    limits, mqtt = engine.limits, engine.mqtt
    given: list[tuple[int, Value]] = []
    if int(expiry_s) != (arrival.expiry_s or 0):
        given.append((properties.SESSION_EXPIRY, min(int(expiry_s), NEVER_S)))
    if limits.qos2_incoming_max < _UNBOUNDED:
        given.append((properties.RECEIVE_MAXIMUM, max(limits.qos2_incoming_max, 1)))
    given.append((properties.MAXIMUM_PACKET_SIZE, limits.packet_max))
    if connection.client_id_assigned:  # [MQTT-3.2.2-16]
        given.append((properties.ASSIGNED_CLIENT_ID, connection.client_id))
    if mqtt.topic_aliases_max:
        given.append((properties.TOPIC_ALIAS_MAXIMUM, min(mqtt.topic_aliases_max, 0xFFFF)))
    most = min(limits.keep_alive_max_s, 0xFFFF)
    if not 0 < arrival.keep_alive_s <= most:  # [MQTT-3.2.2-21]
        given.append((properties.SERVER_KEEP_ALIVE, most))
    if five is not None and five.wants_response_info and mqtt.response_information:
        given.append((properties.RESPONSE_INFO, engine.response_information(connection)))
    if five is not None and five.auth_method:
        given.append((properties.AUTH_METHOD, five.auth_method))
    return given


def _session_for(connection: Connection, engine: Engine) -> Session:
    """Return the session of this (user, client id), whoever else is connected with it [MQTT-3.1.4-2]."""
    key = (connection.user, connection.client_id)
    session = engine.sessions.get(key)
    if session is not None and session.connection is not None:
        session.connection.close("taken over", codes.SESSION_TAKEN_OVER)
        session = engine.sessions.get(key)  # one that ended with its connection is gone
    elif session is not None and session.ends_at <= engine.now:  # [MQTT-3.1.2-23]
        engine.drop_session(session)
        session = None
    if session is not None and not connection.clean and not connection.clean_start:
        connection.session_present = True
        engine.endings.remove(session)
        wills.back(engine, session)
        return session
    if session is not None:  # [MQTT-3.1.2-6]
        engine.drop_session(session)
    session = engine.sessions[key] = Session(connection.user, connection.client_id, clean=connection.clean)
    if not connection.clean:
        engine.kept_of.setdefault(session.user, {})[session.client_id] = session
    return session
