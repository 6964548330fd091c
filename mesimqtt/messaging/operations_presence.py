"""Operations on presence: asking for it, and following people so that it comes by itself (docs/presence.md)."""

from __future__ import annotations

from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_addresses,
    known_user,
    operation,
)
from mesimqtt.messaging.operations_people import cut_ties, policy_of, put_ties, ties_page
from mesimqtt.store.ties import Tie

ASKED_MAX = 100


@operation(Scope.USER, actor="user", example={"user": "alice", "addresses": ["bob"]}, is_lookup=True)
async def presence(desk: Desk, *, user: str, addresses: list[str]) -> Answer:
    """Tell who of some people is online, as far as a user may see it; a backend that names itself sees all.

    The answer is `unknown` alike for whom one may not see and for whom there is not.
    """
    found = checked_addresses(addresses)
    if len(found) > ASKED_MAX:
        raise ArgumentError(f"at most {ASKED_MAX} addresses at once")
    known_user(desk.read, user)
    is_above = desk.caller.power > Scope.USER and user == desk.caller.user
    asker = None if is_above else desk.messaging.people.user(user)
    view = desk.messaging.presence.view
    return {"user": user, "presence": [{"address": each, **view(asker, each)} for each in found]}


@operation(Scope.USER, actor="user", example={"user": "alice", "addresses": ["bob"]})
async def presence_follow(desk: Desk, *, user: str, addresses: list[str]) -> Answer:
    """Follow people: their state comes on `in/presence/u/{peer}` now, at each change, and after each connect.

    It says nothing of whether there is somebody of that address, or whether he lets himself be seen.
    """
    found = checked_addresses(addresses)
    await put_ties(desk, user, Tie.FOLLOW, dict.fromkeys(found, ""), policy_of(desk, user).follows_max)
    follower = desk.messaging.people.user(user)
    if follower is not None:
        desk.messaging.presence.follows_changed(follower, found)
    return {"user": user, "following": found}


@operation(Scope.USER, actor="user", example={"user": "alice", "addresses": ["bob"]})
async def presence_unfollow(desk: Desk, *, user: str, addresses: list[str]) -> Answer:
    """Follow people no more; answers who was followed."""
    removed = await cut_ties(desk, user, Tie.FOLLOW, addresses)
    follower = desk.messaging.people.user(user)
    if follower is not None:
        desk.messaging.presence.follows_changed(follower)
    return {"user": user, "removed": removed}


@operation(Scope.USER, actor="user", example={"user": "alice"}, is_lookup=True)
async def presence_following(desk: Desk, *, user: str, after: str = "", limit: int = 1_000) -> Answer:
    """List whom a user follows, in the order of their addresses; `next` is where the next page begins."""
    rows, following = ties_page(desk, user, Tie.FOLLOW, after, limit)
    return {"user": user, "following": [row.peer for row in rows], "next": following}
