"""Unix sockets and IPv6: who may connect, what stands in the way, what is left at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
from dataclasses import replace

import pytest

from integration.raw_client import RawClient, play, serving, settings_of, until
from integration.raw_websocket import RawWebSocket, request
from mesimqtt.broker.broker import Broker
from mesimqtt.broker.peers import counted_as
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import ListenerOptions
from mesimqtt.testing import stream as wire

BOTH_LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])


def unix(path, *, mode="0600", **limits):
    """Return settings of a broker on a Unix socket."""
    return replace(
        settings_of(listener={"bind": f"unix:{path}"}, **limits), listeners={"default": ListenerOptions(mode=mode)}
    )


async def connected(path):
    return RawClient(*await asyncio.open_unix_connection(path))


@BOTH_LOOPS
def test_a_unix_socket_is_served(tmp_path, uvloop):
    """A client on a Unix socket is one of this machine, also in open mode, and is not counted by address."""
    path = tmp_path / "mqtt.sock"

    async def story():
        async with serving(unix(path, connections_per_address=1)) as broker:
            assert [("default", f"unix:{path}", 0)] == broker.bound
            clients = [await connected(path) for _ in range(3)]
            for number, client in enumerate(clients):
                client.writer.write(wire.connect(f"c{number}", None, None))
                assert b"\0\0" == (await client.expect(wire.CONNACK)).body
            await clients[0].subscribe("big", 1)
            await clients[1].publish("big", b"x" * 200_000, qos=1)

            assert b"x" * 200_000 == (await clients[0].message()).payload
            for client in clients:
                await client.close()
        assert not path.exists()

    play(story, uvloop=uvloop)


def test_mosquittos_clients(tmp_path):
    """mosquitto_pub and mosquitto_sub talk through `--unix`."""
    path = tmp_path / "mqtt.sock"

    async def story():
        async with serving(unix(path)) as broker:
            address = ("--unix", str(path), "-t", "shed")
            sub = await asyncio.create_subprocess_exec(
                shutil.which("mosquitto_sub"), *address, "-C", "1", stdout=asyncio.subprocess.PIPE
            )
            await until(lambda: broker.subscriptions)
            pub = await asyncio.create_subprocess_exec(shutil.which("mosquitto_pub"), *address, "-m", "open")
            printed, _ = await asyncio.wait_for(sub.communicate(), 20)

            assert 0 == await pub.wait()
            assert b"open\n" == printed

    play(story)


@pytest.mark.parametrize(("mode", "bits"), [("0600", 0o600), ("660", 0o660), ("0666", 0o666)])
def test_the_mode_is_that_of_the_option(tmp_path, mode, bits):
    """The socket is for its owner alone, unless `mode` says otherwise; the process's own mask does not matter."""

    async def story():
        before = os.umask(0o022)
        try:
            async with serving(unix(tmp_path / "s", mode=mode)):
                assert bits == stat.S_IMODE((tmp_path / "s").stat().st_mode)
            assert 0o022 == os.umask(0o022)
        finally:
            os.umask(before)

    play(story)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    """What a dead server left is removed; a server that answers is named; a file is not touched."""
    path = tmp_path / "mqtt.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def story():
        async with serving(unix(path)):
            with pytest.raises(MesimqttError, match="is in use; stop the other server there or choose another path"):
                await Broker(unix(path)).start()
            client = await connected(path)
            client.writer.write(wire.connect("x", None, None))
            assert b"\0\0" == (await client.expect(wire.CONNACK)).body
            await client.close()
            path.unlink()
            path.write_text("somebody else's")
        assert path.exists()
        with pytest.raises(MesimqttError, match="there is a file of that name"):
            await Broker(unix(path)).start()

        assert "somebody else's" == path.read_text()

    play(story)


@pytest.mark.parametrize(
    ("path", "mode", "words"),
    [
        ("x" * 108, "0600", "a path has at most 107 bytes; choose a shorter one"),
        ("no/such/folder", "0600", "choose a folder that this user may write to"),
        ("s", "rw-", "is not three octal digits"),
        ("dangling", "0600", "a link of that name leads nowhere; remove it or choose another path"),
        ("", "0600", "bind 'unix:' names no path; write unix:/PATH"),
    ],
)
def test_what_cannot_be_there_is_said_in_one_line(tmp_path, monkeypatch, path, mode, words):
    """A long path, a missing folder, a mode that is none and a link to nothing are told with what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")

    async def story():
        with pytest.raises(MesimqttError) as caught:
            await Broker(unix(path, mode=mode)).start()

        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    play(story)


def test_websocket_on_a_unix_socket(tmp_path):
    """A WebSocket listener may be a Unix socket, for a web server in front of it."""

    async def story():
        async with serving(settings_of(listener={"type": "ws", "bind": f"unix:{tmp_path}/ws"})):
            page = RawWebSocket(*await asyncio.open_unix_connection(tmp_path / "ws"))
            page.writer.write(request())
            await page.answer()
            page.send(wire.connect("page", None, None))

            assert b"\x20\x02\0\0" == await page.mqtt(4)
            await page.close()

    play(story)


@BOTH_LOOPS
def test_ipv6_and_both_at_once(uvloop):
    """`[::1]:0` is served; a name with addresses of both kinds is bound on each, on one port."""

    async def story():
        async with serving(settings_of(listener={"bind": "[::1]:0"})) as broker:
            (_name, host, port) = broker.bound[0]
            assert "::1" == host
            client = RawClient(*await asyncio.open_connection("::1", port))
            client.writer.write(wire.connect("six", None, None))
            assert b"\0\0" == (await client.expect(wire.CONNACK)).body
            await client.close()
        async with serving(settings_of(listener={"bind": ":0"})) as broker:
            assert {"0.0.0.0", "::"} == {host for _name, host, _port in broker.bound}  # noqa: S104 - named, not bound
            (port,) = {port for _name, _host, port in broker.bound}
            for address in ("127.0.0.1", "::1"):
                client = RawClient(*await asyncio.open_connection(address, port))
                client.writer.write(wire.connect("both", None, None))

                assert b"\0\0" == (await client.expect(wire.CONNACK)).body
                await client.close()

    play(story, uvloop=uvloop)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix", ""),
        ("", ""),
    ],
)
def test_what_is_counted_together(address, counted):
    """An IPv4 address counts for itself, IPv6 by /64, a mapped one as IPv4; a Unix socket is not counted."""
    assert counted == counted_as(address)
