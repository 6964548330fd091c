"""Operations on people: contacts, blocks, pairs, profiles, and what each keeps to himself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.policies import BLOCK_KINDS, PRIVACY, Block, PolicyError, checked_choice
from mesimqtt.domain.strict_json import read_kept
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_addresses,
    checked_limit,
    known_user,
    known_users,
    merged_profile,
    operation,
)
from mesimqtt.store import ties, users
from mesimqtt.store.ties import Tie

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.policies import Policy
    from mesimqtt.store.users import UserRow

ABOUT_MAX = 1_024
AVATAR_MAX = 2_048
PUBLIC = "public."  # keys that a user may make himself, and others see; all others are the backend's
_SHOWN = ("name", "about", "avatar")
_PAIRS_MAX = 10_000


async def put_ties(desk: Desk, user: str, kind: Tie, peers: dict[str, str], most: int) -> None:
    """Make ties of a user, within a bound."""
    number, now_ms = known_user(desk.read, user).id, desk.now_ms

    def work(connection: sqlite3.Connection) -> None:
        ties.put(connection, number, kind, peers, now_ms)
        if ties.count(connection, number, kind) > most:
            raise OperationError("too-many", f"at most {most} of them; nothing was changed")

    await desk.messaging.store.committer.run(work)


async def cut_ties(desk: Desk, user: str, kind: Tie, peers: list[str]) -> list[str]:
    """Remove ties of a user; return to whom there were some."""
    number, addresses = known_user(desk.read, user).id, checked_addresses(peers)
    return await desk.messaging.store.committer.run(lambda connection: ties.cut(connection, number, kind, addresses))


def ties_page(desk: Desk, user: str, kind: Tie, after: str, limit: int) -> tuple[list[ties.TieRow], str | None]:
    """Return a page of ties, and where the next one begins."""
    rows = ties.page(desk.read, known_user(desk.read, user).id, kind, after, checked_limit(limit))
    return rows, rows[-1].peer if len(rows) == limit else None


# ---- contacts --------------------------------------------------------------------------------------------------------


@operation(Scope.USER, actor="user", example={"user": "alice", "contacts": {"bob": "Bobby"}})
async def contact_add(desk: Desk, *, user: str, contacts: dict[str, str]) -> Answer:
    """Put people into a user's contacts, each with the user's own name for him (or an empty one).

    It says nothing of whether there is somebody of that address: like a telephone book.
    """
    names = {checked_address(address): name for address, name in contacts.items()}
    if not names:
        raise ArgumentError("name at least one contact")
    for name in names.values():
        merged_profile({}, {"name": name})
    await put_ties(desk, user, Tie.CONTACT, names, policy_of(desk, user).contacts_max)
    desk.messaging.people.ties_changed(user, list(names))
    return {"user": user, "contacts": names}


@operation(Scope.USER, actor="user", example={"user": "alice", "contacts": ["bob"]})
async def contact_remove(desk: Desk, *, user: str, contacts: list[str]) -> Answer:
    """Take people out of a user's contacts; answers who was in them."""
    removed = await cut_ties(desk, user, Tie.CONTACT, contacts)
    desk.messaging.people.ties_changed(user, removed)
    return {"user": user, "removed": removed}


@operation(Scope.USER, actor="user", example={"user": "alice"}, is_lookup=True)
async def contact_list(desk: Desk, *, user: str, after: str = "", limit: int = 1_000) -> Answer:
    """List a user's contacts in the order of their addresses; `next` is where the next page begins."""
    rows, following = ties_page(desk, user, Tie.CONTACT, after, limit)
    listed = [{"address": row.peer, "name": row.value, "since": row.since} for row in rows]
    return {"user": user, "contacts": listed, "next": following}


# ---- blocks ----------------------------------------------------------------------------------------------------------


@operation(Scope.USER, actor="user", example={"user": "alice", "peers": ["carol"], "kinds": "messages,presence"})
async def block_add(desk: Desk, *, user: str, peers: list[str], kinds: str = "all") -> Answer:
    """Keep people off: `messages`, `group` (their messages in groups), `presence` (and profile), or `all`, by comma."""
    bits = Block(0)
    for kind in kinds.split(","):
        if kind.strip() not in BLOCK_KINDS:
            raise ArgumentError(f"kinds are {', '.join(BLOCK_KINDS)}, with commas between")
        bits |= BLOCK_KINDS[kind.strip()]
    addresses = checked_addresses(peers)
    if user in addresses:
        raise ArgumentError("nobody blocks himself")
    blocked = dict.fromkeys(addresses, str(int(bits)))
    await put_ties(desk, user, Tie.BLOCK, blocked, policy_of(desk, user).blocks_max)
    desk.messaging.people.ties_changed(user, addresses, are_blocks=True)
    return {"user": user, "blocked": addresses, "kinds": _kinds(bits)}


