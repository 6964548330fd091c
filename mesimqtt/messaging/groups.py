"""Groups: they begin and end, members come and go, each in the order of the seq (contract sections 2 and 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError, OperationError, StoreError
from mesimqtt.domain.groups import AdminFlag, Role
from mesimqtt.domain.messages import GROUP
from mesimqtt.messaging.changes import as_json
from mesimqtt.messaging.model import Thread
from mesimqtt.messaging.rights import Bench
from mesimqtt.store import groups, members
from mesimqtt.store.members import MEMBER, NewMember

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.messaging.changes import Changes
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.departures import Departures
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.inboxes import Inboxes
    from mesimqtt.messaging.model import Group, User
    from mesimqtt.messaging.round_robin import RoundRobin

    Work = Callable[[Bench, int], dict[str, Any] | None]
    Apply = Callable[[int], list[User]]


_HOUR_S = 3600.0


class Groups:
    """Creates and ends groups, and changes their members. `by` is in whose name it is done, None for the backend."""

    def __init__(
        self,
        hub: Hub,
        delivery: Delivery,
        inboxes: Inboxes,
        round_robin: RoundRobin,
        departures: Departures,
        changes: Changes,
    ) -> None:
        self._hub = hub
        self._delivery = delivery
        self._changes = changes
        self._inboxes = inboxes
        self._round_robin = round_robin
        self._departures = departures
        self._members_changed = changes.members_changed
        self._ending: set[str] = set()
        self._next_second = self._next_hour = 0.0

    # ---- begin and end -------------------------------------------------------------------------------------------

    async def add(
        self,
        address: str,
        owner: str | None = None,
        *,
        flags: int = 0,
        profile: dict[str, str] | None = None,
        expires_at: int | None = None,
        owned_max: int | None = None,
    ) -> bool:
        """Create a group; False if it was there. `owned_max`: so many groups its owner may have."""
        try:
            check_address(address)
        except AddressError as error:
            raise OperationError("bad-address", f"{address!r}: {error}") from None
        if self._hub.directory.group(address) is not None:
            return False
        user = self.user(owner) if owner is not None else None
        thread = Thread(0, GROUP, 0, 0)
        now_ms = self._hub.now_ms()
        if user is None:  # nobody to tell
            await self._hub.committer.run(
                lambda connection: members.make_group(
                    connection, address, now_ms, flags=flags, profile=profile, expires_at=expires_at
                )
            )
            self._hub.directory.epoch += 1
            return True

        def work(connection: sqlite3.Connection, seq: int) -> bytes:
            self._check_caps(connection, user, owned_max=owned_max)
            thread.a, thread.id = members.make_group(
                connection, address, now_ms, flags=flags, profile=profile, expires_at=expires_at
            )
            members.enter(connection, thread.a, thread.id, [user.id], NewMember(Role.OWNER), seq, now_ms)
            return as_json({"event": "created", "group": address, "users": [owner], "role": "owner"})

        def applied(_seq: int) -> list[User]:
            self._hub.directory.adopt(thread)
            thread.group = self._hub.directory.group(address)
            self._members_changed()
            return []

        await self._changes.commit(thread, work, applied)
        return True

    async def delete(self, address: str, *, by: User | None = None) -> None:
        """Delete a group; what waits for its members gets the verdict `group-deleted`."""
        group = self.group(address)
        left: list[User] = []

        def work(bench: Bench, seq: int) -> dict[str, Any]:
            bench.need(int(AdminFlag.REM_GROUP), "delete the group")
            members.delete_group(bench.connection, group.id, group.thread.id, seq)
            return {"event": "deleted"}

        def taken() -> None:
            group.members.clear()
            self._members_changed()

        def applied(seq: int) -> list[User]:
            for number in numbers:
                user = self._hub.directory.known_user(number)
                if user is not None:
                    self._end_lane(group, user, seq)
                    left.append(user)
            self._hub.directory.forget_group(address)
            self._inboxes.forget(group)
            return left

        numbers = list(group.members)
        if by is not None:
            Bench(self._hub.store.read, group.id, by).need(int(AdminFlag.REM_GROUP), "delete the group")
        await self._changes.change(group, by, work, applied, taken)
        await self._round_robin.end(group)
        await self._departures.of_group(group.thread)
        await self._hub.committer.drain()

    def tick(self, now: float) -> None:
        """End the groups whose time is over; once an hour go on with departures that something interrupted."""
        if now < self._next_second:
            return
        self._next_second = now + 1.0
        if now >= self._next_hour:
            self._next_hour = now + _HOUR_S
            self._departures.resume()
        for address in groups.due(self._hub.store.read, self._hub.now_ms(), 10):
            if address not in self._ending:
                self._ending.add(address)
                self._hub.spawn(self._expire(address))

    async def _expire(self, address: str) -> None:
        try:
            if self._hub.directory.group(address) is not None:
                await self.delete(address)
        except (OperationError, StoreError):
            return  # it is tried again
        finally:
            self._ending.discard(address)

    # ---- members -------------------------------------------------------------------------------------------------

    async def join(
        self,
        address: str,
        users: list[str],
        *,
        new: NewMember = MEMBER,
        by: User | None = None,
        admission: Callable[[sqlite3.Connection], NewMember] | None = None,
    ) -> list[str]:
        """Add members, who see what comes from now on; return those who are new.

        `admission` lets `by` in on his own (a PIN, a public room) and says as what; it is called in the transaction.

        Raises:
            OperationError: no such group or user, the right is missing, or a bound would be passed.

        """
        group = self.group(address)
        found = [self.user(name) for name in dict.fromkeys(users)]
        if by is not None and admission is None:
            Bench(self._hub.store.read, group.id, by).need(int(AdminFlag.ADD_USER), "add members")
        found = [user for user in found if user.id not in group.members]
        fresh: list[User] = []
        if found:
            await self._departures.before_return(group.thread, found)

        def work(bench: Bench, seq: int) -> dict[str, Any] | None:
            connection = bench.connection
            if admission is None:
                bench.need(int(AdminFlag.ADD_USER), "add members")
                bench.check_grant(new.granted)
            fresh[:] = [user for user in found if members.find(connection, group.id, user.id) is None]
            if not fresh:
                return None
            self._check_room(connection, group, fresh)
            entering = admission(connection) if admission is not None else new
            members.enter(
                connection, group.id, group.thread.id, [user.id for user in fresh], entering, seq, self._hub.now_ms()
            )
            event: dict[str, Any] = {"event": "joined", "users": [user.address for user in fresh]}
            return event | ({"role": str(entering.role)} if entering.role != Role.MEMBER else {})

        def applied(_seq: int) -> list[User]:
            self._entered(group, fresh)
            return []

        await self._changes.change(group, by, work, applied, is_member=admission is None)
        return [user.address for user in fresh]

    def _entered(self, group: Group, users: list[User]) -> None:
        """Make true in memory that users are members: all they had of the conversation before is forgotten."""
        for user in users:
            user.lanes.pop(group.thread.id, None)
            self._delivery.forget(group.thread, user)
            member = members.find(self._hub.store.read, group.id, user.id)
            if member is not None:
                group.members[user.id] = member.flags(group.flags)
        self._inboxes.joined(group, [user.id for user in users])
        self._round_robin.refresh(group)
        self._members_changed()

    async def leave(self, address: str, users: list[str], *, by: User | None = None) -> list[str]:
        """Remove members; what waits for them is withdrawn: 0x91 to its senders. Return who was one."""
        group = self.group(address)
        gone = [user for user in map(self.user, dict.fromkeys(users)) if user.id in group.members]
        if not gone:
            return []
        self.check_leaving(self._hub.store.read, group, gone, by)
        is_own = by is None or [user.id for user in gone] == [by.id]

        def work(bench: Bench, seq: int) -> dict[str, Any] | None:
            gone[:] = [user for user in gone if members.find(bench.connection, group.id, user.id) is not None]
            if not gone:
                return None
            self.check_leaving(bench.connection, group, gone, by)
            members.leave(bench.connection, group.id, group.thread.id, [user.id for user in gone], seq)
            return {"event": "left" if is_own else "removed", "users": [user.address for user in gone]}

        def taken() -> None:
            for user in gone:
                group.members.pop(user.id, None)
            self._members_changed()

        def applied(seq: int) -> list[User]:
            taken()
            for user in gone:
                self._end_lane(group, user, seq)
                self._round_robin.lost(group, user)
            return gone

        await self._changes.change(group, by, work, applied, taken)
        for user in gone:
            await self._departures.of_member(group.thread, user)
        return [user.address for user in gone]

    @staticmethod
    def check_leaving(connection: sqlite3.Connection, group: Group, gone: list[User], by: User | None) -> None:
        """Refuse what the actor may not do: before anything is taken, and again in the transaction."""
        bench = Bench(connection, group.id, by)
        for user in gone:
            bench.check_leaving(user, bench.member(user))
        bench.check_owners({user.id for user in gone})

    def _end_lane(self, group: Group, user: User, seq: int) -> None:
        lane = self._hub.directory.lane(group.thread, user)
        if lane is not None and lane.until != seq:
            lane.end(seq)

    def _check_room(self, connection: sqlite3.Connection, group: Group, users: list[User]) -> None:
        bound = self._hub.settings.messaging.group_members_max
        if members.count(connection, group.id) + len(users) > bound:
            raise OperationError("group-full", f"a group has at most {bound} members")
        for user in users:
            self._check_caps(connection, user)

    def _check_caps(self, connection: sqlite3.Connection, user: User, *, owned_max: int | None = None) -> None:
        member_of, owned = members.memberships(connection, user.id)
        bound = self._hub.settings.groups.member_of_max
        if member_of >= bound:
            raise OperationError("too-many-groups", f"{user.address!r} is in {bound} groups already, which is the most")
        if owned_max is not None and owned >= owned_max:
            raise OperationError("too-many-groups", f"a user owns at most {owned_max} groups")

    # ---- who and what --------------------------------------------------------------------------------------------

    def group(self, address: str) -> Group:
        """Return a group; raise OperationError if there is none."""
        group = self._hub.directory.group(address)
        if group is None:
            raise OperationError("no-such-group", f"no group {address!r}; make it with: mesimqtt group add {address}")
        return group

    def user(self, address: str) -> User:
        """Return a user; raise OperationError if there is none."""
        user = self._hub.directory.user(address)
        if user is None:
            raise OperationError("no-such-user", f"no user {address!r}; make it with: mesimqtt user add {address}")
        return user
