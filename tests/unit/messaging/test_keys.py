"""Keys of others: which key verifies what, and that a change of a file or an address acts without a restart."""

from __future__ import annotations

import json
import os
import threading

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from integration.server import wait_until
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.messaging.fetch import FetchError
from mesimqtt.messaging.keys import Keys
from mesimqtt.settings import Tokens
from mesimqtt.tokens import TokenError, TokenSigner, parse_jwks

NOW = 1_800_000_000
PRIVATE = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
OTHER = ed25519.Ed25519PrivateKey.generate()
TO_JWK = {
    "RS256": jwt.algorithms.RSAAlgorithm.to_jwk,
    "ES256": jwt.algorithms.ECAlgorithm.to_jwk,
    "EdDSA": jwt.algorithms.OKPAlgorithm.to_jwk,
}


def jwk(algorithm, kid=None, *, key=None, **more):
    """Return a public key as JWK."""
    public = (key or PRIVATE[algorithm]).public_key()
    return {**json.loads(TO_JWK[algorithm](public)), **({"kid": kid} if kid else {}), **more}


def jwks(*keys):
    """Return a JWKS."""
    return json.dumps({"keys": keys}).encode()


def token(algorithm="EdDSA", kid=None, *, key=None, **header):
    """Return a token signed by somebody else."""
    claims = {"sub": "alice", "aud": "mesimqtt", "iss": "mesimqtt", "iat": NOW, "exp": NOW + 60, "jti": "j"}
    headers = {**({"kid": kid} if kid is not None else {}), **header}
    return jwt.encode(claims, key or PRIVATE[algorithm], algorithm=algorithm, headers=headers)


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self):
        return self.now


class Issuer:
    """An address that gives a JWKS; `fails` makes it unreachable. `asked` counts the questions."""

    def __init__(self, *keys, **headers):
        self.body = jwks(*keys)
        self.headers = headers
        self.fails = False
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, url):
        self.asked += 1
        self.may_answer.wait(60)
        if self.fails:
            raise FetchError(f"{url} is down")
        return self.body, self.headers


class World:
    """A signer whose keys come from files and an address."""

    def __init__(self, tmp_path, issuer=None, **settings):
        self.clock = Clock()
        self.signer = TokenSigner(b"s" * 32, issuer="mesimqtt")
        self.changes = 0
        self.cache = tmp_path / "jwks.cache"
        url = "https://issuer.example/keys" if issuer else ""
        self.keys = Keys(Tokens(jwks_url=url, **settings), self.signer, self.cache, now=self.clock, fetch_keys=issuer)
        self.keys.on_changed = self.changed

    def changed(self):
        self.changes += 1

    def wait(self, seconds=0.0):
        """Let time pass and whatever is fetched arrive."""
        self.clock.now += seconds
        self.keys.tick(self.clock.now)
        wait_until(lambda: self.keys._thread is None or not self.keys._thread.is_alive(), what="the fetch")
        self.keys.tick(self.clock.now)

    def accepts(self, text):
        """Tell whether a token is accepted."""
        try:
            return self.signer.verify(text, NOW).user == "alice"
        except TokenError:
            return False


@pytest.mark.parametrize("algorithm", list(PRIVATE))
def test_a_key_of_a_jwks_verifies_its_own_algorithm(tmp_path, algorithm):
    """RS256, ES256 and EdDSA; with its kid, and with none."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(*(jwk(each, f"key-{each}") for each in PRIVATE)))
    world = World(tmp_path, jwks_file=str(file))

    assert world.accepts(token(algorithm, f"key-{algorithm}"))
    assert world.accepts(token(algorithm))
    others = [each for each in PRIVATE if each != algorithm]
    assert [False, False] == [world.accepts(token(algorithm, f"key-{each}")) for each in others]


def test_the_kid_selects_among_keys(tmp_path):
    """A token that names another key of the set is refused, though one of them would verify it."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(jwk("EdDSA", "new"), jwk("EdDSA", "old", key=OTHER)))
    world = World(tmp_path, jwks_file=str(file))

    assert world.accepts(token(kid="new"))
    assert world.accepts(token(kid="old", key=OTHER))
    assert not world.accepts(token(kid="old"))
    assert not world.accepts(token(kid="../../dev/null"))
    assert not world.accepts(token(kid="' OR 1=1 --"))


def test_a_jwks_is_read_for_its_signature_keys_alone():
    """Secrets, keys for encryption, other curves, short RSA keys, private keys and nonsense are passed over."""
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refused for that
    private = {**jwk("EdDSA"), "d": json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(PRIVATE["EdDSA"]))["d"]}
    ignored = [
        {"kty": "oct", "k": "c2VjcmV0"},
        jwk("RS256", use="enc"),
        jwk("RS256", alg="RS512"),
        jwk("RS256", key=small),
        json.loads(TO_JWK["ES256"](ec.generate_private_key(ec.SECP384R1()).public_key())),
        private,
        {"kty": "RSA"},
        "nonsense",
        {**jwk("EdDSA"), "kid": 7},
    ]

    assert ["EdDSA"] == [key.algorithm for key in parse_jwks(jwks(*ignored, jwk("EdDSA", "good")))]
    for text in (b"", b"[]", b"{}", b'{"keys":{}}', b"[" * 100_000, jwks(*ignored), jwks(*[jwk("EdDSA")] * 101)):
        with pytest.raises(TokenError):
            parse_jwks(text)