@operation(Scope.USER, actor="user", example={"user": "alice", "peers": ["carol"]})
async def block_remove(desk: Desk, *, user: str, peers: list[str]) -> Answer:
    """Let people through again; what they wrote meanwhile stays away. Answers who was blocked."""
    removed = await cut_ties(desk, user, Tie.BLOCK, peers)
    desk.messaging.people.ties_changed(user, removed, are_blocks=True)
    return {"user": user, "removed": removed}


@operation(Scope.USER, actor="user", example={"user": "alice"}, is_lookup=True)
async def block_list(desk: Desk, *, user: str, after: str = "", limit: int = 1_000) -> Answer:
    """List whom a user blocks, in the order of their addresses; `next` is where the next page begins."""
    rows, following = ties_page(desk, user, Tie.BLOCK, after, limit)
    listed = [{"address": row.peer, "kinds": _kinds(int(row.value)), "since": row.since} for row in rows]
    return {"user": user, "blocked": listed, "next": following}


def _kinds(bits: int) -> list[str]:
    return ["all"] if bits == Block.ALL else [name for name, kind in BLOCK_KINDS.items() if kind == bits & kind]


# ---- pairs -----------------------------------------------------------------------------------------------------------


@operation(Scope.BACKEND, example={"address": "alice", "peers": ["bob"]})
async def pair_add(desk: Desk, *, address: str, peers: list[str]) -> Answer:
    """Pair a user with others, both ways: whose policy says `peers: paired` exchanges messages with those alone."""
    return await _pair(desk, address, peers, is_new=True)


@operation(Scope.BACKEND, example={"address": "alice", "peers": ["bob"]})
async def pair_remove(desk: Desk, *, address: str, peers: list[str]) -> Answer:
    """Undo pairs, both ways."""
    return await _pair(desk, address, peers, is_new=False)


async def _pair(desk: Desk, address: str, peers: list[str], *, is_new: bool) -> Answer:
    now_ms = desk.now_ms

    def work(connection: sqlite3.Connection) -> None:
        user, others = known_user(connection, address), known_users(connection, peers)
        for other in others:
            for one, two in ((user, other), (other, user)):
                if is_new:
                    ties.put(connection, one.id, Tie.PAIR, {two.address: ""}, now_ms)
                    if ties.count(connection, one.id, Tie.PAIR) > _PAIRS_MAX:
                        raise OperationError("too-many", f"at most {_PAIRS_MAX} pairs; nothing was changed")
                else:
                    ties.cut(connection, one.id, Tie.PAIR, [two.address])

    await desk.messaging.store.committer.run(work)
    desk.messaging.people.ties_changed(address, peers)
    return {"address": address, "paired" if is_new else "removed": checked_addresses(peers)}


@operation(Scope.BACKEND, example={"address": "alice"}, is_lookup=True)
async def pair_list(desk: Desk, *, address: str, after: str = "", limit: int = 1_000) -> Answer:
    """List with whom a user is paired, in the order of their addresses; `next` is where the next page begins."""
    rows, following = ties_page(desk, address, Tie.PAIR, after, limit)
    return {"address": address, "paired": [row.peer for row in rows], "next": following}


# ---- profile and privacy ---------------------------------------------------------------------------------------------


@operation(Scope.USER, actor="user", example={"user": "alice", "address": "bob"}, is_lookup=True)
async def profile(desk: Desk, *, user: str, address: str) -> Answer:
    """Show what a user may see of somebody: name, about, avatar, keys that begin with `public.`, and his receipts."""
    messaging = desk.messaging
    known_user(desk.read, user)
    asker = messaging.people.user(user)
    other = messaging.people.user(checked_address(address))
    if asker is None or other is None or not other.active or not messaging.people.may_know(asker, other):
        raise OperationError("no-such-profile", f"there is no {address!r} whom {user!r} may know")
    answer: Answer = {"address": address, "receipts": messaging.people.audience(other, "receipts")}
    if messaging.people.may_see(asker, other, "profile"):
        answer["profile"] = public_profile(known_user(desk.read, address).profile)
    return answer


