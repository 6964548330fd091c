"""Operations on tokens (contract section 5 and section 7: `token`)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from mesimqtt.domain.access_rules import SCOPES
from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.entry import signed
from mesimqtt.messaging.operations_base import (
    FAR_FUTURE_S,
    Answer,
    ArgumentError,
    Caller,
    Desk,
    Scope,
    checked_power,
    known_user,
    known_users,
    operation,
)
from mesimqtt.store import tokens as rows
from mesimqtt.store import users
from mesimqtt.store.tokens import TokenRow
from mesimqtt.tokens import (
    SHORT_LENGTH,
    TOKEN_MAX_BYTES,
    TokenError,
    hash_short_token,
    new_jti,
    new_short_token,
)

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.store.users import UserRow

LISTED_MAX = 1_000
DEVICE_MAX_BYTES = 256
PACKET_MIN = 64  # below it not even a status fits
PACKET_MAX = 268_435_460


@operation(Scope.BACKEND, example={"addresses": ["bob"], "ttl": 3600, "device": "phone"})
async def token_issue(
    desk: Desk,
    *,
    addresses: list[str],
    ttl: int | None = None,
    device: str | None = None,
    scope: str = "user",
    short: bool = False,
    packet: int = 0,
) -> Answer:
    """Issue a token for each user, good for `ttl` seconds. `short`: 32 characters instead of a JWT.

    `device` binds the tokens to one client id; `packet` is the largest packet that a short token's device takes.
    Nobody issues a token that may do more than his own.
    """
    if scope in SCOPES and Caller(scope=scope).power > desk.caller.power:
        raise OperationError("forbidden", f"a token of scope {scope} is more than yours, {desk.caller.scope}, can give")
    now_s, settings, policies = desk.now_s, desk.messaging.settings.tokens, desk.messaging.policies
    _check_issue(settings.ttl_default_s if ttl is None else ttl, now_s, device, scope, short=short, packet=packet)

    def work(connection: sqlite3.Connection) -> tuple[list[tuple[UserRow, TokenRow, str]], list[tuple[int, str]]]:
        found = known_users(connection, addresses)
        disabled = [user.address for user in found if not user.active]
        if disabled:
            raise OperationError(
                "user-disabled", f"{disabled[0]!r} is disabled; first: mesimqtt user enable {disabled[0]}"
            )
        revoked, issued = [], []
        for user in found:
            policy = policies.of(user.policy, user.rules)
            if settings.single or policy.single_token:
                checked_power(desk, connection, user)
                revoked += [(user.id, jti) for jti in rows.revoke_all(connection, user.id, now_s)]
            lasting = ttl or policy.token_ttl_s or settings.ttl_default_s
            token, text = make_token(
                desk, connection, user, lasting, device=device, scope=scope, short=short, packet=packet
            )
            issued.append((user, token, text))
        return issued, revoked

    issued, revoked = await desk.messaging.store.committer.run(work)
    for number, jti in revoked:
        desk.messaging.token_revoked(number, jti)
    for user, token, text in issued:
        desk.messaging.entry.issued(user.address, token, text)
    return {
        "tokens": [
            {"address": user.address, "token": text, **brief_token(token, now_s)} for user, token, text in issued
        ]
    }


def make_token(
    desk: Desk,
    connection: sqlite3.Connection,
    user: UserRow,
    ttl: int,
    *,
    device: str | None = None,
    scope: str = "user",
    short: bool = False,
    packet: int = 0,
) -> tuple[TokenRow, str]:
    """Make a token of a user within a transaction; it ends with him at the latest. Return its row and its text."""
    now_s = desk.now_s
    end = now_s + ttl if user.expires_at is None else min(now_s + ttl, user.expires_at // 1000)
    token = TokenRow(new_jti(desk.messaging.chance), user.id, short, device, scope, packet, now_s, end)
    signer, chance = desk.messaging.signer, desk.messaging.chance
    text = new_short_token(chance) if short else signed(signer, user.address, token)
    rows.add(connection, token, hash_short_token(text) if short else None)
    return token, text


def checked_ttl(ttl: int, now_s: int) -> int:
    """Return how many seconds a token may live; raise ArgumentError otherwise."""
    if not 1 <= ttl <= FAR_FUTURE_S - now_s:
        raise ArgumentError("ttl must be at least 1 second and end before the year 10000")
    return ttl


def _check_issue(ttl: int, now_s: int, device: str | None, scope: str, *, short: bool, packet: int) -> None:
    checked_ttl(ttl, now_s)
    if scope not in SCOPES:
        raise ArgumentError(f"scope is one of {', '.join(sorted(SCOPES))}")
    if device is not None and not (device.isprintable() and 0 < len(device.encode()) <= DEVICE_MAX_BYTES):
        raise ArgumentError(f"device is a client id of 1 to {DEVICE_MAX_BYTES} bytes without control characters")
    if packet and not short:
        raise ArgumentError("packet goes with short: only a short token's device has a largest packet of its own")
    if packet and not PACKET_MIN <= packet <= PACKET_MAX:
        raise ArgumentError(f"packet is from {PACKET_MIN} to {PACKET_MAX} bytes")


@operation(Scope.BACKEND, example={"address": "bob"}, is_lookup=True)
async def token_list(desk: Desk, *, address: str) -> Answer:
    """List the newest thousand tokens of a user, newest first; never their text."""
    user = known_user(desk.read, address)
    found = rows.of_user(desk.read, user.id, LISTED_MAX)
    return {"address": user.address, "tokens": [brief_token(token, desk.now_s) for token in found]}


@operation(Scope.ADMIN, example={"token": "{token}"}, is_lookup=True)
async def token_show(desk: Desk, *, token: str) -> Answer:
    """Tell what a token says and whether it is good now; a JWT that does not verify is shown as it claims to be."""
    text = token.strip()
    if len(text) > TOKEN_MAX_BYTES:
        raise ArgumentError(f"a token has at most {TOKEN_MAX_BYTES} bytes")
    if text.count(".") == 2:
        return _show_jwt(desk, text)
    if len(text) != SHORT_LENGTH:
        raise ArgumentError(
            f"this is neither a JWT (three parts with dots) nor a short token ({SHORT_LENGTH} characters)"
        )
    row = rows.find_short(desk.read, hash_short_token(text))
    if row is None:
        raise OperationError("no-such-token", "no short token with this text was issued here")
    return {"kind": "short", **_judged(desk, row, users.by_id(desk.read, row.user_id))}


def _show_jwt(desk: Desk, text: str) -> Answer:
    try:
        claims = desk.messaging.signer.verify(text, desk.now_s)
    except TokenError as error:
        return {"kind": "jwt", "state": "invalid", "reason": str(error), "claims": _claims(text)}
    user = users.find(desk.read, claims.user)
    row = rows.find(desk.read, claims.jti)
    if row is not None and not claims.foreign:
        return {"kind": "jwt", **_judged(desk, row, user), "claims": _claims(text)}
    state, reason = _user_state(desk, user, claims.issued_at)
    if not claims.foreign:
        state, reason = "invalid", "signed with our secret, but not issued from this data folder"
    shown = {"address": claims.user, "jti": claims.jti, "state": state, "reason": reason, "foreign": claims.foreign}
    return {"kind": "jwt", **{key: value for key, value in shown.items() if value != ""}, "claims": _claims(text)}


def _judged(desk: Desk, row: TokenRow, user: UserRow | None) -> Answer:
    brief = brief_token(row, desk.now_s)
    state, reason = brief["state"], ""
    if state == "valid":
        if user is not None and user.id != row.user_id:
            user = None
        state, reason = _user_state(desk, user, row.issued_at)
    answer = {"address": user.address if user else None, **brief, "state": state}
    return {**answer, "reason": reason} if reason else answer


def _user_state(desk: Desk, user: UserRow | None, issued_at: int) -> tuple[str, str]:
    if user is None:
        return "invalid", "its user does not exist"
    if not user.active:
        return "invalid", "its user is disabled"
    if issued_at < user.created_at // 1000 and users.had_namesake(desk.read, user.address):
        return "invalid", "issued before its user was made, and somebody who was deleted had this address"
    return "valid", ""


def _claims(text: str) -> dict[str, object]:
    segment = text.split(".")[1].encode("utf-8", "replace")
    try:
        claims = json.loads(base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4)))
    except (ValueError, RecursionError):
        raise ArgumentError("this is no JWT: its middle part is not base64url of JSON") from None
    if not isinstance(claims, dict):
        raise ArgumentError("this is no JWT: its middle part is not a JSON object")
    return claims


@operation(Scope.BACKEND, example={"what": "bob"})
async def token_revoke(desk: Desk, *, what: str) -> Answer:
    """Revoke a token by its jti, or all tokens of a user by his address; their connections close within a second."""
    now_s = desk.now_s

    def work(connection: sqlite3.Connection) -> tuple[int, list[str]]:
        token = rows.find(connection, what)
        if token is not None:
            if Caller(scope=token.scope).power > desk.caller.power:
                raise OperationError("forbidden", f"a token of scope {token.scope} is revoked by an admin only")
            return token.user_id, [what] if rows.revoke(connection, what, now_s) else []
        user = users.find(connection, what)
        if user is None:
            raise OperationError(
                "no-such-token", f"{what[:80]!r} is neither the jti of a token nor the address of a user"
            )
        checked_power(desk, connection, user)
        return user.id, rows.revoke_all(connection, user.id, now_s)

    number, revoked = await desk.messaging.store.committer.run(work)
    for jti in revoked:
        desk.messaging.token_revoked(number, jti)
    return {"revoked": revoked}


def brief_token(token: TokenRow, now_s: int) -> Answer:
    """Return what may be told of a token: all but its text."""
    return {
        "jti": token.jti,
        "state": token.state(now_s),
        "short": bool(token.is_short),
        "scope": token.scope,
        "device": token.device,
        "packet": token.packet_max or None,
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }
