"""amqtt's seam: what of amqtt we stand on is as it was, and plugins written for amqtt run unchanged."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import requires, version
from types import ModuleType, SimpleNamespace

import amqtt.adapters
import amqtt.broker
import amqtt.plugins.base
import amqtt.plugins.manager
import amqtt.session
import pytest
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.events import BrokerEvents, MQTTEvents
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin
from pwdlib.hashers.argon2 import Argon2Hasher

from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.broker.broker import Broker

ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
TABOO = {"amqtt.plugins.topic_checking.TopicTabooPlugin": {}}

# What we override, call or implement: name -> parameters.
SEAM = {
    "amqtt.broker.Broker.start": "self",
    "amqtt.broker.Broker.shutdown": "self",
    "amqtt.broker.Broker._init_states": "self",
    "amqtt.broker.Broker._start_listeners": "self",
    "amqtt.broker.Broker._create_ssl_context": "listener",
    "amqtt.broker.Broker._create_server_instance": "self, listener_name, listener_type, address, port, ssl_context",
    "amqtt.broker.Broker._split_bindaddr_port": "port_str, default_port",
    "amqtt.broker.Broker._client_connected": "self, listener_name, reader, writer",
    "amqtt.broker.Broker.external_connected": "self, reader, writer, listener_name",
    "amqtt.broker.Broker.internal_message_broadcast": "self, topic, data, qos",
    "amqtt.broker.Broker.retain_message": "self, source_session, topic_name, data, qos",
    "amqtt.broker.Broker.create_offline_session": "self, client_id",
    "amqtt.broker.Broker.add_subscription": "self, subscription, session",
    "amqtt.broker.BrokerContext.__init__": "self, broker",
    "amqtt.broker.BrokerContext.broadcast_message": "self, topic, data, qos",
    "amqtt.broker.BrokerContext.retain_message": "self, topic_name, data, qos",
    "amqtt.broker.BrokerContext.get_session": "self, client_id",
    "amqtt.broker.BrokerContext.add_subscription": "self, client_id, topic, qos",
    "amqtt.broker.RetainedApplicationMessage.__init__": "self, source_session, topic, data, qos",
    "amqtt.session.ApplicationMessage.__init__": "self, packet_id, topic, qos, data, retain",
    "amqtt.session.IncomingApplicationMessage.__init__": "self, packet_id, topic, qos, data, retain",
    "amqtt.session.Session.__init__": "self",
    "amqtt.session.Session._init_states": "self",
    "amqtt.plugins.manager.PluginManager.__init__": "self, namespace, context, loop",
    "amqtt.plugins.manager.PluginManager.close": "self",
    "amqtt.plugins.base.BaseAuthPlugin.authenticate": "self, session",
    "amqtt.plugins.base.BaseTopicPlugin.topic_filtering": "self, session, topic, action",
    "amqtt.adapters.ReaderAdapter.read": "self, n",
    "amqtt.adapters.WriterAdapter.write": "self, data",
    "amqtt.adapters.WriterAdapter.drain": "self",
    "amqtt.adapters.WriterAdapter.get_peer_info": "self",
    "amqtt.adapters.WriterAdapter.close": "self",
}

# The keywords with which amqtt fires its events: what plugins' callbacks are written for.
EVENTS = {
    "CLIENT_CONNECTED": {"client_id", "client_session"},
    "CLIENT_DISCONNECTED": {"client_id", "client_session"},
    "CLIENT_SUBSCRIBED": {"client_id", "topic", "qos"},
    "CLIENT_UNSUBSCRIBED": {"client_id", "topic"},
    "MESSAGE_RECEIVED": {"client_id", "message"},
    "MESSAGE_BROADCAST": {"client_id", "message"},
    "RETAINED_MESSAGE": {"client_id", "retained_message"},
    "PRE_START": set(),
    "POST_START": set(),
    "PRE_SHUTDOWN": set(),
    "POST_SHUTDOWN": set(),
}


def found(name):
    thing = sys.modules[name.rsplit(".", 2)[0]]
    for part in name.rsplit(".", 2)[1:]:
        thing = getattr(thing, part)
    return thing


def attributes_of(source, owner):
    """Return the attributes that `source` reads of `self.<owner>`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(source)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == owner
    }


def test_amqtt_is_the_one_that_was_pinned():
    """The pin is >=0.12.1,<0.13: another version is looked at before it is let in."""
    pins = [line for line in requires("mesimqtt") or [] if line.startswith("amqtt")]

    assert ["amqtt<0.13,>=0.12.1"] == pins
    assert version("amqtt").startswith("0.12.")


