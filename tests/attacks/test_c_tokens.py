"""Section C: tokens that were forged, altered, borrowed, or are no longer good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from attacks.attacker import publish
from stopwatch import Stopwatch


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@pytest.fixture(scope="module")
def forge(target):
    """Sign anything with the server's own secret, or another key; `drop` names claims to leave out."""
    user = target.somebody().user
    claims = json.loads(base64.urlsafe_b64decode(target.tokens[user].split(".")[1] + "=="))
    secret = (target.data / "token.secret").read_bytes()

    def make(changes=None, *, header=None, key=secret, drop=(), raw=None):
        content = {name: value for name, value in (claims | (changes or {})).items() if name not in drop}
        signed = encoded(header or {"alg": "HS256", "typ": "JWT"}) + b"." + encoded(raw or content)
        return signed + b"." + encoded(hmac.new(key, signed, hashlib.sha256).digest())

    make.user = user
    make.claims = claims
    return make


@pytest.fixture(scope="module")
def code(target, forge):
    """Tell the CONNACK code that a token gets."""
    return lambda token, user=forge.user: target.raw().enter(user, token, "forger").code


def test_what_is_signed_right_is_let_in(code, forge):
    """Section C: the forger's tool works, so that a refusal below is for what was changed."""
    assert 0 == code(forge())


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "", None, "HS384", "RS256", "EdDSA", "hs256", ["HS256"], 0]
)
def test_the_algorithm_is_not_the_tokens_choice(code, forge, algorithm):
    """Row 60: another algorithm, with a signature and without, is refused."""
    unsigned = forge(header={"alg": algorithm}).rpartition(b".")[0] + b"."

    assert {5} == {code(forge(header={"alg": algorithm})), code(unsigned)}


def test_the_key_is_not_the_tokens_choice(code, forge):
    """Row 60, row 63: an empty key, a PEM text as key, headers that name a key or extension are refused."""
    headers = [
        {"jku": "http://127.0.0.1"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"x5u": "x"},
        {"crit": ["exp"]},
        {"b64": False},
    ]
    forged = [forge(header={"alg": "HS256"} | header) for header in headers]
    forged += [forge(key=key) for key in (b"", b"-----BEGIN PUBLIC KEY-----")]
    forged += [forge(header={"alg": "HS256", "kid": kid}, key=b"") for kid in ("../../dev/null", "x' UNION SELECT ''")]

    assert {5} == {code(token) for token in forged}


@pytest.mark.parametrize("token", [b"", b".", b"..", b"...", b"a.b", b"a.b.c", b"." * 4_000, b"\xff" * 32, b"a" * 32])
def test_what_is_no_token_is_refused(code, token):
    """Row 60: wrong numbers of dots, empty parts and noise are refused."""
    assert 5 == code(token)


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        ("exp", [1, 0, -1, 10**30, True, None, [], str(2**31), 2.0**31 + 0.5]),
        ("nbf", [2**33, "x", -1, None]),
        ("iat", [2**33, "1", None]),
        ("aud", ["other", "MESIMQTT", None, [], ["x"], "", {"mesimqtt": 1}]),
        ("iss", ["mesi", "esimqtt", "_mesimqtt_", ["mesimqtt"], None, ""]),
        ("sub", [1, None, ["x"], {}, "#", "nobody", "", "x" * 64, True]),
        ("jti", [1, None, "", "x" * 129, [], "unknown", "' OR 1=1 --"]),
        ("scope", ["root", 1, None, ["admin"]]),
        ("dev", [1, ["forger"], {}]),
        ("acl", ["x", [1], [{"allow": "all", "topic": "#"}], [{"allow": "publish"}]]),
    ],
)
def test_wrong_claims_are_refused(code, forge, claim, values):
    """Row 61, row 62: a claim of a wrong value or type is refused, although the signature is right."""
    assert {5} == {code(forge({claim: value})) for value in values}


def test_missing_claims_and_broken_numbers_are_refused(code, forge):
    """Row 61, row 62, row 70: a missing claim, 1e400, NaN, 2,000 digits and depth are refused."""
    forged = [forge(drop=(claim,)) for claim in ("sub", "aud", "iss", "iat", "exp", "jti")]
    text = json.dumps(forge.claims | {"exp": "EXP"})
    forged += [forge(raw=text.replace('"EXP"', exp).encode()) for exp in ("1e400", "NaN", "Infinity", "9" * 2_000)]
    forged += [forge(raw=b"[" * 1_500), forge(raw=b'{"a":' * 500)]

    assert {5} == {code(token) for token in forged}


