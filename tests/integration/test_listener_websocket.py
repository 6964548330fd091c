"""MQTT over WebSocket: real clients, frames cut anywhere, one frame per turn, an orderly end."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from dataclasses import replace

import paho.mqtt.client as paho
import pytest
from websockets.asyncio.client import connect as connect_library

from integration.certificates import Authority
from integration.raw_client import RawClient, play, serving, settings_of, until, with_will
from integration.raw_websocket import RawWebSocket, masked, request
from mesimqtt.broker.broker import Broker
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import ListenerOptions
from mesimqtt.testing import stream as wire

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
CONNECT = wire.connect("page", None, None)
CONNACK = b"\x20\x02\x00\x00"
PONG = b"\xd0\x00"


def settings(listener=None, **limits):
    """Return settings of a broker with a WebSocket listener beside its plain one."""
    found = settings_of(**limits)
    found.broker["listeners"]["ws"] = {"type": "ws", "bind": "127.0.0.1:0", **(listener or {})}
    return found


def ports(broker):
    return {name: port for name, _host, port in broker.bound}


async def entered(broker):
    """Return a WebSocket whose CONNECT was accepted."""
    page = await RawWebSocket.connect(ports(broker)["ws"])
    page.send(CONNECT)
    assert CONNACK == await page.mqtt(4)
    return page


def talk_with_paho(port, authority=None):
    """Publish at each QoS, also what needs long frames, and return what comes back."""
    arrived, subscribed = queue.Queue(), threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="paho", transport="websockets")
    if authority is not None:
        client.tls_set(str(authority.file))
    client.on_message = lambda _client, _data, message: arrived.put((message.qos, message.payload))
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("localhost", port)
    client.loop_start()
    client.subscribe("paho/#", 2)
    assert subscribed.wait(20)
    for qos, size in enumerate((10, 300, 100_000)):
        client.publish(f"paho/{qos}", b"x" * size, qos).wait_for_publish(20)
    messages = sorted(arrived.get(timeout=20) for _ in range(3))
    client.disconnect()
    client.loop_stop()
    return messages


@pytest.mark.parametrize("is_secure", [False, True], ids=["ws", "wss"])
def test_pahos_client(tmp_path, is_secure):
    """The paho client talks over ws and wss at every QoS, with frames of every form of length."""
    authority = Authority(tmp_path)

    async def story():
        async with serving(settings(authority.server() if is_secure else None)) as broker:
            assert ("wss" if is_secure else "ws") == broker.kind("ws")
            messages = await asyncio.to_thread(talk_with_paho, ports(broker)["ws"], authority if is_secure else None)

            assert [(0, b"x" * 10), (1, b"x" * 300), (2, b"x" * 100_000)] == messages
            await until(lambda: not broker.wire.protocols)

    play(story)


@BOTH_LOOPS
def test_the_usual_library_agrees_on_mqtt_and_on_no_compression(uvloop):
    """`websockets` gets the subprotocol mqtt [MQTT-6.0.0-4], no extension, an answer to its Ping and a clean Close."""

    async def story():
        async with serving(settings()) as broker:
            where = f"ws://127.0.0.1:{ports(broker)['ws']}/mqtt"
            async with connect_library(where, subprotocols=["mqttv3.1", "mqtt"], proxy=None) as page:
                assert "mqtt" == page.subprotocol
                assert [] == page.protocol.extensions
                await page.send(CONNECT)
                assert CONNACK == await page.recv()
                async with asyncio.timeout(20):
                    await (await page.ping(b"are you there"))
            assert (1000, True) == (page.close_code, page.protocol.close_rcvd_then_sent is False)
            await until(lambda: not broker.wire.protocols)

    play(story, uvloop=uvloop)


@BOTH_LOOPS
def test_packets_span_frames_and_frames_hold_packets(uvloop):
    """Row 34: the request byte by byte, one packet over 100 frames, many packets in one: it works [MQTT-6.0.0-2]."""
    big = wire.publish("there", b"y" * 500, qos=1, packet_id=7)

    async def story():
        async with serving(settings()) as broker:
            page = RawWebSocket(*await asyncio.open_connection("127.0.0.1", ports(broker)["ws"]))
            for byte in request():
                page.writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            await page.answer()
            assert 101 == page.status
            page.send(*(bytes((byte,)) for byte in CONNECT))
            assert CONNACK == await page.mqtt(4)
            page.send(wire.subscribe(1, [("there", 0)]) + wire.publish("there", b"x") + wire.PING)
            assert b"\x90\x03\x00\x01\x00" + wire.publish("there", b"x") + PONG == await page.mqtt(15)
            parts = [big[at : at + 5] for at in range(0, len(big), 5)]
            page.writer.write(masked(parts[0], fin=False))
            for part in parts[1:-1]:
                page.writer.write(masked(part, 0, fin=False) + masked(b"", 9))
                await asyncio.sleep(0)
            page.writer.write(masked(parts[-1], 0))
            assert len(parts) > 100
            while (found := await page.frame())[0] != 2:
                assert (10, b"") == found

            assert wire.puback(7) in found[1]
            assert wire.publish("there", b"y" * 500) in found[1]
            await page.close()

    play(story, uvloop=uvloop)


def test_the_output_of_a_turn_is_one_frame():
    """Many small packets of one turn leave as one binary frame, not as one each."""

    async def story():
        async with serving(settings()) as broker:
            page = await entered(broker)
            page.send(wire.subscribe(1, [("there", 0)]))
            await page.mqtt(5)
            page.send(*[wire.publish("there", b"%03d" % number) for number in range(100)])
            opcode, payload = await page.frame()

            assert 2 == opcode
            assert b"".join(wire.publish("there", b"%03d" % number) for number in range(100)) == payload
            await page.close()

    play(story)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(b"text", 1), 1003),
        (b"\x82\x04true", 1002),
        (b"\x82\xff\x00\x00\x00\x00\x80\x00\x00\x00mask", 1009),
        (masked(b"\x03\xe9", 8), 1001),
    ],
    ids=["text", "not masked", "2 GiB", "close"],  # masks are random
)
def test_an_end_has_its_code_and_the_will_is_published(data, code):
    """Text, an unmasked frame, 2 GiB and the client's own Close end the connection with a code; the will goes out."""

    async def story():
        async with serving(settings()) as broker:
            other = await RawClient.connect(ports(broker)["default"], "other")
            await other.subscribe("gone")
            page = await RawWebSocket.connect(ports(broker)["ws"])
            page.send(with_will(wire.connect("page", None, None), ("gone", b"bye")))
            assert CONNACK == await page.mqtt(4)
            page.writer.write(data)

            assert code == await page.close_code()
            page.writer.write(masked(code.to_bytes(2, "big"), 8))
            assert b"" == await page.ended()
            assert b"bye" == (await other.message()).payload
            await until(lambda: len(broker.wire.protocols) == 1)
            for client in (page, other):
                await client.close()

    play(story)


