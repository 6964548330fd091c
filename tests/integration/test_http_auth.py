"""HttpAuth and HttpAccess: the backend decides, quickly, boundedly, and never by being silent."""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.broker.services import BareServices
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.hooks import Identity, Refusal
from mesimqtt_plugins.http_auth import HttpAuth
from stopwatch import Stopwatch

AUTH = "mesimqtt_plugins.http_auth.HttpAuth"
ACCESS = "mesimqtt_plugins.http_auth.HttpAccess"
RULES = "mesimqtt_plugins.acl.FolderAccess"


class Backend:
    """An application's endpoint: `answers` maps a user (or topic) to what it says; `asked` has every question."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.signatures = []
        self.connections = set()
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def reply(self, body, headers):
        with self.lock:
            self.asked.append(question := json.loads(body))
            self.signatures.append((headers["X-Mesimqtt-Signature"], headers["X-Key"], body))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.delay_s)
        with self.lock:
            self.at_once -= 1
        answer = self.answers.get(question.get("topic") or question["user"], 403)
        return (answer, b"{}") if isinstance(answer, int) else (200, answer)


@contextmanager
def backend_running():
    backend = Backend()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            backend.connections.add(self.client_address)
            status, answer = backend.reply(self.rfile.read(int(self.headers["Content-Length"])), self.headers)
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            try:
                self.wfile.write(text)
            except OSError:
                self.close_connection = True

        def log_message(self, *_):
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that has given up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    backend.url = f"http://127.0.0.1:{server.server_port}/mqtt/auth"
    try:
        yield backend
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def backend():
    with backend_running() as running:
        yield running


def plugins(backend, *, rules=(), access=False, **options):
    found = {AUTH: {"url": backend.url, **options}, RULES: {"rules": list(rules)}}
    return {**found, ACCESS: {"url": backend.url, "cache": 30}} if access else found


async def connect(broker, user, password="x", client_id="phone"):  # noqa: S107 - any will do
    return await RawClient.connect(broker.bound[0][2], client_id, user, password)


async def code_of(broker, user, password="x", client_id="phone"):  # noqa: S107 - likewise
    """Return the CONNACK's code."""
    client = await connect(broker, user, password, client_id)
    await client.close()
    return client.code


def test_the_backend_decides_who_enters_and_as_whom(backend):
    """Its yes lets in, as the user it names and with the rules it gives; all else is a refusal."""
    rules = [{"allow": "publish", "topic": "gate/#"}, {"allow": "subscribe", "topic": "gate/#"}]
    backend.answers = {
        "door": {"allow": True, "user": "door/7", "acl": rules},
        "carol": {"allow": False},
        "dave": {"allow": "yes"},
        "erin": {},
    }

    async def story():
        async with serving(settings_of(plugins(backend, rules=[{"allow": "all", "topic": "home/%u/#"}]))) as broker:
            door = await connect(broker, "door")
            assert [0, 0, 0x80] == [await door.subscribe(name) for name in ("gate/#", "home/door%2F7/#", "home/door")]
            await door.publish("gate/1", b"open", qos=1)
            assert b"open" == (await door.message()).payload
            assert [5] * 4 == [await code_of(broker, user) for user in ("carol", "dave", "erin", "frank")]
            await door.close()

    play(story)

    assert {
        "op": "connect", "user": "door", "password": "x", "client_id": "phone", "address": "127.0.0.1",
    } == backend.asked[0]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        500, 302, b"nonsense", b"[]", b'{"allow":true,"allow":false}', b"x" * 70_000,
        {"allow": True, "user": ""}, {"allow": True, "user": "e\u0301"}, {"allow": True, "user": ["a"]},
        {"allow": True, "scope": "root"}, {"allow": True, "scope": ["admin"]}, {"allow": True, "expires": "soon"},
        {"allow": True, "expires": -1}, {"allow": True, "expires": 1}, {"allow": True, "acl": {"allow": "publish"}},
        {"allow": True, "acl": [{"allow": "all", "topic": "#"}]}, {"allow": True, "device": 7},
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_lets_nobody_in(backend, answer):
    """It fails closed: whatever is not exactly what the contract of this plugin says is a refusal."""
    backend.answers = {"alice": answer}

    async def story():
        async with serving(settings_of(plugins(backend))) as broker:
            assert 5 == await code_of(broker, "alice")

    play(story)


def test_who_is_let_in_as_one_device_is_no_other(backend):
    """A `device` in the answer binds it to that client id, as it does in a token."""
    backend.answers = {"alice": {"allow": True, "device": "phone"}}

    async def story():
        async with serving(settings_of(plugins(backend))) as broker:
            assert [0, 5] == [await code_of(broker, "alice", client_id=each) for each in ("phone", "laptop")]

    play(story)


