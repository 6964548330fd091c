"""The MQTT data plane: connections, sessions, topic tree and retained messages, without I/O or clock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.chance import SYSTEM
from mesimqtt.domain.errors import AddressError
from mesimqtt.engine import codes, inherit, kept, replay, restored, routes, shares, spread, wills
from mesimqtt.engine.batch import Batch
from mesimqtt.engine.connection import Connection
from mesimqtt.engine.counters import Counters
from mesimqtt.engine.letter import Letter, encode
from mesimqtt.engine.memory import MemoryKeeper
from mesimqtt.engine.packets import check_topic, walk
from mesimqtt.engine.retained import Retained, RetainedMessage
from mesimqtt.engine.routes import Route
from mesimqtt.engine.states import OPEN
from mesimqtt.engine.topic_index import TopicIndex
from mesimqtt.engine.topic_tree import TopicTree
from mesimqtt.engine.wheel import Wheel
from mesimqtt.settings import Mqtt

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    from mesimqtt.domain.chance import Chance
    from mesimqtt.engine.ports import Claim, Gate, Keeper, Observer
    from mesimqtt.engine.restored import RestoredSession, RestoredWill
    from mesimqtt.engine.session import Session
    from mesimqtt.engine.shares import Share
    from mesimqtt.settings import Limits

STOPPING = "the server is stopping"  # why a connection is closed by a server in good order
NO_TOPIC = b"\0"  # no topic begins with it
_PLACE = re.compile("%[uc]")
_SWEEP_MAX_S = 3600.0  # how often disconnected sessions are looked through for expired ones


def _nothing() -> None:
    """Stand in for a broker that flushes by itself."""


def _all_taken(_: Connection) -> int:
    """Stand in for a broker whose clients take everything."""
    return 0


class Engine:
    """Everything that connections share.

    The broker sets `wake`, which is called when `dirty` becomes non-empty: it then arranges for one
    flush at the end of the loop turn. It writes `b"".join(connection.out)`, clears `out`, closes those
    that are `closing`, and clears `dirty`.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        gate: Gate,
        claim: Claim | None,
        keeper: Keeper | None,
        observer: Observer | None,
        now: float,
        mqtt: Mqtt | None = None,
        chance: Chance = SYSTEM,
    ) -> None:
        self.limits = limits
        self.mqtt = mqtt if mqtt is not None else Mqtt()
        self.payload_max = limits.payload_max
        self.gate = gate
        self.claim = claim
        self.keeper: Keeper = keeper if keeper is not None else MemoryKeeper()
        self._is_durable = keeper is not None
        self.observer = observer
        self.now = now
        self.make_client_id: Callable[[], str] = lambda: f"auto-{chance.hex(8)}"
        self.wake: Callable[[], None] = _nothing
        self.untaken: Callable[[Connection], int] = _all_taken  # bytes of its output that its machine has not taken yet
        self.sessions: dict[tuple[str, str], Session] = {}
        self.kept_of: dict[str, dict[str, Session]] = {}  # by user and client id
        self.tree = TopicTree()
        self.shares: dict[str, Share] = {}  # by `$share/{name}/{filter}`
        self.replays: dict[Connection, deque[replay.Waiting]] = {}  # retained messages on their way, in portions
        self.wills: dict[Session, tuple[float, Connection]] = {}  # delayed, and when they fire
        self.retained = Retained(limits.retained_max)
        self.dirty: list[Connection] = []
        self.counters = Counters()
        self.version = 1
        self.held_bytes = 0  # waiting in memory for slow readers, all sessions together
        self.draining = False
        self.hints: dict[Connection, float] = {}  # of a server that stops: in how many seconds each is to come back
        self.routes: TopicIndex[Route] = TopicIndex()
        self.batch: Batch | None = None
        self.wheel: Wheel[Connection] = Wheel(now)
        self.endings: Wheel[Session] = Wheel(now)  # of kept sessions whose clients are away
        self.root_name = claim.root.decode() if claim is not None else ""
        self._root = claim.root if claim is not None else b""
        self.root_slash = self._root + b"/" if claim is not None else NO_TOPIC
        self._users: dict[str, Connection | dict[Connection, None]] = {}
        self._sweep_at = now + self._sweep_s

    @property
    def _sweep_s(self) -> float:
        return max(0.25, min(_SWEEP_MAX_S, self.limits.session_expiry_s / 4))

    def open(self, remote_address: str, listener: str, now: float) -> Connection:
        """Begin a connection: it has `connect_deadline_s` to be authenticated."""
        connection = Connection(self, remote_address, listener, now)
        self.counters.sockets += 1
        self.wheel.put(connection, now + self.limits.connect_deadline_s)
        return connection

    def restore(
        self,
        kept_sessions: Iterable[RestoredSession],
        retained: Iterable[RetainedMessage] = (),
        left: Iterable[RestoredWill] = (),
    ) -> None:
        """Take what the keeper has, at start. What is due of it happens at the first `tick`: before anybody is back."""
        restored.sessions(self, kept_sessions)
        for message in retained:
            self.retained.put(message)
        restored.wills(self, left)

    def tick(self, now: float) -> None:
        """Close who is silent or late, drop expired sessions; to be called about every 250 ms."""
        self.now = now
        for connection in self.wheel.turn(now):
            if connection.state is OPEN:
                deadline = connection.seen + connection.timeout_s
                if deadline > now or connection.paused:  # who is not read is not silent
                    self.wheel.put(connection, deadline)
                    connection.routes = None  # stale routes hold receivers that are gone
                else:
                    connection.close("keep alive timeout", codes.KEEP_ALIVE_TIMEOUT)
            else:
                connection.close("CONNECT deadline")
        if self.wills:
            wills.turn(self, now)
        self.go_on()
        for ended in self.endings.turn(now):
            self.counters.expired += 1
            self.drop_session(ended)
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_s
            self._sweep(now)
        self.settle()

    def _sweep(self, now: float) -> None:
        """Drop retained messages whose time has passed."""
        for message in self.retained.expired(now):
            self.retain(message._replace(payload=b""))

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Publish for the server itself ($SYS, plugins); claimed topics are not routed.

        Raises:
            MalformedError: `topic` is not a topic name.

        """
        raw = topic.encode()
        check_topic(raw)
        if self.is_claimed(raw):
            return
        route = routes.find(self, raw, topic)
        if not isinstance(route, Route):
            route.wait(lambda _now: self.publish(topic, payload, qos, retain))
            return
        if retain:
            self.retain(RetainedMessage(topic, payload, qos))
        spread.letter(self, route, Letter(raw, payload, qos, retain), None)
        self.settle()

    def go_on(self) -> None:
        """Do the next portion of work that is too much for one turn of the loop; to be called after each flush."""
        if self.replays:
            replay.turn(self)
            self.settle()

    def permissions_changed(self) -> None:
        """Decide everything anew, and find every route anew."""
        self.version += 1
        self.routes.clear()

    def connections_of(self, user: str) -> list[Connection]:
        """Return the open connections of a user."""
        found = self._users.get(user)
        if found is None:
            return []
        return list(found) if isinstance(found, dict) else [found]

    def sent(self, connection: Connection, data: bytes) -> None:
        """Tell the observer what the broker writes to an `observed` connection."""
        if self.observer is not None:
            for first, size in walk(data):
                self.observer.packet(connection, first >> 4, size, True)

    def is_claimed(self, raw: bytes) -> bool:
        """Tell whether a topic belongs to the claim."""
        return self.claim is not None and (raw.startswith(self.root_slash) or raw == self._root)

    def mark(self, connection: Connection) -> None:
        """Put a connection on the list of those to be written or closed."""
        if not self.dirty:
            self.wake()
        self.dirty.append(connection)

    def open_batch(self) -> Batch:
        """Return what collects for the next commit."""
        if self.batch is None:
            self.batch = Batch(self)
        return self.batch

    def reply(self, connection: Connection, data: bytes | bytearray | Letter) -> None:
        """Send an acknowledgement after the commit of what was given to the keeper so far."""
        if self._is_durable:
            self.open_batch().reply(connection, data)
        elif packet := encode(connection, data, 0) if isinstance(data, Letter) else data:
            connection.send(packet)

    def settle(self) -> None:
        """Register what was collected with the keeper: one callback for all of one event."""
        batch = self.batch
        if batch is not None:
            self.batch = None
            self.keeper.after_commit(batch.done)

    def retain(self, message: RetainedMessage) -> None:
        """Keep, replace or clear a retained message."""
        if self.retained.put(message):
            self.keeper.retain(message)
        else:
            self.counters.dropped += 1

    def forget_incoming(self, session: Session, packet_id: int) -> None:
        """End the exchange of a QoS 2 message that was refused: its packet id is free again."""
        if session.incoming is not None and packet_id in session.incoming:
            session.incoming.discard(packet_id)
            if session.key:
                self.keeper.forget_incoming(session, packet_id)

    def identity_changed(self, connection: Connection) -> None:
        """Take note that a connection was authenticated anew: its rights may be others now."""
        connection.routes = None
        if connection.will is not None:
            wills.keep(self, connection)
        if connection.session is not None:
            routes.invalidate(self, connection.session.subscriptions)
        if self.claim is not None:
            self.claim.reauthenticated(connection)
        if self.observer is not None and connection.is_open:
            self.observer.reauthenticated(connection)

    def response_information(self, connection: Connection) -> str:
        """Return the topic prefix under which a client may receive responses [MQTT 5.0, 3.2.2.3.15].

        The user stands in it as in the rules for free topics, percent-encoded.
        """
        try:
            user = encode_address(connection.user)
        except AddressError:  # nobody's name, as in open mode
            user = connection.user
        values = {"%u": user, "%c": connection.client_id}
        return _PLACE.sub(lambda found: values[found[0]], self.mqtt.response_information)

    def goodbye(self, connections: Iterable[Connection]) -> None:
        """Close connections because the server stops; who speaks 5.0 is told, and when and where to come back."""
        code = codes.SERVER_MOVED if self.mqtt.server_reference else codes.SERVER_SHUTTING_DOWN
        for connection in connections:
            connection.close(STOPPING, code)

    def enter(self, connection: Connection) -> None:
        """Count a connection that is authenticated."""
        self.counters.connected += 1
        self.counters.connections += 1
        others = self._users.get(connection.user)
        if others is None:
            self._users[connection.user] = connection
        elif isinstance(others, dict):
            others[connection] = None
        else:
            self._users[connection.user] = {others: None, connection: None}

    def leave(self, connection: Connection, *, was_open: bool) -> None:
        """Take apart what belonged to a connection that ended, and fire its will."""
        self.wheel.remove(connection)
        session = connection.session
        if not was_open or session is None:
            return
        self.counters.connected -= 1
        others = self._users.get(connection.user)
        if isinstance(others, dict):
            others.pop(connection, None)
        if not isinstance(others, dict) or not others:
            self._users.pop(connection.user, None)
        session.connection = None
        self.held_bytes -= session.held_bytes  # of a clean session with its window, which is dropped below
        session.held = None
        if connection.will is not None:
            wills.leave(self, connection, session)
        left = session.window.left() if session.window is not None else []
        if session.clean or not session.expiry_s:
            self.drop_session(session)
        else:
            session.disconnected_at = self.now
            self.endings.put(session, session.ends_at)
            if session.key:
                self.keeper.left(session)
            kept.detach(session)
            routes.invalidate(self, session.subscriptions)
        if self.claim is not None:
            self.claim.disconnected(connection)
        if self.observer is not None:
            self.observer.disconnected(connection, connection.close_reason)
        if connection.will is not None and session not in self.wills:
            wills.fire(self, connection)
        if left:
            inherit.pass_on(self, session, left)

    def make_room(self, user: str, client_id: str) -> bool:
        """See to it that a user may keep a session of this client id; False if all he may have are in use."""
        sessions = self.kept_of.get(user, {})
        if client_id in sessions or len(sessions) < self.limits.sessions_per_user_max:
            return True
        away = [session for session in sessions.values() if session.connection is None]
        if not away:
            return False
        self.drop_session(min(away, key=lambda session: session.disconnected_at))
        return True

    def drop_session(self, session: Session) -> None:
        """Forget a session and all of its subscriptions."""
        if session.due:
            self.endings.remove(session)
        if self.sessions.get((session.user, session.client_id)) is session:
            del self.sessions[session.user, session.client_id]
        kept_sessions = self.kept_of.get(session.user)
        if kept_sessions is not None and kept_sessions.get(session.client_id) is session:
            del kept_sessions[session.client_id]
            if not kept_sessions:
                del self.kept_of[session.user]
        if session.subscriptions:
            for topic_filter in session.subscriptions:
                shares.detach(self, session, topic_filter)
            routes.invalidate(self, session.subscriptions)
        if session.key and inherit.is_member(session):
            inherit.drop_kept(self, session)
        elif session.key:
            self.keeper.drop_session(session)
        session.window = session.kept = None
        if self.wills:
            wills.ended(self, session)

    def revoke(self, user: str, jti: str) -> None:
        """Take note that a user was disabled, or (with no user) a token revoked: no delayed will speaks for it."""
        wills.revoke(self, user=user, jti=jti)

    def forget_user(self, user: str) -> None:
        """Close the connections of a user and forget his sessions: whoever gets the name next inherits nothing."""
        for connection in self.connections_of(user):
            wills.forget(self, connection)
            connection.close("user deleted", codes.NOT_AUTHORIZED)
        for delayed in [session for session in self.wills if session.user == user]:
            wills.call_off(self, delayed)
        for session in [session for session in self.sessions.values() if session.user == user]:
            self.drop_session(session)
