"""A connected device: what it selects, what is in flight to it, and what waits for room (contract sections 1 to 3)."""

from __future__ import annotations

import json
import logging
from collections import deque
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.strict_json import read_kept
from mesimqtt.engine import codes
from mesimqtt.engine.packets import publish_size
from mesimqtt.messaging.properties5 import identifiers, packet_size
from mesimqtt.messaging.waiting import OUTBOX_BYTES_MAX, OUTBOX_LARGE, OUTBOX_MAX, Waiting, payload_bytes
from mesimqtt.topics import InFilter, parse_in_filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.domain.messages import Message
    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.feed import Feed
    from mesimqtt.messaging.model import Thread, User

log = logging.getLogger(__name__)
WINDOW = 64  # in flight to one device, contract section 3
_RESERVED = 8  # … of which messages leave so many: who handles one may wait for a status or an answer in it
UNSTORED_MAX = 4_096  # that wait, of statuses that no store could give again: what one read of a client can be refused
CEILING_STEP = 8192
_QOS_MAX = 1_000  # remembered answers of `qos_of`
REFUSED = codes.UNSPECIFIED_ERROR  # this and what is above it grants nothing
_TICK_S = 0.001
NO_ROOM, WRITTEN, QUEUED = 0, 1, 2
UNSTORED = object()  # the token of such a status


# Stand for queues that were never needed: an empty deque costs 600 bytes, and idle devices are many. Never added to.
_NOTHING_WAITS: deque[Waiting] = deque(maxlen=0)
_NOTHING_PENDS: deque[list[int]] = deque(maxlen=0)


def is_in_flight(user: User, message: Message) -> bool:
    """Tell whether a device of `user` was sent this message and has not answered."""
    return any(is_in_flight_to(device, message) for device in user.devices)


def is_in_flight_to(device: Device, message: Message) -> bool:
    """Tell whether one device was sent this message and has not answered."""
    return any(type(token) is tuple and token[1].mid == message.mid for token in device.connection.claimed.values())


class ReadMark(int):
    """The token of a read mark in flight: its change number."""

    __slots__ = ()


class Selection(NamedTuple):
    """A granted filter; `identifier` is its Subscription Identifier, 0 for none."""

    chosen: InFilter
    qos: int
    identifier: int = 0


class Extra(NamedTuple):
    """What most deliveries have not. Encoded properties and the end (engine time) are for clients of 5.0."""

    properties: bytes = b""
    expires_at: float = 0.0
    dup: bool = False


PLAIN = Extra()
_NO_MARKS: dict[tuple[str, str | None], bytes] = {}  # of a client of 3.1.1; never written to


class Left(NamedTuple):
    """What is remembered of a device that went away, until its row says it."""

    status_acked: int
    read_change: int
    in_flight: bool
    sent_before_mid: int


