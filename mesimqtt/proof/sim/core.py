"""A device that is the real Python client: its core, under a shell that moves bytes and time as its own shells do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.history import Marked, Shown, Taken
from mesimqtt.proof.sim.phones import SUBSCRIBE_ID, Letter, Phone
from mesimqtt_client._errors import ConnectionDenied, OutboxFull
from mesimqtt_client._protocol import Core, Delivery
from mesimqtt_client._status import State

if TYPE_CHECKING:
    from mesimqtt.proof.sim.phones import Habits
    from mesimqtt.proof.sim.wires import Publish
    from mesimqtt.proof.sim.world import SimWorld
    from mesimqtt_client._outbox import Entry, OutMessage
    from mesimqtt_client._topics import SendOptions

KINDS = ("message", "own", "read", "event", "presence")
TICK_MS = 1000.0
PUBLISHES_MAX = 100


class CorePhone(Phone):
    """The client's core decides everything; this is its `Link` and its `Network` in virtual time."""

    def __init__(self, world: SimWorld, user: str, device: str, habits: Habits) -> None:
        super().__init__(world, user, device, habits)
        self.core = Core(user, make_id=world.next_cid)
        for kind in KINDS:
            self.core.want(kind)
        self._received: dict[str, Any] = {}  # events by mid, for read marks
        self._held: dict[str, OutMessage] = {}  # the core forgets what nobody holds
        self._in_flight: dict[int, Entry] = {}
        self._packet_id = 0
        self._mid_of: dict[int, str] = {}  # by packet id
        self._is_ticking = False

    def write(self, to: str, body: str, options: SendOptions) -> str | None:
        """Send a message; return its cid, None where the outbox is full."""
        kind, _, address = to.partition("/")
        try:
            message = self.core.send(address, body, is_group=kind == "g", now=self.world.loop.time(), options=options)
        except (OutboxFull, ConnectionDenied):
            return None
        self._held[message.key] = message
        if not self._is_ticking:
            self._is_ticking = True
            self.world.loop.post(TICK_MS, self._tick)
        self._pump()
        return message.key

    def send(self, letter: Letter) -> None:
        """Send nothing: the core makes its own cids, see `write`."""
        raise NotImplementedError

    def mark(self, place: str, mid: str, *, is_upto: bool) -> None:
        """Mark a message, or all up to it, as read."""
        event = self._received.get(mid)
        if event is not None:
            self.world.history.marked.append(Marked(self.world.loop.ms, self.user, place, mid, is_upto))
            self.core.mark_read(event, is_upto=is_upto)
            self._pump()

    def ask(self, op: str, arguments: dict[str, Any]) -> None:
        """Ask the server something by rpc."""
        self.core.call(op, arguments)
        self._pump()

    def signal(self, place: str, payload: bytes) -> None:
        """Publish presence."""
        kind, _, address = place.partition("/")
        self.core.signal(address, payload, is_group=kind == "g")
        self._pump()

    # ---- as the shell ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self.is_awake and self.link is None and not self.is_gone:
            self.core.connecting()
        super()._connect()

    def accepted(self, *, present: bool) -> None:
        """Take CONNACK 0."""
        self.core.accepted(session_present=present)
        self._pump()

    def refused(self, code: int) -> None:
        """Take another CONNACK; the user starts a client again that was refused for good."""
        super().refused(code)
        self.core.reason = "tried again"

    def subscribed(self) -> None:
        """Take SUBACK."""
        self.core.subscribed(is_granted=True)
        self._pump()

    def acknowledged(self, packet_id: int, code: int) -> None:  # noqa: ARG002 - the status tells the core
        """Take PUBACK."""
        entry = self._in_flight.pop(packet_id, None)
        if entry is not None:
            if entry.key in self._held:
                self.world.history.taken.append(Taken(self.world.loop.ms, self.user, entry.key))
            self.core.outbox.acknowledge(entry)
            self._pump()

    def took(self, packet: Publish, mid: str) -> None:
        """Give it to the core, and what the core lets through to the handlers."""
        self._mid_of[packet.packet_id] = mid
        self.core.receive(packet.topic, packet.payload, packet.packet_id if packet.qos else None)
        while (delivery := self.core.next_delivery(KINDS)) is not None:
            fast, slow = self.habits.ack_ms
            self._show(delivery)
            self.world.loop.post(self._random.uniform(fast, slow), partial(self._handled, delivery))
        self._pump()

    def _show(self, delivery: Delivery) -> None:
        mid = getattr(delivery.event, "mid", "")
        if delivery.kind in ("message", "own", "event"):
            self.world.history.shown.append(Shown(self.world.loop.ms, self.user, self.device, mid))
        if delivery.kind == "message" and delivery.event.sender != self.user:
            self._received[mid] = delivery.event

    def _handled(self, delivery: Delivery) -> None:
        self.core.handled(delivery)
        self._pump()

    def lost(self) -> None:
        """Take note that the connection is gone."""
        self._in_flight.clear()
        self._mid_of.clear()
        self.core.lost("cut")

    @property
    def unsettled(self) -> int:
        """How many messages it has not got rid of yet."""
        return len(self.core.outbox)

    def _tick(self) -> None:
        """Give up what outlives its expiry in the outbox; while nothing waits there a tick does nothing."""
        self.core.tick(self.world.loop.time())
        self._is_ticking = len(self.core.outbox) > 0 and not self.is_gone
        if self._is_ticking:
            self.world.loop.post(TICK_MS, self._tick)

    def _pump(self) -> None:
        """Move what the core wants to be sent, as `Link.pump` does."""
        link, core = self.link, self.core
        if link is None:
            return
        while core.due_acks:
            number = core.due_acks.popleft()
            self.acknowledge(number, self._mid_of.get(number, ""))
        while core.due_unsubscriptions:
            link.send(self._wire.unsubscribe(core.due_unsubscriptions.popleft(), SUBSCRIBE_ID + 1))
        while core.due_subscriptions:
            link.send(self._wire.subscribe(core.due_subscriptions.popleft(), 1, SUBSCRIBE_ID))
        if core.state is not State.ONLINE:
            return
        while len(self._in_flight) < PUBLISHES_MAX and (entry := core.outbox.next_due()) is not None:
            self._packet_id = self._packet_id % (SUBSCRIBE_ID - 1) + 1
            if entry.qos:
                self._in_flight[self._packet_id] = entry
            link.send(
                self._wire.publish(entry.topic, entry.payload, qos=entry.qos, packet_id=self._packet_id, dup=False)
            )
