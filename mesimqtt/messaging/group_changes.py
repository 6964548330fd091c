"""What changes in a group that lives on: its profile, pause, kind and end; its members' roles and rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.groups import (
    ADMIN_USUAL,
    RIGHTS,
    AdminFlag,
    MemberFlag,
    Role,
    kind_of,
    needed_for_role,
    needed_to_remove,
)
from mesimqtt.messaging.rights import Bench, no_member
from mesimqtt.store import groups, members

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.messaging.changes import Changes
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.departures import Departures
    from mesimqtt.messaging.groups import Groups
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.round_robin import RoundRobin

_RECV = MemberFlag.RECV


class Part(NamedTuple):
    """A member's new part: a role, with which bits as an admin (None: the usual ones that the giver has)."""

    role: str
    admin: int | None = None


class GroupChanges:
    """Changes of groups, each a change of `Groups` with its event."""

    def __init__(
        self,
        hub: Hub,
        groups_: Groups,
        changes: Changes,
        delivery: Delivery,
        receipts: Receipts,
        round_robin: RoundRobin,
        departures: Departures,
    ) -> None:
        self._hub = hub
        self._groups = groups_
        self._changes = changes
        self._delivery = delivery
        self._receipts = receipts
        self._round_robin = round_robin
        self._departures = departures

    def check(self, address: str, by: User | None, users: list[str]) -> Group:
        """Refuse at once what would be refused in the transaction: no right to modify, or somebody who is no member."""
        group = self._groups.group(address)
        bench = Bench(self._hub.store.read, group.id, by)
        bench.need(int(AdminFlag.MODIFY), "change it")
        for name in users:
            user = self._hub.directory.user(name)
            if user is None or user.id not in group.members:
                raise no_member(name, address)
        return group

    async def profile(self, address: str, merged: dict[str, str], *, by: User | None) -> None:
        """Give a group another profile."""
        group = self._groups.group(address)

        def work(bench: Bench, _seq: int) -> dict[str, Any] | None:
            bench.need(int(AdminFlag.MODIFY), "change it")
            before = bench.group.profile
            if before == merged:
                return None
            groups.set_profile(bench.connection, group.id, merged)
            keys = {key: merged.get(key, "") for key in before | merged if before.get(key) != merged.get(key)}
            is_renamed = set(keys) == {"name"}
            return {"event": "renamed", "name": keys["name"]} if is_renamed else {"event": "profile", "profile": keys}

        await self._changes.change(group, by, work, lambda _seq: [])

    async def pause(self, address: str, *, paused: bool, by: User | None) -> None:
        """Pause a group, or let it go on."""
        group = self._groups.group(address)

        def work(bench: Bench, _seq: int) -> dict[str, Any] | None:
            bench.need(int(AdminFlag.MODIFY), "pause it")
            if bool(bench.group.active) is not paused:
                return None
            groups.set_active(bench.connection, group.id, active=not paused)
            return {"event": "paused" if paused else "resumed"}

        def taken() -> None:
            group.active = False

        def applied(_seq: int) -> list[User]:
            group.active = not paused
            return []

        await self._changes.change(group, by, work, applied, taken if paused else None)

    async def expiry(self, address: str, expires_at: int | None, *, by: User | None) -> None:
        """Let a group end at a time (milliseconds since 1970), or never."""
        group = self._groups.group(address)

        def work(bench: Bench, _seq: int) -> dict[str, Any] | None:
            bench.need(int(AdminFlag.MODIFY | AdminFlag.REM_GROUP), "let it end")
            if bench.group.expires_at == expires_at:
                return None
            groups.set_expiry(bench.connection, group.id, expires_at)
            return {"event": "expiry", "expires_at": expires_at}

        def applied(_seq: int) -> list[User]:
            group.expires_at = expires_at
            return []

        await self._changes.change(group, by, work, applied)

    async def flags(self, address: str, flags: int, *, by: User | None) -> None:
        """Make a group another kind; its members' rights follow, but for what each was given or denied himself."""
        group = self._groups.group(address)
        changed: list[int] = []

        def work(bench: Bench, seq: int) -> dict[str, Any] | None:
            bench.need(int(AdminFlag.MODIFY), "change what kind it is")
            if bench.group.flags == flags:
                return None
            groups.set_flags(bench.connection, group.id, flags)
            changed[:] = members.settle_receiving(bench.connection, group.id, group.thread.id, seq)
            return {"event": "kind", "kind": kind_of(flags), "flags": flags}

        def applied(seq: int) -> list[User]:
            group.flags = flags
            self._changes.refresh(group)
            self._settle(group, [self._hub.directory.known_user(number) for number in changed], seq)
            self._round_robin.refresh(group)
            return []

        await self._changes.change(group, by, work, applied)
        if changed:
            await self._departures.of_group(group.thread)

    async def rights(self, address: str, name: str, switches: dict[str, bool], *, by: User | None) -> None:
        """Give a member rights, or deny them to him, whatever the group's kind says of members."""
        group, user = self._groups.group(address), self._groups.user(name)
        given = sum(RIGHTS[right] for right, allowed in switches.items() if allowed)
        denied = sum(RIGHTS[right] for right, allowed in switches.items() if not allowed)

        def work(bench: Bench, seq: int) -> dict[str, Any] | None:
            member = bench.member(user)
            bench.need(int(AdminFlag.MODIFY), "change rights")
            if denied and member.role != Role.MEMBER:
                bench.need(needed_to_remove(member.role), f"take rights from {name!r}")
            bench.check_grant(given)
            granted_now, denied_now = (member.granted | given) & ~denied, (member.denied | denied) & ~given
            if (granted_now, denied_now) == (member.granted, member.denied):
                return None
            members.set_rights(bench.connection, group.id, group.thread.id, user.id, granted_now, denied_now, seq)
            return {"event": "rights", "users": [name], "rights": switches}

        def taken() -> None:
            if user.id in group.members:
                group.members[user.id] &= ~denied

        await self._changes.change(group, by, work, self._member_applied(group, user), taken if denied else None)
        await self._departures.of_member(group.thread, user)

    async def role(self, address: str, name: str, part: Part, *, by: User | None) -> None:
        """Make a member owner, admin, or a member like the others."""
        group, user = self._groups.group(address), self._groups.user(name)

        def work(bench: Bench, seq: int) -> dict[str, Any] | None:
            member = bench.member(user)
            admin = part.admin if part.role == Role.ADMIN else 0
            if admin is None:
                admin = ADMIN_USUAL if bench.standing is None else ADMIN_USUAL & bench.standing.bits
            if (member.role, member.admin) == (part.role, admin):
                return None
            if by is None or by.id != user.id or part.role != Role.MEMBER:  # anybody may lay down what he is
                needed = needed_for_role(member.role, part.role, member.bits if member.role == Role.ADMIN else 0, admin)
                bench.need(needed, f"make {name!r} {part.role}")
                bench.check_admin(admin)
            if member.role == Role.OWNER and part.role != Role.OWNER:
                bench.check_owners({user.id})
            members.set_role(bench.connection, group.id, group.thread.id, user.id, part.role, admin, seq)
            event = {"event": "role", "users": [name], "role": part.role}
            return event | ({"admin": admin} if part.role == Role.ADMIN else {})

        await self._changes.change(group, by, work, self._member_applied(group, user))
        await self._departures.of_member(group.thread, user)

    def _member_applied(self, group: Group, user: User) -> Callable[[int], list[User]]:
        def applied(seq: int) -> list[User]:
            member = members.find(self._hub.store.read, group.id, user.id)
            if member is not None:
                group.members[user.id] = member.flags(group.flags)
                self._settle(group, [user], seq)
            self._round_robin.refresh(group)
            return [user]

        return applied

    def _settle(self, group: Group, users: list[User | None], seq: int) -> None:
        """Let the lanes in memory end or go on as the members' right to receive says."""
        for user in users:
            lane = self._hub.directory.lane(group.thread, user) if user is not None else None
            if user is None or lane is None:
                continue
            may_receive = group.may(user.id, _RECV)
            if may_receive == (lane.until is None):
                self._pass_gap(group, user, seq)  # read from the store after the change: only the devices lag behind
                continue
            if may_receive:
                lane.reopen(seq)
                self._receipts.keep(lane)
                self._pass_gap(group, user, seq)
            else:
                lane.end(seq)

    def _pass_gap(self, group: Group, user: User, seq: int) -> None:
        lane = self._hub.directory.lane(group.thread, user)
        if lane is not None and lane.gaps is not None and lane.until is None:
            for first, last in lane.gaps.runs:
                if last < seq:
                    self._delivery.skip(group.thread, user, first, last)
