"""Operations on groups (contract section 7: `group`); joining and leaving is messaging's, which knows the lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_addresses,
    checked_limit,
    known_group,
    known_user,
    known_users,
    merged_profile,
    operation,
)
from mesimqtt.store import groups

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.store.groups import GroupRow

_STATES = {1: "active", 0: "paused"}
_SWITCH = {"on": True, "off": False}


@operation(Scope.BACKEND, example={"address": "family", "owner": "alice"})
async def group_add(desk: Desk, *, address: str, owner: str | None = None) -> Answer:
    """Make a group, with its first member `owner` if one is named."""
    checked_address(address)
    if groups.find(desk.read, address) is not None:
        raise OperationError("group-exists", f"the group {address!r} exists already")
    if owner is not None:
        known_user(desk.read, owner)
    await desk.messaging.group_add(address, owner)
    return {"address": address, "owner": owner}


@operation(Scope.BACKEND, example={"limit": 10})
async def group_list(desk: Desk, *, after: str = "", limit: int = 1_000) -> Answer:
    """List groups in the order of their addresses; `next` is where the next page begins, null at the end."""
    rows = groups.page(desk.read, after, checked_limit(limit))
    listed = [{**_brief(group), "members": members} for group, members in rows]
    return {"groups": listed, "next": rows[-1][0].address if len(rows) == limit else None}


@operation(Scope.BACKEND, example={"address": "team"})
async def group_show(desk: Desk, *, address: str) -> Answer:
    """Show a group: state, profile and members with their rights."""
    group = known_group(desk.read, address)
    members = [
        {
            "address": member.address,
            "role": member.role,
            "send": bool(member.send),
            "receive": bool(member.receive),
            "joined_at": member.joined_at,
        }
        for member in groups.members(desk.read, group.id)
    ]
    return {**_brief(group), "profile": group.profile, "members": members}


@operation(Scope.BACKEND, example={"address": "team", "profile": {"name": "The team", "send:bob": "off"}})
async def group_set(desk: Desk, *, address: str, profile: dict[str, str]) -> Answer:
    """Change a group: `paused=on|off`, a member's rights `send:USER=on|off` and `receive:USER=on|off`, or its profile.

    An empty value removes a key of the profile. `name` is checked, any other key is free.
    """
    if not profile:
        raise ArgumentError("name at least one KEY=VALUE, for example name=Family, paused=on or send:bob=off")

    def work(connection: sqlite3.Connection) -> dict[str, str]:
        group = known_group(connection, address)
        changes = dict(profile)
        for key, value in profile.items():
            right, colon, member = key.partition(":")
            if key == "paused":
                groups.set_active(connection, group.id, active=not _switch(key, value))
            elif colon and right in ("send", "receive"):
                if not groups.set_right(connection, group.id, member, right, allowed=_switch(key, value)):
                    raise OperationError("not-member", f"{member!r} is not a member of {address!r}")
            else:
                continue
            del changes[key]
        merged = merged_profile(group.profile, changes)
        groups.set_profile(connection, group.id, merged)
        return merged

    await desk.messaging.store.committer.run(work)
    desk.messaging.group_changed(address)
    return await group_show(desk, address=address)


def _switch(key: str, value: str) -> bool:
    if value not in _SWITCH:
        raise ArgumentError(f"{key} is on or off")
    return _SWITCH[value]


@operation(Scope.BACKEND, example={"addresses": ["team"]})
async def group_delete(desk: Desk, *, addresses: list[str]) -> Answer:
    """Delete groups; who still waits for a message of theirs gets none, and its sender is told `group-deleted`."""
    found = checked_addresses(addresses)
    for address in found:
        known_group(desk.read, address)
    for address in found:
        await desk.messaging.group_delete(address)
    return {"deleted": found}


@operation(Scope.BACKEND, example={"address": "team", "users": ["shop"]})
async def group_join(desk: Desk, *, address: str, users: list[str]) -> Answer:
    """Make users members of a group; who is one already stays as he is."""
    group = known_group(desk.read, address)
    wanted = [user.address for user in known_users(desk.read, users)]
    members = {member.address for member in groups.members(desk.read, group.id)}
    joining = [user for user in wanted if user not in members]
    if joining:
        await desk.messaging.group_join(address, joining)
    return {"address": address, "joined": joining, "unchanged": [user for user in wanted if user in members]}


@operation(Scope.BACKEND, example={"address": "team", "users": ["carol"]})
async def group_leave(desk: Desk, *, address: str, users: list[str]) -> Answer:
    """Take users out of a group; what still waits there for them is withdrawn, and its sender is told."""
    group = known_group(desk.read, address)
    members = {member.address for member in groups.members(desk.read, group.id)}
    leaving = checked_addresses(users)
    strangers = [user for user in leaving if user not in members]
    if strangers:
        raise OperationError("not-member", f"{strangers[0]!r} is not a member of {address!r}; nothing was changed")
    await desk.messaging.group_leave(address, leaving)
    return {"address": address, "left": leaving}


def _brief(group: GroupRow) -> Answer:
    return {
        "address": group.address,
        "state": _STATES[group.active],
        "name": group.profile.get("name", ""),
        "created_at": group.created_at,
    }