class Device:
    """A connection of a user. `row_id` 0: an empty client id, no cursor."""

    __slots__ = (
        "_marks",
        "_qos",
        "_status_route",
        "asks_again",
        "behind",
        "ceiling",
        "client_id",
        "connection",
        "denied_at",
        "express",
        "feeds",
        "filters",
        "had_in_flight",
        "held_bytes",
        "is_asking",
        "is_five",
        "is_loading",
        "is_paging",
        "is_ranked",
        "is_reserving",
        "json",
        "late",
        "left_in_flight",
        "message_window",
        "outbox",
        "packet_max",
        "page_bytes",
        "read_change",
        "read_told",
        "row_id",
        "selected",
        "sent_before_mid",
        "session",
        "status_acked",
        "status_behind",
        "status_caught",
        "status_loading",
        "status_partial",
        "status_pending",
        "status_sent",
        "token_warned",
        "user",
        "wants_status",
        "window",
    )

    def __init__(self, user: User, connection: Connection) -> None:
        assert connection.session is not None  # noqa: S101 - an authenticated connection has one
        self.user = user
        self.connection = connection
        self.session = connection.session
        self.client_id = connection.client_id
        self.json = encode_basestring(connection.client_id)
        self.is_five = connection.five is not None
        self.packet_max = connection.packet_max
        self.page_bytes = 0  # of the last page that was read for it
        self.held_bytes = 0  # in flight for long: waited for no more, see waiting.py
        self.window = min(WINDOW, connection.inflight_max)  # 5.0: Receive Maximum if lower
        self.message_window = self.window - min(_RESERVED, self.window // 4)
        self.row_id = 0
        self.ceiling = 0
        self.filters: dict[str, Selection] = {}
        self._qos: dict[tuple[str, str | None], int] = {}
        self._marks: dict[tuple[str, str | None], bytes] = {} if self.is_five else _NO_MARKS
        self._status_route: tuple[int, bytes, bool, Extra] | None = None
        self.feeds: dict[int, Feed] = {}
        self.behind: dict[int, Feed] = {}
        self.outbox: deque[Waiting] = _NOTHING_WAITS
        self.express: deque[Waiting] = _NOTHING_WAITS  # all that is no message
        self.is_loading = False  # from a granted filter until the store was asked what waits
        self.is_asking = False  # the store what waits, see Delivery.begin
        self.asks_again = False
        self.is_reserving = False
        self.late: dict[int, tuple[Thread, int]] = {}  # conversation -> first seq that came while it was loading
        self.had_in_flight = False  # when it went away before: it was sent something and had not answered
        self.left_in_flight = False
        self.selected = 0
        self.is_paging = False
        self.is_ranked = False  # among the conversations that wait for it, one has a priority of its own
        self.sent_before_mid = 0
        self.status_sent = 0
        self.status_acked = 0
        self.status_behind = False
        self.status_caught = 0  # up to this change all was read from the store: what is told live comes after it
        self.status_loading = False
        self.status_partial = (0, 0)  # of this change all up to this mid was handed over, the rest not yet
        self.status_pending: deque[list[int]] = _NOTHING_PENDS
        self.wants_status = False
        self.read_change = 0
        self.read_told = 0  # the newest mark that it was given at a subscription, acknowledged or not
        self.token_warned = False
        self.denied_at = float("-inf")

    @property
    def is_behind(self) -> bool:
        """Tell whether something that waits for this device may not have been written to it."""
        return self.is_loading or not self.filters or bool(self.behind or self.late or self.outbox)

    def select(self, text: str, rest: str, qos: int, identifier: int = 0) -> int:
        """Keep a filter under `in/`; return the granted QoS, at most 1, or why not."""
        parsed = parse_in_filter(rest)
        if parsed is None:
            return codes.TOPIC_FILTER_INVALID
        self.filters[text] = Selection(parsed, min(qos, 1), identifier)
        self._selection_changed()
        self.selected += 1
        self.is_loading = True
        return min(qos, 1)

    @property
    def kept_filters(self) -> str:
        """Return the filters as the device's row keeps them; a session that ended has none to come back to."""
        session, connection = self.session, self.connection
        if session.clean or connection.engine.sessions.get((connection.user, self.client_id)) is not session:
            return "{}"
        return json.dumps({text: [qos, number] if number else qos for text, (_, qos, number) in self.filters.items()})

    def select_kept(self, kept: str) -> None:
        """Select again what `kept_filters` kept; everything, where damage has made that unreadable."""
        prefix = self.user.in_prefix.decode()
        for text, found in read_kept(kept).items():
            qos, identifier = found if isinstance(found, list) and len(found) == 2 else (found, 0)
            if text.startswith(prefix) and isinstance(qos, int) and isinstance(identifier, int):
                self.select(text, text.removeprefix(prefix), qos, identifier)
        if not self.filters and kept != "{}":
            log.error("what device %r of %r selects is damaged: it gets all", self.client_id, self.user.address)
            self.select(f"{prefix}#", "#", 1)

    def unselect(self, text: str) -> None:
        """Forget a filter."""
        self.filters.pop(text, None)
        self._selection_changed()

    def _selection_changed(self) -> None:
        self._qos.clear()
        self._marks.clear()
        self._status_route = None
        for feed in self.feeds.values():
            feed.live = None

    def _matching(self, cls: str, name: str | None) -> list[Selection]:
        return [
            selection
            for selection in self.filters.values()
            if (
                cls != "s"
                if selection.chosen.cls == "#"
                else selection.chosen.cls == cls and selection.chosen.name in (None, name)
            )
        ]

    def qos_of(self, cls: str, name: str | None = None) -> int:
        """Return at which QoS this device gets a class (of a peer or group); -1: not at all."""
        key = (cls, name)
        qos = self._qos.get(key)
        if qos is None:
            qos = max((selection.qos for selection in self._matching(cls, name)), default=-1)
            if len(self._qos) >= _QOS_MAX:
                self._qos.clear()
            self._qos[key] = qos
        return qos

    def marks_of(self, cls: str, name: str | None = None) -> bytes:
        """Return the Subscription Identifiers that belong to a class (of a peer or group), encoded."""
        if not self.is_five:
            return b""
        key = (cls, name)
        marks = self._marks.get(key)
        if marks is None:
            numbers = [selection.identifier for selection in self._matching(cls, name) if selection.identifier]
            marks = identifiers(numbers) if numbers else b""
            if len(self._marks) >= _QOS_MAX:
                self._marks.clear()
            self._marks[key] = marks
        return marks

    def status_route(self) -> tuple[int, bytes, bool, Extra]:
        """Return at which QoS and under which prefix statuses go, if as numbers alone, and with which properties."""
        route = self._status_route
        if route is None:
            cls = "s" if self.qos_of("s") >= 0 else "status"
            prefix = self.user.in_prefix + cls.encode() + b"/"
            marks = self.marks_of(cls)
            route = self._status_route = (self.qos_of(cls), prefix, cls == "s", Extra(marks) if marks else PLAIN)
        return route

    def push(self, topic: bytes, payload: bytes, qos: int, token: object, extra: Extra = PLAIN) -> int:
        """Hand over (WRITTEN), or queue within OUTBOX_MAX (QUEUED), or find no room (NO_ROOM, 0)."""
        connection = self.connection
        waiting, window = (self.outbox, self.message_window) if type(token) is tuple else (self.express, self.window)
        if (
            not waiting
            and not connection.congested
            and (
                not qos
                or (
                    len(connection.claimed) < window
                    and (not self.row_id or self.session.packet_counter < self.ceiling)
                    and (not connection.counts_all or self._in_flight() < self.window)
                )
            )
        ):  # `_has_window`, written out: three times for every message
            if extra is PLAIN:
                connection.deliver(topic, payload, qos, token)
            else:
                properties, expires_at, dup = extra
                connection.deliver(topic, payload, qos, token, dup=dup, properties=properties, expires_at=expires_at)
            return WRITTEN
        if len(waiting) >= OUTBOX_MAX and (token is not UNSTORED or len(waiting) >= UNSTORED_MAX):
            return NO_ROOM
        if len(payload) > OUTBOX_LARGE and type(token) is tuple and payload_bytes(waiting) >= OUTBOX_BYTES_MAX:
            return NO_ROOM
        if waiting is _NOTHING_WAITS:
            waiting = deque()
            if type(token) is tuple:
                self.outbox = waiting
            else:
                self.express = waiting
        waiting.append(Waiting(topic, payload, qos, token, extra))
        return QUEUED

    def pump(self, is_due: Callable[[Device, Feed, Message], bool]) -> list[object]:
        """Hand over what waited and still is due; return the tokens that went out at QoS 0 (written is acked)."""
        written: list[object] = []
        connection = self.connection
        for waiting, window in ((self.express, self.window), (self.outbox, self.message_window)):
            while waiting and self._has_window(waiting[0].qos, window):
                topic, payload, qos, token, extra = waiting.popleft()
                if type(token) is tuple and not is_due(self, token[0], token[1]):
                    continue
                properties, expires_at, dup = extra
                if self.packet_max and not self.fits(topic, payload, extra):
                    written += [token] if isinstance(token, int) else []  # a new token takes less: told, as it were
                    continue
                if expires_at:  # it is due: the engine would drop it, were its clock a moment ahead
                    expires_at = max(expires_at, connection.engine.now + _TICK_S)
                connection.deliver(topic, payload, qos, token, dup=dup, properties=properties, expires_at=expires_at)
                if not qos and token is not None:
                    written.append(token)
        return written

    def leave(self, feed: Feed) -> None:
        """Let go of all that waits for room of one conversation."""
        others = [each for each in self.outbox if type(each.token) is not tuple or each.token[0] is not feed]
        self.outbox.clear()
        self.outbox.extend(others)

    @property
    def has_room(self) -> bool:
        """Tell whether one more PUBLISH at QoS 1 could be written now."""
        return not self.express and self._has_window(1, self.message_window)

    def _has_window(self, qos: int, window: int) -> bool:
        connection = self.connection
        if connection.congested:
            return False
        if not qos:
            return True
        if self.row_id and self.session.packet_counter >= self.ceiling:
            return False  # the next packet ids are not reserved yet
        return len(connection.claimed) < window and (not connection.counts_all or self._in_flight() < self.window)

    def _in_flight(self) -> int:
        """Return how much is in flight, with what is not messaging's: it shares the client's Receive Maximum."""
        session = self.session
        window, kept = session.window, session.kept
        others = window.in_flight if window is not None else len(kept.inflight) if kept is not None else 0
        return len(self.connection.claimed) + others

    def fits(self, topic: bytes, payload: bytes, extra: Extra = PLAIN) -> bool:
        """Tell whether the device takes a PUBLISH of this size [MQTT-3.1.2-24]."""
        if not self.packet_max:
            return True
        if self.is_five:
            expires = bool(extra.expires_at)
            return packet_size(len(topic), len(payload), len(extra.properties), expires=expires) <= self.packet_max
        return publish_size(len(topic), len(payload)) <= self.packet_max

    def renewed(self) -> None:
        """Take what a new token says of the device: its bound, and its end, of which to be warned."""
        self.packet_max = self.connection.packet_max
        self.token_warned = False

    def settle_status(self, change: int) -> bool:
        """Take one acknowledged status; tell whether the device's number moved."""
        pending = self.status_pending
        for entry in pending:
            if entry[0] == change:
                entry[1] -= 1
                break
        moved = False
        while pending and pending[0][1] <= 0 and pending[0][0] <= self.status_sent:  # told whole
            self.status_acked = max(self.status_acked, pending.popleft()[0])
            moved = True
        return moved

    def expect_status(self, change: int) -> None:
        """Count one status of `change` that was handed over and is to be acknowledged."""
        pending = self.status_pending
        if pending and pending[-1][0] == change:
            pending[-1][1] += 1
        else:
            if pending is _NOTHING_PENDS:
                pending = self.status_pending = deque()
            pending.append([change, 1])
        self.status_sent = max(self.status_sent, change)
