"""Operations on groups (contract section 7: `group`): make, list, show, change and delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.groups import (
    GROUP_ALL,
    KINDS,
    RIGHTS,
    AdminFlag,
    GroupFlag,
    MemberFlag,
    Role,
    kind_of,
    names_of,
)
from mesimqtt.messaging.group_changes import Part
from mesimqtt.messaging.operations_base import (
    PAGE_MAX,
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_addresses,
    checked_limit,
    known_group,
    known_user,
    merged_profile,
    operation,
)
from mesimqtt.messaging.rights import no_such_group
from mesimqtt.store import groups, members

if TYPE_CHECKING:
    from mesimqtt.messaging.model import User
    from mesimqtt.store.groups import GroupRow
    from mesimqtt.store.members import MemberRow

_STATES = {1: "active", 0: "paused"}
_SWITCH = {"on": True, "off": False}
EXPIRY_MAX_S = 100 * 31_536_000


def acting(desk: Desk, by: str | None) -> User | None:
    """Return in whose name an operation is done, None for the backend itself, which may do everything."""
    if desk.caller.power >= Scope.BACKEND and by in (None, desk.caller.user):
        return None
    return desk.messaging.groups.user(checked_address(desk.caller.user if by is None else by))


def visible_group(desk: Desk, address: str, actor: User | None) -> GroupRow:
    """Return a group that the actor may know of: as a member, if he is not the backend."""
    if actor is None:
        return known_group(desk.read, address)
    found = groups.find(desk.read, checked_address(address))
    if found is None or members.find(desk.read, found.id, actor.id) is None:
        raise no_such_group(address)
    return found


@operation(Scope.USER, actor="by", example={"address": "family", "owner": "alice"})
async def group_add(
    desk: Desk,
    *,
    address: str | None = None,
    owner: str | None = None,
    kind: str | None = None,
    flags: int | None = None,
    profile: dict[str, str] | None = None,
    expiry: int | None = None,
    by: str | None = None,
) -> Answer:
    """Make a group, with its first member `owner` if one is named; a user's own group is his.

    Without an address it gets one that nobody can guess. `kind` is normal, broadcast, public, round-robin or
    no-storage, or give Mesibo's bits as `flags`. It ends after `expiry` seconds, if that is given.
    """
    actor = acting(desk, by)
    settings = desk.messaging.settings.groups
    if actor is not None:
        if not (settings.users_create and actor.policy.create_groups):
            raise OperationError("not-allowed", "users do not make groups here; ask the backend")
        if owner not in (None, actor.address):
            raise OperationError("not-allowed", "the owner of your group is you; make another one owner afterwards")
        owner = actor.address
    chosen = checked_address(address) if address is not None else f"g-{desk.messaging.chance.hex(8)}"
    if groups.find(desk.read, chosen) is not None:
        raise OperationError("group-exists", f"the group {chosen!r} exists already")
    if owner is not None:
        known_user(desk.read, owner)
    found = _flags(kind, flags)
    await desk.messaging.groups.add(
        chosen,
        owner,
        flags=found,
        profile=merged_profile({}, profile or {}),
        expires_at=None if expiry is None else desk.now_ms + _seconds(expiry) * 1000,
        owned_max=(actor.policy.groups_max or settings.owned_max) if actor is not None else None,
    )
    return {"address": chosen, "owner": owner, "kind": kind_of(found), "flags": found}


@operation(Scope.USER, actor="by", example={"limit": 10}, is_lookup=True)
async def group_list(
    desk: Desk, *, after: str = "", limit: int = 1_000, public: bool = False, by: str | None = None
) -> Answer:
    """List groups in the order of their addresses; `next` is where the next page begins, null at the end.

    A user sees those he is in, and with `public` the rooms that anybody may join; the backend sees all.
    """
    actor = acting(desk, by)
    bound = checked_limit(limit)
    if public:
        rooms = groups.public_page(desk.read, int(GroupFlag.AUTO_ADD_MEMBER), after, bound)
        listed = [_public(group) for group in rooms]
        return {"groups": listed, "next": rooms[-1].address if len(rooms) == limit else None}
    rows = groups.page_of(desk.read, actor.id, after, bound) if actor else groups.page(desk.read, after, bound)
    return {
        "groups": [{**_brief(group), "members": count} for group, count in rows],
        "next": rows[-1][0].address if len(rows) == limit else None,
    }


@operation(Scope.USER, actor="by", example={"address": "team"}, is_lookup=True)
async def group_show(desk: Desk, *, address: str, by: str | None = None) -> Answer:
    """Show a group: state, kind, profile, and members with their rights, as far as the asker may list them.

    Of a public room somebody else is told its name and kind alone.
    """
    actor = acting(desk, by)
    found = groups.find(desk.read, checked_address(address))
    is_member = actor is None or (found is not None and members.find(desk.read, found.id, actor.id) is not None)
    if found is not None and not is_member and found.flags & GroupFlag.AUTO_ADD_MEMBER:
        return _public(found) | listed_members(desk, found, actor, "", PAGE_MAX)
    group = visible_group(desk, address, actor)
    answer = {**_brief(group), "profile": group.profile}
    if actor is not None:
        own = members.find(desk.read, group.id, actor.id)
        answer |= {"you": member_answer(actor.address, own, group.flags)} if own is not None else {}
    size = members.count(desk.read, group.id) if actor is None else PAGE_MAX
    return answer | {"members": [], **listed_members(desk, group, actor, "", max(size, 1))}


def listed_members(desk: Desk, group: GroupRow, actor: User | None, after: str, limit: int) -> Answer:
    """Return a page of members; nothing if the actor may not list them."""
    if actor is not None and not group.flags & GroupFlag.LIST_BY_ANYONE:
        own = members.find(desk.read, group.id, actor.id)
        if own is None or not own.flags(group.flags) & MemberFlag.LIST:
            return {}
    page = members.page(desk.read, group.id, after, limit)
    return {"members": [member_answer(name, row, group.flags) for name, row in page]}


def member_answer(address: str, member: MemberRow, group_flags: int) -> Answer:
    """Return a member as operations tell of him."""
    flags = member.flags(group_flags)
    answer: Answer = {
        "address": address,
        "role": member.role,
        "send": bool(flags & MemberFlag.SEND),
        "receive": bool(flags & MemberFlag.RECV),
        "flags": flags,
        "joined_at": member.joined_at,
    }
    return answer | ({"admin": member.bits, "may": names_of(AdminFlag, member.bits)} if member.bits else {})


@operation(Scope.USER, actor="by", example={"address": "team", "profile": {"name": "The team", "send:bob": "off"}})
async def group_set(desk: Desk, *, address: str, profile: dict[str, str], by: str | None = None) -> Answer:
    """Change a group: `paused=on|off`, `kind=KIND` or `flags=BITS`, `expiry=SECONDS|never`, or its profile.

    Of a member: his rights, `send:USER=on|off` (or `receive`, `list`, `publish`, `subscribe`, `record`, `pins`,
    `stay`), and his part, `role:USER=owner|admin|member` or `admin:USER=BITS`. An empty value removes a key.
    """
    if not profile:
        raise ArgumentError("name at least one KEY=VALUE, for example name=Family, paused=on or send:bob=off")
    actor = acting(desk, by)
    group = visible_group(desk, address, actor)
    changes = desk.messaging.group_changes
    rest: dict[str, str] = {}
    rights: dict[str, dict[str, bool]] = {}
    parts: dict[str, Part] = {}
    for key, value in profile.items():
        word, colon, user = key.partition(":")
        if colon and word in RIGHTS:
            rights.setdefault(user, {})[word] = _switch(key, value)
        elif colon and word in ("role", "admin"):
            parts[user] = _part(key, word, value)
        elif key == "paused":
            _switch(key, value)
        elif key == "kind":
            _flags(value, None)
        elif key in ("flags", "expiry"):
            _bits(key, value) if key == "flags" else _expiry(desk, value)
        else:
            rest[key] = value
    merged = merged_profile(group.profile, rest)
    if set(profile) - {f"role:{actor.address}"} if actor is not None else True:
        changes.check(address, actor, [*rights, *parts])
    if rest:
        await changes.profile(address, merged, by=actor)
    if "kind" in profile or "flags" in profile:
        kind, bits = profile.get("kind"), profile.get("flags")
        await changes.flags(address, _flags(kind, _bits("flags", bits) if bits is not None else None), by=actor)
    if "expiry" in profile:
        await changes.expiry(address, _expiry(desk, profile["expiry"]), by=actor)
    for user, switches in rights.items():
        await changes.rights(address, user, switches, by=actor)
    for user, part in parts.items():
        await changes.role(address, user, part, by=actor)
    if "paused" in profile:
        await changes.pause(address, paused=_switch("paused", profile["paused"]), by=actor)
    return await group_show(desk, address=address, by=by)


@operation(Scope.USER, actor="by", example={"addresses": ["team"]})
async def group_delete(desk: Desk, *, addresses: list[str], by: str | None = None) -> Answer:
    """Delete groups; who still waits for a message of theirs gets none, and its sender is told `group-deleted`."""
    actor = acting(desk, by)
    found = checked_addresses(addresses)
    for address in found:
        visible_group(desk, address, actor)
    for address in found:
        await desk.messaging.groups.delete(address, by=actor)
    return {"deleted": found}


def _switch(key: str, value: str) -> bool:
    if value not in _SWITCH:
        raise ArgumentError(f"{key} is on or off")
    return _SWITCH[value]


def _flags(kind: str | None, flags: int | None) -> int:
    if kind is not None and kind not in KINDS:
        raise ArgumentError(f"kind is {', '.join(KINDS)}; or give flags")
    if flags is not None and (flags < 0 or flags & ~GROUP_ALL):
        raise ArgumentError(f"flags has bits that no group knows: {flags & ~GROUP_ALL:#x}")
    return (KINDS[kind] if kind is not None else 0) | (flags or 0)


def _bits(key: str, value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise ArgumentError(f"{key} is a number, for example 0x1") from None


def _seconds(seconds: int) -> int:
    if not 1 <= seconds <= EXPIRY_MAX_S:
        raise ArgumentError(f"expiry is 1 to {EXPIRY_MAX_S} seconds")
    return seconds


def _expiry(desk: Desk, value: str) -> int | None:
    return None if value in ("never", "") else desk.now_ms + _seconds(_bits("expiry", value)) * 1000


def _part(key: str, word: str, value: str) -> Part:
    if word == "admin":
        return Part(Role.ADMIN, _bits(key, value))
    if value not in tuple(Role):
        raise ArgumentError(f"{key} is {', '.join(Role)}")
    return Part(value)


def _public(group: GroupRow) -> Answer:
    return {"address": group.address, "name": group.profile.get("name", ""), "kind": kind_of(group.flags)}


def _brief(group: GroupRow) -> Answer:
    return {
        "address": group.address,
        "state": _STATES[group.active],
        "name": group.profile.get("name", ""),
        "kind": kind_of(group.flags),
        "flags": group.flags,
        "created_at": group.created_at,
        "expires_at": group.expires_at,
    }