def public_profile(found: dict[str, str]) -> dict[str, str]:
    """Return what of a profile is for others."""
    return {key: value for key, value in found.items() if key in _SHOWN or key.startswith(PUBLIC)}


@operation(Scope.USER, actor="user", example={"user": "alice", "profile": {"name": "Alice", "about": "at sea"}})
async def profile_set(desk: Desk, *, user: str, profile: dict[str, str]) -> Answer:
    """Change one's own profile: name, about, avatar (an http(s) address), keys with `public.`; empty removes a key."""
    if not profile:
        raise ArgumentError("name at least one of name, about, avatar")
    for key, value in profile.items():
        _check_public(key, value)

    def work(connection: sqlite3.Connection) -> dict[str, str]:
        row = known_user(connection, user)
        merged = merged_profile(row.profile, profile)
        users.set_profile(connection, row.id, merged)
        return merged

    return {"user": user, "profile": public_profile(await desk.messaging.store.committer.run(work))}


def _check_public(key: str, value: str) -> None:
    if key not in _SHOWN and not (key.startswith(PUBLIC) and key != PUBLIC):
        raise ArgumentError(f"{key[:64]!r}: a user sets {', '.join(_SHOWN)} and keys that begin with {PUBLIC}")
    if key == "about" and len(value) > ABOUT_MAX:
        raise ArgumentError(f"about: at most {ABOUT_MAX} characters")
    if key == "avatar" and value and not _is_web_address(value):
        raise ArgumentError(f"avatar: an http:// or https:// address of at most {AVATAR_MAX} characters")


def _is_web_address(value: str) -> bool:
    if len(value) > AVATAR_MAX or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        address = urlsplit(value)
    except ValueError:  # a bracket that is no IPv6 address
        return False
    return address.scheme in ("http", "https") and bool(address.netloc)


@operation(Scope.USER, actor="user", example={"user": "alice"}, is_lookup=True)
async def privacy(desk: Desk, *, user: str) -> Answer:
    """Tell who may see what of a user, and which receipts he gives; `own` is what he has decided himself."""
    return _privacy_of(desk, user)


@operation(Scope.USER, actor="user", example={"user": "alice", "privacy": {"last_seen": "nobody"}})
async def privacy_set(desk: Desk, *, user: str, privacy: dict[str, str]) -> Answer:
    """Decide who sees `presence`, `last_seen` and `profile` (all, contacts, nobody), and which `receipts` one gives.

    Receipts are all, delivered (no READ) or none. An empty value leaves it to the policy again.
    """
    checked_privacy(privacy)

    def work(connection: sqlite3.Connection) -> None:
        change_privacy(connection, known_user(connection, user), privacy)

    await desk.messaging.store.committer.run(work)
    desk.messaging.people.privacy_changed(user)
    return _privacy_of(desk, user)


def _privacy_of(desk: Desk, user: str) -> Answer:
    row, people = known_user(desk.read, user), desk.messaging.people
    found = people.user(user)
    shown = {what: people.audience(found, what) for what in PRIVACY} if found is not None else {}
    return {"user": row.address, "privacy": shown, "own": read_kept(row.privacy)}


def checked_privacy(changes: dict[str, str]) -> None:
    """Raise ArgumentError unless these are decisions that a user can take."""
    for key, value in changes.items():
        if key not in PRIVACY:
            raise ArgumentError(f"{key[:64]!r}: there are {', '.join(PRIVACY)}")
        try:
            checked_choice(key, value or "all")
        except PolicyError as error:
            raise ArgumentError(str(error)) from None


def change_privacy(connection: sqlite3.Connection, row: UserRow, changes: dict[str, str]) -> None:
    """Keep what a user decides himself, within a transaction."""
    kept = {**read_kept(row.privacy), **changes}
    users.set_privacy(connection, row.id, {key: value for key, value in kept.items() if value})


def policy_of(desk: Desk, user: str) -> Policy:
    """Return what holds for a user."""
    row = known_user(desk.read, user)
    return desk.messaging.policies.of(row.policy, row.rules)
