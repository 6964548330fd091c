"""What waits for a member who leaves, or may receive no more, is withdrawn and its sender told (contract section 3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesimqtt.domain.status import Status
from mesimqtt.messaging.devices import is_in_flight
from mesimqtt.store import conversations, members
from mesimqtt.store import messages as message_rows

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Lane, Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.messaging.receipts import Receipts

GROUP_DELETED = "group-deleted"
NO_RIGHT = "group.receive"
_ENDED_MAX = 1_000


def verdict(hub: Hub, thread: Thread, user: User) -> tuple[Status, str]:
    """Return what becomes of a message whose recipient's time in a group is over, with the reason."""
    group = hub.directory.group_by_id(thread.group.id) if thread.group is not None else None
    if group is None:
        return Status.FAILED, GROUP_DELETED
    return (Status.DENIED, NO_RIGHT) if user.id in group.members else (Status.NOT_MEMBER, "")


class Departures:
    """Judges what lanes that ended still hold, in pages, so that others go on meanwhile.

    Which lanes those are is in the store: what a crash interrupts is gone on with after the start.
    """

    def __init__(self, hub: Hub, receipts: Receipts) -> None:
        self._hub = hub
        self._receipts = receipts
        self._is_resuming = False

    async def of_member(self, thread: Thread, user: User, *, is_final: bool = False) -> None:
        """Withdraw what waits for one user; what is in flight to him is judged by its answer, unless `is_final`."""
        lane = self._hub.directory.lane(thread, user)
        if lane is None or lane.until is None:
            return
        code, reason = verdict(self._hub, thread, user)
        last, after = lane.until, lane.acked.upto
        while after < last and lane.until is not None:
            found = message_rows.page(self._hub.store.read, thread, after, self._hub.settings.store.page_messages)
            if not found:
                return
            after = found[-1].seq
            for message in found:
                if message.seq < last and message.sender_id != user.id:
                    self._judge(user, lane, message, code, reason, is_final=is_final)
            self._pass_own(lane, user, found, last)
            await asyncio.sleep(0)

    def _judge(self, user: User, lane: Lane, message: Message, code: Status, reason: str, *, is_final: bool) -> None:
        if message.kind or not lane.covers(message.seq):
            self._receipts.passed(lane, message.seq)  # an event, or another member's work: nothing that waits
        elif is_in_flight(user, message) and not is_final:
            # Judged by the sweeper: as at a deadline, which is now. It survives a restart.
            self._hub.committer.row(message_rows.SET_DEADLINE, self._hub.now_ms(), message.mid)
            self._hub.committer.wake()
        else:
            self._receipts.fail(user, lane, message, code, reason)

    def _pass_own(self, lane: Lane, user: User, found: list[Message], last: int) -> None:
        for message in found:
            if message.sender_id == user.id and message.seq < last:
                self._receipts.passed(lane, message.seq)

    async def of_group(self, thread: Thread) -> None:
        """Withdraw what waits for anybody whose time in a group is over."""
        for _, number in members.ended_in(self._hub.store.read, thread.id):
            user = self._hub.directory.user_by_id(number)
            if user is not None:
                await self.of_member(thread, user)

    async def before_return(self, thread: Thread, users: list[User]) -> None:
        """Give what is still in flight from a former membership its verdict, before a new lane replaces the old one."""
        for user in users:
            lane = self._hub.directory.lane(thread, user)
            if lane is not None and lane.until is not None and lane.acked.upto < lane.until:
                await self.of_member(thread, user, is_final=True)
        await self._hub.committer.drain()

    def resume(self) -> None:
        """Go on with what a crash or a lost connection interrupted; to be called at the start and now and then."""
        if not self._is_resuming:
            self._is_resuming = True
            self._hub.spawn(self._resume())

    async def _resume(self) -> None:
        try:
            for number, user_id in members.ended(self._hub.store.read, _ENDED_MAX):
                conversation = conversations.by_id(self._hub.store.read, number)
                thread = self._hub.directory.thread_of(conversation) if conversation is not None else None
                user = self._hub.directory.user_by_id(user_id)
                if thread is not None and user is not None:
                    await self.of_member(thread, user)
        finally:
            self._is_resuming = False
