"""What the engine asks of the layers above it, as protocols: nothing here imports upwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mesimqtt.engine.properties import NO_PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.letter import Letter
    from mesimqtt.engine.properties import Properties
    from mesimqtt.engine.retained import RetainedMessage
    from mesimqtt.engine.session import Queued, Session
    from mesimqtt.engine.will import Will
    from mesimqtt.hooks import Action, ConnectRequest, Decision, Identity, Refusal


class Gate(Protocol):
    """Who may enter and who may use which free topic. Never asked about topics under a claim."""

    def authenticate(self, connection: Connection, request: ConnectRequest) -> Identity | Refusal | None:
        """Return the verdict, or None and later call `connection.authenticated(verdict)`."""

    def decide(self, connection: Connection, action: Action, topic: str) -> Decision | None:
        """Return the decision, or None and later call `connection.resume(now)` once it is known."""

    def audit(self, connection: Connection, action: Action, topic: str, rule: str) -> None:
        """Tell that a free topic was denied (one audit line, and `in/session` where the user listens)."""


class Claim(Protocol):
    """The owner of every topic under `root` + '/' (messaging). The engine routes none of them itself."""

    root: bytes

    def connected(self, connection: Connection) -> None:
        """Take note of an authenticated connection; its CONNACK is already in `connection.out`."""

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection that `connected` announced. What it had in flight is unacknowledged."""

    def publish(
        self,
        connection: Connection,
        topic: bytes,
        payload: bytes,
        qos: int,
        packet_id: int,
        dup: bool,
        properties: Properties = NO_PROPERTIES,
    ) -> bool:
        """Take a PUBLISH. True: acknowledge now. False: the claim calls `connection.acknowledge(packet_id, qos)`.

        It refuses a client of 5.0 by `connection.acknowledge(packet_id, qos, code, reason)`, and returns False.
        """

    def oversized(self, connection: Connection, topic: bytes, size: int) -> None:
        """Refuse a PUBLISH whose payload of `size` bytes was discarded; the engine acknowledges it (5.0: 0x83)."""

    def will_decision(self, connection: Connection, identity: Identity, topic: str) -> Decision:
        """Decide at CONNECT whether this will may be kept."""

    def will(self, identity: Identity, will: Will, again: Callable[[], None]) -> None:
        """Fire a will, whose key the claim gives back to the store; the access decision is taken again.

        `again` is to be called instead if the store cannot take it now.
        """

    def subscribe(self, connection: Connection, topic_filter: str, qos: int, identifier: int = 0) -> int:
        """Return the granted QoS or a reason code from 0x80 up (3.1.1 is told 0x80).

        The claim keeps the subscription and its Subscription Identifier; the engine only answers.
        """

    def reauthenticated(self, connection: Connection) -> None:
        """Take note that a connection has a new `identity` of the same user."""

    def subscribed(self, connection: Connection, filters: list[str]) -> None:
        """Begin delivery: the SUBACK that granted `filters` is in `connection.out`."""

    def unsubscribe(self, connection: Connection, topic_filter: str) -> bool:
        """Forget a subscription; False if there was none."""

    def acked(self, connection: Connection, tokens: list[object]) -> None:
        """Take the PUBACKs of one read: the tokens given to `connection.deliver`."""

    def writable(self, connection: Connection) -> None:
        """Resume hand-over to a connection that was `congested`."""


class Keeper(Protocol):
    """Where what must survive a restart is kept. Every write joins the next commit.

    `Session.key` is a number that the keeper gave (0: not kept). Queue numbers `n` are dense per
    session; the packet id of a kept delivery is `n % 32767 + 1`, so a resend after a restart
    carries its original packet id [MQTT-4.4.0-1].
    """

    def save_session(self, session: Session) -> None:
        """Keep a session from now on and give it its key at once."""

    def resumed(self, session: Session) -> None:
        """Keep that a session's client is back. May wait up to a second for a commit, as `left` may."""

    def left(self, session: Session) -> None:
        """Keep when a session's client went away: from then on its expiry counts, over restarts too."""

    def drop_session(self, session: Session) -> None:
        """Forget a session, its subscriptions, its queue and its incoming packet ids."""

    def save_subscription(self, session: Session, topic_filter: str, grant: int) -> None:
        """Keep or replace one subscription; a grant is a QoS, and above it what grants.py says."""

    def drop_subscription(self, session: Session, topic_filter: str) -> None:
        """Forget one subscription."""

    def enqueue(self, session: Session, first: int, *letters: Letter) -> None:
        """Keep QoS 1 or 2 messages for a session, from number `first` on. Their expiry counts on over a restart."""

    def released(self, session: Session, first: int, last: int) -> None:
        """Keep that PUBREC came for the numbers `first` to `last`: only their PUBRELs are to be repeated."""

    def dequeue(self, session: Session, first: int, last: int) -> None:
        """Forget acknowledged messages, `first` to `last`. May wait up to a second for a commit."""

    def page(self, session: Session, after: int, limit: int, done: Callable[[list[Queued]], None]) -> None:
        """Read queued messages with number > `after` in order, then call `done` on the loop.

        What was given to `dequeue` before is not among them, committed or not: the client has acknowledged it.
        """

    def incoming(self, session: Session, packet_id: int) -> None:
        """Keep the packet id of a QoS 2 PUBLISH that awaits PUBREL, in the same commit as its message."""

    def forget_incoming(self, session: Session, packet_id: int) -> None:
        """Forget it: PUBREL came, or its message was refused."""

    def keep_will(self, session: Session, identity: Identity, will: Will) -> int:
        """Keep the will of a connection, which its session has from now on, and return its key; 0: it is not kept."""

    def will_left(self, key: int, at: float) -> None:
        """Keep when a will whose client went away is due. May wait up to a second for a commit, as `left` may."""

    def drop_will(self, key: int) -> None:
        """Forget a will that is not to be published."""

    def will_published(self, key: int) -> None:
        """Forget a will in the commit of what was given for its receivers."""

    def retain(self, message: RetainedMessage) -> None:
        """Keep, replace or (empty payload) remove a retained message. Its expiry counts on over a restart."""

    def after_commit(self, call: Callable[[bool], None]) -> None:
        """Call with True once everything given so far is committed, with False if that failed."""


class Observer(Protocol):
    """Told of what happened (statistics, amqtt events). The engine asks `packets` once per connection."""

    packets: bool

    def connected(self, connection: Connection) -> None:
        """Take note that a client is authenticated."""

    def reauthenticated(self, connection: Connection) -> None:
        """Take note that a client has a new `identity` of the same user."""

    def disconnected(self, connection: Connection, reason: str) -> None:
        """Take note that an authenticated client is gone."""

    def subscribed(self, connection: Connection, topic_filter: str, qos: int) -> None:
        """Take note of a filter that was granted."""

    def unsubscribed(self, connection: Connection, topic_filter: str) -> None:
        """Take note of a filter that was given up."""

    def published(self, connection: Connection, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Take note of a PUBLISH that was taken; told only where `packets`."""

    def packet(self, connection: Connection, packet_type: int, size: int, sent: bool) -> None:
        """Take note of a packet that was received or is being written; told only where `packets`."""
