"""Tokens: signed JWTs and short device tokens (contract section 5). The only place that imports jwt."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt

from mesimqtt.domain.access_rules import SCOPES
from mesimqtt.domain.chance import SYSTEM
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesimqtt.domain.chance import Chance

AUDIENCE = "mesimqtt"
SHORT_LENGTH = 32
TOKEN_MAX_BYTES = 4096
EXP_MAX = 2**40
KID_MAX = 256
KEYS_MAX = 100
_SECRET_MAX = 64 * 1024  # bytes of the secret's file
_KEYS_FILE_MAX = 1024 * 1024  # bytes of a file of keys: one is read again while the server runs
_BLOCK = 64  # bytes of a block of SHA-256
_REQUIRED = ["sub", "aud", "iss", "iat", "exp", "jti"]
_read_json = json.JSONDecoder().raw_decode  # without `json.loads`' look for encodings and blanks around
_write_json = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` would make an encoder for each
_REQUIRED_KEYS = frozenset(_REQUIRED)
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
_FORBIDDEN_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64"})


class TokenError(ValueError):
    """A token was not accepted. The text goes to the log, never to the client."""


class Claims(NamedTuple):
    """The verified contents of a token. Times are seconds since 1970."""

    user: str
    jti: str
    issued_at: int
    expires_at: int
    scope: str
    device: str | None
    acl: tuple[tuple[str, str], ...]
    foreign: bool = False


class PublicKey(NamedTuple):
    """A key of somebody whose tokens are accepted: it decides the algorithm. `kid` names it in a JWKS, '' for none."""

    algorithm: str
    key: Any
    kid: str = ""


class TokenSigner:
    """Signs with the server's own HS256 secret and verifies with it or with configured public keys.

    The algorithm is fixed by the key in the configuration, never by the token's header. `on_unknown_kid` is called
    with the name of a key that a token claims and nobody here knows.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        issuer: str,
        leeway_s: int = 30,
        public_keys: Sequence[PublicKey] = (),
        foreign_issuers: tuple[str, ...] = (),
    ) -> None:
        if len(secret) < 32:
            raise MesimqttError("the token secret is shorter than 32 bytes; delete it to have a new one made")
        self._secret = secret
        # HMAC (RFC 2104) in its two halves, with the key worked in: copying them takes half of what `hmac` takes.
        key = secret if len(secret) <= _BLOCK else hashlib.sha256(secret).digest()
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key.ljust(_BLOCK, b"\0")))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key.ljust(_BLOCK, b"\0")))
        self._issuer = issuer
        self._leeway_s = leeway_s
        self.public_keys = list(public_keys)
        self.on_unknown_kid: Callable[[str], None] = _nobody
        self._foreign_issuers = foreign_issuers or (issuer,)
        # What every token of ours begins with: one that begins so has a header that needs no reading.
        self._own_head = jwt.encode({}, secret, algorithm="HS256").partition(".")[0].encode() + b"."

    def derive(self, purpose: bytes, salt: bytes) -> bytes:
        """Return 32 bytes that nobody can know without the server's secret, for another use than tokens."""
        # No signed text of a JWT begins so: it has no NUL.
        return hmac.digest(self._secret, b"\0" + purpose + b"\0" + salt, "sha256")

    def issue(
        self,
        user: str,
        *,
        now: int,
        ttl_s: int,
        jti: str,
        scope: str = "user",
        device: str | None = None,
        acl: tuple[tuple[str, str], ...] = (),
    ) -> str:
        """Return a signed token for `user` that lives for `ttl_s` seconds."""
        claims: dict[str, Any] = {
            "sub": user,
            "aud": AUDIENCE,
            "iss": self._issuer,
            "iat": now,
            "exp": now + ttl_s,
            "jti": jti,
            "scope": scope,
        }
        if device is not None:
            claims["dev"] = device
        if acl:
            claims["acl"] = [{"allow": action, "topic": topic} for action, topic in acl]
        text = _write_json(claims).encode()
        signed = self._own_head + binascii.b2a_base64(text, newline=False).translate(_TO_URL).rstrip(b"=")
        return (signed + b"." + self._signature(signed)).decode()

    def _signature(self, signed: bytes) -> bytes:
        """Return the HS256 signature as a token carries it."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return binascii.b2a_base64(outer.digest(), newline=False).translate(_TO_URL)[:-1]  # without its one "="

    def verify(self, token: str | bytes, now: float) -> Claims:
        """Return the claims of a token that is valid at `now`; raise TokenError otherwise."""
        raw = token.encode() if isinstance(token, str) else token
        if len(raw) > TOKEN_MAX_BYTES:
            raise TokenError("token longer than 4096 bytes")
        if raw.count(b".") != 2:
            raise TokenError(f"neither a JWT (three parts with dots) nor a short token ({SHORT_LENGTH} characters)")
        if raw.startswith(self._own_head):
            return self._checked(self._decode_own(raw), now, foreign=False)
        header = _header(raw)
        algorithm = header.get("alg")
        claims, foreign = self._decode(raw, algorithm, header.get("kid"))
        return self._checked(claims, now, foreign=foreign)

    def _decode(self, raw: bytes, algorithm: object, kid: object) -> tuple[dict[str, Any], bool]:
        if algorithm == "HS256":
            return self._decode_own(raw), False
        if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= KID_MAX):
            raise TokenError("kid is a text")
        if kid is not None and all(key.kid != kid for key in self.public_keys):
            self.on_unknown_kid(kid)
        reason = "no key here verifies its signature"
        options: Any = {"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        for each in self.public_keys:
            # A key without a name (a PEM file) verifies what it can; one with a name only what names it.
            if each.algorithm != algorithm or (kid is not None and each.kid not in ("", kid)):
                continue
            try:
                claims = jwt.decode(
                    raw,
                    each.key,
                    algorithms=[each.algorithm],
                    audience=AUDIENCE,
                    issuer=self._foreign_issuers,
                    options=options,
                )
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                reason = _reason(error) or reason
                continue
            return claims, True
        raise TokenError(reason)

    def _decode_own(self, raw: bytes) -> dict[str, Any]:
        """Verify one of our own tokens (RFC 7515, HS256) without PyJWT's reading of the segments.

        Measured: 12 µs instead of 238 µs, and that decides how fast clients can come back after a restart.
        The signature is compared as it is written: only the canonical spelling of the right one is equal.
        """
        signed, _, signature = raw.rpartition(b".")
        if not hmac.compare_digest(self._signature(signed), signature):
            raise TokenError("bad signature")
        try:
            # The signature is over the spelling, so that no other need be refused here.
            segment = signed.partition(b".")[2]
            raw = binascii.a2b_base64(segment.translate(_FROM_URL) + b"=" * (-len(segment) % 4), strict_mode=True)
            text = raw.decode()
            claims, size = _read_json(text)
        except (ValueError, RecursionError):
            raise TokenError("the claims are no JSON") from None
        if size != len(text):
            raise TokenError("more than claims")
        if not isinstance(claims, dict) or not claims.keys() >= _REQUIRED_KEYS:
            missing = [key for key in _REQUIRED if key not in claims] if isinstance(claims, dict) else ["everything"]
            raise TokenError(f"{missing[0]} is missing")
        if claims["aud"] != AUDIENCE or claims["iss"] != self._issuer:
            raise TokenError(f"aud is not {AUDIENCE}" if claims["aud"] != AUDIENCE else "iss is not tokens.issuer")
        return claims

    def _checked(self, claims: dict[str, Any], now: float, *, foreign: bool) -> Claims:
        for value in (claims["exp"], claims["iat"], claims.get("nbf", 1)):
            if type(value) is not int or not 0 < value < EXP_MAX:
                raise TokenError("exp, iat and nbf are whole seconds since 1970")
        if claims["exp"] <= now - self._leeway_s:
            raise TokenError("expired")
        if claims["iat"] > now + self._leeway_s or claims.get("nbf", 0) > now + self._leeway_s:
            raise TokenError("not valid yet")
        user, jti, device = claims["sub"], claims["jti"], claims.get("dev")
        scope = claims.get("scope", "user")
        if not isinstance(user, str) or not isinstance(jti, str) or not 0 < len(jti) <= 128:
            raise TokenError("sub and jti are texts")
        if not isinstance(scope, str) or scope not in SCOPES or not (device is None or isinstance(device, str)):
            raise TokenError("scope is user, backend or admin, dev a text")
        acl = read_acl(claims["acl"]) if "acl" in claims else ()
        return Claims(user, jti, claims["iat"], claims["exp"], scope, device, acl, foreign)


def _reason(error: Exception) -> str:
    """Return what is wrong with a token whose signature is good; '' where not even that is so."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"{error.claim} is missing"
    if isinstance(error, jwt.InvalidAudienceError):
        return f"aud is not {AUDIENCE}"
    if isinstance(error, jwt.InvalidIssuerError):
        return "iss is not one of tokens.foreign_issuers"
    return ""


