"""Tokens of others on a running server: its keys come from an address, change there, and outlive its absence."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from integration.raw_client import RawClient, play
from integration.server import Server, wait_until

KEYS = {"one": ed25519.Ed25519PrivateKey.generate(), "two": ec.generate_private_key(ec.SECP256R1())}
ALGORITHMS = {"one": "EdDSA", "two": "ES256"}
DEADLINE_S = 60.0


def jwks(*names):
    to_jwk = {"one": jwt.algorithms.OKPAlgorithm.to_jwk, "two": jwt.algorithms.ECAlgorithm.to_jwk}
    keys = [{**json.loads(to_jwk[name](KEYS[name].public_key())), "kid": name} for name in names]
    return json.dumps({"keys": keys}).encode()


def token(name, user="alice"):
    now = int(time.time())
    claims = {"sub": user, "aud": "mesimqtt", "iss": "login", "iat": now, "exp": now + 600, "jti": f"{user}-{name}"}
    return jwt.encode(claims, KEYS[name], algorithm=ALGORITHMS[name], headers={"kid": name})


class Issuer:
    """Who signs the tokens; `body` is its JWKS."""

    def __init__(self):
        self.body = jwks("one")
        self.asked = 0
        self.url = ""


@contextmanager
def issuing():
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            issuer.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(issuer.body)))
            self.end_headers()
            self.wfile.write(issuer.body)

        def log_message(self, *_):
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def code_of(server, name, user="alice"):
    client = await RawClient.connect(server.port, "phone", user, token(name, user))
    await client.close()
    return client.code


async def entered(server, name):
    """Try until the token is accepted; return how often it was refused before."""
    deadline = time.monotonic() + DEADLINE_S
    refused = 0
    while await code_of(server, name):
        refused += 1
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return refused


def test_keys_of_an_address(tmp_path):
    """Fetched at start, again for a key that is not known, and kept for a restart while nobody answers there."""
    config = tmp_path / "mesimqtt.yaml"
    with issuing() as issuer:
        tokens = {"jwks_url": issuer.url, "foreign_issuers": ["login"], "auto_create": True}
        config.write_text(json.dumps({"tokens": tokens, "broker": {"listeners": {"default": {"bind": "127.0.0.1:0"}}}}))
        with Server(tmp_path / "data", config=config) as server:

            async def story():
                await entered(server, "one")
                issuer.body = jwks("two")
                assert await entered(server, "two") > 0
                assert 5 == await code_of(server, "one", "bob")

            play(story)
            assert 2 == issuer.asked
            server.stop()
    with Server(tmp_path / "data", config=config) as server:
        play(lambda: stays(server))
        wait_until(lambda: "the keys from before stay in force" in server.printed, what="why the keys are the old ones")


async def stays(server):
    """The last keys are known at once, without the issuer."""
    assert 0 == await code_of(server, "two")
    assert 5 == await code_of(server, "one", "bob")
    deadline = time.monotonic() + DEADLINE_S
    while "stay in force" not in server.printed:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
