"""What the keeper has is taken back at start: sessions whose clients are away, and the wills of who is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import shares
from mesimqtt.engine.connection import Connection
from mesimqtt.engine.session import Session
from mesimqtt.engine.states import CLOSED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.will import Will
    from mesimqtt.hooks import Identity

# User, client id, key, filters, next n, incoming ids, and times in seconds: how long the client is away, and how long
# its session outlives a connection.
RestoredSession = tuple[str, str, int, dict[str, int], int, "Iterable[int]", float, float]
# Who left it, client id, the will with its key, and when it is due in engine time; 0: its client was still connected.
RestoredWill = tuple["Identity", str, "Will", float]


def sessions(engine: Engine, kept: Iterable[RestoredSession]) -> None:
    """Take the kept sessions."""
    for user, client_id, key, subscriptions, next_n, incoming, away_s, expiry_s in kept:
        session = Session(user, client_id, clean=False)
        session.key = key
        session.subscriptions = dict(subscriptions)
        session.next_n = max(next_n, 1)
        session.incoming = set(incoming) or None
        session.disconnected_at = engine.now - away_s
        session.expiry_s = min(expiry_s, engine.limits.session_expiry_s)
        engine.sessions[user, client_id] = session
        engine.kept_of.setdefault(user, {})[client_id] = session
        engine.endings.put(session, session.ends_at)
        for topic_filter, grant in session.subscriptions.items():
            shares.attach(engine, session, topic_filter, grant)


def wills(engine: Engine, left: Iterable[RestoredWill]) -> None:
    """Take the wills, in the order in which they came: the end of the process has ended every connection.

    A delay goes on; that of who was connected begins, as his absence does. Whatever else there is was due before: the
    will of a session that ended with its connection, and all but the last of one session.
    """
    found = list(left)
    last = {(identity.user, client_id): will.key for identity, client_id, will, _ in found}
    for identity, client_id, will, at in found:
        session = engine.sessions.get((identity.user, client_id))
        if session is None or last[identity.user, client_id] != will.key:
            session, due = Session(identity.user, client_id, clean=True), engine.now
        else:
            due = min(at or session.disconnected_at + will.delay_s, session.ends_at)
        engine.wills[session] = (due, _gone(engine, identity, session, will))


def _gone(engine: Engine, identity: Identity, session: Session, will: Will) -> Connection:
    """Return the connection that a will was left by, as it stands after its end."""
    connection = Connection(engine, "", "", engine.now)
    connection.identity, connection.user, connection.client_id = identity, identity.user, session.client_id
    connection.clean, connection.session, connection.will = session.clean, session, will
    connection.state, connection.closing = CLOSED, True
    return connection
