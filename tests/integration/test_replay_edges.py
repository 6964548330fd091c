"""What stands at a server's edges is recorded, too: TLS, PROXY headers, webhooks, commands, slow and silent clients."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

from integration.certificates import Authority, trusting
from integration.raw_client import RawClient, play
from integration.receivers import Receiver, hang_up
from integration.server import Server, wait_until
from integration.test_http_auth import backend_running
from mesimqtt.replay.player import Player
from mesimqtt.testing import stream as wire
from stopwatch import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """
listeners:
  tls: {{certificate_user: cn}}
  behind: {{proxy_from: ["127.0.0.0/8"]}}
webhooks: {{private_hosts: ["127.0.0.1"], batch_age_s: 0.02, retries_s: [0.1, 0.1, 0.1]}}
limits: {{unwritten_max: 20000, stalled_s: 0.5, connect_deadline_s: 2.5}}
rates: {{messages: "1:20", requests: "1:50", publishes: "1:60", loopback: true}}
broker:
  listeners:
    default: {{type: tcp, bind: "127.0.0.1:0"}}
    tls: {{type: tcp, bind: "127.0.0.1:0", ssl: true, certfile: "{certfile}", keyfile: "{keyfile}", cafile: "{cafile}"}}
    behind: {{type: tcp, bind: "127.0.0.1:0"}}
"""


_ASKED = """
broker:
  plugins:
    mesimqtt_plugins.http_auth.HttpAuth: {{url: "{url}", headers: {{X-Key: k}}, secret: s}}
    mesimqtt_plugins.http_auth.HttpAccess: {{url: "{url}", headers: {{X-Key: k}}, secret: s}}
    mesimqtt_plugins.routing.MessageRouting: {{}}
"""


def ports(server: Server) -> list[int]:
    """Return the ports of the listeners, in the order of the configuration."""
    wait_until(lambda: server.printed.count("ready mqtt") == 3)
    return [int(port) for port in re.findall(r"ready mqtt \S+:(\d+)", server.printed)]


async def story(server: Server, tokens: dict[str, str], authority: Authority) -> None:
    """Enter by every door, and behave badly at some."""
    default, tls, behind = ports(server)
    card = trusting(authority, authority.issue("door", "alice"))
    door = await RawClient.connect(tls, "door", "alice", tls=card)
    assert (0, 1) == (door.code, await door.subscribe("m/alice/in/#", 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", behind)
    writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 1883\r\n" + wire.connect("far", "bob", tokens["bob"]))
    assert 0 == (await reader.readexactly(4))[3]
    nothing, late = await asyncio.open_connection("127.0.0.1", behind)  # says nothing, and is dropped
    _, odd = await asyncio.open_connection("127.0.0.1", tls)
    odd.write(b"no TLS at all, and more of it than a header has")
    slow = await RawClient.connect(default, "slow", "bob", tokens["bob"])
    await slow.subscribe("m/bob/in/#", 0)
    slow.writer.transport.pause_reading()
    silent = await RawClient.connect(default, "silent")
    assert silent.code
    for n in range(40):  # above a rate: the last are refused
        await door.publish(f"m/alice/out/u/bob/c{n}", b"x" * 60_000, qos=1)
    assert b"" == await nothing.read()  # who says nothing is dropped; who does not read is cut long before that
    for each in (late, odd, writer):
        each.close()
    for client in (slow, silent, door):
        await client.close()


def test_every_edge_is_had_again(tmp_path: Path) -> None:
    """All of it in one recording, with a receiver that hangs up at first, and commands in between."""
    authority = Authority(tmp_path)
    server_files = authority.server()
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(_CONFIG.format(**server_files, cafile=authority.file))
    path = tmp_path / "edges.rec"
    with Receiver() as receiver, Server(tmp_path / "data", config=config, options=("--record", str(path))) as server:
        tokens = server.add_users("alice", "bob")
        receiver.secret = server.run("webhook", "add", "crm", f"http://127.0.0.1:{receiver.port}/hook").strip()
        receiver.answers[:] = [hang_up]
        play(lambda: story(server, tokens, authority))
        wait_until(lambda: len(receiver.events) > 20)
        assert json.loads(server.run("op", "health"))["store"]["ok"]
        server.run("user", "disable", "bob")
        server.run("stats")
        assert 0 == server.stop()
    (tmp_path / "replayed").mkdir()
    watch = Stopwatch()
    played = Player(path, tmp_path / "replayed").play()

    assert (None, "the server was stopped") == (played.difference, played.end)
    assert played.connections >= 5
    assert played.operations >= 6
    assert played.bytes_out > 100_000
    assert watch.elapsed_s < 20


def test_what_a_backend_decided_is_had_again(tmp_path: Path) -> None:
    """Who may enter and who may use a topic, asked over HTTP: a replay asks nobody, and decides alike."""
    config, path = tmp_path / "mesimqtt.yaml", tmp_path / "asked.rec"

    async def story(server: Server) -> None:
        alice = await RawClient.connect(server.port, "phone", "alice", "secret")
        assert 0x80 == await alice.subscribe("closed/a")
        assert 0 == await alice.subscribe("open/a")
        await alice.publish("open/a", b"hi", qos=1)
        assert b"hi" == (await alice.message()).payload
        eve = await RawClient.connect(server.port, "phone", "eve", "secret")
        assert (0, 5) == (alice.code, eve.code)
        for client in (alice, eve):
            await client.close()

    with backend_running() as backend:
        backend.answers |= {"alice": {"allow": True}, "open/a": {"allow": True}, "closed/a": 403}
        backend.delay_s = 0.02
        config.write_text(_ASKED.format(url=backend.url))
        with Server(tmp_path / "data", config=config, options=("--record", str(path))) as server:
            server.run("user", "add", "alice")
            play(lambda: story(server))
            assert 0 == server.stop()
        asked = len(backend.asked)
        (tmp_path / "replayed").mkdir()
        played = Player(path, tmp_path / "replayed").play()

    assert (None, 2, asked) == (played.difference, played.connections, len(backend.asked))
    assert asked >= 4
