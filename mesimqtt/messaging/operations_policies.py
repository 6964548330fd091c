"""Operations on policies, and on guests, whose policy lets them live for a day (docs/people.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.policies import DEFAULT, GUEST, Policy, PolicyError, rules_of, with_rules
from mesimqtt.messaging.operations_base import Answer, ArgumentError, Desk, Scope, merged_profile, operation
from mesimqtt.messaging.operations_tokens import brief_token, checked_ttl, make_token
from mesimqtt.store import policies as rows
from mesimqtt.store import users

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.store.tokens import TokenRow

NAME_MAX = 64
POLICIES_MAX = 1_000
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # what nobody mistakes for something else


@operation(Scope.BACKEND, is_lookup=True)
async def policy_list(desk: Desk) -> Answer:
    """List the policies, where each stands, and how many users name it."""
    policies = desk.messaging.policies
    return {
        "policies": [
            {"name": name, "configured": policies.is_configured(name), "users": rows.users_of(desk.read, name)}
            for name in policies.names
        ]
    }


@operation(Scope.BACKEND, example={"name": "default"}, is_lookup=True)
async def policy_show(desk: Desk, *, name: str) -> Answer:
    """Show all rules of a policy; an empty one is left to the server."""
    policies = desk.messaging.policies
    policy = policies.named(name)
    if policy is None:
        raise OperationError("no-such-policy", f"no policy {name[:NAME_MAX]!r}; there are {', '.join(policies.names)}")
    return {"name": name, "configured": policies.is_configured(name), "rules": rules_of(policy)}


@operation(Scope.ADMIN, example={"name": "staff", "rules": {"messages": "60:120", "silent_blocks": "on"}})
async def policy_set(desk: Desk, *, name: str, rules: dict[str, str]) -> Answer:
    """Make a policy, or change rules of one (`on`, `off`, numbers, choices, windows); empty takes a rule back.

    Whoever has it is bound by it from now on.
    """
    policies = desk.messaging.policies
    if not name or len(name) > NAME_MAX or not name.isprintable() or name != name.strip() or "=" in name:
        raise ArgumentError(f"a policy's name has 1 to {NAME_MAX} printable characters, no = and no outer spaces")
    if policies.is_configured(name):
        raise OperationError("configured", f"{name} stands in the configuration; change it there")
    checked_rules(rules)

    def work(connection: sqlite3.Connection) -> None:
        made = rows.load(connection)
        if name not in made and len(made) >= POLICIES_MAX:
            raise OperationError("too-many", f"at most {POLICIES_MAX} policies")
        kept = {key: value for key, value in {**(made.get(name) or {}), **rules}.items() if value}
        rows.save(connection, name, kept)

    await desk.messaging.store.committer.run(work)
    desk.messaging.people.policies_changed()
    return await policy_show(desk, name=name)


def checked_rules(rules: dict[str, str]) -> None:
    """Raise ArgumentError unless these are rules; an empty value takes one back."""
    known = rules_of(Policy())
    try:
        with_rules(Policy(), {key: value for key, value in rules.items() if value or key not in known})
    except PolicyError as error:
        raise ArgumentError(str(error)) from None


@operation(Scope.ADMIN, example={"name": "staff"})
async def policy_delete(desk: Desk, *, name: str) -> Answer:
    """Delete a policy that no user names; answers whether there was one."""
    if desk.messaging.policies.is_configured(name):
        raise OperationError("configured", f"{name} stands in the configuration; change it there")

    def work(connection: sqlite3.Connection) -> bool:
        if number := rows.users_of(connection, name):
            raise OperationError("in-use", f"{number} users have it; first give them another")
        return rows.delete(connection, name)

    is_deleted = await desk.messaging.store.committer.run(work)
    desk.messaging.people.policies_changed()
    return {"name": name, "deleted": is_deleted}


@operation(Scope.BACKEND, example={"name": "Visitor", "ttl": 3600})
async def guest_add(desk: Desk, *, name: str = "", ttl: int | None = None) -> Answer:
    """Make a guest: a user with an address of the server's, policy `guest` and a token; all ends together.

    It ends after `ttl` seconds, or when the policy says, whichever comes first.
    """
    policy = desk.messaging.policies.named(GUEST) or desk.messaging.policies.of(DEFAULT, "{}")
    bounds = [each for each in (ttl, policy.expires_s) if each]
    if ttl == 0 or not bounds:
        raise ArgumentError("say with ttl how many seconds the guest has: the policy guest sets no end")
    lasting, now_ms = checked_ttl(min(bounds), desk.now_s), desk.now_ms
    address = f"guest-{desk.messaging.chance.letters(_ALPHABET, 12)}"
    profile = merged_profile({}, {"name": name})

    def work(connection: sqlite3.Connection) -> tuple[TokenRow, str]:
        users.add(connection, address, now_ms, profile)
        row = users.find(connection, address)
        assert row is not None  # noqa: S101 - made just now
        users.set_policy(connection, row.id, GUEST, {})
        users.set_end(connection, row.id, now_ms + lasting * 1000)
        return make_token(desk, connection, row, lasting)

    token, text = await desk.messaging.store.committer.run(work)
    desk.messaging.user_changed(address, reason="added")
    desk.messaging.entry.issued(address, token, text)
    return {
        "address": address,
        "expires_at": (now_ms + lasting * 1000) // 1000,
        "token": {"token": text, **brief_token(token, desk.now_s)},
    }
