"""Wills: published when a connection ends without DISCONNECT, in 5.0 perhaps after a delay [MQTT 5.0, 3.1.2.5].

The keeper has each from CONNECT until it is published or called off, so that it outlives the process.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mesimqtt.engine import routes, spread
from mesimqtt.engine.letter import Letter
from mesimqtt.engine.properties import MESSAGE_EXPIRY
from mesimqtt.engine.retained import RetainedMessage
from mesimqtt.engine.routes import Route
from mesimqtt.engine.session import Session
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.will import Will

AGAIN_S = 10.0  # after which a will is published that the store could not take
WAITING_MAX = 10_000  # wills that wait, with which no such one is added: the keeper has it for the next start, if any


def keep(engine: Engine, connection: Connection) -> None:
    """Keep the will of a connection that was let in, or authenticated anew, in place of what was kept before."""
    will, session, identity = connection.will, connection.session, connection.identity
    if will is None or session is None or identity is None:
        return
    if will.key:
        engine.keeper.drop_will(will.key)
    connection.will = will._replace(key=engine.keeper.keep_will(session, identity, will))


def forget(engine: Engine, connection: Connection) -> None:
    """Forget the will of a connection, if it has one: nobody will publish it [MQTT-3.1.2-10]."""
    will, connection.will = connection.will, None
    if will is not None and will.key:
        engine.keeper.drop_will(will.key)


def leave(engine: Engine, connection: Connection, session: Session) -> None:
    """Keep the will of a connection that ended until its delay has passed or its session ends [MQTT-3.1.3-9]."""
    will = connection.will
    if will is not None and will.delay_s and not session.clean and session.expiry_s:
        at = engine.now + will.delay_s
        engine.wills[session] = (at, connection)
        if will.key:
            engine.keeper.will_left(will.key, at)


def turn(engine: Engine, now: float) -> None:
    """Fire the wills whose delay has passed."""
    for session in [session for session, (at, _) in engine.wills.items() if at <= now]:
        ended(engine, session)


def ended(engine: Engine, session: Session) -> None:
    """Fire the delayed will of a session, if it has one: its delay has passed or the session has ended."""
    waiting = engine.wills.pop(session, None)
    if waiting is not None:
        fire(engine, waiting[1])


def back(engine: Engine, session: Session) -> None:
    """Forget the delayed will of a session whose client is back, unless its delay has passed [MQTT-3.1.3-9]."""
    waiting = engine.wills.get(session)
    if waiting is not None and waiting[0] <= engine.now:
        ended(engine, session)
    else:
        call_off(engine, session)


def call_off(engine: Engine, session: Session) -> None:
    """Forget the delayed will of a session."""
    waiting = engine.wills.pop(session, None)
    if waiting is not None:
        forget(engine, waiting[1])


def revoke(engine: Engine, *, user: str = "", jti: str = "") -> None:
    """Forget the delayed wills of a user who may not speak any more, or of a token that was revoked."""
    for session, (_, connection) in list(engine.wills.items()):
        identity = connection.identity
        if identity is not None and (session.user == user if user else identity.jti == jti):
            call_off(engine, session)


def go_on(engine: Engine, connection: Connection) -> None:
    """Fire a will that waited for an answer of the gate, unless it is its delay that it waits for."""
    session = connection.session
    waiting = engine.wills.get(session) if session is not None else None
    if waiting is None or waiting[1] is not connection:
        fire(engine, connection)


def fire(engine: Engine, connection: Connection) -> None:
    """Publish the will of a connection that ended; the access decision is taken again."""
    will, identity = connection.will, connection.identity
    if will is None or identity is None:
        return
    if engine.claim is not None and engine.is_claimed(will.raw):
        connection.will = None
        engine.claim.will(identity, will, partial(_again, engine, connection, will))
        return
    decision = engine.gate.decide(connection, Action.WILL, will.topic)
    if decision is None:
        return  # the gate calls `connection.resume`, which comes here again
    if not decision.allow:
        forget(engine, connection)
        engine.gate.audit(connection, Action.WILL, will.topic, decision.rule)
        return
    route = routes.find(engine, will.raw, will.topic)
    if not isinstance(route, Route):
        route.wait(connection.resume)
        return
    connection.will = None
    expiry_s = will.properties.number(MESSAGE_EXPIRY, -1)
    expires_at = engine.now + expiry_s if expiry_s >= 0 else 0.0
    letter = Letter(will.raw, will.payload, will.qos, will.retain, will.properties.forward, expires_at)
    if will.retain:
        engine.retain(RetainedMessage(will.topic, will.payload, will.qos, letter.properties, expires_at))
    spread.letter(engine, route, letter, connection.session)
    if will.key:
        engine.keeper.will_published(will.key)


def _again(engine: Engine, connection: Connection, will: Will) -> None:
    """Fire a will later: the store could not take it, and nobody else would say it again."""
    if len(engine.wills) >= WAITING_MAX:
        engine.counters.dropped += 1
        return
    connection.will = will
    own = Session(connection.user, connection.client_id, clean=True)  # whoever is back calls off no will that was due
    engine.wills[own] = (engine.now + AGAIN_S, connection)
