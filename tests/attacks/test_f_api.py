"""Sections C, D and F against the API itself: forged tokens, bombs, other people's things. In virtual time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import quote

import pytest

from mesimqtt.api.door import HEADERS
from mesimqtt.api.openapi import document
from mesimqtt.messaging.operations import OPERATIONS
from mesimqtt.messaging.operations_base import Scope
from mesimqtt.testing.world import SECRET
from parity.doors import ROUTES, Documentation, request_of
from stopwatch import Stopwatch

JSON = "application/json"
# What a user may see of another by design: his profile as he shows it, and whether he is there.
OPEN = {"profile", "presence", "presence_follow"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world of the documentation; nothing here changes it."""
    made = Documentation(tmp_path_factory.mktemp("api") / "data", rates={"failed_logins": ""})
    yield made
    made.close()


def encoded(value) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@pytest.fixture(scope="module")
def forge(world):
    """Sign anything with the server's own secret, or another key."""
    claims = json.loads(base64.urlsafe_b64decode(world.world.tokens["alice"].split(".")[1] + "=="))

    def make(changes=None, *, header=None, key=SECRET, drop=(), raw=None) -> str:
        content = {name: value for name, value in (claims | (changes or {})).items() if name not in drop}
        signed = encoded(header or {"alg": "HS256", "typ": "JWT"}) + b"." + encoded(raw or content)
        return (signed + b"." + encoded(hmac.new(key, signed, hashlib.sha256).digest())).decode()

    assert 200 == world.ask("GET", "/v1/ping", token=make()).status
    return make


def test_forged_tokens(world, forge) -> None:
    """Rows 60 to 64: algorithm, key, claims and signature are the server's: 401, and the same words each time."""
    token = world.world.tokens["alice"]
    forged = [forge(header={"alg": each}) for each in ("none", "None", "nOnE", "", "HS384", "RS256", None, ["HS256"])]
    forged += [forge(header={"alg": "none"}).rpartition(".")[0] + ".", "..", "...", "a.b", "a.b.c", "." * 4_000]
    forged += [forge(header={"alg": "HS256"} | each) for each in ({"jku": "http://127.0.0.1"}, {"crit": ["exp"]})]
    forged += [forge(key=b""), forge(key=b"-----BEGIN PUBLIC KEY-----")]
    forged += [forge({"exp": each}) for each in (1, -1, 10**30, None, "2999999999")]
    forged += [forge({"aud": "other"}), forge({"iss": "esimqtt"}), forge({"sub": "#"}), forge({"jti": "' OR 1=1 --"})]
    forged += [forge(drop=(each,)) for each in ("sub", "aud", "iss", "iat", "exp", "jti")]
    forged += [forge(raw=b"[" * 1_500), forge({"scope": "admin", "jti": "unknown"})]
    forged += [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(0, len(token), 7)]
    forged += [token[:-1], f"{token}=", f"{token}A", "x" * 65_536]
    replies = [world.ask("GET", "/v1/ping", token=each) for each in forged]

    assert {401} == {reply.status for reply in replies}
    assert 1 == len({reply.json["detail"] for reply in replies})


def test_a_scope_cannot_be_claimed(world, forge) -> None:
    """Row 65: a claim that was not issued with the token would need the server's signature; user scope stays so."""
    reply = world.ask("GET", "/v1/stats", token=world.world.tokens["alice"])

    assert 403 == reply.status
    assert 401 == world.ask("GET", "/v1/stats", token=forge({"scope": "admin"}, key=b"x" * 32)).status


def test_a_token_in_the_address(world) -> None:
    """Row 68: refused wherever it stands in the query, and never repeated."""
    token = world.world.tokens["alice"]
    for target in ("/v1/ping?token=", "/livez?access_token=", "/v1/nothing?a=1&jwt=", "/backend?token="):
        reply = world.ask("POST" if "backend" in target else "GET", f"{target}{token}")

        assert 400 == reply.status
        assert token not in str(reply)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 100_000, b'{"text":' + b"9" * 5_000 + b"}", b'{"type":9007199254740993}',
        b'{"type":NaN}', b'{"type":-Infinity}', b'{"type":1e400}', b'{"to":"bob","to":"carol"}', b"\xef\xbb\xbf{}",
        b"\xff\xfe", '{"to":"bob"}'.encode("utf-16"), b"null", b"[]", b'"x"', b"7", b"{", b"\x80\x04K\x01.",
        b"{" + b",".join(b'"k%d":1' % n for n in range(60_000)) + b"}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/op/send", "/backend"])
def test_bad_json(world, path, body) -> None:
    """Rows 70 to 73, row 79: refused at once, and nothing is sent."""
    watch = Stopwatch()
    reply = world.ask("POST", path, body=body, user="alice", content_type=JSON)
    took_s = watch.elapsed_s

    assert (200, False) == (reply.status, reply.json["result"]) if path == "/backend" else 400 == reply.status
    assert took_s < 1


@pytest.mark.parametrize(
    "change",
    [
        {"to": None}, {"to": ["bob"]}, {"to": 7}, {"to": True}, {"text": None}, {"text": {"a": 1}}, {"type": "1"},
        {"type": True}, {"type": -1}, {"type": 2**32}, {"expiry": -1}, {"expiry": 10**12}, {"expiry": "60"},
        {"when": -1}, {"when": 10**9}, {"cid": "a b"}, {"cid": "x" * 65}, {"to": "\ud800"}, {"text": "\ud800"},
        {"to": "x" * 64}, {"to": "a\0b"}, {"to": " bob"}, {"to": "e\u0301"}, {"nothing": 1},
    ],
)  # fmt: skip
def test_wrong_types_name_the_field(world, change) -> None:
    """Rows 73, 74 and 80: refused, and the answer says which argument it was."""
    reply = world.ask("POST", "/v1/messages", {"to": "bob", "text": "x"} | change, user="alice")

    assert 400 == reply.status
    assert next(iter(change)) in reply.json["detail"] or repr(change.get("to"))[:20] in reply.json["detail"]


