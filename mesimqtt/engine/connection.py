"""One client connection: bytes in, bytes out, and nothing that knows of sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.engine import auth, codes, connect, kept, packets5, reader, wills, window
from mesimqtt.engine.letter import Letter, encode, put
from mesimqtt.engine.packets import (
    FIVE,
    PUBACK,
    PUBLISH,
    PUBREC,
    MalformedError,
    ack,
    walk,
)
from mesimqtt.engine.session import Held
from mesimqtt.engine.single import take_single
from mesimqtt.engine.states import AUTHENTICATING, CLOSED, NEW, OPEN, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.arrival import Arrival
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.five import Five
    from mesimqtt.engine.routes import Route
    from mesimqtt.engine.session import Session
    from mesimqtt.engine.will import Will
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
        "certificate_user",
        "claim_state",
        "claimed",
        "clean",
        "clean_start",
        "client_id",
        "client_id_assigned",
        "close_reason",
        "closing",
        "congested",
        "counts_all",
        "discard",
        "due",
        "engine",
        "five",
        "identity",
        "inflight_max",
        "is_done",
        "is_plain",
        "keep_alive_s",
        "listener",
        "need",
        "observed",
        "out",
        "packet_max",
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
        self.certificate_user: str | None = None  # set by the listener that verified a client certificate
        self.clean = True  # the session ends with this connection
        self.clean_start = True
        self.version = 0
        self.five: Five | None = None
        self.packet_max = 0  # the client's Maximum Packet Size; 0: any
        self.is_plain = True  # takes packets as they are: no aliases, no bounds of its own
        self.counts_all = False  # its Receive Maximum bounds all in flight together, claimed or not
        self.session: Session | None = None
        self.session_present = False
        self.keep_alive_s = 0
        self.inflight_max = engine.limits.inflight_max
        self.will: Will | None = None
        self.out: list[bytes | bytearray] = []
        self.closing = False
        self.is_done = False  # it has said DISCONNECT, after which it sends nothing any more
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
        size = len(data)
        engine.counters.bytes_in += size
        state = self.state
        if state is CLOSED or not data:
            return
        is_fresh = state is OPEN and self.pending is None and self.discard is None
        if is_fresh and not (self.observed or self.congested) and take_single(self, data, size):
            self.seen = now
            return
        try:
            if is_fresh:
                reader.parse(self, data, now)
            else:
                self._receive_more(data, now)
        except MalformedError as error:
            self.close(str(error), error.code)
        if self.acked is not None:
            self.hand_acked()
        if engine.batch is not None:
            engine.settle()
        if self.congested and self.unread > engine.limits.unwritten_max:  # it asks and does not read the answers
            self.close("does not read", codes.QUOTA_EXCEEDED)

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

    def hand_acked(self) -> None:
        """Give the claim what was acknowledged; an empty list says that there is room."""
        tokens, self.acked = self.acked, None
        if tokens is not None and self.engine.claim is not None:
            self.engine.claim.acked(self, tokens)

    def send(self, data: bytes | bytearray) -> None:
        """Append to the output; a closed connection sends nothing any more."""
        if self.state is CLOSED:
            return
        if self.packet_max and self.five is not None and len(data) > self.packet_max and not self._fits(data):
            self.close("takes no packet as large as its answers", codes.PACKET_TOO_LARGE)
            return
        if not self.out:
            self.engine.mark(self)
        self.out.append(data)
        if self.congested:
            self.unread += len(data)

    def _fits(self, data: bytes | bytearray) -> bool:
        """Tell whether the client takes packets of this size [MQTT-3.1.2-24]; several may come in one piece."""
        return all(size <= self.packet_max for _, size in walk(bytes(data)))

    def hold(self, chunk: bytes | Letter, count: int, size: int) -> None:
        """Keep QoS 0 packets of a slow reader until it reads, bounded; what is over the bound is dropped."""
        session, limits = self.session, self.engine.limits
        if session is None:
            return
        held = session.held
        if held is None:
            held = session.held = Held()
        engine = self.engine
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
            packets = (encode(self, one, 0) if isinstance(one, Letter) else one for one in held.chunks)
            self.send(b"".join(packets))
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

    def close(self, reason: str, code: int = codes.ADMINISTRATIVE_ACTION) -> None:
        """Close from the server's side: `out` is still written, then the transport is closed.

        A client of 5.0 is told `code` and `reason` before; a `code` of 0 says that the client itself ended it.
        """
        self.engine.settle()  # what was taken before is answered, if the keeper commits at once
        if self.state is CLOSED:
            return
        if code and self.version == FIVE:
            self._tell(code, reason)
        self._end(reason)
        if not self.out:
            self.engine.mark(self)
        self.engine.settle()

    def _tell(self, code: int, reason: str) -> None:
        if self.state is OPEN:
            is_moving = code == codes.SERVER_MOVED
            reference = self.engine.mqtt.server_reference if is_moving else ""
            packet = packets5.disconnect(code, reason, reference, self.engine.hints.get(self, 0.0))  # [MQTT-4.13.1-1]
            if 0 < self.packet_max < len(packet):
                packet = packets5.disconnect(code)
            if not 0 < self.packet_max < len(packet):
                self.send(packet)
        elif self.state is NEW:  # what came was a CONNECT that cannot be read
            self.send(packets5.connack(code, []))

    def _end(self, reason: str) -> None:
        if self.state is CLOSED:
            return
        was_open = self.state is OPEN
        if self.acked is not None:
            self.hand_acked()
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
            elif self.state is OPEN and self.paused and (self.five is None or self.five.renewal is None):
                self.paused = False
                self.need = 0
                self._process_rest(now)
            elif self.state is CLOSED and self.will is not None:
                wills.go_on(engine, self)
        except MalformedError as error:
            self.close(str(error), error.code)
        if self.acked is not None:
            self.hand_acked()
        engine.settle()

    def authenticated(self, verdict: Identity | Refusal, now: float) -> None:
        """Take the verdict that `gate.authenticate` did not have at once."""
        self.engine.now = now
        try:
            if self.state is OPEN:
                auth.renewed(self, verdict)
                self.paused = False
            else:
                connect.authenticated(self, verdict, now)
            self._process_rest(now)
        except MalformedError as error:
            self.close(str(error), error.code)
        if self.acked is not None:
            self.hand_acked()
        self.engine.settle()

    def acknowledge(self, packet_id: int, qos: int, code: int = 0, reason: str = "") -> None:
        """Send the PUBACK or PUBREC of a claimed PUBLISH. `code` and `reason` are of 5.0 [MQTT 5.0, 3.4.2.1]."""
        five = self.five
        self.engine.counters.acks_out += 1
        if five is None:
            self.send(ack(PUBACK if qos == 1 else PUBREC, packet_id))
            return
        if qos == 1:
            five.unacked = max(five.unacked - 1, 0)
        elif code >= codes.UNSPECIFIED_ERROR and self.session is not None:
            self.engine.forget_incoming(self.session, packet_id)  # [MQTT-4.3.3-9]
        self.send(packets5.refusal(self, qos, packet_id, code, reason))

    def deliver(
        self,
        topic: bytes,
        payload: bytes,
        qos: int,
        token: object,
        *,
        dup: bool = False,
        properties: bytes = b"",
        expires_at: float = 0.0,
    ) -> None:
        """Send a claimed PUBLISH; at QoS 1 `token` comes back with its PUBACK in `claim.acked`.

        `properties` are encoded and `expires_at` is engine time: both are for clients of 5.0 only.
        """
        session = self.session
        if self.state is not OPEN or session is None:
            return
        packet_id = 0
        if qos:
            if self.claimed is NO_TOKENS:
                self.claimed = {}
            packet_id = window.free_id(session, self)
            self.claimed[packet_id] = token
        if not self.is_plain or expires_at:
            letter = Letter(topic, payload, qos, False, properties, expires_at)
            packet = encode(self, letter, packet_id, dup=dup, has_alias=False)
            if packet:
                self.send(packet)
                self.engine.counters.messages_out += 1
            else:  # the claim looks at size and expiry itself: this is to keep a slot from being taken for ever
                self.claimed.pop(packet_id, None)
            return
        put(self, PUBLISH | (8 if dup else 0) | qos << 1, topic, packet_id, properties, payload)
