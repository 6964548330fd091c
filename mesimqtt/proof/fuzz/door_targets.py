"""Fuzz targets at the doors: tokens, keys, the configuration, requests over HTTP, Mesibo's words, Retry-After."""

from __future__ import annotations

import base64
import hmac
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from mesimqtt.api.arguments import from_request, read_query
from mesimqtt.api.mesibo_words import MesiboError, flag, names, number, object_of, text
from mesimqtt.api.problems import ProblemError
from mesimqtt.api.routes import Router, all_routes, generic, plain_routes
from mesimqtt.configuration import load_settings
from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.domain.strict_json import read_json
from mesimqtt.messaging.operations import OPERATIONS
from mesimqtt.messaging.operations_base import ArgumentError
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that, fields_of, text_of
from mesimqtt.services.webhooks.post import retry_after_s
from mesimqtt.tokens import (
    EXP_MAX,
    TOKEN_MAX_BYTES,
    TokenError,
    TokenSigner,
    claimed_subject,
    looks_like_token,
    parse_jwks,
)

_NOW = 1_790_000_000
_SECRET = b"a secret of 32 bytes, for nobody"
_WAIT_MAX_S = 1e12

# ---- tokens ---------------------------------------------------------------------------------------------------------


@cache
def _signer() -> TokenSigner:
    return TokenSigner(_SECRET, issuer="mesimqtt")


def check_token(data: bytes) -> None:
    """No text but one that the server itself signed is a token; whom it claims to be of is a text in any case."""
    check_that(isinstance(claimed_subject(data), str), "whom it claims")
    looks_like_token(data)
    try:
        claims = _signer().verify(data, _NOW)
    except TokenError:
        return
    check_equal(_good_token(), data, f"accepted as {claims}")


def check_claims(data: bytes) -> None:
    """Whatever a signed token says: it is refused, or its claims have the types and bounds that they must."""
    token = _signed(data)
    claims = _signer().verify(token, _NOW)
    said = json.loads(data)
    check_equal((said["sub"], said["jti"], said["exp"]), (claims.user, claims.jti, claims.expires_at), "claims")
    check_that(len(claims.jti) <= 128 and len(token) <= TOKEN_MAX_BYTES, "texts")
    check_that(_NOW - 31 < claims.expires_at < EXP_MAX and claims.issued_at <= _NOW + 30, "times")
    check_that(claims.scope in ("user", "backend", "admin") and len(claims.acl) <= 100, "scope and acl")
    flipped = bytearray(token)
    flipped[len(data) % len(token)] ^= 1
    try:
        _signer().verify(bytes(flipped), _NOW)
    except TokenError:
        return
    check_that(False, f"a bit of {token!r} is without meaning")


def _signed(claims: bytes) -> bytes:
    """Return what the server's own secret signs (RFC 7515, HS256), whatever it says."""
    text = _good_token().partition(b".")[0] + b"." + base64.urlsafe_b64encode(claims).rstrip(b"=")
    return text + b"." + base64.urlsafe_b64encode(hmac.digest(_SECRET, text, "sha256")).rstrip(b"=")


@cache
def _good_token() -> bytes:
    return _signer().issue("alice", now=_NOW, ttl_s=60, jti="j").encode()


def check_jwks(data: bytes) -> None:
    """Keys of others are read, or refused as a whole; each fits its algorithm."""
    for key in parse_jwks(data):
        check_that(key.algorithm in ("EdDSA", "RS256", "ES256"), f"{key.algorithm}")


# ---- configuration --------------------------------------------------------------------------------------------------


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mesimqtt-fuzz-")


def check_configuration(data: bytes) -> None:
    """Any file is a configuration, or refused with a sentence that names it."""
    path = Path(_folder().name) / "mesimqtt.yaml"
    path.write_bytes(data)
    try:
        load_settings(path, is_app=True)
    except MesimqttError as error:
        check_that(str(path) in str(error) and len(str(error)) < 2_000, f"it does not say where, or too much: {error}")
        raise


# ---- HTTP -----------------------------------------------------------------------------------------------------------


@cache
def _router() -> tuple[Router, list[str]]:
    routes = [*all_routes(), *plain_routes(), *(generic(each) for each in OPERATIONS.values())]
    return Router(routes), sorted({route.path for route in routes})


