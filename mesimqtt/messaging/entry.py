"""Who may enter: JWTs, short device tokens and client certificates against the users (contract section 5)."""

from __future__ import annotations

import asyncio
import hmac
import logging
import sqlite3
from typing import TYPE_CHECKING

from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError
from mesimqtt.hooks import ConnectRequest, Identity, Refusal
from mesimqtt.messaging.known_tokens import KnownTokens
from mesimqtt.store import tokens as rows
from mesimqtt.tokens import SHORT_LENGTH, Claims, TokenError, TokenSigner, hash_short_token

if TYPE_CHECKING:
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.policies import Policies

log = logging.getLogger(__name__)
NOT_AUTHORIZED, _UNAVAILABLE = 5, 3  # as a CONNACK says it
_RATE_EXCEEDED = 0x9F  # [MQTT 5.0, section 3.2.2.2]: Connection rate exceeded
_KNOWN_MAX = 20_000
AHEAD_MAX = 10_000  # tokens that are read ahead after a start
AHEAD_AT_ONCE = 30  # a millisecond's work, between two turns of the loop
PROBE_USER = "$health"  # nobody's address, so that it has no inbox and no rule names it


class Entry:
    """Checks the token of a CONNECT. A refusal is the same 5 to the client whatever its reason; the log has it."""

    def __init__(self, hub: Hub, signer: TokenSigner, policies: Policies) -> None:
        self._hub = hub
        self._policies = policies
        self._signer = signer
        self._known = KnownTokens(_KNOWN_MAX)
        self._is_closed = False
        self.probe = hub.chance.hex(32).encode()  # the password of the server's own health check, never written

    def forget(self, address: str) -> None:
        """Look at this user's tokens anew: he changed, or one of them."""
        self._known.forget(address)

    def forget_all(self) -> None:
        """Look at every token anew: the keys changed."""
        self._known.clear()

    def issued(self, address: str, token: rows.TokenRow, text: str) -> None:
        """Know a token that was just committed, as if it had been here: most likely it comes soon."""
        user = self._hub.directory.known_user(token.user_id)
        if user is None or (user.active and not user.is_leaving):  # who is not in memory was active in the transaction
            self._known.add(text.encode(), _of_row(address, token))

    def close(self) -> None:
        """Read nothing ahead any more."""
        self._is_closed = True

    async def read_ahead(self) -> None:
        """Read the newest tokens and their users, a few at a time: after a restart all of them come at once.

        Each is signed anew, for the same claims have the same signature, and is known from then on as if it had been
        here. Read on the loop, as at a CONNECT: whatever changes meanwhile is told here after what was read before it.
        """
        store = self._hub.store
        count = min(AHEAD_MAX, self._hub.settings.store.cache_users // 2)
        try:
            newest = rows.newest(store.read)
            for upto in range(newest, max(newest - count, 0), -AHEAD_AT_ONCE):
                for token, row in rows.ahead(store.read, upto - AHEAD_AT_ONCE, upto, self._hub.now_ms() // 1000):
                    self._expect(token, self._hub.directory.arrived(row))
                await asyncio.sleep(0)
                if self._is_closed:
                    return
        except sqlite3.Error as error:
            log.warning("tokens are not read ahead (%s); each is looked up when it comes", error)

    def _expect(self, token: rows.TokenRow, user: User) -> None:
        # Who is online already has most likely brought it.
        if user.active and not user.is_leaving and not user.devices and not self._known.is_full:
            self._known.add(signed(self._signer, user.address, token).encode(), _of_row(user.address, token))

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal:
        """Return who this is, or why not."""
        password = request.password
        if request.certificate_user is not None and not password:
            return self._certified(request.certificate_user, request)
        if password is None:
            return Refusal(NOT_AUTHORIZED, "no token: connect with the address as user name and the token as password")
        identity = self._known.find(password)
        if identity is None and hmac.compare_digest(password, self.probe):
            return Identity(user=PROBE_USER)
        if identity is None:
            try:
                identity = self._short(password) if len(password) == SHORT_LENGTH else self._jwt(password, request)
            except (TokenError, AddressError) as error:
                return Refusal(NOT_AUTHORIZED, str(error))
            self._known.add(password, identity)
        misfit = self._misfit(identity, request)
        return Refusal(NOT_AUTHORIZED, misfit) if misfit else self._in_time(identity)

    def _in_time(self, identity: Identity) -> Identity | Refusal:
        """Return who this is, unless his policy says that he connects too often."""
        user = self._hub.directory.user(identity.user)
        limit = self._policies.limit(user.policy.logins) if user is not None and user.policy.logins else None
        if limit is not None and (wait := limit.take(identity.user, self._hub.now())):
            return Refusal(_UNAVAILABLE, f"connects too often for his policy, next in {wait:.1f} s", _RATE_EXCEEDED)
        return identity

    def _certified(self, name: str, request: ConnectRequest) -> Identity | Refusal:
        """Let in whom a verified certificate names: TLS has proved what a token would."""
        if request.username and request.username != name:
            return Refusal(NOT_AUTHORIZED, "the certificate belongs to another user")
        try:
            user = self._hub.directory.user(check_address(name))
        except AddressError as error:
            return Refusal(NOT_AUTHORIZED, f"the certificate's name: {error}")
        if user is None or not user.active:
            return Refusal(NOT_AUTHORIZED, "no such user, or disabled")
        return self._in_time(Identity(user=user.address))

    def _misfit(self, identity: Identity, request: ConnectRequest) -> str:
        """Return why a good token is not one for this CONNECT; '' if it is."""
        if identity.expires_at <= self._hub.now_ms() / 1000:
            return "the token has expired"
        if request.username and request.username != identity.user:
            return "the token belongs to another user"
        if request.certificate_user is not None and request.certificate_user != identity.user:
            return "token and certificate belong to different users"
        # A request of HTTP (version 0) has no client id: there a bound token speaks for its device.
        if identity.device is not None and request.version and request.client_id != identity.device:
            return "the token is bound to another device"
        return ""

    def _jwt(self, password: bytes, request: ConnectRequest) -> Identity:
        claims = self._signer.verify(password, self._hub.now_ms() / 1000)
        if not claims.foreign and self._is_good(claims):
            return _identity(claims)
        address = check_address(claims.user)
        user = self._hub.directory.user(address)
        if user is None and claims.foreign and self._hub.settings.tokens.auto_create:
            misfit = self._misfit(_identity(claims), request)
            if misfit:  # before it makes a user
                raise TokenError(misfit)
            user = self._hub.directory.create(address, self._hub.now_ms())
        if user is None or not user.active:
            raise TokenError("no such user, or disabled")
        if not claims.foreign:
            row = rows.find(self._hub.store.read, claims.jti)
            if row is None or row.user_id != user.id or row.revoked_at is not None:
                raise TokenError("the token was revoked")
        elif claims.issued_at < user.created_at // 1000 and self._hub.directory.had_namesake(user):
            raise TokenError("the token is older than the user, and somebody who was deleted had this address")
        return _identity(claims)

    def _is_good(self, claims: Claims) -> bool:
        """Ask the store, once, about one of our own tokens; False where anything is wrong with it or its user."""
        row = rows.arrival(self._hub.store.read, claims.jti)
        if row is None or row.address != claims.user or row.revoked_at is not None or not row.active:
            return False
        user = self._hub.directory.arrived(row)
        return user.active and not user.is_leaving

    def _short(self, password: bytes) -> Identity:
        try:
            digest = hash_short_token(password.decode("ascii"))
        except UnicodeDecodeError:
            raise TokenError("not a token") from None
        row = rows.find_short(self._hub.store.read, digest)
        if row is None or row.revoked_at is not None:
            raise TokenError("no such short token, or revoked")
        user = self._hub.directory.user_by_id(row.user_id)
        if user is None or not user.active:
            raise TokenError("no such user, or disabled")
        return _of_row(user.address, row)


def signed(signer: TokenSigner, address: str, token: rows.TokenRow) -> str:
    """Return the JWT of a token of a user as it is kept, the same each time."""
    return signer.issue(
        address,
        now=token.issued_at,
        ttl_s=token.expires_at - token.issued_at,
        jti=token.jti,
        scope=token.scope,
        device=token.device,
    )


def _of_row(address: str, token: rows.TokenRow) -> Identity:
    return Identity(
        user=address,
        jti=token.jti,
        scope=token.scope,
        device=token.device,
        expires_at=float(token.expires_at),
        packet_max=token.packet_max,
    )


def _identity(claims: Claims) -> Identity:
    return Identity(
        user=claims.user,
        jti=claims.jti,
        scope=claims.scope,
        device=claims.device,
        expires_at=float(claims.expires_at),
        acl=claims.acl,
    )
