"""Operations on a group's members: join, leave, enter by oneself, list them, and the PINs that let people in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.groups import ADMIN_USUAL, RIGHTS, AdminFlag, Role
from mesimqtt.domain.policies import Block
from mesimqtt.domain.status import Status
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_addresses,
    checked_limit,
    known_users,
    operation,
)
from mesimqtt.messaging.operations_groups import acting, listed_members, visible_group
from mesimqtt.messaging.rights import Bench, no_member
from mesimqtt.store import members
from mesimqtt.store.pins import PinRow

if TYPE_CHECKING:
    from mesimqtt.messaging.model import User

TTL_MAX_S = 10 * 31_536_000
USES_MAX = 1_000_000


@operation(Scope.USER, actor="by", example={"address": "team", "users": ["shop"]})
async def group_join(desk: Desk, *, address: str, users: list[str], by: str | None = None) -> Answer:
    """Make users members of a group; who is one already stays as he is."""
    actor = acting(desk, by)
    group = visible_group(desk, address, actor)
    if actor is not None:  # the right first: who lacks it learns nothing of anybody, and uses up no invitation
        Bench(desk.read, group.id, actor).need(int(AdminFlag.ADD_USER), "add members")
        _check_known(desk, actor, users)
    wanted = [user.address for user in known_users(desk.read, users)]
    found = {user: desk.messaging.groups.user(user).id for user in wanted}
    joining = [user for user in wanted if members.find(desk.read, group.id, found[user]) is None]
    if actor is not None:
        _check_invitations(desk, actor, group.address, joining)
    joined = await desk.messaging.groups.join(address, joining, by=actor) if joining else []
    return {"address": address, "joined": joined, "unchanged": [user for user in wanted if user not in joined]}


def _check_known(desk: Desk, actor: User, users: list[str]) -> None:
    """Refuse whom the actor may not know in the words that are said of nobody."""
    for name in checked_addresses(users):
        target = desk.messaging.target_of(actor, name)
        if target is None or (target.verdict is not None and target.verdict.status is Status.INVALID_DESTINATION):
            raise OperationError("no-such-user", f"there is no user {name!r} that you may know of")


def _check_invitations(desk: Desk, actor: User, group: str, users: list[str]) -> None:
    """Refuse to add whom the actor may not write to, or somebody who keeps leaving.

    Who blocks silently, or his messages in groups, looks like somebody who was added often enough.
    """
    for name in users:
        target = desk.messaging.target_of(actor, name)
        if target is not None and target.verdict is not None and not target.verdict.is_silent:
            raise OperationError("denied", f"you cannot add {name!r}")
        is_silent = target is None or target.verdict is not None
        is_silent = is_silent or desk.messaging.people.is_blocked(desk.messaging.groups.user(name), actor, Block.GROUP)
        if is_silent or desk.messaging.invitations.take(f"{group}\0{name}", desk.messaging.now()):
            raise OperationError("rate-limited", f"{name!r} was added here often enough; he may join by himself")


@operation(Scope.USER, actor="by", example={"address": "team", "users": ["carol"]})
async def group_leave(desk: Desk, *, address: str, users: list[str] | None = None, by: str | None = None) -> Answer:
    """Take users out of a group (a user who names nobody: himself); what still waits there for them is withdrawn."""
    actor = acting(desk, by)
    group = visible_group(desk, address, actor)
    if users is None and actor is None:
        raise ArgumentError("name the users who are to leave")
    leaving = checked_addresses(users if users is not None else [actor.address if actor is not None else ""])
    others = [name for name in leaving if actor is not None and name != actor.address]
    if others:  # before it is looked at who is a member: he may not be one who may know
        Bench(desk.read, group.id, actor).need(int(AdminFlag.REM_USER), f"remove {others[0]!r}")
    for name in leaving:
        user = desk.messaging.find_user(name)
        if user is None or members.find(desk.read, group.id, user.id) is None:
            raise no_member(name, address)
    await desk.messaging.groups.leave(address, leaving, by=actor)
    return {"address": address, "left": leaving}


@operation(Scope.USER, actor="user", example={"address": "team", "pin": "2468-1357", "user": "shop"})
async def group_enter(desk: Desk, *, address: str, pin: str | None = None, user: str | None = None) -> Answer:
    """Join a group by oneself: a public room, or any group with one of its PINs."""
    if user is None:
        raise ArgumentError("name the user who is to join")
    found = desk.messaging.groups.user(checked_address(user))
    joined = await desk.messaging.pins.enter(checked_address(address), found, pin)
    return {"address": address, "joined": joined}


@operation(Scope.USER, actor="by", example={"address": "team", "limit": 10}, is_lookup=True)
async def group_members(
    desk: Desk, *, address: str, after: str = "", limit: int = 1_000, by: str | None = None
) -> Answer:
    """List the members of a group in the order of their addresses; `next` is where the next page begins."""
    actor = acting(desk, by)
    group = visible_group(desk, address, actor)
    listed = listed_members(desk, group, actor, after, checked_limit(limit))
    if "members" not in listed:
        raise OperationError("not-allowed", f"you may not list the members of {address!r}")
    found = listed["members"]
    return {"members": found, "next": found[-1]["address"] if len(found) == limit else None}


@operation(Scope.USER, actor="by", example={"address": "team", "pin": "2468-1357", "uses": 3, "ttl": 3600})
async def group_pin_add(
    desk: Desk,
    *,
    address: str,
    pin: str | None = None,
    uses: int | None = None,
    ttl: int | None = None,
    role: str = "member",
    admin: int | None = None,
    rights: list[str] | None = None,
    by: str | None = None,
) -> Answer:
    """Make a PIN with which `uses` people may join within `ttl` seconds; it is told once, and kept as a hash only.

    `role` is member or admin (`admin`: its bits), `rights` are given beside what the group's kind gives.
    """
    actor = acting(desk, by)
    visible_group(desk, address, actor)
    if role not in (Role.MEMBER, Role.ADMIN):
        raise ArgumentError("role is member or admin")
    if (uses is not None and not 1 <= uses <= USES_MAX) or (ttl is not None and not 1 <= ttl <= TTL_MAX_S):
        raise ArgumentError(f"uses is 1 to {USES_MAX}, ttl 1 to {TTL_MAX_S} seconds")
    unknown = [right for right in rights or [] if right not in RIGHTS]
    if unknown:
        raise ArgumentError(f"rights are {', '.join(RIGHTS)}")
    now_ms = desk.now_ms
    wanted = PinRow(
        id=0,
        role=role,
        granted=sum({RIGHTS[right] for right in rights or []}),
        admin=0 if role == Role.MEMBER else ADMIN_USUAL if admin is None else admin,
        uses=uses,
        created_by=actor.id if actor is not None else 0,
        created_at=now_ms,
        expires_at=None if ttl is None else now_ms + ttl * 1000,
    )
    number, text = await desk.messaging.pins.add(address, pin, wanted, by=actor)
    return {"address": address, "id": number, "pin": text, **_pin_answer(wanted)}


@operation(Scope.USER, actor="by", example={"address": "team"}, is_lookup=True)
async def group_pin_list(desk: Desk, *, address: str, by: str | None = None) -> Answer:
    """List a group's PINs by number, with what they give; their texts are not kept."""
    actor = acting(desk, by)
    visible_group(desk, address, actor)
    found = desk.messaging.pins.listed(address, by=actor)
    return {"address": address, "pins": [{"id": row.id, **_pin_answer(row)} for row in found]}


@operation(Scope.USER, actor="by", example={"address": "team", "id": 1})
async def group_pin_remove(
    desk: Desk,
    *,
    address: str,
    id: int,  # noqa: A002 - as it is listed
    by: str | None = None,
) -> Answer:
    """Remove a PIN, which lets nobody in any more."""
    actor = acting(desk, by)
    visible_group(desk, address, actor)
    await desk.messaging.pins.remove(address, id, by=actor)
    return {"address": address, "removed": id}


def _pin_answer(pin: PinRow) -> Answer:
    given = [name for name, flag in RIGHTS.items() if pin.granted & flag]
    return {
        "role": pin.role,
        "admin": pin.admin,
        "rights": given,
        "uses": pin.uses,
        "created_at": pin.created_at,
        "expires_at": pin.expires_at,
    }
