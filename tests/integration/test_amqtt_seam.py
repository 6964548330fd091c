"""amqtt's seam: what of amqtt we stand on is as it was when we built on it."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from importlib.metadata import requires, version

import amqtt.adapters
import amqtt.broker
import amqtt.errors
import amqtt.plugins.base
import amqtt.plugins.manager
import amqtt.session
import pytest
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.events import BrokerEvents, MQTTEvents

from integration.raw_client import play, settings_of
from mesimqtt.broker.broker import Broker

# What we override, call or implement: name -> parameters.
SEAM = {
    "amqtt.broker.Broker.start": "self",
    "amqtt.broker.Broker.shutdown": "self",
    "amqtt.broker.Broker._init_states": "self",
    "amqtt.broker.Broker._start_listeners": "self",
    "amqtt.broker.Broker._create_ssl_context": "listener",
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
        "type", "bind", "max_connections", "ssl", "certfile", "keyfile",
    } <= ListenerConfig.__dataclass_fields__.keys()  # fmt: skip
    assert {
        "client_id", "username", "password", "clean_session", "remote_address", "keep_alive", "parent", "is_anonymous",
        "will_flag", "will_topic", "will_message", "will_qos", "will_retain", "last_connect_time",
        "last_disconnect_time",
    } <= session.keys()  # fmt: skip


def attributes_or_self(source):
    return {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}


def test_our_broker_is_an_amqtt_broker():
    """A program that holds an amqtt broker can hold ours; it is started once and stopped once."""

    async def story():
        broker = Broker(settings_of())
        assert isinstance(broker, amqtt.broker.Broker)
        await broker.start()
        with pytest.raises(amqtt.errors.BrokerError):
            await broker.start()
        await broker.shutdown()
        await broker.shutdown()

        assert "stopped" == broker.transitions.state

    play(story)
