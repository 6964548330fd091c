"""Who may change what in a group: looked up inside the transaction of the change, so that no other comes between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain import groups as domain
from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.groups import AdminFlag, GroupFlag, MemberFlag, Role
from mesimqtt.store import groups, members

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.messaging.model import User
    from mesimqtt.store.groups import GroupRow
    from mesimqtt.store.members import MemberRow


def no_such_group(address: str) -> OperationError:
    """Return the one error for a group that is not there and for one that the asker may not know of."""
    return OperationError("no-such-group", f"there is no group {address!r} that you may know of")


def no_member(user: str, group: str) -> OperationError:
    """Return the error for a change of somebody who is no member."""
    return OperationError("not-member", f"{user!r} is not a member of {group!r}; nothing was changed")


class Bench:
    """One group in one transaction, and who wants to change it: `actor` None is the backend, who may do everything."""

    def __init__(self, connection: sqlite3.Connection, group: int, actor: User | None) -> None:
        found = groups.by_id(connection, group)
        if found is None:
            raise OperationError("no-such-group", "the group was deleted")
        self.connection = connection
        self.group: GroupRow = found
        self.actor = actor
        self.standing: MemberRow | None = None
        if actor is not None:
            self.standing = members.find(connection, group, actor.id)
            if self.standing is None:
                raise no_such_group(found.address)

    def need(self, bits: int, to: str) -> None:
        """Refuse unless the actor has all these admin bits."""
        if self.standing is None or not bits & ~self.standing.bits:
            return
        missing = ", ".join(domain.names_of(AdminFlag, bits & ~self.standing.bits))
        raise OperationError("not-allowed", f"in {self.group.address!r} it takes the right {missing} to {to}")

    def member(self, user: User) -> MemberRow:
        """Return somebody's membership; refuse if there is none."""
        found = members.find(self.connection, self.group.id, user.id)
        if found is None:
            raise no_member(user.address, self.group.address)
        return found

    def check_grant(self, granted: int) -> None:
        """Refuse to give a right that the actor himself lacks."""
        if granted & ~domain.GRANTABLE:
            raise OperationError("bad-right", f"no such right of a member: {granted & ~domain.GRANTABLE:#x}")
        if self.standing is not None and granted & ~self._own():
            lacking = ", ".join(domain.names_of(MemberFlag, granted & ~self._own()))
            raise OperationError("cannot-grant", f"you cannot give what you lack: {lacking}")

    def _own(self) -> int:
        if self.standing is None or self.standing.role == Role.OWNER:
            return domain.GRANTABLE
        return self.standing.flags(self.group.flags)

    def check_admin(self, admin: int) -> None:
        """Refuse to make an admin of more than the actor is."""
        if admin & ~domain.ADMIN_ALL:
            raise OperationError("bad-right", f"no such right of an admin: {admin & ~domain.ADMIN_ALL:#x}")
        if self.standing is not None and admin & ~self.standing.bits:
            lacking = ", ".join(domain.names_of(AdminFlag, admin & ~self.standing.bits))
            raise OperationError("cannot-grant", f"you cannot give what you lack: {lacking}")

    def check_leaving(self, user: User, member: MemberRow) -> None:
        """Refuse unless the actor may take this member out of the group, or he may go himself."""
        if self.actor is None:
            return
        if user.id == self.actor.id:
            if member.role != Role.OWNER and (
                self.group.flags & GroupFlag.NO_SELF_DELETE
                or member.flags(self.group.flags) & MemberFlag.NO_SELF_DELETE
            ):
                raise OperationError("not-allowed", f"members of {self.group.address!r} cannot leave by themselves")
            return
        self.need(domain.needed_to_remove(member.role), f"remove {user.address!r}")

    def check_owners(self, going: set[int]) -> None:
        """Refuse to leave a group that has an owner without any."""
        owners = set(members.owners(self.connection, self.group.id))
        if self.actor is not None and owners and owners <= going:
            raise OperationError(
                "last-owner", "the last owner cannot leave: make another member owner first, or delete the group"
            )
