"""Expiry 0: to who is online now, never stored; cid and verdict are kept a minute in memory (contract section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesimqtt.domain.groups import MemberFlag
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.status import Status, status_payload
from mesimqtt.messaging.devices import PLAIN, Extra
from mesimqtt.messaging.properties5 import for_receiver
from mesimqtt.topics import FLAG_DELIVERY_RECEIPT, FLAG_READ_RECEIPT

if TYPE_CHECKING:
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Accepted, Thread, User
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.statuses import Statuses

KEPT_MAX = 100_000


@dataclass(slots=True, eq=False)
class Transient:
    """One message for one recipient. `code` is its status so far, 0 for none."""

    message: Accepted
    recipient: User
    deadline: float
    code: int = 0
    payload: bytes = b""


@dataclass(slots=True)
class Kept:
    """What is remembered of one send for `expiry_zero_kept_s`."""

    digest: bytes | None
    until: float
    deliveries: list[Transient] = field(default_factory=list)


class Transients:
    """Sends messages of expiry 0 and judges them: delivered, user-offline or unconfirmed."""

    def __init__(self, hub: Hub, statuses: Statuses) -> None:
        self._hub = hub
        self._statuses = statuses
        self._kept: dict[tuple[int, str], Kept] = {}
        self._by_mid: dict[tuple[int, int], Transient] = {}
        self._open: dict[int, Transient] = {}

    def send(self, message: Accepted) -> bool | Refused:
        """Hand over now, True, or refuse. The acknowledgement follows hand-over, there is no commit."""
        sender, target = message.sender, message.target
        key = (sender.id, message.cid)
        before = self._kept.get(key)
        if before is not None:
            return self._again(message, before)
        if len(self._kept) >= KEPT_MAX:
            return self._statuses.refuse(sender, message.cid, Status.RATE_LIMITED, target.names, retry_after=1)
        now, settings = self._hub.now(), self._hub.settings.messaging
        kept = self._kept[key] = Kept(message.digest, now + settings.expiry_zero_kept_s)
        if target.thread.loops_back:
            self._hand_over(Transient(message, sender, now, Status.SENT))
        for recipient in self._recipients(message):
            delivery = Transient(message, recipient, now + settings.offline_answer_s)
            kept.deliveries.append(delivery)
            self._by_mid[message.mid, recipient.id] = delivery
            is_held = target.verdict is not None or recipient.id in target.held
            best = -1 if is_held else self._hand_over(delivery)
            if delivery.code:
                continue
            if best < 0:
                self._judge(delivery, Status.USER_OFFLINE)
            elif best == 0:
                self._judge(delivery, Status.FAILED, "unconfirmed")
            else:
                self._open[id(delivery)] = delivery
        message.payload, message.connection = b"", None  # handed over: cid and verdict are all that is remembered
        return True

    def _recipients(self, message: Accepted) -> list[User]:
        target = message.target
        if target.group is None:
            return [target.peer] if target.peer is not None else []
        members = target.group.members
        users = [
            self._hub.directory.user_by_id(number)
            for number, rights in members.items()
            if rights & MemberFlag.RECV and number != message.sender_id
        ]
        return [user for user in users if user is not None]

    def _hand_over(self, delivery: Transient) -> int:
        """Give it to every online device that selects it; return the best QoS, -1 if there was none."""
        message, recipient = delivery.message, delivery.recipient
        group = message.target.group
        sender = message.sender
        cls, name = ("g", group.address) if group else ("u", sender.address)
        middle = f"g/{group.level}/{sender.level}" if group else f"u/{sender.level}"
        place = b"%b%b/%016x" % (recipient.in_prefix, middle.encode(), message.mid)
        loops_back = message.target.thread.loops_back
        level = b"/" + message.params.encode() if message.params else b""
        best = -1
        for device in recipient.devices:
            qos = device.qos_of(cls, name)
            if qos < 0 or (recipient is sender and device.client_id == message.device and not loops_back):
                continue
            topic, extra = place + level, PLAIN
            if device.is_five:
                topic, properties = place, device.marks_of(cls, name) + for_receiver(message.params, 0, 0)
                extra = Extra(properties)
            if device.fits(topic, message.payload, extra):
                token = delivery if qos and not delivery.code else None  # the sender's own copy raises no status
                if self._hub.hand_over(device, topic, message.payload, qos, token, extra):
                    best = max(best, qos)
        return best

    def acknowledged(self, device: Device, delivery: Transient) -> None:
        """Take the PUBACK of a device."""
        if delivery.code == 0:
            self._judge(delivery, Status.DELIVERED, device=device.client_id)

    def read(self, reader: User, thread: Thread, mid: int) -> bool:
        """Take a READ of a message that only memory knows; False if it is not known in this conversation."""
        delivery = self._by_mid.get((mid, reader.id))
        if delivery is None or not delivery.message.target.thread.is_same(thread):
            return False
        if delivery.code in (0, Status.DELIVERED) or (
            delivery.code == Status.FAILED and b'"unconfirmed"' in delivery.payload
        ):
            if delivery.code == 0:
                self._judge(delivery, Status.DELIVERED)
            if self._is_shown(delivery, FLAG_READ_RECEIPT):
                self._judge(delivery, Status.READ)
        return True

    def tick(self, now: float) -> None:
        """Judge what nobody answered in time; forget what is old."""
        for delivery in [delivery for delivery in self._open.values() if delivery.deadline <= now]:
            self._judge(delivery, Status.USER_OFFLINE)
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if kept.until > now:
                return
            del self._kept[key]
            for delivery in kept.deliveries:
                self._by_mid.pop((delivery.message.mid, delivery.recipient.id), None)

    def _judge(self, delivery: Transient, code: Status, reason: str | None = None, device: str | None = None) -> None:
        self._open.pop(id(delivery), None)
        message = delivery.message
        group = message.target.group
        delivery.code = code
        delivery.payload = status_payload(
            message.cid,
            format_mid(message.mid),
            code,
            self._hub.now_ms(),
            peer=delivery.recipient.address,
            group=group.address if group else None,
            device=device,
            reason=reason,
        )
        if code == Status.DELIVERED and not self._is_shown(delivery, FLAG_DELIVERY_RECEIPT):
            return
        self._statuses.tell(message.sender, message.cid, code, delivery.payload)

    def _is_shown(self, delivery: Transient, flag: int) -> bool:
        recipient, message = delivery.recipient, delivery.message
        return bool(message.flags & flag) and not (recipient.is_discreet and self._hub.hides(recipient, message, flag))

    def _again(self, message: Accepted, before: Kept) -> bool | Refused:
        if message.digest != before.digest:
            return self._statuses.refuse(
                message.sender, message.cid, Status.BAD_REQUEST, message.target.names, reason="cid-reused"
            )
        for delivery in before.deliveries:
            is_wanted = delivery.code != Status.DELIVERED or self._is_shown(delivery, FLAG_DELIVERY_RECEIPT)
            if delivery.code and is_wanted:
                self._statuses.tell(message.sender, message.cid, delivery.code, delivery.payload)
        return True
