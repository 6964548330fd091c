"""The sans-I/O core: a client of the contract without socket, thread or clock. Both shells drive this one.

Rule 1: every decision of the protocol is in here or in `_outbox`; a shell only moves bytes, time and callbacks.
Rule 2: nothing in here waits. Its caller holds one lock (or runs in one event loop) around every call.

One connection: `connecting` -> `accepted` (CONNACK 0) -> `subscribed` (SUBACK) -> online -> `lost`; or `refused`.
Only when subscribed is anything published, or a status could pass before this device has asked for statuses.
Inwards, `receive` sorts a PUBLISH: answers and statuses act at once, the rest becomes a Delivery, which `next_delivery`
hands to the handlers and `handled` acknowledges. So the PUBACK leaves only when the handlers have returned.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mesimqtt_client import _events, _topics
from mesimqtt_client._errors import ClientClosed, ConnectionDenied
from mesimqtt_client._events import Event, Received, StatusUpdate
from mesimqtt_client._outbox import OUTBOX_BYTES_MAX, OUTBOX_MAX, Entry, Outbox, OutMessage, RpcCall
from mesimqtt_client._status import Flag, State, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from mesimqtt_client._topics import InTopic, SendOptions

PAYLOAD_MAX: Final = 256 * 1024
RECENT_MAX: Final = 4_096
SIGNALS_MAX: Final = 1_000
PLACES_MAX: Final = 64  # packets in flight to a device (contract section 3): the server's bound
TRANSIENT_WAIT_S: Final = 10.0
_BASE_FILTERS: Final = ("status/#", "rpc/#", "session")
_FILTERS: Final = {
    "message": ("u/#", "g/#"),
    "own": ("sent/#",),
    "read": ("read/#",),
    "presence": ("presence/#",),
    "event": ("event/#",),
}
_KINDS: Final = {"u": "message", "g": "message", "sent": "own"}
_log = logging.getLogger("mesimqtt_client")

Token = tuple[int, int]  # (number of the connection, packet id): what a PUBACK needs


def new_id() -> str:
    """Return 128 random bits in 26 characters: unique over all devices and reboots of a user (section 2)."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


@dataclass(slots=True, eq=False)
class Delivery:
    """An event for the handlers of `kind`, and the packets to acknowledge when they have returned."""

    kind: str
    event: Any
    key: Hashable = None
    tokens: list[Token] = field(default_factory=list)