def _segment(segment: bytes) -> bytes:
    """Decode base64url; only the one canonical spelling is accepted, so that no bit of a token is without meaning."""
    try:
        decoded = binascii.a2b_base64(segment.translate(_FROM_URL) + b"=" * (-len(segment) % 4), strict_mode=True)
    except ValueError:
        raise TokenError("a segment is not base64url") from None
    if binascii.b2a_base64(decoded, newline=False).translate(_TO_URL).rstrip(b"=") != segment:
        raise TokenError("a segment is not canonical base64url")
    return decoded


def _header(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(_segment(raw.partition(b".")[0]))
    except (ValueError, RecursionError) as error:
        raise TokenError("unreadable header") from error
    if not isinstance(header, dict) or not _FORBIDDEN_HEADERS.isdisjoint(header):
        raise TokenError("header names a key or an extension of its own")
    return header


def read_acl(value: object) -> tuple[tuple[str, str], ...]:
    """Return rules for free topics as a token carries them; raise TokenError where they are written otherwise."""
    if not isinstance(value, list) or len(value) > 100:
        raise TokenError("acl is a list of at most 100 rules")
    rules: list[tuple[str, str]] = []
    for rule in value:
        allow = rule.get("allow") if isinstance(rule, dict) else None
        topic = rule.get("topic") if isinstance(rule, dict) else None
        if allow not in ("publish", "subscribe") or not isinstance(topic, str) or not topic:
            raise TokenError('an acl rule is {"allow":"publish|subscribe","topic":filter}')
        rules.append((allow, topic))
    return tuple(rules)


def claimed_subject(password: bytes) -> str:
    """Return whom a token says it is of, unverified: good for counting, for nothing else. Empty if it says nobody."""
    if len(password) > TOKEN_MAX_BYTES or password.count(b".") != 2:
        return ""
    segment = password.split(b".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4)))
    except (ValueError, RecursionError):
        return ""
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else ""


def looks_like_token(password: bytes) -> bool:
    """Tell whether a password has the shape of a token: a JWT's, or a short one's."""
    return password.count(b".") == 2 or len(password) == SHORT_LENGTH


def new_jti(chance: Chance = SYSTEM) -> str:
    """Return a fresh token id: 96 random bits in hex; a leading dash would be an option to `token revoke JTI`."""
    return chance.hex(12)


def new_short_token(chance: Chance = SYSTEM) -> str:
    """Return a short device token: 160 random bits as 32 lower-case base32 characters."""
    return base64.b32encode(chance.draw(20)).decode().lower()


def hash_short_token(token: str) -> bytes:
    """Return what is stored of a short token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()


def load_secret(path: Path, chance: Chance = SYSTEM) -> bytes:
    """Read the signing secret, making it (mode 0600) at first start."""
    try:
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(chance.draw(32))
                file.flush()
                os.fsync(file.fileno())
        return read_regular(path, size_max=_SECRET_MAX)
    except OSError as error:
        raise MesimqttError(f"cannot read or make the token secret {path}: {error.strerror}") from None


def load_public_keys(paths: tuple[str, ...], jwks_file: str) -> list[PublicKey]:
    """Return the keys of PEM files and of a JWKS file. Raises MesimqttError, which names the file."""
    keys: list[PublicKey] = []
    for path in paths:
        try:
            keys.append(_public_key(read_regular(Path(path), size_max=_KEYS_FILE_MAX)))
        except (OSError, ValueError, TypeError) as error:
            raise MesimqttError(f"tokens.public_keys: cannot use {path}: {error}") from None
    if jwks_file:
        try:
            keys += parse_jwks(read_regular(Path(jwks_file), size_max=_KEYS_FILE_MAX))
        except (OSError, TokenError) as error:
            raise MesimqttError(f"tokens.jwks_file: cannot use {jwks_file}: {error}") from None
    return keys


def parse_jwks(text: bytes) -> list[PublicKey]:
    """Return the signature keys of a JWKS that can be used here; raise TokenError if there is none.

    Keys of other kinds (encryption, other curves, secrets) stand beside them in many a JWKS and are passed over.
    """
    try:
        values = json.loads(text)
        listed = values["keys"]
        if not isinstance(listed, list) or len(listed) > KEYS_MAX:
            raise TokenError(f"keys is a list of at most {KEYS_MAX}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = str(error) if isinstance(error, TokenError) else 'it is no JWKS: {"keys":[…]}'
        raise TokenError(reason) from None
    keys: list[PublicKey] = []
    for each in listed:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        try:
            keyed = jwt.PyJWK(each)
            kid = each.get("kid", "")
            fits = _algorithm(keyed.key) == keyed.algorithm_name
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError):
            continue
        if fits and isinstance(kid, str) and len(kid) <= KID_MAX:
            keys.append(PublicKey(keyed.algorithm_name, keyed.key, kid))
    if not keys:
        raise TokenError("it holds no public key for RS256 (2048 bits or more), ES256 or EdDSA (Ed25519)")
    return keys


def _public_key(pem: bytes) -> PublicKey:
    # Only a server with keys of others needs them.
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as said

    key = load_pem_public_key(pem)
    return PublicKey(_algorithm(key), key)


def _algorithm(key: object) -> str:
    """Return the one algorithm that a public key is for; raise ValueError for any other kind, and for a private key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - as above

    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    raise ValueError("a public key is RSA of 2048 bits or more, EC P-256 or Ed25519")


def _nobody(_kid: str) -> None:
    """Tell nobody: there is no address where a key could be asked for."""
