"""Listeners of amqtt's type `external`: somebody else accepts, and hands over a reader and a writer."""

from __future__ import annotations

import asyncio

import pytest
from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter

from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.broker.asgi import LISTENER, WebSocketMount
from mesimqtt.broker.pump import READ_MAX
from mesimqtt.testing import stream as wire

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])


class MessageReader(ReaderAdapter):
    """The adapter of an ASGI or aiohttp application: WebSocket messages come one by one from its framework."""

    def __init__(self):
        self.messages = asyncio.Queue()
        self._rest = b""

    async def read(self, n=-1):
        while len(self._rest) < n:
            message = await self.messages.get()
            if message is None:
                return b""
            self._rest += message
        found, self._rest = self._rest[:n], self._rest[n:]
        return found

    def feed_eof(self):
        self.messages.put_nowait(None)


class MessageWriter(WriterAdapter):
    """Its other half: what is written is sent as messages when it is drained."""

    def __init__(self):
        self.sent = asyncio.Queue()
        self.is_closed = False
        self._waiting = b""

    def write(self, data):
        self._waiting += data

    async def drain(self):
        await asyncio.sleep(0)
        self.sent.put_nowait(self._waiting)
        self._waiting = b""

    def get_peer_info(self):
        return "127.0.0.9", 4711

    def get_ssl_info(self):
        return None

    async def close(self):
        self.is_closed = True


class StuckWriter(MessageWriter):
    """The half of a client that takes nothing more: neither output nor a close ever comes to an end."""

    async def drain(self):
        await asyncio.Event().wait()

    async def close(self):
        self.is_closed = True
        await asyncio.Event().wait()


class LostWriter(MessageWriter):
    """The half of a client that is gone: to say goodbye to it fails."""

    async def close(self):
        self.is_closed = True
        raise ConnectionResetError(104, "Connection reset by peer")


@BOTH_LOOPS
def test_an_application_hands_over_its_websockets(uvloop):
    """An `external` listener serves what a web framework accepted: messages in, messages out, an end on both sides."""

    async def story():
        settings = settings_of()
        settings.broker["listeners"]["outside"] = {"type": "external"}
        async with serving(settings) as broker:
            reader, writer = MessageReader(), MessageWriter()
            running = asyncio.create_task(broker.external_connected(reader, writer, "outside"))
            for part in (b"\x10", wire.connect("page", None, None)[1:] + wire.subscribe(1, [("there", 0)])):
                reader.messages.put_nowait(part)
            reader.messages.put_nowait(wire.publish("there", b"y" * 100_000))
            got = b""
            async with asyncio.timeout(20):
                while len(got) < 4 + 5 + len(wire.publish("there", b"y" * 100_000)):
                    got += await writer.sent.get()
            assert got.endswith(wire.publish("there", b"y" * 100_000))
            assert "127.0.0.9" == next(iter(broker.wire.protocols)).remote_address
            reader.feed_eof()
            await asyncio.wait_for(running, 20)

            assert writer.is_closed
            assert {} == broker.wire.protocols

    play(story, uvloop=uvloop)


def test_adapters_of_amqtt_are_pumped():
    """A connection that comes as amqtt's reader and writer (external_connected) is served like any other."""

    async def story():
        settings = settings_of()
        settings.broker["listeners"]["outside"] = {"type": "external"}
        async with serving(settings) as broker:

            async def accepted(reader, writer):
                await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "outside")

            outside = await asyncio.start_server(accepted, "127.0.0.1", 0)
            client = await RawClient.connect(outside.sockets[0].getsockname()[1], "guest")
            big = b"y" * (READ_MAX + 1000)
            await client.subscribe("x", 1)
            await client.publish("x", big, qos=1)
            message = await client.message()

            assert (0, big) == (client.code, message.payload)
            client.writer.write(wire.GOODBYE)
            assert b"" == await client.ended()
            await client.close()
            await until(lambda: not broker.wire.protocols)
            outside.close()
            await outside.wait_closed()

    play(story)


@pytest.mark.parametrize("kind", [StuckWriter, LostWriter])
def test_who_takes_nothing_is_cut_and_gone(kind):
    """Row 29: a writer that never gets rid of its output ends as any client that does not read; nothing is left.

    One that cannot even be closed is no error of the application that has handed it over.
    """

    async def story():
        settings = settings_of(stalled_s=0.2)
        settings.broker["listeners"]["outside"] = {"type": "external"}
        async with serving(settings) as broker:
            reader, writer = MessageReader(), kind()
            if kind is LostWriter:
                reader.feed_eof()
            reader.messages.put_nowait(wire.connect("stuck", None, None))
            await asyncio.wait_for(broker.external_connected(reader, writer, "outside"), 20)

            assert writer.is_closed
            assert {} == broker.wire.protocols
            assert 0 == broker._listeners.get("outside").connections

    play(story)


def test_a_message_full_of_packets_holds_up_nobody():
    """Row 33: what an application hands over in one piece is taken in turns: the others have theirs in between."""
    count = 100_000

    async def story():
        settings = settings_of()
        settings.broker["listeners"][LISTENER] = {"type": "external"}
        async with serving(settings) as broker:
            messages, sent, turns = asyncio.Queue(), [], 0
            for data in (None, wire.connect("page", None, None), wire.PING * count):
                messages.put_nowait({"type": "websocket.receive", "bytes": data})

            async def send(message):
                sent.append(message)

            scope = {"type": "websocket", "subprotocols": ["mqtt"], "client": ("127.0.0.9", 4711)}
            running = asyncio.create_task(WebSocketMount(lambda: broker)(scope, messages.get, send))
            async with asyncio.timeout(60):
                while broker.engine.counters.requests_in < count:
                    turns += 1
                    await asyncio.sleep(0)
            messages.put_nowait({"type": "websocket.disconnect"})
            await asyncio.wait_for(running, 20)

            assert turns > 3

    play(story)