def test_a_backend_that_is_slow_or_gone_lets_nobody_in_and_holds_up_nobody_else(backend, caplog):
    """After the timeout it is a refusal; clients that are in go on meanwhile; the log says so once a minute."""
    backend.answers = {"alice": {"allow": True}, "bob": {"allow": True}}

    async def story():
        opened = [{"allow": "all", "topic": "x"}]
        async with serving(settings_of(plugins(backend, rules=opened, timeout=1.5, cache=0))) as broker:
            alice = await connect(broker, "alice")
            await alice.subscribe("x")
            backend.delay_s = 3.0
            waiting = [asyncio.ensure_future(code_of(broker, "bob", client_id=f"c{n}")) for n in range(4)]
            watch = Stopwatch()
            await alice.publish("x", b"y", qos=1)
            assert b"y" == (await alice.message()).payload
            assert watch.elapsed_s < 0.15
            assert [5] * 4 == await asyncio.gather(*waiting)
            await alice.close()

    play(story)

    assert 1 == caplog.text.count("HttpAuth: the backend does not answer as it should, so nobody gets in")
    assert "password" not in caplog.text


def test_answers_are_kept_and_connections_used_again(backend):
    """The same name, password and client id within `cache` seconds asks once; a no is asked again each time."""
    backend.answers = {"alice": {"allow": True}}

    async def story():
        async with serving(settings_of(plugins(backend, threads=1))) as broker:
            assert [0, 0, 0] == [await code_of(broker, "alice") for _ in range(3)]
            assert [5, 5] == [await code_of(broker, "bob") for _ in range(2)]
            assert 0 == await code_of(broker, "alice", "other")

    play(story)

    assert ["alice", "bob", "bob", "alice"] == [question["user"] for question in backend.asked]
    assert 1 == len(backend.connections)


def test_what_is_asked_at_once_is_bounded(backend):
    """However many clients come, no more than `threads` questions are under way."""
    backend.answers = {f"u{n}": {"allow": True} for n in range(12)}
    backend.delay_s = 0.02

    async def story():
        async with serving(settings_of(plugins(backend, threads=3))) as broker:
            codes = await asyncio.gather(*(code_of(broker, f"u{n}", client_id=f"c{n}") for n in range(12)))
            assert [0] * 12 == codes

    play(story)

    assert backend.most_at_once <= 3


def test_each_question_is_signed(backend, tmp_path):
    """The header holds the time and the HMAC of time and body; further headers go with it."""
    (tmp_path / "secret").write_text("open sesame\n")
    backend.answers = {"alice": {"allow": True}}

    async def story():
        options = {"secret_file": str(tmp_path / "secret"), "headers": {"X-Key": "k"}}
        async with serving(settings_of(plugins(backend, **options))) as broker:
            assert 0 == await code_of(broker, "alice")

    play(story)
    ((signature, key, body),) = backend.signatures
    stamp, _, mac = signature.removeprefix("t=").partition(",v1=")

    assert "k" == key
    assert abs(int(stamp) - time.time()) < 10
    assert mac == hmac.digest(b"open sesame", stamp.encode() + b"." + body, "sha256").hex()


def test_the_backend_decides_on_topics(backend):
    """HttpAccess asks for each client, action and topic, keeps the answers, and only where rules have opened it."""
    backend.answers = {
        "alice": {"allow": True},
        "x/1": {"allow": True},
        "x/#": {"allow": True},
        "x/2": {"allow": False},
    }

    async def story():
        opened = [{"allow": "all", "topic": "x/#"}]
        async with serving(settings_of(plugins(backend, rules=opened, access=True))) as broker:
            alice = await connect(broker, "alice")
            assert [0, 0x80, 0x80] == [await alice.subscribe(name) for name in ("x/#", "x/2/#", "y")]
            for topic in ("x/2", "x/1", "x/1"):
                await alice.publish(topic, topic.encode(), qos=1)
            assert [b"x/1"] * 2 == [(await alice.message()).payload for _ in range(2)]
            await alice.close()

    play(story)
    asked = [(each["action"], each["topic"]) for each in backend.asked if each["op"] == "access"]

    assert [("subscribe", "x/#"), ("subscribe", "x/2/#"), ("publish", "x/2"), ("publish", "x/1")] == asked[:4]
    assert len(asked) == len(set(asked))
    assert {"alice"} == {each["user"] for each in backend.asked}