@pytest.mark.parametrize("name", SEAM)
def test_signatures_of_the_seam(name):
    """Each method that we override, call or implement takes the parameters it took."""
    assert SEAM[name] == ", ".join(inspect.signature(found(name)).parameters)


def test_what_the_context_asks_of_the_broker():
    """BrokerContext touches nothing of the broker but what ours has."""
    touched = attributes_of(inspect.getsource(amqtt.broker.BrokerContext), "_broker_instance")

    assert {
        "internal_message_broadcast", "retain_message", "sessions", "retained_messages", "subscriptions",
        "create_offline_session", "_sessions", "add_subscription",
    } == touched  # fmt: skip


def test_events_are_fired_with_the_keywords_that_we_use():
    """amqtt's own broker fires each event with the keywords with which the bridge fires it."""
    fired = {}
    for node in ast.walk(ast.parse(inspect.getsource(amqtt.broker))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fire_event":
            fired[node.args[0].attr] = {keyword.arg for keyword in node.keywords} - {"wait"}

    assert EVENTS == fired
    assert EVENTS.keys() == set(BrokerEvents.__members__)
    assert {"mqtt_packet_sent", "mqtt_packet_received"} == set(MQTTEvents)


def test_what_else_we_rely_on():
    """The plugin manager's lists, the configuration's fields and the session's attributes are there."""
    written = inspect.getsource(amqtt.plugins.manager.PluginManager)
    session = vars(amqtt.session.Session())

    assert {"_auth_plugins", "_topic_plugins", "_event_plugin_callbacks"} <= attributes_or_self(written)
    assert {"tcp", "ws", "external"} == set(ListenerType)
    assert {"subscribe", "publish", "receive"} == set(Action)
    assert {"listeners", "plugins"} <= BrokerConfig.__dataclass_fields__.keys()
    assert {
        "type",
        "bind",
        "max_connections",
        "ssl",
        "certfile",
        "keyfile",
    } <= ListenerConfig.__dataclass_fields__.keys()
    assert {
        "client_id", "username", "password", "clean_session", "remote_address", "keep_alive", "parent", "is_anonymous",
        "will_flag", "will_topic", "will_message", "will_qos", "will_retain", "last_connect_time", "last_disconnect_time",
    } <= session.keys()  # fmt: skip


def attributes_or_self(source):
    return {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}


def port_of(broker):
    return broker.bound[0][2]


def test_an_unmodified_auth_plugin(tmp_path):
    """amqtt's FileAuthPlugin decides who enters; the identity is the user name."""
    (tmp_path / "passwords").write_text(f"alice:{Argon2Hasher(time_cost=1, memory_cost=8).hash('right')}\n")
    plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(tmp_path / "passwords")}, **TABOO}

    async def story():
        async with serving(settings_of(plugins)) as broker:
            port = port_of(broker)
            right = await RawClient.connect(port, "phone", "alice", "right")
            others = [
                await RawClient.connect(port, "phone", user, password)
                for user, password in (("alice", "wrong"), ("bob", "right"), (None, None))
            ]

            assert [0, 5, 5, 5] == [client.code for client in (right, *others)]
            assert [("alice", "phone")] == list(broker.engine.sessions)
            await right.ping()
            for client in (right, *others):
                await client.close()

    play(story)


def test_an_unmodified_anonymous_plugin_gives_nobodys_name():
    """Whoever AnonymousAuthPlugin lets in is the user `anonymous`, whatever name it gave."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO})) as broker:
            client = await RawClient.connect(port_of(broker), "phone", "alice", "made up")

            assert 0 == client.code
            assert [("anonymous", "phone")] == list(broker.engine.sessions)
            assert 0x80 == await client.subscribe("m/alice/in/#")
            await client.close()

    play(story)


def test_an_unmodified_topic_plugin():
    """amqtt's TopicTabooPlugin decides about publish, subscribe and receive, with the messages in order."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO})) as broker:
            alice = await RawClient.connect(port_of(broker), "alice")
            bob = await RawClient.connect(port_of(broker), "bob")
            codes = [await bob.subscribe(name, 1) for name in ("prohibited", "#")]
            for number in range(5):
                await alice.publish(f"allowed/{number}", b"x", qos=1)
                await alice.publish("data/classified", b"secret", qos=1)
            await alice.publish("last", b"x")
            topics = [(await bob.message()).topic for _ in range(6)]

            assert [0x80, 1] == codes
            assert [f"allowed/{number}" for number in range(5)] + ["last"] == topics
            for client in (alice, bob):
                await client.close()

    play(story)


