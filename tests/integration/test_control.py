"""The control socket: who may use it, what it answers, and that nothing said on it harms the server."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mesimqtt.api.control import CONNECTIONS_MAX, LINE_MAX, ControlServer
from mesimqtt.api.names import SOCKET_NAME, with_short_name
from mesimqtt.app import running
from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.settings import Http, Settings
from mesimqtt.store.database import is_locked
from mesimqtt.testing.ports import KeptPort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEADLINE_S = 60.0


class FakeOperations:
    """Echoes, refuses, or fails in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.running = 0
        self.is_full = asyncio.Event()

    async def perform(self, op: str, args: dict[str, Any], user: str = "") -> dict[str, Any]:
        if op == "refuse":
            raise OperationError("no-such-user", "no user 'x'")
        if op == "store":
            raise MesimqttError("the store cannot write now")
        if op == "crash":
            raise ZeroDivisionError("secret inside")
        if op == "hang":
            self.running += 1
            if self.running == CONNECTIONS_MAX:
                self.is_full.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.running -= 1
        return args


class Caller:
    """One connection to the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, line: bytes) -> dict[str, Any]:
        """Send a line and return the answer."""
        self.writer.write(line + b"\n")
        async with asyncio.timeout(DEADLINE_S):
            answer: dict[str, Any] = json.loads(await self.reader.readline())
        return answer

    async def ended(self) -> bytes:
        """Wait until the server hangs up; return what it still said."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()


