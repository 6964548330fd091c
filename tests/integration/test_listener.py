"""Listeners and sockets: who gets in, what is written when, who is cut, how it ends."""

from __future__ import annotations

import asyncio
import queue
import shutil
import socket
import threading

import paho.mqtt.client as paho
import pytest

from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.broker.broker import Broker
from mesimqtt.broker.services import OPEN_USER
from mesimqtt.domain.errors import MesimqttError
from stopwatch import Stopwatch

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])


def port_of(broker):
    return broker.bound[0][2]


@BOTH_LOOPS
def test_raw_publish_and_subscribe(uvloop):
    """A client's message reaches another client at QoS 0 and 1, on uvloop and on asyncio's own loop."""

    async def story():
        async with serving() as broker:
            alice = await RawClient.connect(port_of(broker), "alice")
            bob = await RawClient.connect(port_of(broker), "bob")
            assert 1 == await bob.subscribe("room/+", 1)
            await alice.publish("room/1", b"zero")
            await alice.publish("room/2", b"one", qos=1)
            messages = [await bob.message(), await bob.message()]

            assert [("room/1", b"zero", 0), ("room/2", b"one", 1)] == [(m.topic, m.payload, m.qos) for m in messages]
            for client in (alice, bob):
                await client.close()
            await until(lambda: not broker.wire.protocols)
            assert broker.engine.counters.bytes_out > 0

    play(story, uvloop=uvloop)


@pytest.mark.tools("mosquitto_pub")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mosquittos_clients(qos):
    """Debian's mosquitto_pub and mosquitto_sub talk to each other through the broker."""
    publish, subscribe = shutil.which("mosquitto_pub"), shutil.which("mosquitto_sub")
    assert publish is not None
    assert subscribe is not None

    async def story():
        async with serving() as broker:
            address = ("-h", "127.0.0.1", "-p", str(port_of(broker)), "-q", str(qos), "-t", "shed/door")
            listener = await asyncio.create_subprocess_exec(
                subscribe, *address, "-C", "1", stdout=asyncio.subprocess.PIPE
            )
            await until(lambda: broker.subscriptions)
            sender = await asyncio.create_subprocess_exec(publish, *address, "-m", "open")
            printed, _ = await asyncio.wait_for(listener.communicate(), 20)

            assert 0 == await sender.wait()
            assert b"open\n" == printed

    play(story)


def talk_with_paho(port):
    """Publish at each QoS and return what comes back, with paho in its own threads."""
    arrived, subscribed = queue.Queue(), threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="paho")
    client.on_message = lambda _client, _data, message: arrived.put((message.topic, message.payload, message.qos))
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("paho/#", 2)
    assert subscribed.wait(20)
    for qos in (0, 1, 2):
        client.publish(f"paho/{qos}", b"x", qos).wait_for_publish(20)
    messages = [arrived.get(timeout=20) for _ in range(3)]
    client.disconnect()
    client.loop_stop()
    return messages


def test_pahos_client():
    """The paho client publishes and subscribes at QoS 0, 1 and 2."""

    async def story():
        async with serving() as broker:
            messages = await asyncio.to_thread(talk_with_paho, port_of(broker))

            assert [("paho/0", b"x", 0), ("paho/1", b"x", 1), ("paho/2", b"x", 2)] == sorted(messages)
            await until(lambda: not broker.wire.protocols)

    play(story)


def test_port_zero_picks_free_ports_and_tells_them():
    """Port 0 gives each listener a port of its own; `bound` names them."""

    async def story():
        settings = settings_of()
        settings.broker["listeners"]["second"] = {"type": "tcp", "bind": "127.0.0.1:0"}
        async with serving(settings) as broker:
            names = [name for name, _host, _port in broker.bound]
            ports = {port for _name, _host, port in broker.bound}
            assert ["default", "second"] == names
            assert 2 == len(ports)
            for port in ports:
                client = await RawClient.connect(port)
                assert 0 == client.code
                await client.close()
        assert [] == broker.bound

    play(story)


def test_a_port_in_use_is_one_line_that_says_what_to_do():
    """A second server on the same port is refused with the address and a remedy; nothing is left open."""

    async def story():
        async with serving() as first:
            bind = f"127.0.0.1:{port_of(first)}"
            second = Broker(settings_of(listener={"bind": bind}))
            with pytest.raises(MesimqttError) as caught:
                await second.start()

            remedy = "stop the other server there or choose another port: --mqtt ADDR:PORT"
            assert f"listener 'default': {bind} is in use; {remedy}" == str(caught.value)
            assert [] == second.bound

    play(story)


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        ({"type": "wss"}, "wss"),
        ({"bind": "127.0.0.1:mqtt"}, "is not ADDRESS:PORT"),
        ({"bind": "192.0.2.1:0"}, "is not an address of this machine"),
        ({"ssl": True}, "TLS"),
        ({"ssl": True, "certfile": "missing.pem", "keyfile": "missing.pem"}, "missing.pem"),
        ({"port": 1883}, "port"),
    ],
)
def test_a_wrong_listener_is_refused_in_one_line(listener, words):
    """What cannot be listened on is said in one line that names it."""

    async def story():
        with pytest.raises(MesimqttError) as caught:
            await Broker(settings_of(listener=listener)).start()

        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    play(story)


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        ({"nowhere.Plugin": {}}, "nowhere.Plugin"),
        ({"mesimqtt_plugins.auth.Missing": {}}, "mesimqtt_plugins.auth.Missing"),
        ({"mesimqtt_plugins.acl.FolderAccess": {"rule": []}}, "rule"),
        ({"mesimqtt_plugins.acl.FolderAccess": {"rules": [{"allow": "all"}]}}, "rules[0]"),
        ({"mesimqtt_plugins.routing.MessageRouting": {}}, "messaging does not run here"),
        ({"mesimqtt.settings.Settings": {}}, "not a subclass"),
    ],
)
def test_a_wrong_plugin_is_refused_in_one_line(plugins, words):
    """A plugin that cannot be loaded stops the start with a line that names it."""

    async def story():
        with pytest.raises(MesimqttError) as caught:
            Broker(settings_of(plugins))

        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    play(story)


