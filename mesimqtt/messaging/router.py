"""The claim on `ROOT/`: every PUBLISH, SUBSCRIBE and PUBACK under it comes through here (contract section 2)."""

from __future__ import annotations

import json
from math import ceil
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.domain.status import Status
from mesimqtt.domain.strict_json import read_json
from mesimqtt.engine.properties import NO_PROPERTIES, Properties
from mesimqtt.hooks import Action, Decision, Identity
from mesimqtt.messaging.audit import AuditLog
from mesimqtt.messaging.devices import REFUSED, Device, ReadMark
from mesimqtt.messaging.model import Names
from mesimqtt.messaging.transient import Transient
from mesimqtt.topics import MID_PATTERN, Kind, OutTopic, TopicError, find_cid, parse_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.accept import Acceptor
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.enrolment import Enrolment
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.transient import Transients

FOLDER_RULE = "own-folder"
_RPC_PAYLOAD_MAX = 64 * 1024


class Router:
    """Implements the engine's Claim: the one way from the wire into messaging."""

    def __init__(
        self,
        hub: Hub,
        *,
        statuses: Statuses,
        delivery: Delivery,
        receipts: Receipts,
        transients: Transients,
        acceptor: Acceptor,
        enrolment: Enrolment,
        perform: Callable[[str, dict[str, Any], str], dict[str, Any]],
    ) -> None:
        self._hub = hub
        self._root = hub.settings.root
        self.root = self._root.encode()
        self.audit = AuditLog()
        self._statuses = statuses
        self._delivery = delivery
        self._receipts = receipts
        self._transients = transients
        self._acceptor = acceptor
        self._enrolment = enrolment
        self._perform = perform
        rates = hub.settings.rates
        reads, presence = (RateLimit(parse_windows(text)) for text in (rates.reads, rates.presence))
        self._rpc_rate = RateLimit(parse_windows(rates.rpc))
        self._rates = {
            Kind.READ_USER: reads,
            Kind.READ_GROUP: reads,
            Kind.PRESENCE_USER: presence,
            Kind.PRESENCE_GROUP: presence,
        }
        hub.acked = self._acknowledged
        hub.reserve = self._reserve

    # ---- connections -----------------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """Take note of an authenticated connection."""
        user = self._hub.directory.user(connection.user)
        if user is None:
            return  # `--open`: nobody whom a message could be for
        self._hub.directory.counters(user)
        device = Device(user, connection)
        connection.claim_state = device
        user.devices.append(device)
        if self._enrolment.reselect(device):
            self._hub.committer.batch.after.append(lambda ok: self.subscribed(connection, []) if ok else None)
            self._hub.committer.wake()

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection. What it had in flight is unacknowledged and comes again."""
        device: Device | None = connection.claim_state
        connection.claim_state = None
        if device is None or device not in device.user.devices:
            return
        device.user.devices.remove(device)
        device.left_in_flight = any(type(token) is tuple for token in connection.claimed.values())
        self._delivery.remember(device)
        self._receipts.close(device)

    def writable(self, connection: Connection) -> None:
        """Resume hand-over to a connection that was congested."""
        if connection.claim_state is not None:
            self._resume(connection.claim_state)

    def acked(self, connection: Connection, tokens: list[object]) -> None:
        """Take the PUBACKs of one read."""
        device: Device | None = connection.claim_state
        if device is None:
            return
        self._take(device, tokens, confirmed=True)
        self._reserve(device)
        self._resume(device)

    def _reserve(self, device: Device) -> None:
        self._enrolment.reserve(device, self._resume)

    def _acknowledged(self, device: Device, tokens: list[object]) -> None:
        """Take what was written at QoS 0: acknowledged, but not confirmed."""
        self._take(device, tokens, confirmed=False)

    def _take(self, device: Device, tokens: list[object], *, confirmed: bool) -> None:
        receipts = self._receipts
        for token in tokens:
            if type(token) is tuple:
                receipts.acknowledged(device, token[0], token[1], confirmed=confirmed)
            elif type(token) is int:
                receipts.status_acknowledged(device, token)
            elif type(token) is ReadMark:
                receipts.mark_acknowledged(device, token)
            elif isinstance(token, Transient):
                self._transients.acknowledged(device, token)

    def _resume(self, device: Device) -> None:
        if device.outbox or device.express:
            written = device.pump(self._delivery.is_due)
            if written:
                self._acknowledged(device, written)
        if device.behind:
            self._delivery.page(device)
        if device.status_behind:
            self._statuses.catch_up(device)

    # ---- SUBSCRIBE -------------------------------------------------------------------------------------------

    def subscribe(self, connection: Connection, topic_filter: str, qos: int, identifier: int = 0) -> int:
        """Grant a filter under the user's own `in/`, at most QoS 1, else 0x80."""
        device: Device | None = connection.claim_state
        if device is None:
            return REFUSED
        prefix = f"{self._root}/{device.user.level}/in/"
        if not topic_filter.startswith(prefix):
            self._audit(device, Action.SUBSCRIBE, topic_filter)
            return REFUSED
        if len(device.filters) >= self._hub.settings.limits.filters_max and topic_filter not in device.filters:
            return REFUSED
        granted = device.select(topic_filter, topic_filter[len(prefix) :], qos)
        if granted != REFUSED:
            self._enrolment.enrol(device)
        return granted

    def subscribed(self, connection: Connection, filters: list[str]) -> None:  # noqa: ARG002 - the port's
        """Begin delivery: the SUBACK is on its way."""
        device: Device | None = connection.claim_state
        if device is None:
            return
        self._enrolment.follow(device)
        self._delivery.begin(device)
        if device.status_behind:
            self._statuses.catch_up(device)

    def reauthenticated(self, connection: Connection) -> None:
        """Take note of a renewed token: a warning is due again before that one ends."""
        device: Device | None = connection.claim_state
        if device is not None:
            device.token_warned = False

    def unsubscribe(self, connection: Connection, topic_filter: str) -> bool:
        """Forget a filter; False if there was none."""
        device: Device | None = connection.claim_state
        if device is None or topic_filter not in device.filters:
            return False
        device.unselect(topic_filter)
        self._delivery.park(device)
        self._receipts.touch(device)
        return True

    # ---- PUBLISH ---------------------------------------------------------------------------------------------

    def publish(
        self,
        connection: Connection,
        topic: bytes,
        payload: bytes,
        qos: int,
        packet_id: int,
        dup: bool,  # noqa: ARG002 - the port's
        properties: Properties = NO_PROPERTIES,  # noqa: ARG002 - being built
    ) -> bool:
        """Take a PUBLISH under the root. True: acknowledge now."""
        device: Device | None = connection.claim_state
        if device is None:
            return True
        user = device.user
        prefix = user.out_prefix
        if not topic.startswith(prefix):
            self._foreign(device, topic.decode())
            return True
        rest = topic[len(prefix) :]
        done = self._acceptor.plain(user, rest, payload, connection, qos, packet_id)
        if done is not None:
            return done
        try:
            out = parse_out(rest.decode())
        except TopicError as error:
            self._statuses.refuse(user, error.cid, Status.BAD_REQUEST, reason=str(error))
            return True
        if out.kind in (Kind.USER, Kind.GROUP):
            return self._acceptor.message(user, out, payload, connection, qos, packet_id)
        return self._other(device, out, payload, qos, packet_id)

    def _other(self, device: Device, out: OutTopic, payload: bytes, qos: int, packet_id: int) -> bool:
        if out.kind is Kind.RPC:
            self._rpc(device, out, payload)
            return True
        is_group = out.kind in (Kind.READ_GROUP, Kind.PRESENCE_GROUP)
        names = Names(group=out.name) if is_group else Names(peer=out.name)
        if wait := self._rates[out.kind].take(device.user.address, self._hub.now()):
            self._statuses.refuse(device.user, None, Status.RATE_LIMITED, names, retry_after=ceil(wait))
            return True
        key = f"{'g' if is_group else 'u'}/{encode_address(out.name)}".encode()
        target = self._hub.directory.target(device.user, key, "g" if is_group else "u", out.name)
        if target is None:
            self._statuses.refuse(device.user, None, Status.INVALID_DESTINATION, names)
            return True
        if out.kind in (Kind.READ_USER, Kind.READ_GROUP):
            return self._read(device, out, target.thread, payload, qos, packet_id)
        self._presence(device, target.thread, payload)
        return True

    def oversized(self, connection: Connection, topic: bytes, size: int) -> None:  # noqa: ARG002 - the port's
        """Refuse a payload that was discarded while it was read."""
        device: Device | None = connection.claim_state
        if device is None:
            return
        text = topic.decode()
        if not topic.startswith(device.user.out_prefix):
            self._foreign(device, text)
            return
        limit = self._hub.settings.limits.payload_max
        self._statuses.refuse(device.user, find_cid(text, self._root), Status.BAD_REQUEST, reason="limit", limit=limit)

    def will_decision(self, connection: Connection, identity: Identity, topic: str) -> Decision:  # noqa: ARG002 - the port's
        """Decide at CONNECT whether a will may be kept: a message of one's own, to somebody one may know of."""
        user = self._hub.directory.user(identity.user)
        prefix = f"{self._root}/{user.level}/out/" if user is not None else ""
        if user is None or not topic.startswith(prefix):
            return Decision(False, FOLDER_RULE)
        try:
            out = parse_out(topic[len(prefix) :])
        except TopicError:
            return Decision(False, "will-topic")
        return Decision(out.kind in (Kind.USER, Kind.GROUP), "will-topic")

    def will(
        self,
        identity: Identity,
        topic: bytes,
        payload: bytes,
        qos: int,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Fire a will: a message of its own each time, so its cid is ignored."""
        user = self._hub.directory.user(identity.user)
        if user is None or not user.active or not topic.startswith(user.out_prefix):
            return
        try:
            out = parse_out(topic[len(user.out_prefix) :].decode())
        except TopicError:
            return
        self._acceptor.message(user, OutTopic(out.kind, out.name, None, out.params), payload, None, 0, 0)

    # ---- READ, presence, rpc ---------------------------------------------------------------------------------

    def _read(self, device: Device, out: OutTopic, thread: Thread, payload: bytes, qos: int, packet_id: int) -> bool:
        text = payload.decode("ascii", "replace").strip()
        mid = text.removeprefix("<=")
        if not MID_PATTERN.fullmatch(mid):
            names = Names(group=out.name) if thread.group else Names(peer=out.name)
            self._statuses.refuse(device.user, None, Status.BAD_REQUEST, names, reason="the payload is a mid, or <=mid")
            return True
        user, connection = device.user, device.connection
        number = int(mid, 16)
        if not self._receipts.read(user, thread, number, upto=text.startswith("<=")):
            if not self._transients.read(user, number):
                self._hub.count("read.ignored")
            return True
        change = self._receipts.mark(user, thread, text)
        peer = thread.group.level if thread.group else thread.peer(user).level
        topic = user.in_prefix + f"read/{'g' if thread.group else 'u'}/{peer}".encode()

        def committed(ok: bool) -> None:
            if ok:
                self._tell_read(user, device, topic, text.encode(), change)
            if qos and ok:
                connection.acknowledge(packet_id, qos)
            elif qos:
                connection.close("store: cannot write")

        self._hub.committer.batch.after.append(committed)
        self._hub.committer.wake()
        return False

    def _tell_read(self, user: User, source: Device, topic: bytes, payload: bytes, change: int) -> None:
        for device in user.devices:
            qos = device.qos_of("read")
            if device is not source and qos >= 0 and device.fits(topic, payload):
                self._hub.hand_over(device, topic, payload, qos, ReadMark(change))
            elif device is source and device.read_change >= change - 1:
                self._receipts.mark_acknowledged(device, change)

    def _presence(self, device: Device, thread: Thread, payload: bytes) -> None:
        user, group = device.user, thread.group
        if group is not None:
            users = [self._hub.directory.known_user(number) for number in group.members if number != user.id]
            tail = f"presence/g/{group.level}/{user.level}".encode()
        else:
            users = [thread.peer(user)]
            tail = f"presence/u/{user.level}".encode()
        for peer in users:
            for other in peer.devices if peer is not None else ():
                qos = other.qos_of("presence")
                topic = other.user.in_prefix + tail
                if other is not device and qos >= 0 and other.fits(topic, payload):
                    self._hub.hand_over(other, topic, payload, qos, None)

    def _rpc(self, device: Device, out: OutTopic, payload: bytes) -> None:
        answer = self._answer(device.user.address, out.name, payload)
        body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        topic = device.user.in_prefix + f"rpc/{out.cid}".encode()
        listening = [device] if device.qos_of("rpc") >= 0 else device.user.devices
        for other in list(listening):
            qos = other.qos_of("rpc")
            if qos >= 0 and other.fits(topic, body):
                self._hub.hand_over(other, topic, body, qos, None)

    def _answer(self, asker: str, operation: str, payload: bytes) -> dict[str, Any]:
        if wait := ceil(self._rpc_rate.take(asker, self._hub.now())):
            message = f"too many questions; ask again in {wait} s"
            return {"ok": False, "code": "rate-limited", "message": message, "retry_after": wait}
        try:
            return {"ok": True, "result": self._perform(operation, _rpc_args(payload), asker)}
        except OperationError as error:
            return {"ok": False, "code": error.code, "message": str(error)}

    # ---- refusals --------------------------------------------------------------------------------------------

    def _foreign(self, device: Device, topic: str) -> None:
        """Refuse a topic outside the user's own `out/`: status 0x8D, one audit line, nothing stored."""
        self._audit(device, Action.PUBLISH, topic)
        self._statuses.refuse(device.user, find_cid(topic, self._root), Status.DENIED, rule=FOLDER_RULE)

    def _audit(self, device: Device, action: Action, topic: str) -> None:
        self._hub.count(f"denied.{action}")
        self.audit.denied(device.user.address, device.client_id, action.value, topic, FOLDER_RULE, self._hub.now())


def _rpc_args(payload: bytes) -> dict[str, Any]:
    if len(payload) > _RPC_PAYLOAD_MAX:
        raise OperationError("bad-request", f"an rpc payload has at most {_RPC_PAYLOAD_MAX} bytes")
    try:
        args = read_json(payload) if payload.strip() else {}
    except ValueError:
        raise OperationError("bad-request", "the payload is not JSON") from None
    if not isinstance(args, dict):
        raise OperationError("bad-request", "an rpc payload is a JSON object")
    return args
