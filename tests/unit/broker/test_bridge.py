"""The bridge: amqtt's events for plugins that have a callback, and nothing at all for nobody."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from amqtt.events import BrokerEvents, MQTTEvents

from mesimqtt.broker.bridge import Bridge
from mesimqtt.broker.sessions import Sessions


class World:
    """A bridge to plugins that write down what they are told."""

    def __init__(self, *events):
        self.told = []
        self.connections = []
        self.renewed = []
        self.sessions = Sessions()
        self.bridge = Bridge(
            {event: [self.callback(event)] for event in events},
            self.sessions,
            loop=asyncio.get_running_loop(),
            on_connected=self.connections.append,
            on_reauthenticated=self.renewed.append,
            on_disconnected=self.connections.remove,
        )

    def callback(self, event):
        async def told(**arguments):
            self.told.append((event.value, arguments))

        return told


def connection_of(client_id="phone"):
    engine_session = SimpleNamespace(incoming={1, 2}, inflight={7}, queue=[1, 2, 3])
    return SimpleNamespace(
        client_id=client_id, user="alice", clean=False, remote_address="::1", keep_alive_s=60, session_present=True,
        will=SimpleNamespace(topic="gone", payload=b"!", qos=1, retain=True), session=engine_session,
    )  # fmt: skip


class Hashable(SimpleNamespace):
    """A connection is a key of dicts."""

    __hash__ = object.__hash__


def test_without_callbacks_nothing_is_made():
    """Where no plugin listens, no session, message or packet object is made, and the engine counts no packets."""

    async def story():
        world = World()
        connection = Hashable(**vars(connection_of()))
        world.bridge.connected(connection)
        world.bridge.subscribed(connection, "a", 1)
        world.bridge.published(connection, "a", b"x", 1, True)
        world.bridge.packet(connection, 3, 10, False)
        assert [connection] == world.connections
        world.bridge.disconnected(connection, "gone")
        await world.bridge.runner.close()

        assert not world.bridge.packets
        assert ([], [], {}) == (world.told, world.connections, world.sessions._sessions)

    asyncio.run(story())


def test_the_session_that_plugins_see():
    """A plugin sees user, client id, will and counts of the engine's session, and one object per connection."""

    async def story():
        world = World(BrokerEvents.CLIENT_CONNECTED, BrokerEvents.CLIENT_DISCONNECTED)
        connection = Hashable(**vars(connection_of()))
        world.bridge.connected(connection)
        world.bridge.disconnected(connection, "gone")
        await world.bridge.runner.close()
        (_, first), (_, second) = world.told
        session = first["client_session"]

        assert session is second["client_session"]
        assert ("phone", "alice", False, "::1", 60, 1) == (
            session.client_id, session.username, session.clean_session, session.remote_address, session.keep_alive,
            session.parent,
        )  # fmt: skip
        assert (True, "gone", b"!", 1, True) == (
            session.will_flag, session.will_topic, session.will_message, session.will_qos, session.will_retain,
        )  # fmt: skip
        assert (2, 1, 3) == (
            session.inflight_in_count, session.inflight_out_count, session.retained_messages_count,
        )  # fmt: skip
        assert {} == world.sessions._sessions

    asyncio.run(story())


def test_packets_have_type_and_length():
    """A packet event carries a stand-in with what statistics need."""

    async def story():
        world = World(MQTTEvents.PACKET_SENT)
        connection = Hashable(**vars(connection_of()))
        world.bridge.packet(connection, 3, 42, True)
        world.bridge.packet(connection, 3, 43, False)
        await world.bridge.runner.close()
        ((event, arguments),) = world.told
        packet = arguments["packet"]

        assert world.bridge.packets
        assert ("mqtt_packet_sent", 3, 42) == (event, packet.fixed_header.packet_type, packet.bytes_length)
        assert "phone" == arguments["session"].client_id

    asyncio.run(story())


def test_a_retained_message_is_told_when_set_and_when_cleared():
    """`on_broker_retained_message` gets the message, with empty data when it is cleared."""

    async def story():
        world = World(BrokerEvents.RETAINED_MESSAGE)
        connection = Hashable(**vars(connection_of()))
        world.bridge.published(connection, "map", b"x", 1, True)
        world.bridge.published(connection, "map", b"", 0, True)
        world.bridge.published(connection, "other", b"x", 0, False)
        await world.bridge.runner.close()
        messages = [arguments["retained_message"] for _event, arguments in world.told]

        assert [("map", b"x", 1), ("map", b"", 0)] == [(m.topic, m.data, m.qos) for m in messages]

    asyncio.run(story())
