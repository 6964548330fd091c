"""Client certificates: who is let in by one, who is not, and what it takes to end that."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from cryptography import x509

from integration.certificates import Authority, trusting
from integration.raw_client import RawClient, play, serving, settings_of, until
from mesimqtt.app import running
from mesimqtt.broker.broker import Broker
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import Http, ListenerOptions, Settings
from stopwatch import Stopwatch

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])


def port_of(broker):
    return broker.bound[0][2]


@asynccontextmanager
async def chat(folder, listener, **options):
    """Run a whole server, with the users alice and bob, whose default listener has `listener` and `options`."""
    settings = Settings()
    listeners = {"default": {"type": "tcp", "bind": "127.0.0.1:0", **listener}}
    settings = replace(
        settings,
        broker={**settings.broker, "listeners": listeners},
        http=Http(bind="off"),
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
    authority, stranger = Authority(tmp_path), Authority(second_folder(tmp_path))
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


def second_folder(folder):
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


def test_a_revoked_certificate_is_refused(tmp_path):
    """A list of revoked certificates in the cafile is obeyed from the next connection on."""
    authority = Authority(tmp_path)
    lost, kept = authority.issue("lost", "alice"), authority.issue("kept", "alice")
    cards = [trusting(authority, path) for path in (lost, kept)]
    listener = {**authority.server(), "cafile": str(authority.file)}

    async def story():
        async with chat(tmp_path, listener, certificate_user="cn") as app:
            assert [0, 0] == [await code(app, card) for card in cards]
            authority.revoke(lost)
            app.broker.reload()

            assert ["closed", 0] == [await code(app, card) for card in cards]

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
            watch = Stopwatch()
            await app.perform("user_disable", {"addresses": ["alice"]})

            await alice.ended()
            assert watch.elapsed_s < 1
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
            assert 0 != await asyncio.wait_for(naked.wait(), 20)
            sender = await asyncio.create_subprocess_exec(pub, *address, *shown, "-m", "open")
            printed, _ = await asyncio.wait_for(sub.communicate(), 20)

            assert 0 == await sender.wait()
            assert b"open\n" == printed

    play(story)


def test_a_required_certificate_needs_an_authority(tmp_path):
    """`client_certificate: required` without a cafile is refused, and a name in a certificate that nobody asks for."""
    authority = Authority(tmp_path)
    server = authority.server()

    async def refused(words, options, **listener):
        settings = settings_of(listener={**server, **listener})
        with pytest.raises(MesimqttError, match=words):
            await Broker(replace(settings, listeners={"default": ListenerOptions(**options)})).start()

    async def story():
        await refused("client_certificate: required needs a cafile", {"client_certificate": "required"})
        unasked = {"client_certificate": "none", "certificate_user": "cn"}
        await refused("client_certificate: none does not ask", unasked, cafile=str(authority.file))

    play(story)


@BOTH_LOOPS
def test_a_failed_handshake_leaves_a_line(tmp_path, caplog, uvloop):
    """No, an untrusted or a revoked certificate, or no TLS at all: one audit line with address and cause each."""
    authority, stranger = Authority(tmp_path), Authority(second_folder(tmp_path))
    gone = authority.issue("gone", "alice")
    authority.revoke(gone)
    listener = {**authority.server(), "cafile": str(authority.file)}
    forged = trusting(authority, stranger.issue("forged", "alice"))

    async def story():
        async with chat(tmp_path, listener, client_certificate="required") as app:
            for context, words in (
                (trusting(authority), "the client has shown no certificate"),
                (forged, "the client's certificate: "),
                (trusting(authority, gone), "the client's certificate: certificate revoked"),
                (None, "the client does not speak TLS"),
            ):
                caplog.clear()

                assert "closed" == await code(app, context)
                await until(lambda words=words: words in caplog.text)
                assert "closed: address='127.0.0.1' client='' user='' reason=" in caplog.text
                assert 1 == len([each for each in caplog.records if each.name == "mesimqtt.audit"])

    play(story, uvloop=uvloop)