def test_disconnect_is_followed_by_close():
    """After MQTT's DISCONNECT the server says Close 1000, waits for the client's own, and publishes no will."""

    async def story():
        async with serving(settings()) as broker:
            page = await entered(broker)
            page.send(wire.GOODBYE)
            assert 1000 == await page.close_code()
            assert 1 == len(broker.wire.protocols)
            page.writer.write(masked(b"\x03\xe8", 8))

            assert b"" == await page.ended()
            silent = await entered(broker)
            silent.send(wire.GOODBYE)
            assert 1000 == await silent.close_code()
            assert b"" == await silent.ended()
            for client in (page, silent):
                await client.close()

    play(story)


def test_the_servers_end_is_1001():
    """Who is connected when the server stops is told so, and gets what was due before."""

    async def story():
        async with serving(settings()) as broker:
            page = await entered(broker)
            page.send(wire.subscribe(1, [("there", 0)]))
            await page.mqtt(5)
            await broker.internal_message_broadcast("there", b"last", 0)
            ending = asyncio.create_task(broker.shutdown())

            assert wire.publish("there", b"last") == await page.mqtt(13)
            assert 1001 == await page.close_code()
            await ending
            await page.close()

    play(story)


def test_a_request_has_no_longer_than_a_connect():
    """Half a request, and a WebSocket without a CONNECT, are closed at the deadline for CONNECT."""

    async def story():
        async with serving(settings(connect_deadline_s=1.0)) as broker:
            half = RawWebSocket(*await asyncio.open_connection("127.0.0.1", ports(broker)["ws"]))
            half.writer.write(request()[:-2])
            silent = await RawWebSocket.connect(ports(broker)["ws"])
            silent.writer.write(masked(b"", 9))

            assert b"" == await half.ended()
            assert 1000 == await silent.close_code()
            for client in (half, silent):
                await client.close()

    play(story)