def test_open_mode_lets_in_without_a_token_only():
    """In open mode a client without a token is a user of its own; with a wrong token it is refused."""

    async def story():
        async with serving() as broker:
            anyone = await RawClient.connect(port_of(broker), "a")
            wrong = await RawClient.connect(port_of(broker), "a", "alice", "a.wrong.token")
            assert (0, 5) == (anyone.code, wrong.code)
            assert [(OPEN_USER, "a")] == list(broker.engine.sessions)
            assert 0x80 == await anyone.subscribe("m/open/in/#")
            assert 0 == await anyone.subscribe("#")
            await anyone.publish("m/open/out/u/bob", b"lost")
            await anyone.publish("free", b"kept")

            assert "free" == (await anyone.message()).topic
            for client in (anyone, wrong):
                await client.close()
        async with serving(settings_of(is_open=False)) as broker:
            refused = await RawClient.connect(port_of(broker), "a")
            assert 5 == refused.code
            assert b"" == await refused.ended()
            await refused.close()

    play(story)


@BOTH_LOOPS
def test_small_packets_are_not_delayed(uvloop):
    """Accepted sockets have TCP_NODELAY: an acknowledgement does not wait for a full segment."""

    async def story():
        async with serving() as broker:
            client = await RawClient.connect(port_of(broker))
            (protocol,) = broker.wire.protocols.values()
            with socket.fromfd(protocol.descriptor, socket.AF_INET, socket.SOCK_STREAM) as accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await client.close()

    play(story, uvloop=uvloop)


def test_connections_per_address_are_bounded():
    """The third connection of an address that may have two is dropped before a byte is read."""

    async def story():
        async with serving(settings_of(connections_per_address=2)) as broker:
            first, second = [await RawClient.connect(port_of(broker), name) for name in ("a", "b")]
            with pytest.raises((EOFError, ConnectionError)):
                await RawClient.connect(port_of(broker), "c")
            await first.close()
            await until(lambda: len(broker.wire.protocols) == 1)
            third = await RawClient.connect(port_of(broker), "c")

            assert 0 == third.code
            for client in (second, third):
                await client.close()

    play(story)


def test_a_client_that_does_not_read_is_cut_and_others_are_not():
    """A stalled reader is cut after `stalled_s`; meanwhile another client is served and memory stays bounded."""

    async def story():
        async with serving(settings_of(stalled_s=0.6, unwritten_max=100_000, queue_bytes_max=500_000)) as broker:
            sleeper = await RawClient.connect(port_of(broker), "sleeper")
            sleeper.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await sleeper.subscribe("flood")
            sleeper.writer.transport.pause_reading()
            sender = await RawClient.connect(port_of(broker), "sender")
            largest = 0
            async with asyncio.timeout(20):
                while (OPEN_USER, "sleeper") in broker.engine.sessions:
                    await sender.publish("flood", b"x" * 60_000, qos=1)
                    sizes = [p.transport.get_write_buffer_size() for p in broker.wire.protocols.values()]
                    largest = max(largest, *sizes)

            assert largest < 300_000
            await sender.ping()
            for client in (sender, sleeper):
                await client.close()

    play(story)


def test_shutdown_writes_what_is_due_and_does_not_wait_for_a_sleeper():
    """Everybody gets the output that was due, a client that does not read is cut, and it takes under 3 s."""

    async def story():
        async with serving() as broker:
            port = port_of(broker)
            reader, sleeper = [await RawClient.connect(port, name) for name in ("reader", "sleeper")]
            for client in (reader, sleeper):
                await client.subscribe("last/#")
            sleeper.writer.transport.pause_reading()
            for _ in range(100):
                await broker.internal_message_broadcast("last/words", b"x" * 100_000)
            watch = Stopwatch()
            reading = asyncio.create_task(reader.ended())
            await broker.shutdown()
            took = watch.elapsed_s

            assert took < 3.5
            assert 100 == (await reading).count(b"last/words")
            assert not broker.wire.protocols
            with pytest.raises(ConnectionError):
                await RawClient.connect(port)
            for client in (reader, sleeper):
                await client.close()

    play(story)