@pytest.mark.parametrize(
    "name", ["' OR 1=1 --", "%", "_", '"*', "{0.__class__}", "%s", "$(id)", "../../etc/passwd", "\x1b[2J"]
)
def test_odd_names_are_names(world, name) -> None:
    """Rows 76 and 77: SQL, wildcards, formats and paths are literal: nobody is called so."""
    for path in (f"/v1/users/{quote(name, safe='')}", f"/v1/groups/{quote(name, safe='')}"):
        reply = world.ask("GET", path, user="root")

        assert reply.status in (400, 404)
        assert "\x1b" not in json.dumps(reply.json)


def test_an_encoded_body_is_not_unpacked(world) -> None:
    """Row 78: gzip, deflate, br: 415 before anything is unpacked."""
    for coding in ("gzip", "deflate", "br", "gzip, identity", "x"):
        assert 415 == world.ask("POST", "/v1/users", body=b"\x1f\x8b", user="root", content_encoding=coding).status


def test_a_page_of_another_site_can_do_nothing(world) -> None:
    """Rows 92 and 93: a form, text/plain, a cookie: without a bearer token 401, and no Origin is ever named."""
    token = world.world.tokens["root"]
    for fields in (
        {"cookie": f"token={token}", "content_type": "text/plain"},
        {"cookie": f"authorization=Bearer {token}", "content_type": "application/x-www-form-urlencoded"},
        {"origin": "https://evil.example", "content_type": JSON},
    ):
        reply = world.ask("POST", "/v1/users", body=b'{"addresses":["mallory"]}', **fields)

        assert 401 == reply.status
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_every_answer_says_how_to_treat_it() -> None:
    """Row 96: what the connection writes before every answer, good or bad."""
    said = dict(HEADERS)

    assert b"nosniff" == said[b"x-content-type-options"]
    assert b"no-store" == said[b"cache-control"]
    assert b"frame-ancestors 'none'" in said[b"content-security-policy"]
    assert b"default-src 'none'" in said[b"content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["//v1/stats", "/./v1/stats", "/v1/./stats", "/v1/x/../stats", "/v1%2fstats", "/v1/stats/", "/v1/stats;a=b",
     "/V1/STATS", "/v1/stats%00", "/v1/%73tats", "/v1/stats."],
)  # fmt: skip
def test_other_spellings_of_a_path(world, path) -> None:
    """Row 99: there is one spelling; every other is nothing, for a user and for an admin, and no Host changes that."""
    for user in ("alice", "root"):
        assert 404 == world.ask("GET", path, user=user, host="evil.example", x_forwarded_host="evil").status
    for header in ("x_http_method_override", "x_method_override", "x_original_url"):
        assert 403 == world.ask("GET", "/v1/stats", user="alice", **{header: "/v1/ping"}).status


def test_path_and_body_must_agree(world) -> None:
    """Row 100: an id in the body that is not the path's is refused, on every route that has both."""
    for route in ROUTES.values():
        if not (route.has_body and route.bound) or route.operation.name not in OPERATIONS:
            continue
        method, target, body = request_of(route, world.example(route.operation.name))
        name = route.bound[0]
        other: object = ["eve"] if name in route.lists else "eve"
        reply = world.ask(method, target, {**(body or {}), name: other}, user="root")

        assert (400, "id-mismatch") == (reply.status, reply.code), route.path


def test_nothing_is_assigned_by_the_way(world) -> None:
    """Row 101: an argument that an operation does not take is refused, so none can be smuggled in."""
    for extra in ("role", "is_admin", "user_id", "created_at", "scope", "__class__"):
        for path, body in (("/v1/users", {"addresses": ["bob"]}), ("/v1/messages", {"to": "bob", "text": "x"})):
            reply = world.ask("POST", path, {**body, extra: "x"}, user="root")

            assert (400, True) == (reply.status, extra in reply.json["detail"])


def requests_about_alice(world):
    """Give every route of the document whose path names a user, asked about alice."""
    for path, methods in document()["paths"].items():
        for method, each in methods.items():
            operation = OPERATIONS.get(each["operationId"])
            if operation is None or not path.startswith("/v1/users/{") or operation.name in OPEN:
                continue
            route = ROUTES[operation.name]
            arguments = world.example(operation.name) | {route.bound[0]: "alice"}
            if route.bound[0] in route.lists:
                arguments[route.bound[0]] = ["alice"]
            yield operation, (method, path), request_of(route, arguments)


def test_what_is_anothers(world) -> None:
    """Row 102: every route with a user's name, asked by another user about alice: 403 or 404, each of them."""
    told = {
        place: world.ask(method, target, body, user="carol").status
        for _, place, (method, target, body) in requests_about_alice(world)
    }

    assert len(told) > 20
    assert {} == {place: status for place, status in told.items() if status not in (403, 404)}


def test_what_is_not_mine_to_know(world) -> None:
    """Row 102: another's message is as little there as none, by its mid and by every operation that takes one."""
    mid = world.filled("{mid}")
    for name, operation in OPERATIONS.items():
        if "mid" not in operation.parameters or operation.scope > Scope.USER:
            continue
        arguments = {"mid": mid} | ({operation.actor: "shop"} if operation.actor else {})
        none = {**arguments, "mid": "0" * 16}
        found, missing = (
            world.ask("POST", f"/v1/op/{name}", each, token=world.ask.token("shop")) for each in (arguments, none)
        )

        assert (found.status, found.code) == (missing.status, missing.code) == (404, "no-such-message"), name