def test_who_does_not_read_is_cut_and_others_are_not(tmp_path):
    """A stalled page is cut after `stalled_s`, also one that sends Pings; meanwhile memory stays bounded."""
    authority = Authority(tmp_path)

    async def story(listener):
        limits = {"stalled_s": 0.6, "unwritten_max": 100_000, "queue_bytes_max": 500_000}
        async with serving(settings(listener, **limits)) as broker:
            trust = ssl.create_default_context(cafile=authority.file) if listener else None
            page = await RawWebSocket.connect(ports(broker)["ws"], tls=trust)
            page.send(CONNECT + wire.subscribe(1, [("flood", 0)]))
            await page.mqtt(9)
            page.writer.transport.pause_reading()
            sender = await RawClient.connect(ports(broker)["default"], "sender")
            largest = 0
            async with asyncio.timeout(20):
                while len(broker.wire.protocols) > 1:
                    await sender.publish("flood", b"x" * 60_000, qos=1)
                    sizes = [p.transport.get_write_buffer_size() for p in broker.wire.protocols.values()]
                    largest = max(largest, *sizes)
                    if not page.writer.transport.is_closing():
                        page.writer.write(masked(b"p", 9) * 10)

            assert largest < 300_000
            await sender.ping()
            for client in (sender, page):
                await client.close()

    for listener in (None, authority.server()):
        play(lambda listener=listener: story(listener))


def test_pings_of_who_does_not_read_have_one_answer():
    """Row 35: while output waits for a page its Pings do not pile up: the last is answered in the end."""

    async def story():
        async with serving(settings(queue_bytes_max=3_000_000)) as broker:
            page = await entered(broker)
            page.send(wire.subscribe(1, [("flood", 0)]))
            await page.mqtt(5)
            page.writer.transport.pause_reading()
            (protocol,) = broker.wire.protocols.values()
            async with asyncio.timeout(20):
                while protocol not in broker.wire.blocked:
                    await broker.internal_message_broadcast("flood", b"x" * 60_000, 0)
                    await asyncio.sleep(0)
            for number in range(50):
                page.writer.write(masked(b"%d" % number, 9))
            await until(lambda: protocol._pong == b"49")
            page.writer.transport.resume_reading()
            while (found := await page.frame())[0] != 10:
                assert 2 == found[0]

            assert (10, b"49") == found
            page.writer.write(masked(b"now", 9))
            assert (10, b"now") == await page.frame()
            await page.close()

    play(story)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"origins": ("chat.example.org",)}, "origins: 'chat.example.org' is none; write for example https://"),
        ({"origins": ("https://chat.example.org/",)}, "origins: 'https://chat.example.org/' is none"),
        ({"origins": ("https://münchen.example",)}, "and a name with other letters as a browser does: xn--"),
        ({"paths": ("mqtt",)}, "paths: 'mqtt' is none; write for example /mqtt"),
    ],
)
def test_a_rule_that_nobody_could_meet_is_refused(options, words):
    """An Origin with a path, or without its scheme, and a path without its slash stop the start."""

    async def story():
        with pytest.raises(MesimqttError) as caught:
            await Broker(replace(settings(), listeners={"ws": ListenerOptions(**options)})).start()

        assert words in str(caught.value)

    play(story)


def test_paths_are_those_of_the_option():
    """A path of the configuration is answered, the usual ones then are not."""

    async def story():
        async with serving(replace(settings(), listeners={"ws": ListenerOptions(paths=("/chat",))})) as broker:
            pages = [await RawWebSocket.connect(ports(broker)["ws"], path) for path in ("/chat", "/mqtt")]

            assert [101, 404] == [page.status for page in pages]
            for page in pages:
                await page.close()

    play(story)


def test_connections_per_address_are_bounded():
    """WebSockets and plain connections of one address are counted together; the excess is dropped at once."""

    async def story():
        async with serving(settings(connections_per_address=2)) as broker:
            page = await entered(broker)
            plain = await RawClient.connect(ports(broker)["default"], "plain")
            with pytest.raises((EOFError, ConnectionError)):
                await RawWebSocket.connect(ports(broker)["ws"])
            await page.close()
            await until(lambda: len(broker.wire.protocols) == 1)
            again = await entered(broker)

            assert 101 == again.status
            for client in (plain, again):
                await client.close()

    play(story)
