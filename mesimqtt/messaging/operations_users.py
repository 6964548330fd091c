"""Operations on users (contract section 7: `user`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError, StoreError
from mesimqtt.domain.policies import DEFAULT
from mesimqtt.domain.strict_json import read_kept
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_addresses,
    checked_limit,
    checked_power,
    known_user,
    managed_users,
    merged_profile,
    operation,
)
from mesimqtt.messaging.operations_people import change_privacy, checked_privacy
from mesimqtt.messaging.operations_policies import checked_rules
from mesimqtt.store import devices, tokens, users

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.store.users import UserRow

_NOTHING: dict[str, str] = {}
_STATES = {1: "active", 0: "disabled"}
TOKENS_COUNTED_MAX = 1_000


@operation(Scope.BACKEND, example={"addresses": ["dave", "eve"]})
async def user_add(desk: Desk, *, addresses: list[str]) -> Answer:
    """Make users; answers which are new and which existed already."""
    return await _add(desk, dict.fromkeys(checked_addresses(addresses), ""))


@operation(Scope.BACKEND, example={"names": {"dave": "Dave", "eve": ""}})
async def user_import(desk: Desk, *, names: dict[str, str]) -> Answer:
    """Make users from addresses and names (a name may be empty); who existed already keeps his profile."""
    if not names:
        raise ArgumentError("name at least one address")
    for address in names:
        checked_address(address)
    return await _add(desk, names)


async def _add(desk: Desk, names: dict[str, str]) -> Answer:
    profiles = {address: merged_profile({}, {"name": name}) for address, name in names.items()}
    now = desk.now_ms

    def work(connection: sqlite3.Connection) -> list[str]:
        return [address for address, profile in profiles.items() if users.add(connection, address, now, profile)]

    added = await desk.messaging.store.committer.run(work)
    for address in added:
        desk.messaging.user_changed(address, reason="added")
    new = set(added)
    return {"added": added, "existed": [address for address in names if address not in new]}


@operation(Scope.BACKEND, example={"addresses": ["bob"]})
async def user_disable(desk: Desk, *, addresses: list[str]) -> Answer:
    """Disable users: they lose their connections within a second; what waits for them stays."""
    return await _set_active(desk, addresses, active=False)


@operation(Scope.BACKEND, example={"addresses": ["bob"]})
async def user_enable(desk: Desk, *, addresses: list[str]) -> Answer:
    """Enable disabled users; their tokens are good again unless they were revoked."""
    return await _set_active(desk, addresses, active=True)


async def _set_active(desk: Desk, addresses: list[str], *, active: bool) -> Answer:
    def work(connection: sqlite3.Connection) -> list[str]:
        found = managed_users(desk, connection, addresses)
        return [user.address for user in found if users.set_active(connection, user.id, active=active)]

    changed = await desk.messaging.store.committer.run(work)
    reason = "enabled" if active else "disabled"
    for address in changed:
        desk.messaging.user_changed(address, reason=reason)
    return {reason: changed, "unchanged": [each for each in dict.fromkeys(addresses) if each not in set(changed)]}


@operation(Scope.BACKEND, example={"addresses": ["bob"]})
async def user_delete(desk: Desk, *, addresses: list[str]) -> Answer:
    """Delete users with inbox, devices, memberships and tokens; who wrote to them is told `user-deleted`."""
    now_s = desk.now_s
    leaving = managed_users(desk, desk.read, addresses)

    def work(connection: sqlite3.Connection) -> list[UserRow]:
        found = managed_users(desk, connection, addresses)
        for user in found:
            users.delete(connection, user, now_s)
        return found

    try:
        for user in leaving:
            await desk.messaging.user_leaving(user.address)
        deleted = await desk.messaging.store.committer.run(work)
    except (OperationError, StoreError):
        for user in leaving:  # they stay, and can be written to as before
            desk.messaging.user_changed(user.address, reason="not deleted")
        raise
    for user in deleted:
        desk.messaging.user_deleted(user.id, user.address)
    return {"deleted": [user.address for user in deleted]}


@operation(Scope.BACKEND, example={"limit": 2}, is_lookup=True)
async def user_list(desk: Desk, *, after: str = "", limit: int = 1_000) -> Answer:
    """List users in the order of their addresses; `next` is where the next page begins, null at the end."""
    rows = users.page(desk.read, after, checked_limit(limit))
    return {"users": [_brief(user) for user in rows], "next": rows[-1].address if len(rows) == limit else None}


@operation(Scope.BACKEND, example={"address": "alice"}, is_lookup=True)
async def user_show(desk: Desk, *, address: str) -> Answer:
    """Show a user: state, profile, groups, devices, how many tokens are good and what waits for him."""
    user = known_user(desk.read, address)
    found = tokens.of_user(desk.read, user.id, TOKENS_COUNTED_MAX)
    return {
        **_brief(user),
        "profile": user.profile,
        **_class(user),
        "presence": desk.messaging.presence.view(None, address),
        "groups": users.groups_of(desk.read, user.id),
        "devices": [
            {"device": each.client_id, "online": each.online == 1, "seen_at": each.seen_at}
            for each in devices.of_user(desk.read, user.id)
        ],
        "tokens": sum(each.state(desk.now_s) == "valid" for each in found),
        "inbox": await desk.messaging.inbox.size(user.id),
    }


@operation(Scope.BACKEND, example={"address": "alice", "profile": {"name": "Alice"}, "rules": {"peers": "all"}})
async def user_set(
    desk: Desk,
    *,
    address: str,
    profile: dict[str, str] = _NOTHING,
    policy: str | None = None,
    rules: dict[str, str] = _NOTHING,
    privacy: dict[str, str] = _NOTHING,
) -> Answer:
    """Change a user's profile, name his policy, or say what differs for him from it. An empty value takes a key back.

    Of the profile others see `name`, `about`, `avatar` and what begins with `public.`; any other key is the backend's.
    """
    if not profile and policy is None and not rules and not privacy:
        raise ArgumentError("name at least one KEY=VALUE, for example name=Alice")
    checked_privacy(privacy)
    checked_rules(rules)
    if policy and desk.messaging.policies.named(policy) is None:
        raise OperationError("no-such-policy", f"no policy {policy[:64]!r}; make it with: mesimqtt policy set {policy}")

    def work(connection: sqlite3.Connection) -> UserRow:
        user = known_user(connection, address)
        checked_power(desk, connection, user)
        if profile:
            users.set_profile(connection, user.id, merged_profile(user.profile, profile))
        if policy is not None or rules:
            kept = {key: value for key, value in {**read_kept(user.rules), **rules}.items() if value}
            users.set_policy(connection, user.id, user.policy if policy is None else policy, kept)
        if privacy:
            change_privacy(connection, user, privacy)
        return known_user(connection, address)

    user = await desk.messaging.store.committer.run(work)
    desk.messaging.user_changed(address, reason="profile")
    return {"address": address, "profile": user.profile, **_class(user)}


def _class(user: UserRow) -> Answer:
    found: Answer = {"policy": user.policy or DEFAULT, "rules": read_kept(user.rules)}
    found |= {"privacy": read_kept(user.privacy)}
    return found | ({"expires_at": user.expires_at} if user.expires_at is not None else {})


def _brief(user: UserRow) -> Answer:
    return {
        "address": user.address,
        "state": _STATES.get(user.active, _STATES[0]),
        "name": user.profile.get("name", ""),
        "created_at": user.created_at,
    }
