"""What was taken back or wiped is withdrawn wherever it is not acknowledged yet (contract section 3)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mesimqtt.domain.status import TITLES

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message, Step
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.waiting import Waiting

_REMEMBERED_S = 60.0  # longer than any page of the store is on its way to a device


class Withdrawals:
    """Does in memory what a committed transaction did in the store."""

    def __init__(self, hub: Hub, statuses: Statuses, receipts: Receipts, delivery: Delivery) -> None:
        self._hub = hub
        self._statuses = statuses
        self._receipts = receipts
        self._delivery = delivery

    def everywhere(self, messages: list[Message], steps: list[Step]) -> None:
        """Withdraw messages from everybody; `steps` are the statuses that were committed with it."""
        for message in messages:
            thread = self._hub.directory.thread_of(message.conversation)
            if thread is not None:
                self._remember(message.mid, 0)
                numbers = thread.group.members if thread.group is not None else [user.id for user in thread.users]
                for user in filter(None, map(self._hub.directory.known_user, numbers)):
                    self._withdraw(thread, user, message)
        self._receipts.drop({message.mid for message in messages})
        self._emit(steps)

    def from_user(self, user_id: int, messages: list[Message], steps: list[Step]) -> None:
        """Withdraw messages from one user."""
        user = self._hub.directory.known_user(user_id)
        for message in messages:
            self._remember(message.mid, user_id)
            thread = self._hub.directory.thread_of(message.conversation)
            if thread is not None and user is not None:
                self._withdraw(thread, user, message)
        if steps:
            self._receipts.drop({message.mid for message in messages}, user_id)
            self._emit(steps)

    def tick(self) -> None:
        """Forget what every read from now on knows."""
        withdrawn, before = self._delivery.withdrawn, self._hub.now() - _REMEMBERED_S
        while withdrawn and next(iter(withdrawn.values())) < before:
            del withdrawn[next(iter(withdrawn))]

    def _remember(self, mid: int, user: int) -> None:
        self._delivery.withdrawn[mid, user] = self._hub.now()

    def _emit(self, steps: list[Step]) -> None:
        for step in steps:
            self._hub.count(f"status.{TITLES[step.status]}", len(step.messages))
            self._statuses.emit(step)

    def _withdraw(self, thread: Thread, user: User, message: Message) -> None:
        lane = user.lanes.get(thread.id)
        if lane is not None:
            self._receipts.settle(user, lane, message)
        else:
            user.inbox_messages = -1  # counted again when somebody asks
        for device in user.devices:
            if device.outbox:
                self._take_back(device, message.mid)

    @staticmethod
    def _take_back(device: Device, mid: int) -> None:
        """Take a message out of what waits for a device's window."""
        left: deque[Waiting] = deque()
        for entry in device.outbox:
            if type(entry.token) is tuple and entry.token[1].mid == mid:
                entry.token[0].acked.add(entry.token[1].seq)
            else:
                left.append(entry)
        if len(left) < len(device.outbox):
            device.outbox = left
