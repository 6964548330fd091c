"""Plugins written for amqtt run unchanged: who may enter, who may use a topic, events, $SYS, the context."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin
from pwdlib.hashers.argon2 import Argon2Hasher

from integration.raw_client import RawClient, play, serving, settings_of, until

ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
TABOO = {"amqtt.plugins.topic_checking.TopicTabooPlugin": {}}


def port_of(broker):
    return broker.bound[0][2]


def test_an_unmodified_auth_plugin(tmp_path):
    """amqtt's FileAuthPlugin decides who enters; the identity is the user name."""
    (tmp_path / "passwords").write_text(
        f"alice:{Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash('right')}\n"
    )
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


@pytest.mark.parametrize("allow_anonymous", [True, False])
def test_an_unmodified_anonymous_plugin_gives_nobodys_name(allow_anonymous):
    """Whoever AnonymousAuthPlugin lets in is the user `anonymous`, whatever name it gave, also where it demands one."""
    plugin = {next(iter(ANONYMOUS)): {"allow_anonymous": allow_anonymous}}

    async def story():
        async with serving(settings_of({**plugin, **TABOO})) as broker:
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
    (tmp_path / "passwords").write_text(
        f"alice:{Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash('right')}\n"
    )
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

    seen: ClassVar[list] = []

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

    context_seen: ClassVar[list] = []

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
            await context.add_subscription("later", "$share/crew/jobs/#", 1)
            await context.add_subscription("later", "$share/crew", 1)
            await context.broadcast_message("jobs/1", b"dig")
            assert b"dig" == (await client.message()).payload

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
            assert {"news/#": [1], "welcome": [0], "$share/crew/jobs/#": [1]} == {
                name: [qos for _session, qos in pairs] for name, pairs in context.subscriptions.items()
            }
            assert context.get_session("nobody") is None
            await client.close()
            await until(lambda: not broker.engine.sessions)
            assert ({}, {}) == (broker.engine.shares, broker.engine.tree.match("jobs/1"))

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


@pytest.mark.parametrize(("topic", "code"), [("gone/alice", 0), ("prohibited", 5)])
def test_a_will_is_judged_by_amqtts_topic_plugins(topic, code):
    """A will that a topic plugin forbids refuses the CONNECT; an allowed one is asked for again and fires."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO})) as broker:
            bob = await RawClient.connect(port_of(broker), "bob")
            await bob.subscribe("#")
            alice = await RawClient.connect(port_of(broker), "alice", will=(topic, b"unplugged"))
            assert code == alice.code
            await alice.close()
            await bob.publish("last", b"")
            if not code:
                assert (topic, b"unplugged") == ((message := await next_of(bob, topic)).topic, message.payload)
            await until(lambda: len(broker._plugin_sessions._sessions) == 1)
            await bob.close()

    play(story)


async def next_of(client, topic):
    while (message := await client.message()).topic != topic:
        assert "last" == message.topic
    return message


def test_every_receiver_is_asked_at_once():
    """A message to many receivers waits once for the topic plugin, not once for each of them."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO})) as broker:
            clients = [await RawClient.connect(port_of(broker), f"c{number}") for number in range(60)]
            for client in clients:
                await client.subscribe("news")
            await clients[0].publish("news", b"x", qos=1)

            assert [b"x"] * 60 == [(await client.message()).payload for client in clients]
            for client in clients:
                await client.close()

    play(story)
