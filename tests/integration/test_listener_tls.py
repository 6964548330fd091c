"""TLS: who is let in by a certificate, what is refused, and new certificates under live connections."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from integration import wire
from integration.certificates import Authority
from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.app import running
from mesimqtt.broker.acceptor import HANDSHAKES_MAX
from mesimqtt.broker.broker import Broker
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import ListenerOptions, Settings

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])


def port_of(broker):
    return broker.bound[0][2]


def trusting(authority, client=None, **options):
    """Return a client's context that trusts `authority` and, if given, shows the certificate `client`."""
    context = ssl.create_default_context(cafile=authority.file)
    if client is not None:
        context.load_cert_chain(client.with_suffix(".pem"), client.with_suffix(".key"))
    for name, value in options.items():
        setattr(context, name, value)
    return context


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


@asynccontextmanager
async def chat(folder, listener, **options):
    """Run a whole server, with the users alice and bob, whose default listener has `listener` and `options`."""
    settings = Settings()
    listeners = {"default": {"type": "tcp", "bind": "127.0.0.1:0", **listener}}
    settings = replace(
        settings,
        broker={**settings.broker, "listeners": listeners},
        listeners={"default": ListenerOptions(**options)},
    )
    async with running(settings, folder / "data") as app:
        await app.perform("user_add", {"addresses": ["alice", "bob", "door/7"]})
        yield app


async def code(app, context, user=None, password=None):
    """Return the CONNACK's code, or what became of the connection instead."""
    try:
        client = await RawClient.connect(app.bound[0][2], "phone", user, password, tls=context)
    except (EOFError, OSError):
        return "closed"
    await client.close()
    return client.code


