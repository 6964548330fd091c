"""Users whose time is over: guests, and who has a policy with an end, are deleted with all that they have."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.policies import DEFAULT
from mesimqtt.domain.status import Status
from mesimqtt.store import conversations, users
from mesimqtt.store import messages as message_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.policies import Policies
    from mesimqtt.messaging.receipts import Receipts

log = logging.getLogger(__name__)
LOOK_S = 5.0
AT_ONCE_MAX = 100


class Lifetimes:
    """Looks every few seconds whose end has come; deletes some at a time, each as `user delete` would."""

    def __init__(
        self, hub: Hub, policies: Policies, receipts: Receipts, delete: Callable[[list[str]], Awaitable[None]]
    ) -> None:
        self._hub = hub
        self._policies = policies
        self._receipts = receipts
        self._delete = delete
        self._next = 0.0
        self._is_deleting = False

    def tick(self, now: float) -> None:
        """Look whether it is time."""
        if now < self._next or self._is_deleting:
            return
        self._next = now + LOOK_S
        due = self._due()
        if due:
            self._is_deleting = True
            self._hub.spawn(self._end(due))

    def _due(self) -> list[str]:
        read, now_ms = self._hub.store.read, self._hub.now_ms()
        due = users.ended(read, now_ms, AT_ONCE_MAX)
        for name in self._policies.names:
            policy = self._policies.named(name)
            if policy is not None and policy.expires_s:
                for written in ("", name) if name == DEFAULT else (name,):
                    due += users.outlived(read, written, now_ms - policy.expires_s * 1000, AT_ONCE_MAX)
        return due[:AT_ONCE_MAX]

    async def _end(self, addresses: list[str]) -> None:
        try:
            await self._delete(addresses)
        except MesimqttError as error:
            log.warning("users whose time is over could not be deleted, it is tried again: %s", error)
        finally:
            self._is_deleting = False

    async def withdraw_inbox(self, user: User) -> None:
        """Give what waits for a user who is being deleted its verdict `user-deleted`."""
        hub = self._hub
        directory, read, size = hub.directory, hub.store.read, hub.settings.store.page_messages
        for conversation in conversations.of_user(read, user.id):
            thread = directory.thread_of(conversation)
            lane = directory.lane(thread, user) if thread is not None else None
            if thread is None or lane is None:
                continue
            # What was held, or written at QoS 0, counts as acknowledged, but its sender was told nothing yet.
            after = min(lane.acked.upto, lane.delivered.upto)
            while found := message_rows.page(read, thread, after, size):
                for message in found:
                    after = message.seq
                    if message.sender_id != user.id and not message.kind and lane.covers(message.seq):
                        self._receipts.fail(user, lane, message, Status.FAILED, "user-deleted")
                await asyncio.sleep(0)  # others go on meanwhile
        await hub.committer.drain()
