"""The PROXY protocol: believed from listed peers, demanded of them, and nothing from anybody else."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import pytest

from integration.certificates import Authority
from integration.raw_client import RawClient, play, serving, settings_of, until
from integration.raw_websocket import RawWebSocket, request
from mesimqtt.broker.broker import Broker
from mesimqtt.broker.proxy_protocol import SIGNATURE
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import ListenerOptions
from mesimqtt.testing import stream as wire

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
V1 = b"PROXY TCP4 127.0.0.77 127.0.0.1 4096 1883\r\n"
V2 = SIGNATURE + b"\x21\x11\x00\x0f" + bytes((127, 0, 0, 78, 127, 0, 0, 1, 16, 0, 7, 91)) + b"\x04\x00\x00"
CONNECT = wire.connect("behind", None, None)
ENTERED = b"\x20\x02\x00\x00"


def proxied(networks=("127.0.0.1/32",), listener=None, **limits):
    """Return settings whose default listener believes `networks`."""
    found = settings_of(listener=listener, **limits)
    return replace(found, listeners={"default": ListenerOptions(proxy_from=networks)})


async def dial(broker, *, source=None):
    local = (source, 0) if source else None
    return await asyncio.open_connection("127.0.0.1", broker.bound[0][2], local_addr=local)


async def told(broker, data, *, source=None):
    """Send `data`; return the first four bytes of the answer, b"" if the connection ends instead."""
    reader, writer = await dial(broker, source=source)
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            return await reader.readexactly(4)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.close()


async def rest(reader):
    """Return what comes until the other side has closed, or reset because something was left unread."""
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""


def addresses(broker):
    return sorted(connection.remote_address for connection in broker.wire.protocols)


@BOTH_LOOPS
@pytest.mark.parametrize(
    ("header", "address"),
    [
        (V1, "127.0.0.77"),
        (V2, "127.0.0.78"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (SIGNATURE + b"\x20\x00\x00\x00", "127.0.0.1"),
    ],
    ids=["1", "2", "unknown", "local"],
)
def test_the_address_is_that_of_the_header(header, address, uvloop):
    """Row 115: header and CONNECT in one write or byte by byte: the connection is the client's, not the proxy's."""

    async def story():
        async with serving(proxied()) as broker:
            one, other = await dial(broker), await dial(broker)
            one[1].write(header + CONNECT)
            for byte in header + wire.connect("slow", None, None):
                other[1].write(bytes((byte,)))
                await asyncio.sleep(0.0005)
            for reader, _writer in (one, other):
                assert ENTERED == await asyncio.wait_for(reader.readexactly(4), 20)

            assert [address, address] == addresses(broker)
            for _reader, writer in (one, other):
                writer.close()
            await until(lambda: not broker.wire.protocols)
            assert {} == broker.wire._addresses

    play(story, uvloop=uvloop)


@pytest.mark.parametrize(
    "data",
    [
        CONNECT,
        b"PROXY TCP4 1.2.3 127.0.0.1 1 1\r\n" + CONNECT,
        V1 + V1 + CONNECT,
        SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 100,
        b"PROXY TCP4 " + b"1" * 200,
        SIGNATURE[:-1] + b"x" + CONNECT,
    ],
    ids=["none", "malformed", "two", "too long", "endless", "no signature"],
)
def test_a_listed_peer_must_send_a_header(data, caplog):
    """Row 115: from a listed peer no header, a malformed, an over-long or a second one is closed at once, and told.

    In the audit log, which is bounded: whoever sends a thousand of them fills no disk.
    """

    async def story():
        async with serving(proxied()) as broker:
            assert b"" == await told(broker, data)
            assert ENTERED == await told(broker, V1 + CONNECT)

    play(story)

    assert ["mesimqtt.audit"] == [record.name for record in caplog.records]


def test_nobody_else_is_believed():
    """Row 115: from an unlisted peer a header is not MQTT: closed; without one it is served under its own address."""

    async def story():
        async with serving(proxied(("192.0.2.0/24", "2001:db8::/32"))) as broker:
            assert [b"", b""] == [await told(broker, header + CONNECT) for header in (V1, V2)]
            client = await RawClient.connect(broker.bound[0][2])
            assert ["127.0.0.1"] == addresses(broker)
            await client.close()
        async with serving(proxied(("127.0.0.5",))) as broker:
            assert ENTERED == await told(broker, V1 + CONNECT, source="127.0.0.5")
            assert b"" == await told(broker, V1 + CONNECT, source="127.0.0.6")

    play(story)


def test_limits_are_those_of_the_client_behind():
    """Connections per address count the header's address; open mode is for clients that are themselves on loopback."""
    far = b"PROXY TCP4 192.0.2.1 127.0.0.1 4096 1883\r\n"

    async def story():
        async with serving(proxied(connections_per_address=1)) as broker:
            first = await dial(broker)
            first[1].write(V1 + CONNECT)
            assert ENTERED == await first[0].readexactly(4)
            assert b"" == await told(broker, V1 + CONNECT)
            assert ENTERED == await told(broker, V2 + CONNECT)
            assert b"\x20\x02\x00\x05" == await told(broker, far + CONNECT)
            first[1].close()
            await until(lambda: not broker.wire.protocols)

            assert ENTERED == await told(broker, V1 + CONNECT)

    play(story)


def test_a_header_has_a_deadline_and_a_stop_does_not_wait_for_it():
    """Row 115: half a header is closed at the deadline for CONNECT; nothing blocks meanwhile."""

    async def story():
        async with serving(proxied(connect_deadline_s=1.0)) as broker:
            half, silent = await dial(broker), await dial(broker)
            half[1].write(V1[:20])
            assert ENTERED == await told(broker, V1 + CONNECT)
            assert b"" == await rest(half[0])
            waiting = await dial(broker)
            waiting[1].write(V2[:20])
            await until(lambda: broker._listeners._acceptors[0]._waiting)
            await broker.shutdown()

            assert b"" == await rest(waiting[0])
            for each in (half, silent, waiting):
                each[1].close()

    play(story)


@BOTH_LOOPS
def test_a_header_before_tls_and_before_websocket(tmp_path, uvloop):
    """A proxy that passes TLS through puts its header before the handshake; so does one in front of a WebSocket."""
    authority = Authority(tmp_path)

    async def story():
        async with serving(proxied(listener=authority.server())) as broker:
            reader, writer = await dial(broker)
            writer.write(V1)
            trust = ssl.create_default_context(cafile=authority.file)
            await writer.start_tls(trust, server_hostname="localhost")
            writer.write(CONNECT)
            assert ENTERED == await asyncio.wait_for(reader.readexactly(4), 20)
            assert ["127.0.0.77"] == addresses(broker)
            writer.close()
        async with serving(proxied(listener={"type": "ws"})) as broker:
            page = RawWebSocket(*await dial(broker))
            page.writer.write(V2 + request(X_Forwarded_For="192.0.2.99"))
            await page.answer()
            page.send(CONNECT)

            assert ENTERED == await page.mqtt(4)
            assert ["127.0.0.78"] == addresses(broker)
            await page.close()

    play(story, uvloop=uvloop)


def test_a_network_that_is_none_is_said_in_one_line():
    """`proxy_from` takes networks; anything else stops the start."""

    async def story():
        with pytest.raises(MesimqttError, match="listener 'default': proxy_from: 'proxy' does not appear to be"):
            await Broker(proxied(("proxy",))).start()

    play(story)