def test_an_unmodified_access_list_plugin(tmp_path):
    """amqtt's TopicAccessControlListPlugin decides by user name and filter."""
    (tmp_path / "passwords").write_text(f"alice:{Argon2Hasher(time_cost=1, memory_cost=8).hash('right')}\n")
    plugins = {
        "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(tmp_path / "passwords")},
        "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {
            "publish_acl": {"alice": ["shed/+"]},
            "acl": {"alice": ["shed/#"]},
        },
    }

    async def story():
        async with serving(settings_of(plugins)) as broker:
            alice = await RawClient.connect(port_of(broker), "phone", "alice", "right")
            codes = [await alice.subscribe(name) for name in ("shed/#", "house/#")]
            await alice.publish("shed/a/b", b"denied", qos=1)
            await alice.publish("shed/a", b"allowed", qos=1)

            assert [0, 0x80] == codes
            assert b"allowed" == (await alice.message()).payload
            await alice.close()

    play(story)


class Recorder(BasePlugin):
    """An event plugin as anyone would write it for amqtt."""

    seen: list = []

    async def on_broker_pre_start(self):
        self.seen.append(("pre_start",))

    async def on_broker_post_start(self):
        self.seen.append(("post_start",))

    async def on_broker_client_connected(self, *, client_id, client_session):
        known = self.context.get_session(client_id)
        self.seen.append(("connected", client_id, client_session.remote_address, known is client_session))

    async def on_broker_client_subscribed(self, *, client_id, topic, qos):
        self.seen.append(("subscribed", client_id, topic, qos))

    async def on_broker_client_unsubscribed(self, *, client_id, topic):
        self.seen.append(("unsubscribed", client_id, topic))

    async def on_broker_message_received(self, *, client_id, message):
        self.seen.append(("received", client_id, message.topic, bytes(message.data), message.qos))

    async def on_broker_message_broadcast(self, *, client_id, message):
        self.seen.append(("broadcast", client_id, message.topic))
        raise RuntimeError("a plugin's own mistake")

    async def on_broker_retained_message(self, *, client_id, retained_message):
        self.seen.append(("retained", client_id, retained_message.topic, bytes(retained_message.data)))

    async def on_broker_client_disconnected(self, *, client_id, client_session):
        self.seen.append(("disconnected", client_id, client_session.transitions.state))

    async def on_broker_pre_shutdown(self):
        self.seen.append(("pre_shutdown",))

    async def on_broker_post_shutdown(self):
        self.seen.append(("post_shutdown",))


class Subscriber(BasePlugin):
    """A plugin that uses the context: it subscribes and publishes on behalf of the broker."""

    context_seen: list = []

    async def on_broker_post_start(self):
        self.context_seen.append(self.context)
        await self.context.add_subscription("later", None, None)
        await self.context.add_subscription("later", "news/#", 1)

    async def on_broker_client_connected(self, *, client_id, client_session):
        await self.context.add_subscription(client_id, "welcome", 0)
        await self.context.broadcast_message("welcome", b"hello " + client_id.encode())

    @dataclass
    class Config:
        """No options."""


class Broken(BaseTopicPlugin, BaseAuthPlugin):
    """A plugin that raises whatever it is asked."""

    async def authenticate(self, *, session):
        raise ZeroDivisionError

    async def topic_filtering(self, *, session=None, topic=None, action=None):
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def plugin_module():
    """Make the plugins of this file importable by a dotted path, as amqtt's configuration wants them."""
    module = ModuleType("seam_plugins")
    for plugin in (Recorder, Subscriber, Broken):
        setattr(module, plugin.__name__, plugin)
    sys.modules["seam_plugins"] = module
    Recorder.seen, Subscriber.context_seen = [], []
    yield
    del sys.modules["seam_plugins"]


def test_an_event_plugin_sees_everything_in_order(caplog):
    """Events come in the order in which things happened; a mistake in a callback is logged and stops nothing."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO, "seam_plugins.Recorder": {}})) as broker:
            client = await RawClient.connect(port_of(broker), "phone")
            await client.subscribe("a/#", 1)
            await client.publish("a/1", b"one", qos=1)
            await client.publish("a/2", b"two", retain=True)
            await client.publish("prohibited", b"denied", qos=1)
            await client.close()
            await until(lambda: ("disconnected", "phone", "disconnected") in Recorder.seen)

    with caplog.at_level(logging.ERROR):
        play(story)

    assert [
        ("pre_start",),
        ("post_start",),
        ("connected", "phone", "127.0.0.1", True),
        ("subscribed", "phone", "a/#", 1),
        ("received", "phone", "a/1", b"one", 1),
        ("broadcast", "phone", "a/1"),
        ("received", "phone", "a/2", b"two", 0),
        ("broadcast", "phone", "a/2"),
        ("retained", None, "a/2", b"two"),
        ("disconnected", "phone", "disconnected"),
        ("pre_shutdown",),
        ("post_shutdown",),
    ] == Recorder.seen
    assert "plugin Recorder failed in an event" in caplog.text


def test_an_unmodified_event_plugin(caplog):
    """amqtt's EventLoggerPlugin logs connections and disconnections."""
    plugins = {**ANONYMOUS, **TABOO, "amqtt.plugins.logging_amqtt.EventLoggerPlugin": {}}

    async def story():
        async with serving(settings_of(plugins)) as broker:
            client = await RawClient.connect(port_of(broker), "phone")
            await client.publish("x", b"y", qos=1)
            await client.close()
            await until(lambda: "on_broker_client_disconnected" in caplog.text)

    with caplog.at_level(logging.DEBUG):
        play(story)

    for event in ("client_connected", "message_received", "client_disconnected", "post_start"):
        assert f"### 'on_broker_{event}' EVENT FIRED ###" in caplog.text
    assert "### 'on_mqtt_packet_received' EVENT FIRED ###" in caplog.text


