"""The HTTP listener of a real server: requests, MQTT over WebSocket on the same port, TLS, Unix sockets, its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from integration.certificates import Authority
from integration.raw_client import play
from integration.raw_websocket import RawWebSocket, request
from integration.server import Server, wait_until
from mesimqtt.testing import stream as wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNACK = b"\x20\x02\x00\x00"


def port_of(server: Server) -> int:
    """Return the port of the HTTP listener, once it is told."""
    ready = re.compile(r"ready http \S+:(\d+)")
    wait_until(lambda: ready.search(server.printed), what="the line of HTTP")
    found = ready.findall(server.printed)
    return int(found[-1])


def ask(port: int, method: str, path: str, body: Any = None, *, token: str = "", **headers: str) -> tuple[int, Any]:
    """Return status and JSON of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    if isinstance(body, dict):
        body = json.dumps(body)
        fields.setdefault("Content-Type", "application/json")
    connection.request(method, path, body, fields)
    with connection.getresponse() as response:
        text = response.read()
    connection.close()
    return response.status, json.loads(text) if text else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with HTTP, alice and bob."""
    with Server(tmp_path_factory.mktemp("http") / "data", options=("--http", "127.0.0.1:0")) as server:
        server.tokens = server.add_users("alice", "bob")
        yield server


def test_a_message_from_curl_to_a_phone(server: Server) -> None:
    """The one-curl moment over a socket: the answer has mid and cid, and the phone has the message."""
    status, answer = ask(port_of(server), "POST", "/v1/send/bob", b"hi", token=server.tokens["alice"])
    printed = server.run("inbox", "bob", "--json")

    assert (201, "sent") == (status, answer["name"])
    assert 1 == json.loads(printed)["messages"]


def test_many_requests_on_one_connection(server: Server) -> None:
    """A connection is kept, and a pipeline is answered in its order."""
    head = f"Host: x\r\nAuthorization: Bearer {server.tokens['alice']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port_of(server)), 5) as peer:
        for path in ("/v1/ping", "/v1/users/me/inbox", "/v1/nothing"):
            peer.sendall(f"GET {path} HTTP/1.1\r\n{head}".encode())
        peer.sendall(f"GET /v1/ping HTTP/1.1\r\nConnection: close\r\n{head}".encode())
        said = b""
        while part := peer.recv(65_536):
            said += part

    assert [b"200", b"200", b"404", b"200"] == re.findall(rb"HTTP/1.1 (\d+)", said)


def test_mqtt_over_websocket_on_the_same_port(server: Server) -> None:
    """/mqtt becomes MQTT, also for what was sent right behind the request; no other path does, and no strange page."""

    async def story() -> None:
        port = port_of(server)
        page = await RawWebSocket.connect(port)
        page.send(wire.connect("page", "alice", server.tokens["alice"]))
        assert CONNACK == await page.mqtt(4)
        page.send(b"\xc0\x00")
        assert b"\xd0\x00" == await page.mqtt(2)
        await page.close()
        for path, origin, status in (
            ("/mqtt", "http://localhost:3000", 101),
            ("/mqtt", "https://evil.example", 403),
            ("/", None, 404),
            ("/v1/users", None, 404),
            ("/mqtt?token=x", None, 400),
        ):
            page = await RawWebSocket.connect(port, path, Origin=origin)
            assert status == page.status
            await page.close()
        old = RawWebSocket(*await asyncio.open_connection("127.0.0.1", port))
        old.writer.write(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
        await old.answer()
        assert 400 == old.status  # RFC 6455, section 4.1: at least HTTP/1.1
        await old.close()

    play(story)


def test_a_websocket_of_a_stopping_server_is_told(tmp_path: Path) -> None:
    """SIGTERM ends requests and WebSockets in order, within three seconds."""
    with Server(tmp_path / "data", options=("--http", "127.0.0.1:0")) as server:
        tokens = server.add_users("alice")

        async def story() -> None:
            page = await RawWebSocket.connect(port_of(server))
            page.send(wire.connect("page", "alice", tokens["alice"]))
            assert CONNACK == await page.mqtt(4)
            with socket.create_connection(("127.0.0.1", port_of(server)), 5) as resting:
                server.stop()
                assert b"" == resting.recv(10)
            opcode, payload = await page.frame()
            assert (8, 1001) == (opcode, int.from_bytes(payload[:2], "big"))
            await page.close()

        play(story)


def test_tls_and_a_unix_socket(tmp_path: Path) -> None:
    """A certificate of its own makes it https; a Unix socket is for programs of this machine."""
    authority = Authority(tmp_path)
    server_files = authority.issue("server", "localhost", x509.DNSName("localhost"))
    certificate, key = server_files.with_suffix(".pem"), server_files.with_suffix(".key")
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(f"http: {{certfile: '{certificate}', keyfile: '{key}'}}\n")
    with Server(tmp_path / "data", config=config, options=("--http", "127.0.0.1:0")) as server:
        tokens = server.add_users("alice")
        context = ssl.create_default_context(cafile=str(authority.file))
        connection = http.client.HTTPSConnection("localhost", port_of(server), timeout=20, context=context)
        connection.request("GET", "/v1/ping", headers={"Authorization": f"Bearer {tokens['alice']}"})
        assert 200 == connection.getresponse().status
        connection.close()

        async def story() -> None:
            page = await RawWebSocket.connect(port_of(server), tls=context)
            page.send(wire.connect("page", "alice", tokens["alice"]))
            assert CONNACK == await page.mqtt(4)
            await page.close()

        play(story)

    path = tmp_path / "http.sock"
    with Server(tmp_path / "data", options=("--http", f"unix:{path}")) as server:
        wait_until(lambda: f"ready http unix:{path}" in server.printed, what="the line of HTTP")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            peer.sendall(b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n")

            assert peer.recv(100).startswith(b"HTTP/1.1 401")