def test_a_topic_that_the_backend_takes_away_is_gone_when_its_answer_is_old(backend):
    """Answers hold for `cache` seconds without a question; then a live subscription ends where it now says no."""
    backend.answers = {"alice": {"allow": True}, "x": {"allow": True}}

    async def story():
        both = plugins(backend, rules=[{"allow": "all", "topic": "x"}], access=True)
        both[ACCESS]["cache"] = 0.1
        async with serving(settings_of(both)) as broker:
            alice, other = await connect(broker, "alice"), await connect(broker, "alice", client_id="other")
            await alice.subscribe("x")
            await other.publish("x", b"first", qos=1)
            assert b"first" == (await alice.message()).payload
            asked = len(backend.asked)
            await other.publish("x", b"second", qos=1)
            assert b"second" == (await alice.message()).payload
            assert asked == len(backend.asked)
            assert not broker.gate.is_volatile
            epoch = broker.gate.epoch
            backend.answers["x"] = {"allow": False}
            await until(lambda: broker.gate.epoch > epoch)
            await other.publish("x", b"third", qos=1)
            await alice.ping()
            assert [] == list(alice._messages)
            for client in (alice, other):
                await client.close()

    play(story)


class Tokens(BareServices):
    """Services that know one token, and nothing else."""

    def __init__(self):
        self.tokens = self

    def check_connect(self, request):
        return Identity("bob", jti="t") if request.password == b"a.b.c" else Refusal(5, "no token")


def test_tokens_and_passwords_side_by_side(backend):
    """With `mixed` on both, what looks like a token is TokenAuth's alone and all else the backend's alone."""
    backend.answers = {"alice": {"allow": True}}
    both = {"mesimqtt_plugins.auth.TokenAuth": {"mixed": True}, **plugins(backend, mixed=True)}

    async def story():
        async with serving(settings_of(both, is_open=False), services=Tokens()) as broker:
            assert [0, 0, 5, 5] == [
                await code_of(broker, user, password)
                for user, password in (("bob", "a.b.c"), ("alice", "x"), ("alice", "d.e.f"), ("bob", "x"))
            ]
            assert 5 == await code_of(broker, None, None)

    play(story)

    assert ["alice", "bob"] == [question["user"] for question in backend.asked]


def test_a_backend_that_closes_kept_connections_is_asked_again(backend):
    """A connection that the backend has closed meanwhile is replaced without a refusal."""
    backend.answers = {"alice": {"allow": True}, "bob": {"allow": True}}

    async def story():
        async with serving(settings_of(plugins(backend, threads=1))) as broker:
            assert 0 == await code_of(broker, "alice")
            plugin = broker.plugins_manager.get_plugin("HttpAuth")
            (kept,) = plugin._asker.backend._idle
            kept.sock.shutdown(2)
            assert 0 == await code_of(broker, "bob")

    play(story)
    assert 2 == len(backend.connections)


def test_the_time_until_which_somebody_may_stay_is_kept(backend):
    """`expires` and `scope` of the answer become the identity's."""
    ends = int(time.time()) + 100
    backend.answers = {"alice": {"allow": True, "expires": ends, "scope": "backend"}}
    found = []

    async def story():
        async with serving(settings_of(plugins(backend))) as broker:
            client = await connect(broker, "alice")
            await until(lambda: broker.engine.connections_of("alice"))
            found.append(broker.engine.connections_of("alice")[0].identity)
            await client.close()

    play(story)

    assert [("alice", "backend", float(ends))] == [(each.user, each.scope, each.expires_at) for each in found]


def test_who_may_stay_no_longer_is_cut(backend):
    """At `expires` the connection ends, whether messaging knows the user or not; others stay."""
    backend.answers = {"alice": {"allow": True, "expires": int(time.time()) + 4}, "bob": {"allow": True}}

    async def story():
        async with serving(settings_of(plugins(backend))) as broker:
            alice, bob = await connect(broker, "alice"), await connect(broker, "bob", client_id="other")
            assert [0, 0] == [alice.code, bob.code]
            assert b"" == await alice.ended()
            await bob.ping()
            for client in (alice, bob):
                await client.close()

    play(story)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://example.org/"}, "HttpAuth: url: http://example.org/: it must begin with https://"),
        ({"url": "https://example.org/", "timeout": 0}, "HttpAuth: timeout is above 0"),
        ({"url": "https://example.org/", "threads": 65}, "threads 1 to 64"),
        ({"url": "https://example.org/", "secret_file": "/nowhere/secret"}, "HttpAuth: secret_file: /nowhere/secret"),
        ({"url": "https://example.org/", "cafile": "/nowhere/ca"}, "HttpAuth: cafile: /nowhere/ca"),
        ({"url": "https://example.org/", "headers": {"X": "a\r\nY: b"}}, "HttpAuth: headers: X: a name and a text"),
        ({"url": "https://example.org/", "headers": {"X Y": "a"}}, "HttpAuth: headers: X Y: a name and a text"),
    ],
)
def test_options_that_cannot_be_used_stop_the_start(options, words):
    """The line names the plugin and the option."""
    with pytest.raises(MesimqttError) as caught:
        HttpAuth(SimpleNamespace(config=HttpAuth.Config(**options)))

    assert words in str(caught.value)