def test_the_sys_plugin():
    """amqtt's BrokerSysPlugin publishes statistics that are true, and a later client gets them as retained."""
    plugins = {**ANONYMOUS, **TABOO, "amqtt.plugins.sys.broker.BrokerSysPlugin": {"sys_interval": 1}}

    async def story():
        async with serving(settings_of(plugins)) as broker:
            first = await RawClient.connect(port_of(broker), "first")
            await first.subscribe("$SYS/#")
            values = {}
            while "$SYS/broker/messages/subscriptions/count" not in values or "$SYS/broker/cpu/maximum" not in values:
                message = await first.message()
                values[message.topic] = message.payload
            second = await RawClient.connect(port_of(broker), "second")
            await second.subscribe("$SYS/broker/clients/connected")
            retained = await second.message()

            assert values["$SYS/broker/version"].startswith(b"aMQTT version 0.12")
            assert (b"1", b"1") == (
                values["$SYS/broker/clients/connected"], values["$SYS/broker/messages/subscriptions/count"],
            )  # fmt: skip
            assert int(values["$SYS/broker/load/bytes/received"]) > 0
            assert retained.retain
            assert "$SYS/broker/clients/connected" in broker.retained_messages
            for client in (first, second):
                await client.close()

    play(story)


def test_the_context_of_plugins():
    """A plugin subscribes clients, now or when they come, publishes, retains, and sees sessions and messages."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO, "seam_plugins.Subscriber": {}})) as broker:
            (context,) = Subscriber.context_seen
            client = await RawClient.connect(port_of(broker), "later")
            assert b"hello later" == (await client.message()).payload
            await until(lambda: "news/#" in broker.subscriptions)
            await context.broadcast_message("news/today", b"dry")
            assert (b"dry", 1) == ((message := await client.message()).payload, message.qos)

            await context.retain_message("news/map", b"old", 1)
            assert b"old" == (await client.message()).payload
            context.retained_messages["news/map"] = SimpleNamespace(data=b"new", qos=0)
            assert b"new" == context.retained_messages["news/map"].data
            await context.retain_message("news/map", b"")
            assert [] == list(context.retained_messages)
            await context.retain_message("m/alice/in/session", b"forged")
            assert "m/alice/in/session" not in context.retained_messages

            session = context.get_session("later")
            assert ("later", "127.0.0.1", True, "connected") == (
                session.client_id, session.remote_address, session.clean_session, session.transitions.state,
            )  # fmt: skip
            assert ["later"] == [session.client_id for session in context.sessions]
            assert {"news/#": [1], "welcome": [0]} == {
                name: [qos for _session, qos in pairs] for name, pairs in context.subscriptions.items()
            }
            assert context.get_session("nobody") is None
            await client.close()

    play(story)


def test_a_broken_plugin_refuses_and_stops_nothing(caplog):
    """Whatever an auth plugin raises is a refusal, logged with the plugin's name."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, "seam_plugins.Broken": {}})) as broker:
            client = await RawClient.connect(port_of(broker))
            again = await RawClient.connect(port_of(broker))

            assert (5, 5) == (client.code, again.code)
            for one in (client, again):
                await one.close()

    play(story)

    assert "plugin Broken failed in authenticate" in caplog.text


def test_our_broker_is_an_amqtt_broker():
    """A program that holds an amqtt broker can hold ours; it is started once and stopped once."""

    async def story():
        broker = Broker(settings_of())
        assert isinstance(broker, amqtt.broker.Broker)
        await broker.start()
        with pytest.raises(amqtt.errors.BrokerError):
            await broker.start()
        await asyncio.gather(broker.shutdown(), asyncio.sleep(0))

        assert "stopped" == broker.transitions.state

    play(story)