def check_request(data: bytes) -> None:
    """A request is taken apart into arguments that its operation accepts, or refused; nothing is said twice."""
    method, path, query, body = fields_of(data, 4)
    pairs = read_query(query)
    try:
        found = _router()[0].find(path.decode("ascii"))
    except ValueError:  # answered by 400 (application.py)
        return
    route = found[0].get(method.decode("latin-1")) if found else None
    if found is None or route is None:
        return
    arguments = from_request(route, found[1], pairs, body, b"application/json", "alice")
    for name, value in zip(route.bound, found[1], strict=True):
        said = "alice" if value == "me" and name in route.users else value
        read = arguments[name]
        expected = [said] if isinstance(read, list) else int(said) if type(read) is int else said
        check_equal(expected, read, f"{name} of the path")
    route.operation.check(arguments)
    json.dumps(arguments)


def check_mesibo(data: bytes) -> None:
    """What stands in a request of Mesibo's is read as what it must be, or refused with one of its codes."""
    try:
        body = read_json(data)
    except ValueError:
        return
    if not isinstance(body, dict):
        return
    for key in ("user", "group", "message", "otp"):
        values: dict[str, Any] = object_of(body, key)
        check_that(isinstance(values, dict), "an object")
        for name in ("address", "name", "uid"):
            text(values, name, "").encode()
        for name in ("expiry", "count", "gid", "flag"):
            check_that(type(number(values, name, 0)) is int, "a number")
        check_that(flag(values, "active", default=True) in (True, False), "a flag")
        found = names(values.get("m", ""))
        check_that(len(set(found)) == len(found), "a name twice")


def check_retry_after(data: bytes) -> None:
    """A Retry-After header says a number of seconds that one can wait, whatever a server writes into it."""
    wait_s = retry_after_s(text_of(data))
    check_that(0.0 <= wait_s < _WAIT_MAX_S, f"{wait_s}")


_CLAIMS = {"sub": "alice", "aud": "mesimqtt", "iss": "mesimqtt", "iat": _NOW, "exp": _NOW + 60, "jti": "j"}
_JSON_WORDS = (
    b'"sub"',
    b'"aud"',
    b'"iss"',
    b'"iat"',
    b'"exp"',
    b'"jti"',
    b'"nbf"',
    b'"dev"',
    b'"scope"',
    b'"acl"',
    b'"admin"',
    b":",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"1e400",
    b"-1",
    b"9" * 5_000,
    b"NaN",
    b"\\ud800",
    b'"allow":"publish"',
    b'"topic":"#"',
)
_YAML_WORDS = (
    b"limits:",
    b"http:",
    b"broker:",
    b"rates:",
    b"policies:",
    b"listeners:",
    b"\n",
    b"  ",
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"!!python/object:os.system ",
    b"!!binary ",
    b"2001-99-99",
    b"0o9",
    b"1:60:60",
    b"9" * 5_000,
    b"~",
    b"true",
    b".inf",
    b"<<: ",
    b"? ",
    b"'",
    b'"',
    b"\\x",
    b"|",
    b">",
    b"%",
    b"---\n",
    b"...\n",
    b"root: ",
    b"filters_max: 5",
    b"\t",
    b"\xff",
    b"\0",
)
_REQUESTS = (
    b"GET\0/v1/users/alice\0\0",
    b"POST\0/v1/users\0\0" + b'{"addresses":["a"]}',
    b"GET\0/v1/users\0limit=5&after=x\0",
    b"POST\0/v1/messages\0\0" + b'{"to":"bob","text":"hi"}',
    b"PUT\0/v1/send/bob\0type=3&expiry=60\0hello",
    b"GET\0/v1/users/me/inbox\0limit=1\0",
    b"PATCH\0/v1/users/b%C3%A9\0\0" + b'{"profile":{"name":"b"}}',
    b"DELETE\0/v1/groups/team/members/me\0\0",
    b"POST\0/v1/op/ping\0\0{}",
    b"DELETE\0/v1/groups/team/pins/12\0\0",
)
_REQUEST_WORDS = (
    b"\0",
    b"/v1/",
    b"/v1/op/",
    b"users",
    b"groups",
    b"me",
    b"%2F",
    b"%",
    b"%ff",
    b"&",
    b"=",
    b"limit=",
    b"token=x",
    b"+",
    b"%00",
    b"//",
    b"..",
    b'{"',
    b'":',
    b'"address":"bob"',
    b'"user":"eve"',
    b"GET",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"-5",
    b"true",
    b"1" * 16,
    b'"id":12',
)

