"""Groups: members come and go in the order of the conversation's seq (contract sections 2 and 3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError, OperationError, StoreError
from mesimqtt.domain.messages import Message, MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.messaging.devices import is_in_flight
from mesimqtt.store import members
from mesimqtt.store import messages as message_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, User
    from mesimqtt.messaging.receipts import Receipts

_WITHDRAWN_MAX = 10_000


class Groups:
    """Creates groups and changes their members. A send commits before a removal or is refused after it.

    `members_changed` is called as soon as the members in memory are others: rules for free topics may name groups.
    """

    def __init__(self, hub: Hub, delivery: Delivery, receipts: Receipts, members_changed: Callable[[], None]) -> None:
        self._hub = hub
        self._members_changed = members_changed
        self._delivery = delivery
        self._receipts = receipts
        self._entering: dict[int, int] = {}  # by group: how many wait for the commit that makes them members

    async def add(self, address: str, owner: str | None = None) -> bool:
        """Create a group; False if it was there."""
        try:
            check_address(address)
        except AddressError as error:
            raise OperationError("bad-address", f"{address!r}: {error}") from None
        if self._hub.directory.group(address) is not None:
            return False
        now_ms = self._hub.now_ms()

        await self._hub.committer.run(lambda connection: members.create_group(connection, address, now_ms))
        self._hub.directory.epoch += 1
        if owner is not None:
            await self.join(address, [owner], role="owner")
        return True

    async def join(self, address: str, users: list[str], *, role: str = "member") -> list[str]:
        """Add members, who see what comes from now on; return those who are new.

        Raises:
            OperationError: no such group or user, or the group would pass its bound.

        """
        group = self._group(address)
        found = [self._user(name) for name in dict.fromkeys(users)]
        fresh = [user for user in found if user.id not in group.members]
        bound = self._hub.settings.messaging.group_members_max
        entering = self._entering.get(group.id, 0)
        if len(group.members) + entering + len(fresh) > bound:
            raise OperationError("group-full", f"a group has at most {bound} members")
        if not fresh:
            return []
        self._entering[group.id] = entering + len(fresh)
        try:
            await self._enter(group, fresh, role)
        finally:
            self._entering[group.id] -= len(fresh)
            if not self._entering[group.id]:
                del self._entering[group.id]
        thread = group.thread
        for user in fresh:
            user.lanes.pop(thread.id, None)
            group.members[user.id] = (True, True)
        self._hub.directory.epoch += 1
        self._members_changed()
        self._tell(group, "joined", [user.address for user in fresh])
        return [user.address for user in fresh]

    async def _enter(self, group: Group, fresh: list[User], role: str) -> None:
        await self._end_before(group, fresh)
        thread, now_ms = group.thread, self._hub.now_ms()
        numbers = [user.id for user in fresh]
        await self._hub.committer.run(
            lambda connection: members.enter(connection, group.id, thread.id, numbers, role, now_ms)
        )

    async def leave(self, address: str, users: list[str]) -> list[str]:
        """Remove members; what waits for them is withdrawn: 0x91 to its senders. Return who was one."""
        group = self._group(address)
        gone = [user for user in map(self._user, dict.fromkeys(users)) if user.id in group.members]
        if not gone:
            return []
        for user in gone:
            del group.members[user.id]
        self._hub.directory.epoch += 1
        self._members_changed()
        thread = group.thread

        numbers = [user.id for user in gone]
        try:
            last = await self._hub.committer.run(
                lambda connection: members.leave(connection, group.id, thread.id, numbers)
            )
        except StoreError:
            self._hub.directory.refresh_group(address)
            self._members_changed()
            raise
        for user in gone:
            self._withdraw(group, user, last, Status.NOT_MEMBER, "")
        self._tell(group, "left", [user.address for user in gone])
        return [user.address for user in gone]

    async def delete(self, address: str) -> None:
        """Delete a group; what waits for its members gets the verdict `group-deleted`."""
        group = self._group(address)
        thread = group.thread

        left = [user for user in map(self._hub.directory.user_by_id, group.members) if user is not None]
        group.members.clear()  # a send that comes now is refused, and nobody gets what is in the batch already
        self._hub.directory.epoch += 1
        self._members_changed()
        try:
            last = await self._hub.committer.run(
                lambda connection: members.delete_group(connection, group.id, thread.id)
            )
        except StoreError:
            self._hub.directory.refresh_group(address)
            self._members_changed()
            raise
        for user in left:
            self._withdraw(group, user, last, Status.FAILED, "group-deleted")
        await self._hub.committer.drain()
        self._hub.directory.forget_group(address)

    async def _end_before(self, group: Group, users: list[User]) -> None:
        """Give what is still in flight from a former membership its verdict, before a new lane replaces the old one."""
        for user in users:
            lane = self._hub.directory.lane(group.thread, user)
            if lane is not None and lane.until is not None and lane.acked.upto < lane.until:
                self._withdraw(group, user, lane.until, Status.NOT_MEMBER, "", is_final=True)
        await self._hub.committer.drain()

    def _withdraw(
        self, group: Group, user: User, last: int, code: Status, reason: str, *, is_final: bool = False
    ) -> None:
        thread = group.thread
        lane = self._hub.directory.lane(thread, user)
        if lane is None:
            return
        lane.until = last
        self._delivery.withdraw(thread, user, lane)
        after = lane.acked.upto
        while after < last:
            found = message_rows.page(self._hub.store.read, thread, after, min(_WITHDRAWN_MAX, last - after))
            if not found:
                break
            for message in found:
                after = message.seq
                if message.seq > last or message.sender_id == user.id or message.kind:
                    continue
                if is_in_flight(user, message) and not is_final:
                    # Judged by the sweeper: as at a deadline, which is now. It survives a restart.
                    self._hub.committer.row(message_rows.SET_DEADLINE, self._hub.now_ms(), message.mid)
                else:
                    self._receipts.fail(user, lane, message, code, reason)

    def _tell(self, group: Group, what: str, users: list[str]) -> None:
        """Put a membership event into the conversation: it has a mid and a seq and waits for who is offline."""
        payload = json.dumps({"event": what, "group": group.address, "users": users}, ensure_ascii=False).encode()
        hub, now_ms = self._hub, self._hub.now_ms()
        expires_at = now_ms + hub.settings.messaging.expiry_default_s * 1000
        mid = hub.mids.draw()
        hub.committer.batch.accepts.append(
            Message(
                mid, group.thread, 0, "", f"{mid:016x}", now_ms, expires_at,
                None, 0, "", payload, None, MessageKind.EVENT,
            )
        )  # fmt: skip
        hub.committer.wake()

    def _group(self, address: str) -> Group:
        group = self._hub.directory.group(address)
        if group is None:
            raise OperationError("no-such-group", f"no group {address!r}; make it with: mesimqtt group add {address}")
        return group

    def _user(self, address: str) -> User:
        user = self._hub.directory.user(address)
        if user is None:
            raise OperationError("no-such-user", f"no user {address!r}; make it with: mesimqtt user add {address}")
        return user
