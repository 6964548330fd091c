"""Tokens under attack: nothing enters but what we or a configured key have signed (contract section 5)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.tokens import (
    SHORT_LENGTH,
    Claims,
    PublicKey,
    TokenError,
    TokenSigner,
    hash_short_token,
    load_public_keys,
    load_secret,
    new_jti,
    new_short_token,
)

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_790_000_000
SIGNER = TokenSigner(SECRET, issuer="mesimqtt", leeway_s=30)
CLAIMS = {
    "sub": "bob",
    "aud": "mesimqtt",
    "iss": "mesimqtt",
    "iat": NOW,
    "exp": NOW + 600,
    "jti": "j1",
    "scope": "user",
}


def segment(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def signed(header: object, claims: object, key: bytes = SECRET) -> bytes:
    """A token with a good HMAC over whatever it says."""
    text = segment(header) + b"." + segment(claims)
    return text + b"." + segment(hmac.new(key, text, hashlib.sha256).digest())


def own(**changes: object) -> bytes:
    """One of our tokens with other claims; None takes a claim away."""
    claims = {key: value for key, value in {**CLAIMS, **changes}.items() if value is not None}
    return signed({"alg": "HS256", "typ": "JWT"}, claims)


def refused(token: str | bytes, signer: TokenSigner = SIGNER) -> bool:
    try:
        signer.verify(token, NOW)
    except TokenError:
        return True
    return False


@pytest.fixture(scope="module")
def keys():
    """One private key of each kind that a configuration may name."""
    return {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def pem(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("secret", [SECRET, SECRET * 2, SECRET * 3])
def test_a_token_is_to_the_letter_what_pyjwt_makes_of_its_claims(secret):
    """So that what another version issued is signed the same again, and PyJWT verifies what is issued here."""
    signer = TokenSigner(secret, issuer="mesimqtt")
    issued = signer.issue("bob", now=NOW, ttl_s=600, jti="j1", device="Telefön")
    claims = {**CLAIMS, "dev": "Telefön"}
    options = {"verify_exp": False, "verify_iat": False}

    assert jwt.encode(claims, secret, algorithm="HS256") == issued
    assert claims == jwt.decode(issued, secret, algorithms=["HS256"], audience="mesimqtt", options=options)
    assert "bob" == signer.verify(issued, NOW).user


def test_a_token_says_what_it_was_issued_for():
    """User, device, scope and rules come back as they were given; it is not a foreign one."""
    token = SIGNER.issue("bob", now=NOW, ttl_s=60, jti="j", scope="admin", device="d", acl=(("publish", "a/#"),))

    assert Claims("bob", "j", NOW, NOW + 60, "admin", "d", (("publish", "a/#"),)) == SIGNER.verify(token, NOW)
    assert not refused(own())


@pytest.mark.parametrize(
    "alg", ["none", "None", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "hs256", "HS256 ", None, 1, ["HS256"], {}]
)
def test_the_header_does_not_choose_the_algorithm(alg):
    """Attack 60: none in any spelling, other and unknown algorithms, with and without a signature."""
    token = signed({"alg": alg, "typ": "JWT"}, CLAIMS)

    assert refused(token)
    assert refused(token.rpartition(b".")[0] + b".")


@pytest.mark.parametrize(
    "shape", ["a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e", "..", ".", "", "a..c", "\0.\0.\0", "é.é.é"]
)
def test_what_is_no_jwt_is_refused(shape):
    """Attack 60: two dots exactly, no empty part, nothing that cannot be read."""
    assert refused(shape)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(keys, algorithm):
    """Attack 60: HS256 signed with the text of a public key that we verify with."""
    public = pem(keys[algorithm])
    signer = TokenSigner(SECRET, issuer="mesimqtt", public_keys=[PublicKey(algorithm, keys[algorithm].public_key())])

    for text in (public, public.strip(), public.replace(b"\n", b"")):
        assert refused(signed({"alg": "HS256"}, CLAIMS, text), signer)
        assert refused(signed({"alg": algorithm}, CLAIMS, text), signer)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_configured_key_verifies_its_own_algorithm(keys, algorithm, tmp_path):
    """A foreign token enters by the key's algorithm; the key of another server does not help."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(keys[algorithm]))
    trusted = load_public_keys((str(path),), "")
    signer = TokenSigner(SECRET, issuer="mesimqtt", public_keys=trusted, foreign_issuers=("elsewhere",))
    token = jwt.encode({**CLAIMS, "iss": "elsewhere"}, keys[algorithm], algorithm=algorithm)

    claims = signer.verify(token, NOW)
    assert ("bob", True) == (claims.user, claims.foreign)
    assert refused(token)
    for wrong in ({"aud": "other", "iss": "elsewhere"}, {"iss": "mesimqtt"}, {"iss": "else"}):
        assert refused(jwt.encode({**CLAIMS, **wrong}, keys[algorithm], algorithm=algorithm), signer)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"jti": None}, "jti is missing"),
        ({"aud": "other"}, "aud is not mesimqtt"),
        ({"iss": "else"}, "iss is not one of tokens.foreign_issuers"),
        ({"iat": None, "aud": "other"}, "iat is missing"),
    ],
)
def test_the_log_learns_what_is_wrong_with_a_foreign_token(keys, changes, reason):
    """A good signature over wrong claims has its own reason, whichever key comes first; a bad one has another."""
    strange = rsa.generate_private_key(65537, 2048)
    trusted = [PublicKey("RS256", keys["RS256"].public_key()), PublicKey("RS256", strange.public_key())]
    claims = {key: value for key, value in {**CLAIMS, "iss": "elsewhere", **changes}.items() if value is not None}
    for public_keys in (trusted, trusted[::-1]):
        signer = TokenSigner(SECRET, issuer="mesimqtt", public_keys=public_keys, foreign_issuers=("elsewhere",))

        with pytest.raises(TokenError, match=f"^{reason}$"):
            signer.verify(jwt.encode(claims, keys["RS256"], algorithm="RS256"), NOW)
    signer = TokenSigner(SECRET, issuer="mesimqtt", public_keys=trusted[1:], foreign_issuers=("elsewhere",))
    with pytest.raises(TokenError, match=r"^no key here verifies its signature$"):
        signer.verify(jwt.encode(claims, keys["RS256"], algorithm="RS256"), NOW)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value", ["1", str(NOW + 60), 1.5, float(NOW + 60), float("inf"), -1, 0, 10**30, True, [NOW], {}, 2**40]
)
def test_times_are_whole_seconds(name, value):
    """Attack 61: texts, fractions, infinities, negative and absurd numbers."""
    assert refused(own(**{name: value}))


