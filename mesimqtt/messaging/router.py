"""The claim on `ROOT/`: every PUBLISH, SUBSCRIBE and PUBACK under it comes through here (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from mesimqtt.domain.status import Status
from mesimqtt.engine import codes
from mesimqtt.engine.properties import NO_PROPERTIES, Properties
from mesimqtt.hooks import Action, Decision, Identity
from mesimqtt.messaging.audit import AuditLog
from mesimqtt.messaging.devices import REFUSED, Device, ReadMark
from mesimqtt.messaging.properties5 import Refused, answer, refused, says_nothing, with_properties
from mesimqtt.messaging.transient import Transient
from mesimqtt.messaging.wills import Wills
from mesimqtt.messaging.work_queue import Job
from mesimqtt.topics import Kind, ParamsError, TopicError, find_cid, parse_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.will import Will
    from mesimqtt.messaging.accept import Acceptor
    from mesimqtt.messaging.asides import Asides
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.enrolment import Enrolment
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.presence import Presence
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.round_robin import RoundRobin
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.transient import Transients
    from mesimqtt.messaging.typing import Typing

FOLDER_RULE = "own-folder"
NOBODY_RULE = "no such user here"  # to whom a plugin lets in, and who has no folder at all
FILTER_RULE = "no such filter"
LIMIT_RULE = "limit"


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
        asides: Asides,
        presence: Presence,
        typing: Typing,
        round_robin: RoundRobin,
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
        self._asides = asides
        self._presence = presence
        self._typing = typing
        self._round_robin = round_robin
        self._wills = Wills(hub, acceptor)
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
        if self._hub.observers.online:
            self._hub.observers.seen(device, is_online=True)
        self._presence.connected(user)
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
        if self._hub.observers.offline:
            self._hub.observers.seen(device, is_online=False)
        if device.row_id:  # it has subscribed: before that, nothing is kept of it
            device.left_in_flight = (device.had_in_flight and device.is_behind) or any(
                type(token) is tuple for token in connection.claimed.values()
            )
            self._delivery.remember(device)
            self._receipts.close(device)
        self._typing.disconnected(device)
        self._presence.disconnected(device)
        self._round_robin.gone(device)

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
            elif isinstance(token, Job):
                self._round_robin.acknowledged(device, token)

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
        """Grant a filter under the user's own `in/`, at most QoS 1, else return why not."""
        device: Device | None = connection.claim_state
        if device is None:
            self._audit(connection, Action.SUBSCRIBE, topic_filter, NOBODY_RULE)
            return codes.NOT_AUTHORIZED
        prefix = f"{self._root}/{device.user.level}/in/"
        if not topic_filter.startswith(prefix):
            self._audit(connection, Action.SUBSCRIBE, topic_filter, self._folder_rule(device, topic_filter))
            return codes.NOT_AUTHORIZED
        if len(device.filters) >= self._hub.settings.limits.filters_max and topic_filter not in device.filters:
            self._audit(connection, Action.SUBSCRIBE, topic_filter, LIMIT_RULE)
            return codes.QUOTA_EXCEEDED
        granted = device.select(topic_filter, topic_filter[len(prefix) :], qos, identifier)
        if granted < REFUSED:
            self._enrolment.enrol(device)
        else:
            self._audit(connection, Action.SUBSCRIBE, topic_filter, FILTER_RULE)
        return granted

    def subscribed(self, connection: Connection, filters: list[str]) -> None:  # noqa: ARG002 - the port's
        """Begin delivery: the SUBACK is on its way."""
        device: Device | None = connection.claim_state
        if device is None:
            return
        self._enrolment.follow(device)
        self._delivery.begin(device)
        self._presence.begin(device)
        self._round_robin.came(device)
        if device.status_behind:
            self._statuses.catch_up(device)

    def reauthenticated(self, connection: Connection) -> None:
        """Take note of a renewed token: its end counts from now on, and so does its bound on packets."""
        device: Device | None = connection.claim_state
        if device is not None:
            if device.packet_max != connection.packet_max:
                self._delivery.put_back(device)
            device.renewed()
            self._receipts.touch(device)
            self._resume(device)

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
        properties: Properties = NO_PROPERTIES,
    ) -> bool:
        """Take a PUBLISH under the root. True: acknowledge now."""
        device: Device | None = connection.claim_state
        if device is None:
            self._audit(connection, Action.PUBLISH, topic.decode(), NOBODY_RULE)
            return answer(connection, qos, packet_id, refused(Status.DENIED, NOBODY_RULE))
        user = device.user
        prefix = user.out_prefix
        if not topic.startswith(prefix):
            return answer(connection, qos, packet_id, self._foreign(device, topic.decode()))
        rest = topic[len(prefix) :]
        done: bool | Refused | None = None
        if properties is NO_PROPERTIES or says_nothing(properties):
            done = self._acceptor.plain(user, rest, payload, connection, qos, packet_id)
        if done is None:
            done = self._parsed(device, rest, payload, qos, packet_id, properties)
        return done if type(done) is bool else answer(connection, qos, packet_id, done)

    def _parsed(
        self, device: Device, rest: bytes, payload: bytes, qos: int, packet_id: int, properties: Properties
    ) -> bool | Refused:
        user = device.user
        try:
            out = parse_out(rest.decode())
            if out.kind not in (Kind.USER, Kind.GROUP):
                return self._asides.take(device, out, payload, qos, packet_id, properties)
            out = with_properties(out, properties)
        except TopicError as error:
            is_topic = not isinstance(error, ParamsError)
            return self._statuses.refuse(user, error.cid, Status.BAD_REQUEST, reason=str(error), is_topic=is_topic)
        return self._acceptor.message(user, out, payload, device.connection, qos, packet_id)

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

    def will_decision(self, connection: Connection, identity: Identity, topic: str) -> Decision:
        """Decide at CONNECT whether a will may be kept: a message of one's own, to somebody one may know of."""
        user = self._hub.directory.user(identity.user)
        if user is None:
            return Decision(False, NOBODY_RULE)
        prefix = f"{self._root}/{user.level}/out/"
        if not topic.startswith(prefix):
            return Decision(False, FOLDER_RULE)
        will = connection.arrival.will if connection.arrival is not None else None
        try:
            out = with_properties(parse_out(topic[len(prefix) :]), will.properties if will else NO_PROPERTIES)
        except TopicError as error:
            return Decision(False, "will-parameters" if isinstance(error, ParamsError) else "will-topic")
        return Decision(out.kind in (Kind.USER, Kind.GROUP), "will-topic")

    def will(self, identity: Identity, will: Will, again: Callable[[], None]) -> None:
        """Fire a will."""
        self._wills.fire(identity, will, again)

    # ---- refusals --------------------------------------------------------------------------------------------

    def _foreign(self, device: Device, topic: str) -> Refused:
        """Refuse a topic outside the user's own `out/`: status 0x8D, one audit line, nothing stored.

        The own folder in another spelling is a malformed topic, 0x85 (contract section 1).
        """
        rule = self._folder_rule(device, topic)
        self._audit(device.connection, Action.PUBLISH, topic, rule)
        cid = find_cid(topic, self._root)
        if rule != FOLDER_RULE:
            return self._statuses.refuse(device.user, cid, Status.BAD_REQUEST, reason=rule, is_topic=True)
        return self._statuses.refuse(device.user, cid, Status.DENIED, rule=rule)

    def _folder_rule(self, device: Device, topic: str) -> str:
        """Return which rule a topic breaks; where it is the own folder in another spelling, say how it is written."""
        user = device.user
        name = topic.removeprefix(f"{self._root}/")
        if name.partition("/")[0] == user.level:
            return FOLDER_RULE
        is_own = name.startswith(f"{user.address}/") or unquote(name.partition("/")[0]) == user.address
        return f"{FOLDER_RULE}: write {self._root}/{user.level}/" if is_own else FOLDER_RULE

    def _audit(self, connection: Connection, action: Action, topic: str, rule: str) -> None:
        self._hub.count(f"denied.{action}")
        self.audit.denied(connection.user, connection.client_id, action.value, topic, rule, self._hub.now())
