"""TLS: what is refused, new certificates under live connections, and who says half a hello."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path

import pytest

from integration.certificates import Authority, trusting
from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.broker.acceptor import HANDSHAKES_MAX
from mesimqtt.broker.broker import Broker
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.testing import stream as wire
from stopwatch import Stopwatch

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])


def port_of(broker):
    return broker.bound[0][2]


@BOTH_LOOPS
def test_a_message_of_many_records(tmp_path, uvloop):
    """A TLS listener of amqtt's configuration works, also for a message of many records."""
    authority = Authority(tmp_path)

    async def story():
        async with serving(settings_of(listener=authority.server())) as broker:
            client = await RawClient.connect(port_of(broker), tls=trusting(authority))
            await client.subscribe("big")
            await client.publish("big", b"x" * 200_000, qos=1)

            assert b"x" * 200_000 == (await client.message()).payload
            assert "127.0.0.1" == next(iter(broker.wire.protocols)).remote_address
            await client.close()
            await until(lambda: not broker.wire.protocols)

    play(story, uvloop=uvloop)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(tmp_path):
    """TLS 1.1 gets no connection, 1.2 and 1.3 do."""
    authority = Authority(tmp_path)

    async def story():
        async with serving(settings_of(listener=authority.server())) as broker:
            for version, is_spoken in (("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)):
                context = trusting(authority)
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
                try:
                    client = await RawClient.connect(port_of(broker), tls=context)
                    await client.close()
                    got_in = True
                except (OSError, EOFError):
                    got_in = False

                assert is_spoken is got_in, version

    play(story)


@BOTH_LOOPS
def test_new_certificates_without_a_restart(tmp_path, caplog, uvloop):
    """A new certificate holds from the next connection on, who is there stays; a broken one is told and not taken."""
    authority = Authority(tmp_path)
    files = authority.server()
    caplog.set_level(logging.INFO, "mesimqtt.broker.tls")

    async def serial(broker):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port_of(broker), ssl=trusting(authority), server_hostname="localhost"
        )
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        with_end = await reader.read()
        assert b"" == with_end
        return found

    async def story():
        async with serving(settings_of(listener=files)) as broker:
            before = await serial(broker)
            stays = await RawClient.connect(port_of(broker), "stays", tls=trusting(authority))
            authority.server()
            broker.reload()
            after = await serial(broker)
            assert before != after
            certificate = tmp_path / "server.pem"
            certificate.write_text("broken")
            broker._listeners._watch_at = 0.0
            await until(lambda: "the new certificate cannot be used, the old one stays" in caplog.text)
            assert after == await serial(broker)
            authority.server()
            broker._listeners._watch_at = 0.0
            await until(lambda: caplog.text.count("certificate read again") == 2)

            assert await serial(broker) not in (before, after)
            await stays.ping()
            await stays.close()

    play(story, uvloop=uvloop)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _authority, files: files.pop("keyfile"), "both are required"),
        (lambda authority, files: files.update(keyfile=str(authority.file)), "ca.pem holds no private key"),
        (
            lambda _authority, files: files.update(certfile=files["keyfile"], keyfile=files["certfile"]),
            "server.key holds no certificate",
        ),
        (
            lambda authority, files: files.update(keyfile=str(authority.issue("other", "x").with_suffix(".key"))),
            "other.key is not the key of certfile ",
        ),
        (lambda authority, files: files.update(cafile=str(authority.folder / "server.key")), "no certificate"),
        (
            lambda authority, _files: authority.issue("server", "localhost", password=b"secret"),
            "the private key is encrypted",
        ),
        (lambda _authority, files: (files.pop("keyfile"), files.pop("certfile")), "TLS needs certfile and keyfile"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, change, words):
    """A missing, wrong or encrypted key stops the start with a line that names the listener or the key."""
    authority = Authority(tmp_path)
    files = authority.server()
    change(authority, files)

    async def story():
        with pytest.raises(MesimqttError) as caught:
            await Broker(settings_of(listener=files)).start()

        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    play(story)


def test_a_key_that_others_can_read_is_told(tmp_path, caplog):
    """Row 116: a private key that every user of the machine can read is warned of, with the remedy."""
    files = Authority(tmp_path).server()

    async def story():
        async with serving(settings_of(listener=files)):
            pass

    for mode in (0o600, 0o644):
        Path(files["keyfile"]).chmod(mode)
        caplog.clear()
        play(story)

        assert (mode == 0o644) is (f"chmod o= {files['keyfile']}" in caplog.text)


def test_who_says_nothing_costs_a_socket_and_has_a_deadline(tmp_path):
    """Row 28: connections without a TLS hello count for their address and are closed at the deadline; others get in."""
    authority = Authority(tmp_path)
    limits = {"connections_per_address": 20, "connect_deadline_s": 2.0}

    async def story():
        async with serving(settings_of(listener=authority.server(), **limits)) as broker:
            silent = [await asyncio.open_connection("127.0.0.1", port_of(broker)) for _ in range(19)]
            client = await RawClient.connect(port_of(broker), tls=trusting(authority))
            watch = Stopwatch()
            refused, writer = await asyncio.open_connection("127.0.0.1", port_of(broker))
            assert b"" == await refused.read()
            assert watch.elapsed_s < 0.4
            half = silent[0][1]
            half.write(b"\x16\x03\x01\x02\x00\x01")
            for reader, other in silent:
                assert b"" == await asyncio.wait_for(reader.read(), 20)
                other.close()
            writer.close()
            await client.ping()
            await client.close()
            await until(lambda: not broker.wire._addresses)

            assert 0 == broker._listeners.get("default").connections
            assert {} == broker._listeners._acceptors[0]._waiting
            assert {} == broker._listeners._acceptors[0]._handshakes

    play(story)


def test_handshakes_are_bounded(tmp_path):
    """Row 28: of more half handshakes than run at a time the oldest are dropped; who is in earnest gets in."""
    authority = Authority(tmp_path)

    async def story():
        async with serving(settings_of(listener=authority.server())) as broker:
            half = [await asyncio.open_connection("127.0.0.1", port_of(broker)) for _ in range(HANDSHAKES_MAX + 20)]
            for _reader, writer in half:
                writer.write(b"\x16\x03\x01\x02\x00\x01")
                await asyncio.sleep(0)
            acceptor = broker._listeners._acceptors[0]
            for reader, _writer in half[:20]:
                await asyncio.wait_for(reader.read(), 20)
            client = await RawClient.connect(port_of(broker), tls=trusting(authority))

            assert len(acceptor._handshakes) <= HANDSHAKES_MAX
            for _reader, writer in half:
                writer.close()
            await client.close()
            await until(lambda: not broker._listeners.get("default").connections)

    play(story)


def test_half_a_handshake_does_not_keep_the_server_from_ending(tmp_path):
    """The broker stops while handshakes are under way, and MQTT without TLS on the TLS port is closed."""
    authority = Authority(tmp_path)

    async def story():
        async with serving(settings_of(listener=authority.server())) as broker:
            port = port_of(broker)
            plain, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(wire.connect("x", None, None))
            await asyncio.wait_for(plain.read(), 20)
            half, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"\x16\x03\x01\x02\x00\x01")
            await until(lambda: broker._listeners._acceptors[0]._handshakes)
            await broker.shutdown()
            assert b"" == await asyncio.wait_for(half.read(), 20)
            for each in (writer, other):
                each.close()

            with socket.socket() as probe:
                assert 0 != probe.connect_ex(("127.0.0.1", port))

    play(story)