def test_a_number_without_end_is_refused():
    """Attack 61: 1e400, and more digits than Python reads."""
    for number in (b"1e400", b"9" * 3000):
        claims = (
            json.dumps({key: value for key, value in CLAIMS.items() if key != "exp"}).encode()[:-1]
            + b',"exp":'
            + number
            + b"}"
        )
        assert refused(signed({"alg": "HS256"}, claims))


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"exp": NOW - 29}, False), ({"exp": NOW - 30}, True), ({"exp": NOW - 600}, True), ({"iat": NOW + 30}, False),
        ({"iat": NOW + 31}, True), ({"nbf": NOW + 30}, False), ({"nbf": NOW + 31}, True), ({"nbf": NOW - 5}, False),
    ],
)  # fmt: skip
def test_times_hold_within_the_leeway(changes, is_refused):
    """Attack 61: past, not yet, and the leeway of 30 s to the second."""
    assert is_refused == refused(own(**changes))


@pytest.mark.parametrize("claim", ["sub", "aud", "iss", "iat", "exp", "jti"])
def test_every_claim_is_required(claim):
    """Attacks 61 and 62: without it there is no entry; null is none either."""
    assert refused(own(**{claim: None}))
    assert refused(signed({"alg": "HS256"}, {**CLAIMS, claim: None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "mesi"}, {"aud": "mesimqtt2"}, {"aud": ["other"]}, {"aud": ""}, {"iss": "mesimqt"},
        {"iss": "xmesimqtt"},
        {"iss": ["mesimqtt"]}, {"iss": 1}, {"sub": 1}, {"sub": ["bob"]}, {"sub": {}}, {"jti": ""}, {"jti": "x" * 129},
        {"jti": 1},
        {"scope": "root"}, {"scope": ["admin"]}, {"scope": {}}, {"scope": 1}, {"dev": 1}, {"dev": ["a"]},
        {"acl": {}}, {"acl": "x"},
        {"acl": [1]}, {"acl": [{"allow": "all", "topic": "#"}]}, {"acl": [{"allow": "publish"}]},
        {"acl": [{"allow": ["publish"], "topic": "#"}]}, {"acl": [{"allow": "publish", "topic": ""}]},
        {"acl": [{"allow": "publish", "topic": "a"}] * 101},
    ],
)  # fmt: skip
def test_claims_of_another_meaning_are_refused(changes):
    """Attack 62: other audience or issuer, part of a name, other types, unknown scopes and rules."""
    assert refused(own(**changes))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "jku": "http://127.0.0.1/"}, {"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}},
        {"alg": "HS256", "x5u": "http://127.0.0.1/"}, {"alg": "HS256", "x5c": ["x"]}, {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "b64": False}, [], "x", 1, None, {},
    ],
)  # fmt: skip
def test_a_header_that_names_a_key_is_refused(header):
    """Attack 63: before anything is fetched, signature or not."""
    assert refused(signed(header, CLAIMS))