def test_a_certificates_common_name_is_the_user(tmp_path):
    """Row 28, mTLS required: the certificate is enough, the name must fit, a token must be of the same user."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path_factory_folder(tmp_path))
    names = {"alice": "alice", "door": "door/7", "carol": "carol", "dot": "..", "none": ""}
    cards = {file: trusting(authority, authority.issue(file, name)) for file, name in names.items()}
    forged = trusting(authority, stranger.issue("forged", "alice"))
    listener = {**authority.server(), "cafile": str(authority.file)}

    async def story():
        async with chat(tmp_path, listener, client_certificate="required", certificate_user="cn") as app:
            issued = (await app.perform("token_issue", {"addresses": ["alice", "bob"]}))["tokens"]
            token = {one["address"]: one["token"] for one in issued}

            assert [0, 0, 0] == [
                await code(app, cards[n], u) for n, u in (("alice", "alice"), ("alice", None), ("door", ""))
            ]
            assert 0 == await code(app, cards["alice"], "alice", token["alice"])
            assert [5, 5] == [
                await code(app, cards["alice"], "bob"),
                await code(app, cards["alice"], "bob", token["bob"]),
            ]
            assert [5, 5, 5] == [await code(app, cards[name]) for name in ("carol", "dot", "none")]
            assert ["closed", "closed"] == [await code(app, context) for context in (forged, trusting(authority))]
            await app.perform("user_disable", {"addresses": ["alice"]})
            assert 5 == await code(app, cards["alice"], "alice")

    play(story)


def tmp_path_factory_folder(folder):
    """Return a second folder, for an authority that nobody trusts."""
    other = folder / "stranger"
    other.mkdir()
    return other


def test_an_alternative_name_is_the_user_and_a_certificate_may_be_left_out(tmp_path):
    """mTLS optional: the one DNS name, e-mail or URI is the user, several are nobody; else a token is."""
    authority = Authority(tmp_path)
    mail = trusting(authority, authority.issue("mail", "x", x509.RFC822Name("alice@example.org")))
    both = trusting(authority, authority.issue("both", "bob", x509.DNSName("bob"), x509.DNSName("alice")))
    listener = {**authority.server(), "cafile": str(authority.file)}

    async def story():
        async with chat(tmp_path, listener, certificate_user="san") as app:
            await app.perform("user_add", {"addresses": ["alice@example.org"]})
            token = (await app.perform("token_issue", {"addresses": ["bob"]}))["tokens"][0]["token"]

            assert 0 == await code(app, mail, "alice@example.org")
            assert [5, 0] == [await code(app, both, "bob"), await code(app, both, "bob", token)]
            assert [5, 0] == [await code(app, trusting(authority), *words) for words in ((), ("bob", token))]

    play(story)


def test_a_certified_user_writes_and_is_cut_when_disabled(tmp_path):
    """Who came by certificate has an inbox like anyone, and loses the connection within a second when disabled."""
    authority = Authority(tmp_path)
    card = trusting(authority, authority.issue("alice", "alice"))
    listener = {**authority.server(), "cafile": str(authority.file)}

    async def story():
        async with chat(tmp_path, listener, certificate_user="cn") as app:
            alice = await RawClient.connect(app.bound[0][2], "phone", "alice", tls=card)
            assert 1 == await alice.subscribe("m/alice/in/#", 1)
            await alice.publish("m/alice/out/u/bob/1", b"hi", qos=1)
            assert b'"name":"sent"' in (await alice.message()).payload
            began = time.monotonic()
            await app.perform("user_disable", {"addresses": ["alice"]})

            await alice.ended()
            assert time.monotonic() - began < 1
            await alice.close()

    play(story)


def test_mosquittos_clients_with_and_without_a_certificate(tmp_path):
    """mosquitto_pub and mosquitto_sub talk over TLS; where a certificate is required one without it gets nothing."""
    authority = Authority(tmp_path)
    card = authority.issue("device", "device")
    listener = {**authority.server(), "cafile": str(authority.file)}
    options = replace(
        settings_of(listener=listener), listeners={"default": ListenerOptions(client_certificate="required")}
    )

    async def story():
        async with serving(options) as broker:
            address = ["-h", "localhost", "-p", str(port_of(broker)), "--cafile", str(authority.file), "-t", "shed"]
            shown = ["--cert", str(card.with_suffix(".pem")), "--key", str(card.with_suffix(".key"))]
            sub = await asyncio.create_subprocess_exec(
                shutil.which("mosquitto_sub"), *address, *shown, "-C", "1", stdout=asyncio.subprocess.PIPE
            )
            await until(lambda: broker.subscriptions)
            pub = shutil.which("mosquitto_pub")
            naked = await asyncio.create_subprocess_exec(
                pub, *address, "-m", "naked", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            assert 0 != await asyncio.wait_for(naked.wait(), 5)
            sender = await asyncio.create_subprocess_exec(pub, *address, *shown, "-m", "open")
            printed, _ = await asyncio.wait_for(sub.communicate(), 5)

            assert 0 == await sender.wait()
            assert b"open\n" == printed

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
        (lambda authority, files: files.update(keyfile=str(authority.file)), "check certfile and keyfile"),
        (lambda authority, files: files.update(cafile=str(authority.folder / "server.key")), "check"),
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


def test_a_required_certificate_needs_an_authority(tmp_path):
    """`client_certificate: required` without a cafile is refused: nobody could come in."""
    settings = replace(
        settings_of(listener=Authority(tmp_path).server()),
        listeners={"default": ListenerOptions(client_certificate="required")},
    )

    async def story():
        with pytest.raises(MesimqttError, match="client_certificate: required needs a cafile"):
            await Broker(settings).start()

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
    limits = {"connections_per_address": 20, "connect_deadline_s": 0.6}

    async def story():
        async with serving(settings_of(listener=authority.server(), **limits)) as broker:
            silent = [await asyncio.open_connection("127.0.0.1", port_of(broker)) for _ in range(19)]
            client = await RawClient.connect(port_of(broker), tls=trusting(authority))
            refused, writer = await asyncio.open_connection("127.0.0.1", port_of(broker))
            assert b"" == await asyncio.wait_for(refused.read(), 0.4)
            half = silent[0][1]
            half.write(b"\x16\x03\x01\x02\x00\x01")
            for reader, other in silent:
                assert b"" == await asyncio.wait_for(reader.read(), 3)
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
                await asyncio.wait_for(reader.read(), 3)
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
            await asyncio.wait_for(plain.read(), 1)
            half, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"\x16\x03\x01\x02\x00\x01")
            await until(lambda: broker._listeners._acceptors[0]._handshakes)
            await broker.shutdown()
            assert b"" == await asyncio.wait_for(half.read(), 1)
            for each in (writer, other):
                each.close()

            with socket.socket() as probe:
                assert 0 != probe.connect_ex(("127.0.0.1", port))

    play(story)
