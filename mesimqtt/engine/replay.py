"""Retained messages for a new subscription: in portions, so that a hundred thousand of them hold up nobody else."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine import codes, kept
from mesimqtt.engine.grants import receiver
from mesimqtt.engine.letter import Letter
from mesimqtt.engine.window import send_letter
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.retained import RetainedMessage
    from mesimqtt.engine.session import Session

_AT_ONCE = 1_000  # messages; more follow in the next turns of the loop
_TOTAL_MAX = 1_000_000  # messages that wait to be sent, all clients together: some 64 MB
_AHEAD = 50  # messages that the gate is asked about at once, where it needs time for its answer


class Waiting(NamedTuple):
    """A retained message on its way, with the grant. The gate may not have said yet whether it may be received."""

    message: RetainedMessage
    grant: int
    is_allowed: bool
    is_asked: bool = False


def begin(connection: Connection, session: Session, messages: list[Waiting]) -> None:
    """Send what a new subscription selects, with RETAIN 1 [MQTT-3.3.1-8], after the SUBACK."""
    if not messages:
        return
    engine = connection.engine
    if not _make_room(engine, connection, len(messages)):
        return
    waiting = engine.replays.get(connection)
    if waiting is None:
        waiting = engine.replays[connection] = deque()
    room = engine.limits.retained_max - len(waiting)
    if room < len(messages):  # it subscribes faster than it is served
        engine.counters.dropped += len(messages) - max(room, 0)
        messages = messages[: max(room, 0)]
    waiting.extend(messages)
    if len(waiting) == len(messages):
        go_on(engine, connection, session, waiting)


def _make_room(engine: Engine, connection: Connection, count: int) -> bool:
    """See to it that all together wait for no more than memory has room for; False if this client is closed for it.

    Whoever waits for most goes: clients that do not read must not cost others their subscriptions.
    """
    while sum(map(len, engine.replays.values())) + count > _TOTAL_MAX:
        waiting = {each: len(left) for each, left in engine.replays.items()}
        waiting[connection] = waiting.get(connection, 0) + count
        most = max(waiting, key=waiting.__getitem__)
        engine.replays.pop(most, None)
        most.close("too much is being replayed for clients that do not read", codes.QUOTA_EXCEEDED)
        if most is connection:
            return False
    return True


def turn(engine: Engine) -> None:
    """Send the next portions to all that wait for some."""
    for connection, waiting in list(engine.replays.items()):
        session = connection.session
        if not connection.is_open or session is None:
            del engine.replays[connection]
        elif not connection.congested and not session.is_filled:
            go_on(engine, connection, session, waiting)


def _may(engine: Engine, connection: Connection, waiting: deque[Waiting], entry: Waiting) -> bool | None:
    """Tell whether a message may be received; None if that is not known yet: then it stands first again."""
    decide = engine.gate.decide
    decision = decide(connection, Action.RECEIVE, entry.message.topic)
    if decision is not None:
        return decision.allow
    for ahead in islice(waiting, _AHEAD) if not entry.is_asked else ():
        decide(connection, Action.RECEIVE, ahead.message.topic)
    waiting.appendleft(entry._replace(is_asked=True))
    return None


def go_on(engine: Engine, connection: Connection, session: Session, waiting: deque[Waiting]) -> None:
    """Send a portion; forget a replay that is done. Where the gate owes an answer it goes on when that is there."""
    left = engine.limits.unwritten_max
    for _ in range(min(_AT_ONCE, len(waiting))):
        entry = waiting.popleft()
        message, grant = entry.message, entry.grant
        if engine.retained.get(message.topic) is not message:
            continue  # replaced meanwhile: the subscription is there already and got the newer one
        if not entry.is_allowed:
            may = _may(engine, connection, waiting, entry)
            if may is None:
                return
            if not may:
                continue
        target = receiver(session, grant)
        letter = Letter(
            message.topic.encode(),
            message.payload,
            min(target.qos, message.qos),
            True,
            message.properties + target.identifiers,
            message.expires_at,
        )
        _send(engine, connection, session, letter)
        left -= letter.size
        if left <= 0 or session.is_filled:
            break
    if not waiting:
        engine.replays.pop(connection, None)


def _send(engine: Engine, connection: Connection, session: Session, letter: Letter) -> None:
    if letter.qos and session.key:
        kept.enqueue(engine, session, letter)
    elif letter.qos or not session.key:
        send_letter(session, letter)
    elif not letter.is_expired(engine.now):
        engine.counters.messages_out += 1
        engine.reply(connection, letter)  # after the SUBACK, which waits for the commit