@pytest.mark.parametrize("kid", ["../../dev/null", "x' OR 1=1", "\0", "a" * 500])
def test_a_key_id_chooses_nothing(kid):
    """Attack 63: with a wrong key it is refused whatever it names; our own key is used whatever it names."""
    assert refused(signed({"alg": "HS256", "kid": kid}, CLAIMS, b""))
    assert not refused(signed({"alg": "HS256", "kid": kid}, CLAIMS))


def test_another_token_s_signature_does_not_fit():
    """Attack 64: nor does a shorter or longer one, nor one with padding."""
    token, other = own(), own(sub="alice")
    head, _, signature = token.rpartition(b".")

    for forged in (
        other.rpartition(b".")[2],
        signature[:-1],
        signature[:-4],
        signature + b"A",
        signature + b"=",
        signature + b"==",
        b"",
        signature * 2,
        signature + b"\n",
        b" " + signature,
    ):
        assert refused(head + b"." + forged), forged


def test_a_flipped_bit_anywhere_is_refused():
    """Attack 64: every bit of every byte."""
    token = own()
    for index in range(len(token)):
        for bit in range(8):
            flipped = bytearray(token)
            flipped[index] ^= 1 << bit
            assert refused(bytes(flipped)), (index, bit)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_is_refused_without_another_error(noise):
    """Whatever the bytes are, the answer is TokenError and nothing else."""
    assert refused(noise)
    assert refused(noise + b"." + noise + b"." + noise)


def test_a_huge_token_is_refused_before_it_is_parsed():
    """Attack 67: 64 KiB."""
    with pytest.raises(TokenError, match="longer than 4096"):
        SIGNER.verify(own(pad="x" * 65_536), NOW)


def test_deep_json_is_refused():
    """No recursion reaches the caller."""
    assert refused(signed({"alg": "HS256"}, b"[" * 2500))
    assert refused(segment(b"[" * 2500) + b".e30.AA")


def test_short_tokens_are_160_random_bits():
    """32 characters, never twice, and kept as SHA-256 only."""
    tokens = {new_short_token() for _ in range(500)}

    assert 500 == len(tokens)
    assert {SHORT_LENGTH} == {len(token) for token in tokens}
    assert all(token.isascii() and token.replace("-", "").replace("_", "").isalnum() for token in tokens)
    assert hashlib.sha256(b"x" * 32).digest() == hash_short_token("x" * 32)
    assert 100 == len({new_jti() for _ in range(100)})


def test_the_secret_is_made_once_and_private(tmp_path):
    """Mode 0600, 32 bytes, the same at the next start."""
    path = tmp_path / "token.secret"
    secret = load_secret(path)

    assert (32, 0o600, secret) == (len(secret), path.stat().st_mode & 0o777, load_secret(path))


def test_a_weak_secret_is_refused():
    """Shorter than 32 bytes: the server does not start, and says what to do."""
    with pytest.raises(MesimqttError, match="shorter than 32 bytes"):
        TokenSigner(b"short", issuer="mesimqtt")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_an_unusable_public_key_is_named(tmp_path, content):
    """The configuration error says which file."""
    path = tmp_path / "key.pem"
    path.write_bytes(content)

    with pytest.raises(MesimqttError, match=r"tokens\.public_keys.*key\.pem"):
        load_public_keys((str(path),), "")


def test_a_file_of_keys_that_never_ends_is_none(tmp_path):
    """A pipe keeps nobody waiting, and of a file with more than 1 MiB nothing is taken."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b" " * (1024 * 1024 + 1))

    for name, reason in (("pipe", "is no regular file"), ("long", "more than 1048576 bytes")):
        for arguments in (((str(tmp_path / name),), ""), ((), str(tmp_path / name))):
            with pytest.raises(MesimqttError, match=reason):
                load_public_keys(*arguments)


def test_a_short_rsa_key_is_refused(tmp_path):
    """2048 bits or more."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(rsa.generate_private_key(65537, 1024)))  # noqa: S505 - that it is weak is the point

    with pytest.raises(MesimqttError, match="2048 bits"):
        load_public_keys((str(path),), "")
