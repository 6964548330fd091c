"""A message that a user deletes for himself alone: on all his devices and in his history, without a status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import MessageKind
from mesimqtt.store import amend, messages

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.withdrawal import Withdrawals


class Deletion:
    """Hides messages from one user. Its sender's statuses go on as if nothing had happened."""

    def __init__(self, hub: Hub, withdrawals: Withdrawals) -> None:
        self._hub = hub
        self._withdrawals = withdrawals

    async def hide(self, user: User, mids: list[int]) -> list[int]:
        """Hide those of these messages that are in the user's conversations; return them."""
        found = [message for message in map(self._find, mids) if message is not None and self._is_his(user, message)]
        if not found:
            return []
        now_ms, numbers = self._hub.now_ms(), [message.mid for message in found]
        await self._hub.committer.run(lambda connection: amend.hide(connection, user.id, numbers, amend.HIDDEN, now_ms))
        for message in found:
            message.state = message.state or amend.HIDDEN
        self._withdrawals.from_user(user.id, found, [])
        for mid in numbers:
            self._hub.news(user, {"event": "message-deleted", "mid": format_mid(mid)})
        return numbers

    def _find(self, mid: int) -> Message | None:
        return messages.by_mid(self._hub.store.read, mid)

    def _is_his(self, user: User, message: Message) -> bool:
        thread = self._hub.directory.thread_of(message.conversation)
        lane = self._hub.directory.lane(thread, user) if thread is not None else None
        return lane is not None and lane.covers(message.seq) and message.kind != MessageKind.EVENT
