"""SIGTERM: what was accepted is answered, everybody is told when to come back, nobody can hold up the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from integration.raw_client import RawClient, play
from integration.server import Server, stopped, wait_until
from integration.test_five_clients import Paho5
from mesimqtt.testing import stream as wire

if TYPE_CHECKING:
    from pathlib import Path

STOP_S = 3.0
OK = 200
CLIENTS = 300
SPREAD_S = 0.25  # over which so many are let go
_HINT = re.compile(rb'\{"event":"closing","retry_after":([0-9.]+)\}')


def http_port(server: Server) -> int:
    """Return where a server listens for HTTP."""
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(r"ready http \S+:(\d+)", server.printed)
        return bool(found)

    wait_until(is_told, what="where HTTP is")
    return int(found[-1])


def asked_to_the_end(port: int, path: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Ask over HTTP again and again until nobody answers; return each answer's status, Retry-After and body."""
    found = []
    with contextlib.suppress(OSError):
        while (answer := asked(port, path)) is not None:
            found.append(answer)
    return found


def asked(port: int, path: str) -> tuple[int, str, dict[str, Any]] | None:
    """Ask over HTTP; return the status, Retry-After and the body, None if the server ended first."""
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while part := client.recv(65536):
            data += part
    head, _, body = data.decode().partition("\r\n\r\n")
    if not body:
        return None
    after = re.search(r"(?i)retry-after: (\S+)", head)
    return int(head.split()[1]), after[1] if after else "", json.loads(body)


async def sleeper_of(server: Server, tokens: dict[str, str]) -> RawClient:
    """Return a client for whom much is on its way, and who reads nothing: a stop waits for him until he goes."""
    sleeper = await RawClient.connect(server.port, "sleeper", "bob", tokens["bob"])
    await sleeper.subscribe("m/bob/in/#")
    sleeper.writer.transport.pause_reading()
    sender = await RawClient.connect(server.port, "sender", "alice", tokens["alice"])
    for n in range(40):
        await sender.publish(f"m/alice/out/u/bob/c{n}", b"x" * 200_000, qos=1)
    await sender.close()
    return sleeper


def test_everybody_is_told_and_nobody_comes_back_in_the_same_moment(tmp_path: Path) -> None:
    """300 clients of 3.1.1 are let go one after another, each with a hint of its own; HTTP says 503; exit code 0."""
    hints: list[float] = []
    ends: list[float] = []
    refused: set[tuple[int, str, str]] = set()

    async def serve_out(client: RawClient) -> None:
        told = await client.ended()
        ends.append(time.monotonic())
        hints.extend(float(found) for found in _HINT.findall(told))
        await client.close()

    async def story(server: Server, tokens: dict[str, str]) -> None:
        clients = [await RawClient.connect(server.port, f"d{n}", "alice", tokens["alice"]) for n in range(CLIENTS)]
        for client in clients:
            assert 0 == await client.subscribe("m/alice/in/session")
        ending = [asyncio.create_task(serve_out(client)) for client in clients]
        asking = asyncio.create_task(asyncio.to_thread(asked_to_the_end, http_port(server), "/livez"))
        stopping = asyncio.create_task(asyncio.to_thread(stopped, server))
        code, took_s = await stopping
        assert 0 == code
        assert took_s < STOP_S
        await asyncio.gather(*ending)
        refused.update((code, after, body["code"]) for code, after, body in await asking if code != OK)

    config = tmp_path / "mesimqtt.yaml"
    config.write_text("messaging: {devices_max: 1000}\ndrain: {returns_per_s: 100, spread_s: 1.5}\n")
    with Server(tmp_path / "data", config=config, options=("--http", "127.0.0.1:0")) as server:
        tokens = server.add_users("alice")
        play(lambda: story(server, tokens))

    assert CLIENTS == len(hints)
    assert 1.0 <= min(hints) < 1.5
    assert 3.5 < max(hints) <= 4.0
    assert len(set(hints)) > 20
    assert max(ends) - min(ends) > SPREAD_S / 4  # the first ones may be seen late
    assert {(503, "4", "stopping")} == refused


def test_who_floods_reads_every_answer_to_the_last(tmp_path: Path) -> None:
    """What was accepted is answered, although the client never stopped sending: its connection is not reset."""
    answered: list[int] = []

    async def flood(client: RawClient, begun: asyncio.Event) -> None:
        payload = b"x" * 100
        for n in range(1, 60_000):
            client.writer.write(wire.publish(f"m/alice/out/u/bob/c{n}", payload, qos=1, packet_id=n))
            if n % 100 == 0:
                begun.set()
                try:
                    await client.writer.drain()
                except ConnectionError:
                    return

    async def story(server: Server, token: str) -> None:
        client = await RawClient.connect(server.port, "phone", "alice", token)
        begun = asyncio.Event()
        sending = asyncio.create_task(flood(client, begun))
        await begun.wait()
        await client.reader.readexactly(400)
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        rest = await client.reader.read()  # to the end: a reset would raise
        sending.cancel()

        assert 0 == await stopping
        answered.append(100 + len(rest) // 4)
        await client.close()

    with Server(tmp_path / "data") as server:
        token = server.add_users("alice", "bob")["alice"]
        play(lambda: story(server, token))
        kept = json.loads(server.run("inbox", "bob", "--json"))["messages"]

    assert answered == [kept]


def test_five_is_told_in_disconnect(tmp_path: Path) -> None:
    """A client of 5.0 reads the code, the reason and its own time to come back."""
    told: list[Any] = []
    with Server(tmp_path / "data") as server:
        server.tokens = server.add_users("alice")
        guest = Paho5(server, "alice", "phone")
        guest.client.on_disconnect = lambda _c, _d, _f, code, found: told.append((code.value, found))
        guest.client.loop_start()
        assert guest.is_connected.wait(20)
        assert 0 == server.stop()
        wait_until(lambda: told, what="what the client was told")  # its thread reads when it comes to it
        guest.client.loop_stop()

    code, found = told[0]
    ((name, seconds),) = found.UserProperty
    assert (0x8B, "the server is stopping", "retry-after") == (code, found.ReasonString, name)
    assert 1.0 <= float(seconds) <= 2.0


def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    """A client that reads nothing may take the time that the configuration gives, but not after a second SIGTERM."""
    config = tmp_path / "mesimqtt.yaml"
    config.write_text("drain: {timeout_s: 30}\n")

    async def story(server: Server, tokens: dict[str, str]) -> None:
        sleeper = await sleeper_of(server, tokens)
        sender = await RawClient.connect(server.port, "sender", "alice", tokens["alice"])
        server.send_signal(signal.SIGTERM)
        await sender.ended()
        await asyncio.sleep(0.3)
        assert server.is_running
        code, took_s = await asyncio.to_thread(stopped, server)

        assert (0, True) == (code, took_s < STOP_S - 0.3)
        for client in (sleeper, sender):
            await client.close()

    with Server(tmp_path / "data", config=config) as server:
        tokens = server.add_users("alice", "bob")
        play(lambda: story(server, tokens))