def test_no_bit_of_a_token_is_without_meaning(target, code, forge):
    """Row 64: each byte altered, cut, padded, or with the signature of another: all refused."""
    token = target.tokens[forge.user].encode()
    other = target.somebody()
    forged = [token[:at] + bytes((token[at] ^ 1,)) + token[at + 1 :] for at in range(len(token))]
    forged += [token[:-1], token + b"=", token + b"A", token + b" ", b" " + token, token + b"\n"]
    forged.append(token.rpartition(b".")[0] + b"." + target.tokens[other.user].encode().rpartition(b".")[2])

    assert {5} == {code(each) for each in forged}
    assert {5} == {code(token, user) for user in (other.user, forge.user.upper(), forge.user + " ")}


def test_short_tokens_are_exact(target, code):
    """Row 64: a short token lets in its own user, spelled as it was issued, and nobody else."""
    owner, other = target.somebody().user, target.somebody().user
    token = target.ask("token_issue", addresses=[owner], short=True)["result"]["tokens"][0]["token"]

    assert 0 == code(token, owner)
    assert {5} == {code(token.upper(), owner), code(token[:-1], owner), code(token + "a", owner), code(token, other)}


@pytest.mark.parametrize("how", ["disable", "revoke", "revoke-all", "delete"])
def test_revocation_is_immediate(target, how):
    """Row 66: disabled, revoked, deleted under traffic: all connections gone within a second, and no message after."""
    friend, devices = target.somebody(), [target.somebody("d0")]
    user = devices[0].user
    devices += [target.client(user, f"d{number}").listen() for number in range(1, 4)]
    jti = json.loads(base64.urlsafe_b64decode(target.tokens[user].split(".")[1] + "=="))["jti"]
    friend.send(b"".join(publish(f"m/{friend.user}/out/u/{user}/t{n}", "x", 1, n) for n in range(1, 100)))
    devices[0].send(b"".join(publish(f"m/{user}/out/u/{friend.user}/t{n}", "x", 1, n) for n in range(1, 100)))
    watch = Stopwatch()
    operations = {
        "disable": ("user_disable", {"addresses": [user]}), "revoke": ("token_revoke", {"what": jti}),
        "revoke-all": ("token_revoke", {"what": user}), "delete": ("user_delete", {"addresses": [user]}),
    }  # fmt: skip
    operation, arguments = operations[how]
    assert target.ask(operation, **arguments)["ok"]

    assert all(device.is_cut(1.0) for device in devices)
    assert watch.elapsed_s < 1
    assert 5 == target.raw().enter(user, target.tokens[user], "d0").code
    assert [] == [one for one in friend.exchange() if b"never" in one[1]]


def test_an_expired_token_ends_its_connection(target):
    """Row 66: a connection ends when its token does, at the latest a second later."""
    user = target.somebody().user
    token = target.ask("token_issue", addresses=[user], ttl=1)["result"]["tokens"][0]["token"]
    watch = Stopwatch()
    client = target.raw().enter(user, token, "brief")

    assert 0 == client.code
    assert client.is_cut(4)
    assert watch.elapsed_s < 3.5


def test_an_old_token_is_not_the_namesakes(target):
    """Row 66: who is made anew under a deleted address has nothing of the former: no token, no message."""
    user, friend = target.somebody().user, target.somebody()
    old = target.tokens[user]
    friend.send(publish(f"m/{friend.user}/out/u/{user}/old", "for the former", 1))
    assert 1 == friend.status()["status"]
    assert target.ask("user_delete", addresses=[user])["ok"]
    target.users(user)

    assert 5 == target.raw().enter(user, old, "phone").code
    assert target.client(user).listen().message(deadline_s=0.3) is None


def test_huge_tokens_are_not_parsed(target):
    """Row 67: a token over 4 KiB is refused before it is read, in a moment."""
    user = target.somebody().user
    watch = Stopwatch()
    codes = {target.raw().enter(user, "a" * size + ".b.c", "huge").code for size in (4_100, 6_000, 7_900)}

    assert codes <= {4, 5}
    assert watch.elapsed_s < 0.5