class Core:
    """The state of one client."""

    def __init__(
        self,
        user: str,
        *,
        root: str = "m",
        outbox_max: int = OUTBOX_MAX,
        outbox_bytes_max: int = OUTBOX_BYTES_MAX,
        payload_max: int = PAYLOAD_MAX,
        recent_max: int = RECENT_MAX,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        level = _topics.encode_address(user)
        self.user = user
        self.state = State.OFFLINE
        self.reason = "not started"
        self.is_closed = False
        self.due_acks: deque[int] = deque()
        self.due_subscriptions: deque[list[str]] = deque()
        self.due_unsubscriptions: deque[list[str]] = deque()
        self.outbox = Outbox(entries_max=outbox_max, bytes_max=outbox_bytes_max)
        self._in = f"{root}/{level}/in/"
        self._out = f"{root}/{level}/out/"
        self._payload_max = payload_max
        self._recent_max = recent_max
        self._make_id = make_id
        self._connection = 0
        self._is_accepted = False
        self._retry_after_s = 0.0
        self._wanted: set[str] = set()
        self._deliveries: deque[Delivery] = deque()
        self._open: dict[Hashable, Delivery] = {}
        self._recent: OrderedDict[Hashable, None] = OrderedDict()

    # ---- the connection

    def connecting(self) -> None:
        """Note that a connection is being tried; the reason of the last failure stays, for who waits for this one."""
        reason = self.reason if self._connection else ""
        self._connection += 1
        self._is_accepted = False
        self._enter(State.CONNECTING, reason)

    def accepted(self, *, session_present: bool) -> None:
        """Take CONNACK 0: subscribe to what there are handlers for, and only to that.

        A device confirms what it takes, so one without an `on_message` handler must not take messages.
        """
        self._is_accepted = True
        if session_present:  # an earlier run of this device may have had more handlers
            unwanted = [name for kind, names in _FILTERS.items() if kind not in self._wanted for name in names]
            if unwanted:
                self.due_unsubscriptions.append([self._in + name for name in unwanted])
        wanted = [name for kind in _FILTERS if kind in self._wanted for name in _FILTERS[kind]]
        self.due_subscriptions.append([self._in + name for name in (*_BASE_FILTERS, *wanted)])

    def refused(self, code: str, *, is_final: bool) -> None:
        """Take any other CONNACK. A final one (wrong token, wrong user) is never tried again."""
        self._enter(State.DENIED if is_final else State.OFFLINE, code)
        if is_final:
            self._wake_all()

    def subscribed(self, *, is_granted: bool) -> None:
        """Take a SUBACK: the first of a connection makes the client online and everything unsettled due again."""
        if not is_granted:
            self.refused("it grants no subscription to the own folder", is_final=True)
        elif self.state is State.CONNECTING:
            self.outbox.restart()
            self._enter(State.ONLINE, "")

    def lost(self, reason: str) -> None:
        """Note the end of a connection."""
        self._connection += 1
        self._is_accepted = False
        self.due_acks.clear()
        self.due_subscriptions.clear()
        self.due_unsubscriptions.clear()
        self.outbox.fail_calls()
        if self.state is not State.DENIED:
            self._enter(State.OFFLINE, reason)

    def take_retry_after(self) -> float:
        """Return, once, in how many seconds a server that stops wants this client back; 0: it has not said."""
        asked, self._retry_after_s = self._retry_after_s, 0.0
        return asked

    def close(self) -> None:
        """Refuse everything from now on, and wake everybody who waits."""
        self.is_closed = True
        self._wake_all()

    @property
    def is_denied(self) -> bool:
        """Tell whether the server has refused this client for good."""
        return self.state is State.DENIED

    def check_alive(self) -> None:
        """Raise if nothing that anybody waits for can still come."""
        if self.is_denied:
            raise ConnectionDenied(self.reason)
        if self.is_closed:
            raise ClientClosed("the client is closed")

    # ---- outwards

    def send(
        self, address: str, payload: bytes | str, *, is_group: bool, now: float, options: SendOptions
    ) -> OutMessage:
        """Queue a message. Raises ValueError, OutboxFull, ConnectionDenied or ClientClosed."""
        self.check_alive()
        body = self._body(payload)
        level = _topics.format_params(**options)
        cid = self._make_id()
        topic = f"{self._out}{'g' if is_group else 'u'}/{_topics.encode_address(address)}/{cid}"
        expiry = options.get("expiry")
        is_transient = expiry == 0 or bool(options.get("flags", 0) & Flag.TRANSIENT)
        lives_s = TRANSIENT_WAIT_S if is_transient else None if expiry is None else expiry + options.get("when", 0)
        message = OutMessage(
            cid,
            f"{topic}/{level}" if level else topic,
            body,
            address=address,
            is_group=is_group,
            is_transient=is_transient,
            expires_at=None if lives_s is None else now + lives_s,
        )
        self.outbox.add(message)
        return message

    def mark_read(self, message: Received, *, is_upto: bool) -> None:
        """Queue a read mark for a received message, or for all of its conversation up to it."""
        self.check_alive()
        if message.to is not None or message.sender == self.user:
            raise ValueError("this is the copy of an own message: only what others sent can be marked as read")
        level = _topics.encode_address(message.group or message.sender)
        payload = f"{'<=' if is_upto else ''}{message.mid}".encode()
        self.outbox.add(Entry(self._make_id(), f"{self._out}read/{'g' if message.group else 'u'}/{level}", payload))

    def signal(self, address: str, payload: bytes | str, *, is_group: bool) -> bool:
        """Publish a presence signal at QoS 0 if online; return whether it was. It is never kept."""
        self.check_alive()
        topic = f"{self._out}presence/{'g' if is_group else 'u'}/{_topics.encode_address(address)}"
        body = self._body(payload)
        if self.state is not State.ONLINE:
            return False
        self.outbox.add_unqueued(Entry(self._make_id(), topic, body, qos=0))
        return True

    def call(self, operation: str, arguments: Mapping[str, Any] | None) -> RpcCall:
        """Queue a question to the server."""
        self.check_alive()
        try:
            body = json.dumps(dict(arguments or {}), ensure_ascii=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise ValueError(f"the arguments of an rpc are a JSON object: {error}") from None
        key = self._make_id()
        call = RpcCall(key, f"{self._out}rpc/{_topics.check_operation(operation)}/{key}", self._body(body))
        self.outbox.add(call)
        return call

    def tick(self, now: float) -> None:
        """Give up what outlived its expiry while there was no connection."""
        for message in self.outbox.find_expired(now, is_online=self.state is State.ONLINE):
            status, reason = (Status.FAILED, "unconfirmed") if message.is_transmitted else (Status.EXPIRED, "outbox")
            group, peer = (message.address, None) if message.is_group else (None, message.address)
            self._take_status(
                StatusUpdate(cid=message.key, status=status, code=int(status), peer=peer, group=group, reason=reason),
                None,
            )

    # ---- inwards

    def want(self, kind: str) -> None:
        """Note that there are handlers for `kind` now, and subscribe to it if connected."""
        if kind in self._wanted:
            return
        self._wanted.add(kind)
        if self._is_accepted and kind in _FILTERS:
            self.due_subscriptions.append([self._in + name for name in _FILTERS[kind]])

    def receive(self, topic: str, payload: bytes, packet_id: int | None) -> None:
        """Take a PUBLISH; `packet_id` is None at QoS 0."""
        token = None if packet_id is None else (self._connection, packet_id)
        try:
            self._sort(_topics.parse_in(topic, self._in), payload, token)
        except _topics.TopicError as error:
            # Held back, it would take one of the 64 places of this device for ever.
            _log.warning("ignored and acknowledged: %s", error)
            self._acknowledge(token)

    def next_delivery(self, kinds: Collection[str]) -> Delivery | None:
        """Take the oldest delivery of one of `kinds`; the others stay, unacknowledged."""
        for index, delivery in enumerate(self._deliveries):
            if delivery.kind in kinds:
                del self._deliveries[index]
                return delivery
        return None

    @property
    def unhandled(self) -> int:
        """How many deliveries wait for their handlers, or for these to return."""
        return len(self._open)

    def handled(self, delivery: Delivery) -> None:
        """Acknowledge a delivery: its handlers have returned."""
        if delivery.key is not None:
            self._open.pop(delivery.key, None)
            self._remember(delivery.key)
        for token in delivery.tokens:
            self._acknowledge(token)

    # ---- helpers

    def _sort(self, topic: InTopic, payload: bytes, token: Token | None) -> None:
        match topic.cls:
            case "u" | "g" | "sent":
                key = (topic.cls, topic.id)
                self._offer(_KINDS[topic.cls], _events.received(topic, payload, self.user), token, key)
            case "status":
                self._take_status(_events.status_update(topic.id, payload), token, payload)
            case "rpc":
                self.outbox.take_answer(topic.id, *_events.parse_answer(payload))
                self._acknowledge(token)
            case "read":
                self._offer("read", _events.read_mark(topic, payload), token)
            case "presence":
                self._offer("presence", _events.Presence(topic.peer or "", topic.group, payload), token)
            case "event":
                self._offer("event", _events.group_event(topic, payload), token, ("event", topic.id))
            case _:
                news = _events.session_news(payload)
                self._retry_after_s = _events.retry_after(news) or self._retry_after_s
                if "session" not in self._wanted:
                    _log.warning("news of this session: %s", dict(news.data))
                self._offer("session", news, token)

    def _offer(self, kind: str, event: Event, token: Token | None, key: Hashable = None) -> None:
        """Queue an event for its handlers, once; a repeat is acknowledged together with the first copy."""
        tokens = [] if token is None else [token]
        if key is not None and key in self._open:
            self._open[key].tokens += tokens
        elif key is not None and key in self._recent:
            self._recent.move_to_end(key)
            self._acknowledge(token)
        elif kind not in self._wanted and kind != "message":
            self._acknowledge(token)
        elif token is None and len(self._deliveries) >= SIGNALS_MAX:
            _log.warning("dropped a %s: handlers are %d behind", kind, SIGNALS_MAX)
        else:
            # A message that nobody handles yet is kept and not acknowledged, so it stays pending on the server too.
            delivery = Delivery(kind, event, key, tokens)
            self._deliveries.append(delivery)
            if key is not None:
                self._open[key] = delivery

    def _take_status(self, update: StatusUpdate, token: Token | None, payload: bytes = b"") -> None:
        if update.reason == "limit" and update.limit is not None:
            self._payload_max = min(self._payload_max, update.limit)
        self.outbox.take_status(update)
        if "status" in self._wanted:  # without a handler it is acted upon already, and acknowledged
            self._offer("status", update, token, ("status", payload) if payload else None)
        else:
            self._acknowledge(token)

    def _acknowledge(self, token: Token | None) -> None:
        if token is not None and token[0] == self._connection:  # a packet id means nothing on another connection
            self.due_acks.append(token[1])

    def _remember(self, key: Hashable) -> None:
        self._recent[key] = None
        if len(self._recent) > self._recent_max:
            self._recent.popitem(last=False)

    def _body(self, payload: bytes | str) -> bytes:
        if not _topics.is_a(payload, str, bytes, bytearray, memoryview):
            raise TypeError(f"a payload is bytes or str, not {type(payload).__name__}: encode it, e.g. as JSON")
        body = payload.encode() if isinstance(payload, str) else bytes(payload)
        if len(body) > self._payload_max:
            raise ValueError(
                f"the payload has {len(body)} bytes, the limit is {self._payload_max} (payload_max): "
                "send big things as a file, by its URL"
            )
        return body

    def _enter(self, state: State, reason: str) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        if "state" in self._wanted:
            self._deliveries.append(Delivery("state", (state, reason)))

    def _wake_all(self) -> None:
        for entry in self.outbox.watched():
            entry.watch()