TARGETS = (
    Target(
        "token",
        "nothing is a token but what the server signed",
        check_token,
        (_good_token(), b"eyJhbGciOiJub25lIn0.e30.", b"a.b.c", b"x" * 32, b"..", b"eyJhbGciOiJIUzI1NiJ9.e30.AAAA"),
        (b".", b"=", b"eyJ", b"eyJhbGciOiJub25lIn0", b"-", b"_", b"\xff", b"\0"),
    ),
    Target(
        "claims",
        "signed claims are as they must be, or refused",
        check_claims,
        (
            json.dumps(_CLAIMS).encode(),
            json.dumps({**_CLAIMS, "nbf": 1, "dev": "d", "scope": "admin"}).encode(),
            json.dumps({**_CLAIMS, "acl": [{"allow": "publish", "topic": "a/#"}]}).encode(),
            b"[]",
            b"null",
        ),
        _JSON_WORDS,
        (TokenError,),
        has_json=True,
    ),
    Target(
        "jwks",
        "keys of others are read, or refused",
        check_jwks,
        (
            b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}]}',
            b'{"keys":[]}',
            b'{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":"AA"}]}',
        ),
        (
            b'"kty"',
            b'"OKP"',
            b'"RSA"',
            b'"EC"',
            b'"crv"',
            b'"P-256"',
            b'"x":""',
            b'"alg":"HS256"',
            b'"use":"enc"',
            b'"kid":5',
            b"[",
            b"{",
        ),
        (TokenError,),
        has_json=True,
    ),
    Target(
        "configuration",
        "a file is a configuration, or refused with a sentence",
        check_configuration,
        (
            b"limits:\n  filters_max: 5\n",
            b"http: {bind: 127.0.0.1:0, origins: [a]}\nrates: {connects: '60:30'}\n",
            b"broker:\n  listeners:\n    default: {type: tcp, bind: 127.0.0.1:1883}\n",
            b"root: m\nnode: 1\nlog_level: info\n",
            b"policies: {guest: {end: 1d}}\nhistory: {keep_types: '5:60'}\n",
        ),
        _YAML_WORDS,
        (MesimqttError,),
        is_slow=True,
    ),
    Target(
        "request",
        "a request is taken apart into arguments, or refused",
        check_request,
        _REQUESTS,
        _REQUEST_WORDS,
        (ProblemError, ArgumentError, OperationError),
        has_json=True,
    ),
    Target(
        "mesibo",
        "Mesibo's words are read, or refused with one of its codes",
        check_mesibo,
        (
            b'{"op":"useradd","user":{"address":"a","expiry":5,"active":"1"}}',
            b'{"op":"groupadd","group":{"name":"g","flag":0,"m":"a,b"}}',
            b'{"op":"message","message":{"from":"a","to":["b"]}}',
            b'{"op":"otp","otp":{"address":"a","expiry":"60"}}',
        ),
        (*_JSON_WORDS, b'"m"', b'"uid"', b'"gid"', b'"count"', b'"\xd9\xa3"', b"1.5", b'"' + b"9" * 16 + b'"'),
        (MesiboError,),
        has_json=True,
    ),
    Target(
        "retry-after",
        "Retry-After says how long to wait",
        check_retry_after,
        (b"120", b"Wed, 21 Oct 2032 07:28:00 GMT", b"Fri, 31 Dec 9999 23:59:59 -2359", b"0", b"-1"),
        (
            b"9" * 30,
            b" ",
            b",",
            b":",
            b"GMT",
            b"+2400",
            b"-9999",
            b"Mon",
            b"Jan",
            b"0001",
            b"99999",
            "\u0663".encode(),
            b"\0",
            b"(",
        ),
    ),
)
