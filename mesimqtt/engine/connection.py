"""One client connection: bytes in, bytes out, and nothing that knows of sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.engine import connect, kept, reader, window
from mesimqtt.engine.packets import PUBACK, PUBLISH, PUBREC, U16, MalformedError, ack, publish_head
from mesimqtt.engine.session import Held
from mesimqtt.engine.states import AUTHENTICATING, CLOSED, NEW, OPEN, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connect import Arrival, Will
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.routes import Route
    from mesimqtt.engine.session import Session
    from mesimqtt.hooks import Identity, Refusal

NO_TOKENS: dict[int, object] = {}  # stands for "nothing claimed in flight"; never written to


class Connection:
    """The engine's end of one network connection.

    The broker calls `receive`, `lost` and `set_congested`, writes what is in `out` once per loop turn
    (`engine.dirty` lists who has output or is `closing`) and stops reading while `paused`.
    """

    __slots__ = (
        "acked",
        "arrival",
        "claim_state",
        "claimed",
        "clean",
        "client_id",
        "client_id_assigned",
        "close_reason",
        "closing",
        "congested",
        "discard",
        "due",
        "engine",
        "identity",
        "inflight_max",
        "keep_alive_s",
        "listener",
        "need",
        "observed",
        "out",
        "paused",
        "pending",
        "remote_address",
        "routes",
        "seen",
        "session",
        "session_present",
        "state",
        "unread",
        "user",
        "version",
        "waiters",
        "will",
    )

    def __init__(self, engine: Engine, remote_address: str, listener: str, now: float) -> None:
        self.engine = engine
        self.remote_address = remote_address
        self.listener = listener
        self.state: State = NEW
        self.user = ""
        self.client_id = ""
        self.client_id_assigned = False
        self.identity: Identity | None = None
        self.clean = True
        self.version = 0
        self.session: Session | None = None
        self.session_present = False
        self.keep_alive_s = 0
        self.inflight_max = engine.limits.inflight_max
        self.will: Will | None = None
        self.out: list[bytes | bytearray] = []
        self.closing = False
        self.close_reason = ""
        self.congested = False
        self.unread = 0
        self.observed = engine.observer is not None and engine.observer.packets
        self.claimed: dict[int, object] = NO_TOKENS
        self.claim_state: Any = None
        self.acked: list[object] | None = None
        self.paused = False
        self.pending: bytearray | None = None
        self.need = 0
        self.discard: reader.Discard | None = None
        self.seen = now
        self.due = 0
        self.routes: dict[bytes, Route] | None = None
        self.arrival: Arrival | None = None
        self.waiters: list[Callable[[float], None]] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.user!r} {self.client_id!r} {self.state.name} from {self.remote_address}>"

    @property
    def is_open(self) -> bool:
        """Tell whether the client is authenticated and not yet gone."""
        return self.state is OPEN

    @property
    def timeout_s(self) -> float:
        """One and a half times the keep alive in force [MQTT-3.1.2-24]; the server's own where the client has none."""
        most = self.engine.limits.keep_alive_max_s
        return 1.5 * min(self.keep_alive_s or most, most)

    def receive(self, data: bytes, now: float) -> None:
        """Take what one read returned; every complete packet in it is processed before this returns."""
        engine = self.engine
        engine.now = now
        engine.counters.bytes_in += len(data)
        if self.state is CLOSED or not data:
            return
        try:
            if self.state is OPEN and self.pending is None and self.discard is None:
                reader.parse(self, data, now)
            else:
                self._receive_more(data, now)
        except MalformedError as error:
            self.close(str(error))
        if self.acked is not None:
            self._hand_acked()
        if engine.batch is not None:
            engine.settle()
        if (
            self.congested and self.unread > engine.limits.unwritten_max
        ):  # it goes on asking and does not read the answers
            self.close("does not read")

    def _receive_more(self, data: bytes, now: float) -> None:
        if self.state is NEW and self.pending is None:
            reader.parse_first(self, data, now)
        else:
            joined = reader.gather(self, data)
            if not joined:
                return
            if self.state is NEW:
                reader.parse_first(self, joined, now)
            else:
                reader.parse(self, joined, now)
        self._process_rest(now)

    def _process_rest(self, now: float) -> None:
        """Go on with what came behind a CONNECT or while an answer was awaited."""
        if self.state is OPEN and not self.paused and self.pending is not None and not self.need:
            data, self.pending = bytes(self.pending), None
            reader.parse(self, data, now)

    def _hand_acked(self) -> None:
        tokens, self.acked = self.acked, None
        if tokens and self.engine.claim is not None:
            self.engine.claim.acked(self, tokens)

    def send(self, data: bytes | bytearray) -> None:
        """Append to the output; a closed connection sends nothing any more."""
        if self.state is CLOSED:
            return
        if not self.out:
            self.engine.mark(self)
        self.out.append(data)
        if self.congested:
            self.unread += len(data)

    def hold(self, chunk: bytes, count: int) -> None:
        """Keep QoS 0 packets of a slow reader until it reads, bounded; what is over the bound is dropped."""
        session, limits = self.session, self.engine.limits
        if session is None:
            return
        held = session.held
        if held is None:
            held = session.held = Held()
        size, engine = len(chunk), self.engine
        if (
            held.messages + count > limits.queue_messages_max
            or held.size + size > limits.queue_bytes_max
            or engine.held_bytes + size > limits.queue_bytes_total
        ):
            engine.counters.dropped += count
            return
        held.chunks.append(chunk)
        held.messages += count
        held.size += size
        engine.held_bytes += size

    def set_congested(self, value: bool) -> None:
        """Tell that the transport has too much (True) or again little (False) unwritten output."""
        self.congested = value
        session, engine = self.session, self.engine
        if value or session is None or self.state is not OPEN:
            return
        self.unread = 0
        held, session.held = session.held, None
        if held is not None:
            engine.held_bytes -= held.size
            self.send(b"".join(held.chunks))
            engine.counters.messages_out += held.messages
        window.advance(session)
        kept.pump(engine, session)
        if engine.claim is not None:
            engine.claim.writable(self)
        engine.settle()

    def lost(self, now: float) -> None:
        """Take note that the socket is gone without DISCONNECT: the will fires [MQTT-3.1.2-8]."""
        self.engine.now = now
        self._end("connection lost")
        self.out.clear()
        self.engine.settle()

    def close(self, reason: str) -> None:
        """Close from the server's side: `out` is still written, then the transport is closed."""
        self.engine.settle()  # what was taken before is answered, if the keeper commits at once
        if self.state is CLOSED:
            return
        self._end(reason)
        if not self.out:
            self.engine.mark(self)
        self.engine.settle()

    def _end(self, reason: str) -> None:
        if self.state is CLOSED:
            return
        was_open = self.state is OPEN
        if self.acked is not None:
            self._hand_acked()
        self.state = CLOSED
        self.closing = True
        self.close_reason = reason
        self.pending = self.discard = self.arrival = self.routes = None
        self.paused = False
        self.engine.leave(self, was_open=was_open)
        waiters, self.waiters = self.waiters, None
        for call in waiters or ():
            call(self.engine.now)

    def wait(self, call: Callable[[float], None]) -> None:
        """Call back when the gate has answered something about this connection, or it is gone."""
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(call)

    def resume(self, now: float) -> None:
        """Go on after the gate knows an answer that it did not have: the same packet is tried again."""
        engine = self.engine
        engine.now = now
        waiters, self.waiters = self.waiters, None
        for call in waiters or ():
            call(now)
        try:
            if self.state is AUTHENTICATING and self.identity is not None:
                connect.authenticated(self, self.identity, now)
                self._process_rest(now)
            elif self.state is OPEN and self.paused:
                self.paused = False
                self.need = 0
                self._process_rest(now)
            elif self.state is CLOSED and self.will is not None:
                engine.fire_will(self)
        except MalformedError as error:
            self.close(str(error))
        if self.acked is not None:
            self._hand_acked()
        engine.settle()

    def authenticated(self, verdict: Identity | Refusal, now: float) -> None:
        """Take the verdict that `gate.authenticate` did not have at once."""
        self.engine.now = now
        try:
            connect.authenticated(self, verdict, now)
            self._process_rest(now)
        except MalformedError as error:
            self.close(str(error))
        if self.acked is not None:
            self._hand_acked()
        self.engine.settle()

    def acknowledge(self, packet_id: int, qos: int) -> None:
        """Send the PUBACK or PUBREC of a claimed PUBLISH."""
        self.send(ack(PUBACK if qos == 1 else PUBREC, packet_id))

    def deliver(self, topic: bytes, payload: bytes, qos: int, token: object, *, dup: bool = False) -> None:
        """Send a claimed PUBLISH; at QoS 1 `token` comes back with its PUBACK in `claim.acked`."""
        session = self.session
        if self.state is not OPEN or session is None:
            return
        out = self.out
        if not out:
            self.engine.mark(self)
        self.engine.counters.messages_out += 1
        if not qos:
            out += (publish_head(PUBLISH, topic, len(payload)), payload)
            return
        if self.claimed is NO_TOKENS:
            self.claimed = {}
        packet_id = window.free_id(session, self)
        self.claimed[packet_id] = token
        out += (publish_head(PUBLISH | 10 if dup else PUBLISH | 2, topic, len(payload)), U16[packet_id], payload)
