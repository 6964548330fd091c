"""A random load: clients of every kind that send, read, rest, go and come back, and a backend over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from random import Random
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.replays.client import FIVE, Client

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = ("alice", "bob", "carol", "dave")
GROUP = "team"
_FILTERS = ("#", "u/#", "status/#", "session", "g/team/#", "presence/#", "event/#", "s/#", "u/bob/#")
_FREE = ("free/a", "free/b/c", "free/#", "+/a", "$share/pool/free/#", "$SYS/broker/clients/+")
_PAYLOADS = (b"", b"hi", b"x" * 200, b"y" * 3_000, "grüße".encode())
_LARGE = b"z" * 60_000
_PAUSE_MAX_S = 0.03

# What the backend asks, with how it is said: (method, path, body).
_ASKED: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("GET", "/v1/history/u/bob", None),
    ("GET", "/v1/inbox", None),
    ("GET", "/v1/stats", None),
    ("GET", "/healthz", None),
    ("GET", "/metrics", None),
    ("POST", "/v1/send/bob", {"text": "from http"}),
    ("POST", "/v1/op/sync", {}),
    ("POST", "/v1/op/search", {"text": "hi"}),
    ("POST", "/v1/op/user_show", {"address": "alice"}),
    ("POST", "/v1/op/token_issue", {"addresses": ["dave"], "short": True}),
    ("GET", "/nowhere", None),
)


class Load:
    """What happens on one server, from one seed. `ports` are those of MQTT, WebSocket and HTTP."""

    def __init__(self, seed: int, ports: dict[str, int], tokens: dict[str, str]) -> None:
        self._random = Random(seed)
        self._ports = ports
        self._tokens = tokens

    async def run(self, clients: int, actions: int) -> None:
        """Let so many clients do so many things each, at the same time."""
        lives = [self._life(Random(self._random.random()), actions) for _ in range(clients)]
        await asyncio.gather(*lives, asyncio.to_thread(self._backend, Random(self._random.random()), actions // 2))

    async def _life(self, random: Random, actions: int) -> None:
        client: Client | None = None
        for _ in range(actions):
            if client is None or client.is_gone or random.random() < 0.05:
                if client is not None:
                    await client.close(random.choice(("bye", "cut", "end")))
                client = await self._entered(random)
            self._act(random, client)
            await asyncio.sleep(random.random() * _PAUSE_MAX_S)
        if client is not None:
            client.rest(is_resting=False)
            await client.close("bye")

    async def _entered(self, random: Random) -> Client:
        user = random.choice(USERS)
        client = Client(random, user, self._tokens[user], random.choice((4, 4, FIVE)))
        kind, path = random.choice((("mqtt", ""), ("mqtt", ""), ("ws", "/mqtt"), ("http", "/mqtt")))
        with contextlib.suppress(OSError):
            await client.open(self._ports[kind], path)
            client.connect(f"d{random.randrange(3)}", clean=random.random() < 0.3, keep_alive=random.choice((1, 60)))
            client.subscribe((f"m/{user}/in/{random.choice(_FILTERS)}", random.choice((0, 1, 1))))
        return client

    def _act(self, random: Random, client: Client) -> None:
        act: Callable[[Random, Client], None] = random.choices(
            (_message, _to_group, _free, _subscribed, _unsubscribed, _aside, _burst, _rested, _resumed, _pinged, _torn),
            (30, 10, 15, 8, 2, 12, 3, 2, 6, 3, 1),
        )[0]
        act(random, client)

    def _backend(self, random: Random, requests: int) -> None:
        """Ask over HTTP, now and then over the same connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["http"], timeout=10)
        for _ in range(requests):
            method, path, body = random.choice(_ASKED)
            user = random.choice(("alice", "alice", "admin"))
            headers = {"Authorization": f"Bearer {self._tokens[user]}", "Content-Type": "application/json"}
            if body is not None and random.random() < 0.3:
                headers["Idempotency-Key"] = f"k{random.randrange(4)}"
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            if random.random() < 0.2:
                connection.close()
        connection.close()


def _parameters(random: Random) -> str:
    chosen = random.choice(("", "", "", "expiry=0", "expiry=1", "type=7&x=y", "when=1", "flags=1", "age=1", "bad=%zz"))
    return f"/{chosen}" if chosen else ""


def _message(random: Random, client: Client) -> None:
    cid = random.choice((f"c{random.randrange(10**6)}", f"again{random.randrange(5)}"))
    topic = f"m/{client.user}/out/u/{random.choice((*USERS, 'nobody'))}/{cid}{_parameters(random)}"
    payload = _LARGE if random.random() < 0.03 else random.choice(_PAYLOADS)
    client.publish(topic, payload, random.choice((0, 1, 1, 2)))


def _to_group(random: Random, client: Client) -> None:
    topic = f"m/{client.user}/out/g/{GROUP}/g{random.randrange(10**6)}{_parameters(random)}"
    client.publish(topic, random.choice(_PAYLOADS), random.choice((0, 1)))


def _free(random: Random, client: Client) -> None:
    topic = random.choice(("free/a", "free/b/c", "free/x", "denied/a", "$SYS/x"))
    client.publish(topic, random.choice(_PAYLOADS), random.choice((0, 1, 2)), retain=random.random() < 0.2)


def _subscribed(random: Random, client: Client) -> None:
    own = f"m/{client.user}/in/{random.choice(_FILTERS)}"
    client.subscribe((random.choice((own, random.choice(_FREE))), random.choice((0, 1, 2))))


def _unsubscribed(random: Random, client: Client) -> None:
    client.unsubscribe(random.choice((f"m/{client.user}/in/#", "free/#")))


def _aside(random: Random, client: Client) -> None:
    peer = random.choice(USERS)
    place, payload = random.choice(
        (
            (f"read/u/{peer}", b"<=ffffffffffffffff"),
            (f"presence/u/{peer}", b"typing"),
            ("rpc/history/r1", json.dumps({"peer": peer}).encode()),
            ("rpc/inbox/r2", b"{}"),
            ("rpc/sync/r3", b"{}"),
            ("rpc/search/r4", b'{"text":"hi"}'),
            ("rpc/presence_follow/r5", json.dumps({"addresses": [peer]}).encode()),
            ("rpc/nothing/r6", b"{"),
        )
    )
    client.publish(f"m/{client.user}/out/{place}", payload, random.choice((0, 1)))


def _burst(random: Random, client: Client) -> None:
    peer, first = random.choice(USERS), random.randrange(10**6)
    client.send(
        *(
            client.packet(f"m/{client.user}/out/u/{peer}/b{first + n}", b"burst", 1)
            for n in range(random.randrange(200))
        )
    )


def _rested(_random: Random, client: Client) -> None:
    client.rest(is_resting=True)


def _resumed(_random: Random, client: Client) -> None:
    client.rest(is_resting=False)


def _pinged(_random: Random, client: Client) -> None:
    client.ping()


def _torn(random: Random, client: Client) -> None:
    client.send(random.randbytes(random.randrange(1, 40)))