def test_a_changed_file_acts_and_a_broken_one_does_not(tmp_path, caplog):
    """A new JWKS file is in force within a second; one that cannot be read leaves the keys as they were."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(jwk("EdDSA", "a")))
    world = World(tmp_path, jwks_file=str(file))
    other = token(kid="b", key=OTHER)
    assert (True, False) == (world.accepts(token(kid="a")), world.accepts(other))

    file.write_bytes(jwks(jwk("EdDSA", "b", key=OTHER)))
    os.utime(file, ns=(1, 1))
    world.wait(1)
    assert (False, True) == (world.accepts(token(kid="a")), world.accepts(other))
    assert 1 == world.changes
    file.write_bytes(b"{")
    world.wait(1)
    file.unlink()
    world.wait(1)
    assert world.accepts(other)
    assert 1 == caplog.text.count("the keys from before stay in force")


def test_an_address_is_fetched_in_the_background_and_again_when_its_time_is_over(tmp_path):
    """The start waits for nothing; max-age counts, from a minute to a day."""
    issuer = Issuer(jwk("EdDSA", "a"), **{"cache-control": "public, max-age=7200"})
    issuer.may_answer.clear()
    world = World(tmp_path, issuer)
    world.keys.tick(world.clock.now)
    assert not world.accepts(token(kid="a"))

    issuer.may_answer.set()
    world.wait()
    assert world.accepts(token(kid="a"))
    world.wait(7199)
    assert 1 == issuer.asked
    issuer.headers = {"cache-control": "max-age=1"}
    world.wait(2)
    world.wait(59)
    assert 2 == issuer.asked
    issuer.headers = {"cache-control": "max-age=999999999"}
    world.wait(1)
    world.wait(86_399)
    assert 3 == issuer.asked
    world.wait(1)
    assert 4 == issuer.asked


def test_an_unknown_kid_fetches_at_most_once_a_minute(tmp_path):
    """A key that was changed at the issuer is there after the first token that names it; a flood asks no more."""
    issuer = Issuer(jwk("EdDSA", "a"))
    world = World(tmp_path, issuer)
    world.wait()
    issuer.body = jwks(jwk("EdDSA", "b", key=OTHER))

    assert not world.accepts(token(kid="b", key=OTHER))
    world.wait(0.25)
    assert world.accepts(token(kid="b", key=OTHER))
    for number in range(100):
        world.accepts(token(kid=f"guess-{number}"))
        world.wait(0.25)
    assert 2 == issuer.asked
    world.wait(60)
    world.accepts(token(kid="guess"))
    world.wait()
    assert 3 == issuer.asked


def test_old_keys_stay_while_the_address_fails(tmp_path, caplog):
    """It is asked again every minute, and complained about once a minute."""
    issuer = Issuer(jwk("EdDSA", "a"), **{"cache-control": "max-age=60"})
    world = World(tmp_path, issuer)
    world.wait()
    issuer.fails = True
    for _ in range(130):
        world.wait(1)

    assert world.accepts(token(kid="a"))
    assert 3 == issuer.asked
    assert 2 == caplog.text.count("tokens.jwks_url: https://issuer.example/keys is down")
    issuer.fails, issuer.body = False, jwks(jwk("EdDSA", "b", key=OTHER))
    world.wait(60)
    assert not world.accepts(token(kid="a"))


def test_a_start_without_network_uses_the_keys_from_before(tmp_path):
    """What was fetched last is kept in the data folder; for another address it does not count."""
    World(tmp_path, Issuer(jwk("EdDSA", "a"))).wait()
    down = Issuer()
    down.fails = True

    assert World(tmp_path, down).accepts(token(kid="a"))
    kept = json.loads((tmp_path / "jwks.cache").read_text())
    (tmp_path / "jwks.cache").write_text(json.dumps({**kept, "url": "https://elsewhere.example/"}))
    assert not World(tmp_path, down).accepts(token(kid="a"))
    (tmp_path / "jwks.cache").write_text("nonsense")
    assert not World(tmp_path, down).accepts(token(kid="a"))


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
def test_a_token_cannot_send_us_anywhere(tmp_path, header):
    """Row 63: a header that names a key or an address of its own is refused, and nothing is fetched for it."""
    issuer = Issuer(jwk("EdDSA", "a"))
    world = World(tmp_path, issuer)
    world.wait()

    assert not world.accepts(token(kid="unknown", **{header: "https://evil.example/keys"}))
    world.wait(0.25)
    assert 1 == issuer.asked


def test_reload_asks_again_at_once(tmp_path):
    """SIGHUP reads the file and asks the address, whatever their age."""
    issuer = Issuer(jwk("EdDSA", "a"))
    world = World(tmp_path, issuer)
    world.wait()
    world.keys.reload()
    world.wait()

    assert 2 == issuer.asked


def test_an_address_that_must_not_be_asked_stops_the_start(tmp_path):
    """http beyond this machine is refused by name."""
    with pytest.raises(MesimqttError, match=r"tokens\.jwks_url: http://issuer\.example/.*https://"):
        Keys(Tokens(jwks_url="http://issuer.example/"), TokenSigner(b"s" * 32, issuer="x"), None, now=Clock())
    with pytest.raises(MesimqttError, match=r"tokens\.jwks_file: cannot use .*nothing"):
        World(tmp_path, jwks_file=str(tmp_path / "nothing"))
