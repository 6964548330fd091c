"""CONNECT: reading it, authentication, will check, take-over, CONNACK. In this order, nothing before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine import kept, routes
from mesimqtt.engine.packets import (
    ACCEPTED,
    BAD_CLIENT_ID,
    BAD_CREDENTIALS,
    BAD_PROTOCOL,
    NOT_AUTHORIZED,
    PROTOCOL_LEVEL,
    UNAVAILABLE,
    MalformedError,
    check_text,
    check_topic,
    connack,
    read_field,
)
from mesimqtt.engine.session import Session
from mesimqtt.engine.states import AUTHENTICATING, OPEN
from mesimqtt.hooks import Action, ConnectRequest, Identity, Refusal

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine


class Will(NamedTuple):
    """What is published when the connection ends without DISCONNECT."""

    topic: str
    raw: bytes
    payload: bytes
    qos: int
    retain: bool


class Arrival(NamedTuple):
    """A CONNECT that was read and is not decided yet."""

    request: ConnectRequest
    keep_alive_s: int
    will: Will | None


class _RefusedError(Exception):
    """A CONNECT that is answered with a return code before it is authenticated."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def arrive(connection: Connection, body: bytes, rest: bytes, now: float) -> None:
    """Take the body of a CONNECT and what follows it; ask the gate."""
    engine = connection.engine
    try:
        arrival = _read(body, connection)
    except _RefusedError as error:
        refuse(connection, error.code, str(error))
        return
    connection.arrival = arrival
    connection.version = arrival.request.version
    connection.client_id = arrival.request.client_id
    connection.clean = arrival.request.clean_start
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


def _read(body: bytes, connection: Connection) -> Arrival:
    end = len(body)
    name, position = read_field(body, 0, end)
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    if name == b"MQIsdp":
        raise _RefusedError(BAD_PROTOCOL, "MQTT 3.1 is not spoken here")
    if name != b"MQTT" or position >= end:  # [MQTT-3.1.2-1]
        raise MalformedError("not MQTT")
    if body[position] != PROTOCOL_LEVEL:  # [MQTT-3.1.2-2]
        raise _RefusedError(BAD_PROTOCOL, f"protocol level {body[position]}")
    if position + 4 > end:
        raise MalformedError("CONNECT ends early")
    flags = body[position + 1]
    keep_alive_s = body[position + 2] << 8 | body[position + 3]
    _check_flags(flags)
    raw_id, position = read_field(body, position + 4, end)
    client_id = check_text(raw_id)
    if flags & 0x04:
        raw_topic, position = read_field(body, position, end)
        payload, position = read_field(body, position, end)
        will = Will(check_topic(raw_topic), raw_topic, payload, flags >> 3 & 3, bool(flags & 0x20))
    if flags & 0x80:
        raw_name, position = read_field(body, position, end)
        username = check_text(raw_name)
    if flags & 0x40:
        password, position = read_field(body, position, end)
    if position != end:
        raise MalformedError("CONNECT with trailing bytes")
    if len(password or b"") > connection.engine.limits.password_max:
        raise _RefusedError(BAD_CREDENTIALS, "password too long")
    if connection.engine.draining:
        raise _RefusedError(UNAVAILABLE, "the server is stopping")
    clean = bool(flags & 0x02)
    if not client_id and not clean:  # [MQTT-3.1.3-8]
        raise _RefusedError(BAD_CLIENT_ID, "empty client id with clean session 0")
    request = ConnectRequest(
        client_id=client_id,
        username=username,
        password=password,
        clean_start=clean,
        version=PROTOCOL_LEVEL,
        remote_address=connection.remote_address,
        listener=connection.listener,
    )
    return Arrival(request, keep_alive_s, will)


def _check_flags(flags: int) -> None:
    if flags & 0x01:  # [MQTT-3.1.2-3]
        raise MalformedError("reserved CONNECT flag")
    if flags & 0x18 == 0x18:  # [MQTT-3.1.2-14]
        raise MalformedError("will QoS 3")
    if not flags & 0x04 and flags & 0x38:  # [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]
        raise MalformedError("will QoS or will retain without a will")
    if flags & 0xC0 == 0x40:  # [MQTT-3.1.2-22]
        raise MalformedError("password without user name")


def refuse(connection: Connection, code: int, reason: str) -> None:
    """Answer with a CONNACK that refuses, and close [MQTT-3.2.2-5]."""
    connection.send(connack(code))
    connection.close(reason)


def authenticated(connection: Connection, verdict: Identity | Refusal, now: float) -> None:
    """Go on with the gate's verdict."""
    arrival = connection.arrival
    if connection.state is not AUTHENTICATING or arrival is None:
        return
    if isinstance(verdict, Refusal):
        refuse(connection, verdict.code, verdict.reason)
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
    _enter(connection, now)


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


def _enter(connection: Connection, now: float) -> None:
    """Take over or make the session, send CONNACK, tell the claim, redeliver."""
    engine = connection.engine
    if not connection.clean and not engine.make_room(connection.user, connection.client_id):
        refuse(connection, UNAVAILABLE, "too many persistent sessions of this user, all connected")
        return
    session = _session_for(connection, engine)
    session.connection = connection
    connection.session = session
    connection.state = OPEN
    connection.seen = now
    engine.enter(connection)
    engine.wheel.put(connection, now + connection.timeout_s)
    connection.send(connack(ACCEPTED, session_present=connection.session_present))
    if session.subscriptions:
        routes.invalidate(engine, session.subscriptions)
    if engine.claim is not None:
        engine.claim.connected(connection)
    if engine.observer is not None:
        engine.observer.connected(connection)
    if session.connection is connection and not session.clean:
        kept.attach(engine, session)


def _session_for(connection: Connection, engine: Engine) -> Session:
    """Return the session of this (user, client id), whoever else is connected with it [MQTT-3.1.4-2]."""
    key = (connection.user, connection.client_id)
    session = engine.sessions.get(key)
    if session is not None and session.connection is not None:
        session.connection.close("taken over")
        session = engine.sessions.get(key)  # a clean one ended with its connection
    clean = connection.clean or not connection.user
    if session is not None and not clean:
        connection.session_present = True
        if session.key:
            engine.keeper.resumed(session)
        return session
    if session is not None:  # [MQTT-3.1.2-6]
        engine.drop_session(session)
    session = engine.sessions[key] = Session(connection.user, connection.client_id, clean=clean)
    if not clean:
        engine.kept_of.setdefault(session.user, {})[session.client_id] = session
        engine.keeper.save_session(session)
    return session
