"""amqtt's own contributed plugins run unchanged: HTTP, database, LDAP, certificates, JWT."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import jwt
import pytest
from amqtt.contexts import Action
from amqtt.contrib.auth_db.managers import TopicManager, UserManager
from amqtt.contrib.auth_db.models import PasswordHasher
from cryptography import x509

from integration.certificates import Authority
from integration.raw_client import RawClient, play, serving, settings_of

TABOO = {"amqtt.plugins.topic_checking.TopicTabooPlugin": {}}


def port_of(broker):
    return broker.bound[0][2]


async def code_of(broker, user, password, client_id="phone"):
    """Return the CONNACK's code."""
    client = await RawClient.connect(port_of(broker), client_id, user, password)
    await client.close()
    return client.code


async def uses(broker, user, password, *, publish, subscribe):
    """Subscribe, publish at QoS 1, and return the SUBACK's code and what arrives."""
    client = await RawClient.connect(port_of(broker), "phone", user, password)
    assert 0 == client.code
    code = await client.subscribe(subscribe)
    await client.publish(publish, b"x", qos=1)
    await client.ping()
    arrived = [message.topic for message in client._messages]
    await client.close()
    return code, arrived


@contextmanager
def http_backend(decide):
    """Run an HTTP server that answers `{"ok": decide(path, question)}`; give its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # what amqtt's plugin sends, with a body, unless it is told otherwise
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"ok": decide(self.path, question)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_amqtts_http_plugins():
    """`UserAuthHttpPlugin` and `TopicAuthHttpPlugin` ask an HTTP server who enters and who may use a topic."""

    def decide(path, question):
        if path == "/user":
            return (question["username"], question["password"]) == ("alice", "right")
        return question["username"] == "alice" and question["topic"].startswith("shed/")

    async def story(port):
        options = {"host": "127.0.0.1", "port": port}
        plugins = {
            "amqtt.contrib.http.UserAuthHttpPlugin": options,
            "amqtt.contrib.http.TopicAuthHttpPlugin": options,
        }
        async with serving(settings_of(plugins)) as broker:
            assert [0, 5, 5] == [
                await code_of(broker, *who) for who in (("alice", "right"), ("alice", "wrong"), ("bob", "right"))
            ]
            found = await uses(broker, "alice", "right", publish="shed/door", subscribe="shed/#")
            assert (0, ["shed/door"]) == found
            assert (0x80, []) == await uses(broker, "alice", "right", publish="house/door", subscribe="house/#")

    with http_backend(decide) as port:
        play(lambda: story(port))


def test_amqtts_database_plugins(tmp_path):
    """`UserAuthDBPlugin` and `TopicAuthDBPlugin` look into an SQL database."""
    connection = f"sqlite+aiosqlite:///{tmp_path}/users.db"

    async def fill():
        PasswordHasher(schemes=["argon2"])
        async with UserManager(connection) as users, TopicManager(connection) as topics:
            await users.db_sync()
            await users.create_user_auth("alice", "right")
            await topics.create_topic_auth("alice")
            for action in (Action.PUBLISH, Action.SUBSCRIBE, Action.RECEIVE):
                await topics.add_allowed_topic("alice", "shed/#", action)

    async def story():
        await fill()
        plugins = {
            "amqtt.contrib.auth_db.UserAuthDBPlugin": {"connection": connection, "hash_schemes": ["argon2"]},
            "amqtt.contrib.auth_db.TopicAuthDBPlugin": {"connection": connection},
        }
        async with serving(settings_of(plugins)) as broker:
            assert [0, 5, 5] == [
                await code_of(broker, *who) for who in (("alice", "right"), ("alice", "wrong"), ("bob", "right"))
            ]
            found = await uses(broker, "alice", "right", publish="shed/door", subscribe="shed/#")
            assert (0, ["shed/door"]) == found
            assert (0x80, []) == await uses(broker, "alice", "right", publish="house/door", subscribe="house/#")

    play(story)


def test_amqtts_jwt_plugins():
    """`UserAuthJwtPlugin` and `TopicAuthJwtPlugin` read a token that is signed with a shared secret."""
    secret = "s" * 32
    token = jwt.encode({"name": "alice", "pub": ["shed/#"], "sub_": ["shed/#"], "get": ["shed/#"]}, secret)
    plugins = {
        "amqtt.contrib.jwt.UserAuthJwtPlugin": {"secret_key": secret, "user_claim": "name"},
        "amqtt.contrib.jwt.TopicAuthJwtPlugin": {
            "secret_key": secret, "publish_claim": "pub", "subscribe_claim": "sub_", "receive_claim": "get",
        },
    }  # fmt: skip

    async def story():
        async with serving(settings_of(plugins)) as broker:
            other = jwt.encode({"name": "bob"}, "t" * 32)
            assert [0, 5, 5] == [
                await code_of(broker, *who) for who in (("alice", token), ("bob", token), ("bob", other))
            ]
            assert (0, ["shed/door"]) == await uses(broker, "alice", token, publish="shed/door", subscribe="shed/#")
            assert (0x80, []) == await uses(broker, "alice", token, publish="house", subscribe="house")

    play(story)


def test_amqtts_certificate_plugin(tmp_path):
    """`UserAuthCertPlugin` lets in the device that its certificate names, and under no other client id or user name."""
    authority = Authority(tmp_path)
    lamp = authority.issue("lamp", "lamp", x509.UniformResourceIdentifier("spiffe://home.example/device/lamp"))
    plugins = {"amqtt.contrib.cert.UserAuthCertPlugin": {"uri_domain": "home.example"}, **TABOO}

    async def code(port, client_id, certificate, user=None):
        context = ssl.create_default_context(cafile=authority.file)
        if certificate:
            context.load_cert_chain(certificate.with_suffix(".pem"), certificate.with_suffix(".key"))
        client = await RawClient.connect(port, client_id, user, user and "x", tls=context)
        await client.close()
        return client.code

    async def story():
        listener = {**authority.server(), "cafile": str(authority.file)}
        async with serving(settings_of(plugins, listener=listener)) as broker:
            port = port_of(broker)

            assert [0, 5, 5] == [await code(port, *who) for who in (("lamp", lamp), ("door", lamp), ("lamp", None))]
            assert [0, 5] == [await code(port, "lamp", lamp, user) for user in ("lamp", "alice")]

    play(story)


class FakeLdap(ModuleType):
    """Stands for python-ldap, which needs a C library to be built: a directory of one administrator and alice."""

    VERSION3, SCOPE_SUBTREE = 3, 2
    PEOPLE = {"cn=admin": "secret", "uid=alice,dc=home": "right"}  # noqa: RUF012 - a module's constant

    class LDAPError(Exception):
        """As there."""

    class INVALID_CREDENTIALS(LDAPError):  # noqa: N801, N818 - as there
        """As there."""

    def initialize(self, server):
        self.servers = [*getattr(self, "servers", []), server]
        return self

    def simple_bind_s(self, name, password):
        self.threads = {*getattr(self, "threads", ()), threading.current_thread().name}
        if password and self.PEOPLE.get(name) != password:  # without one anybody may bind, as in many a directory
            raise self.INVALID_CREDENTIALS

    def search_s(self, _base, _scope, search, attributes):
        if search != "(uid=alice)" and "*" not in search:
            return []
        return [("uid=alice,dc=home", {name: [b"shed/#"] for name in attributes if name != "cn"})]


@pytest.fixture
def ldap(monkeypatch):
    """Put a directory where the plugin looks for python-ldap."""
    fake = FakeLdap("ldap")
    monkeypatch.setitem(sys.modules, "ldap", fake)
    monkeypatch.delitem(sys.modules, "amqtt.contrib.ldap", raising=False)
    yield fake
    sys.modules.pop("amqtt.contrib.ldap", None)


@pytest.mark.parametrize("isolate", [False, True])
def test_amqtts_ldap_plugins(ldap, isolate):
    """`UserAuthLdapPlugin` and `TopicAuthLdapPlugin` ask a directory; they wait in place, so `isolate` is advised."""
    options = {
        "server": "ldap://127.0.0.1", "base_dn": "dc=home", "user_attribute": "uid", "bind_dn": "cn=admin",
        "bind_password": "secret", "isolate": isolate,
    }  # fmt: skip
    attributes = {f"{action}_attribute": f"may_{action}" for action in ("publish", "subscribe", "receive")}
    plugins = {
        "amqtt.contrib.ldap.UserAuthLdapPlugin": options,
        "amqtt.contrib.ldap.TopicAuthLdapPlugin": {**options, **attributes},
    }

    async def story():
        async with serving(settings_of(plugins)) as broker:
            assert [0, 5, 5] == [
                await code_of(broker, *who) for who in (("alice", "right"), ("alice", "wrong"), ("bob", "right"))
            ]
            found = await uses(broker, "alice", "right", publish="shed/door", subscribe="shed/#")
            assert (0, ["shed/door"]) == found
            assert (0x80, []) == await uses(broker, "alice", "right", publish="house", subscribe="house")
            # No password is nobody's, and a name is a name: neither what matches everybody nor a search of its own.
            traps = [("alice", ""), ("*", "right"), ("al*", "right"), ("alice)(uid=*", "right"), ("", "right")]
            assert [5] * len(traps) == [await code_of(broker, *who) for who in traps]

    play(story)

    assert isolate == any(name != "MainThread" for name in ldap.threads)