@asynccontextmanager
async def serving(path: Path, operations: FakeOperations | None = None) -> AsyncIterator[ControlServer]:
    """Run a control server."""
    server = ControlServer(path, (operations or FakeOperations()).perform)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def calling(path: Path) -> AsyncIterator[Caller]:
    """Connect to it."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=2 * LINE_MAX)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    """Mode 0600 from the first moment; a left-over is replaced; at the end it is gone."""
    path = tmp_path / "control.sock"
    path.write_text("left by a server that was killed")

    async def story() -> int:
        async with serving(path):
            return stat.S_IMODE(path.stat().st_mode)

    assert 0o600 == asyncio.run(story())
    assert not path.exists()


def test_questions_are_answered_in_order(tmp_path: Path) -> None:
    """Each line gets one answer, on the same connection, refused ones too."""
    path = tmp_path / "control.sock"

    async def story() -> list[dict[str, Any]]:
        async with serving(path), calling(path) as caller:
            return [
                await caller.say(b'{"op":"echo","args":{"a":"\xc3\xa9\\n"}}'),
                await caller.say(b'{"op":"refuse"}'),
                await caller.say(b'{"op":"store","args":{}}'),
                await caller.say(b'{"op":"echo"}'),
            ]

    assert [
        {"ok": True, "result": {"a": "é\n"}},
        {"ok": False, "code": "no-such-user", "message": "no user 'x'", "exit": 1},
        {"ok": False, "code": "server", "message": "the store cannot write now", "exit": 2},
        {"ok": True, "result": {}},
    ] == asyncio.run(story())


def test_an_unforeseen_error_is_told_without_its_insides(tmp_path: Path) -> None:
    """The server goes on, and the answer holds neither the exception nor its text."""
    path = tmp_path / "control.sock"

    async def story() -> tuple[dict[str, Any], dict[str, Any]]:
        async with serving(path), calling(path) as caller:
            return await caller.say(b'{"op":"crash"}'), await caller.say(b'{"op":"echo"}')

    crash, after = asyncio.run(story())

    assert ("internal", 2) == (crash["code"], crash["exit"])
    assert "secret" not in crash["message"]
    assert after["ok"]


@pytest.mark.parametrize(
    "line",
    [b"", b"hello", b"[]", b"7", b"null", b'"op"', b'{"op":1}', b'{"op":"echo","args":[]}', b'{"args":{}}', b"\xff\xfe",
     b'{"op":"echo","args":{},"as":7}', b"[" * 100_000, b"GET / HTTP/1.1\r"],
)  # fmt: skip
def test_what_is_no_question_is_said_to_be_none(tmp_path: Path, line: bytes) -> None:
    """Wrong JSON, wrong shape, deep nesting, another protocol: a clear answer, and the connection can still ask."""
    path = tmp_path / "control.sock"

    async def story() -> tuple[dict[str, Any], dict[str, Any]]:
        async with serving(path), calling(path) as caller:
            return await caller.say(line), await caller.say(b'{"op":"echo","args":{"a":1}}')

    wrong, right = asyncio.run(story())

    assert ("bad-question", 2) == (wrong["code"], wrong["exit"])
    assert {"a": 1} == right["result"]


def test_a_line_has_an_end(tmp_path: Path) -> None:
    """A question above the limit is refused and the connection closed; one at the limit is answered."""
    path = tmp_path / "control.sock"
    head, tail = b'{"op":"echo","args":{"a":"', b'"}}'

    async def story() -> tuple[dict[str, Any], bytes]:
        async with serving(path), calling(path) as caller, calling(path) as other:
            fits = await caller.say(head + b"x" * (LINE_MAX - len(head) - len(tail) - 1) + tail)
            other.writer.write(b"x" * (LINE_MAX + 100_000))
            other.writer.write_eof()
            return fits, await other.ended()

    fits, refusal = asyncio.run(story())

    assert fits["ok"]
    assert "too-large" == json.loads(refusal)["code"]


def test_connections_are_bounded_and_dropped_at_the_end(tmp_path: Path) -> None:
    """One above the bound is told that the server is busy; closing ends what hangs, at once."""
    path = tmp_path / "control.sock"
    operations = FakeOperations()

    async def story() -> tuple[bytes, int]:
        writers = []
        async with serving(path, operations):
            for _ in range(CONNECTIONS_MAX):
                _, writer = await asyncio.open_unix_connection(str(path))
                writer.write(b'{"op":"hang"}\n')
                writers.append(writer)
            async with asyncio.timeout(DEADLINE_S):
                await operations.is_full.wait()
            async with calling(path) as caller:
                refusal = await caller.ended()
        for writer in writers:
            writer.close()
        return refusal, operations.running

    refusal, running = asyncio.run(story())

    assert "busy" == json.loads(refusal)["code"]
    assert 0 == running


def test_a_deep_folder_has_a_socket_too(tmp_path: Path) -> None:
    """A path longer than a socket's address may be is reached all the same."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    path = folder / "control.sock"

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(DEADLINE_S)
            with_short_name(path, caller.connect)
            caller.sendall(b'{"op":"echo"}\n')
            return caller.recv(100)

    async def story() -> bytes:
        async with serving(path):
            return await asyncio.to_thread(ask)

    assert b'{"ok":true,"result":{}}\n' == asyncio.run(story())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The error names the socket and says what to do."""

    async def story() -> None:
        async with serving(tmp_path / "nowhere" / "control.sock"):
            raise AssertionError("it listens on nothing")

    with pytest.raises(MesimqttError, match=r"cannot make the control socket .*; choose another --data"):
        asyncio.run(story())


def test_a_server_that_cannot_make_its_socket_leaves_nothing_behind(tmp_path: Path) -> None:
    """The start fails with what to do; its listener is closed again, and the data folder is free."""
    data = tmp_path / "data"
    (data / SOCKET_NAME).mkdir(parents=True)
    kept = KeptPort("127.0.0.1")
    port = kept.number
    broker = Settings().broker | {"listeners": {"default": {"bind": f"127.0.0.1:{port}"}}}
    settings = replace(Settings(), broker=broker, http=Http(bind="off"))

    async def start() -> None:
        async with running(settings, data):
            pytest.fail("it started")

    async def story() -> None:
        with pytest.raises(MesimqttError, match="cannot make the control socket"):
            await start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(story())
    kept.release()

    assert not is_locked(data)
