"""The control socket: one JSON object per line each way, for the owner of the data folder only (contract section 7).

A question is `{"op":"user_add","args":{"addresses":["alice"]}}`; the answer is `{"ok":true,"result":{…}}` or
`{"ok":false,"code":"no-such-user","message":"…","exit":1}`. Questions of one connection are answered in order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from mesimqtt.api.names import with_short_name
from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.domain.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LINE_MAX = 1024 * 1024
CONNECTIONS_MAX = 32
IDLE_S = 60.0
_QUESTION = 'a question is a line {"op":NAME,"args":{…}}'

log = logging.getLogger(__name__)


class ControlServer:
    """Listens on `path` (mode 0600) and hands each question to `perform`: name, arguments, and `as` or ''."""

    def __init__(self, path: Path, perform: Callable[[str, dict[str, Any], str], Awaitable[dict[str, Any]]]) -> None:
        self._path = path
        self._perform = perform
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket that an earlier server left is replaced: who holds the folder's lock owns it.

        Raises:
            MesimqttError: the socket cannot be made there.

        """
        listener = _bound(self._path)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=LINE_MAX)

    async def close(self) -> None:
        """Stop listening, drop what is connected, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        running = list(self._connections)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        try:
            if len(self._connections) >= CONNECTIONS_MAX:
                await _write(writer, _refused("busy", "too many commands at once; try again", 2))
                return
            self._connections.add(task)
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            # A cancelled task would be reported by asyncio's streams as an error of its own; here it is `close`.
            log.debug("control: a connection ended early")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                await _write(writer, _refused("too-large", f"a question has at most {LINE_MAX} bytes", 2))
                async with asyncio.timeout(IDLE_S):  # closing on unread bytes would take the answer away with them
                    while await reader.read(LINE_MAX):
                        pass
                return
            await _write(writer, await self._answer(line))

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = read_json(line)
            name, arguments, user = question["op"], question.get("args", {}), question.get("as", "")
        except (ValueError, TypeError, KeyError):
            return _refused("bad-question", _QUESTION, 2)
        is_good = isinstance(name, str) and isinstance(arguments, dict) and isinstance(user, str)
        if not is_good or question.keys() - {"op", "args", "as"}:
            return _refused("bad-question", _QUESTION, 2)
        try:
            return {"ok": True, "result": await self._perform(name, arguments, user)}
        except OperationError as error:
            return _refused(error.code, str(error), error.exit_code)
        except MesimqttError as error:
            return _refused("server", str(error), error.exit_code)
        except Exception:
            # The edge: a mistake of ours ends neither the connection nor the server, and is told without its insides.
            log.exception("control: %s failed", name[:64])
            return _refused("internal", "the server met an unexpected error; its log has the details", 2)


def _refused(code: str, message: str, exit_code: int) -> dict[str, Any]:
    return {"ok": False, "code": code, "message": message, "exit": exit_code}


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    async with asyncio.timeout(IDLE_S):
        await writer.drain()


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Under this mask the socket is private from its first moment; a chmod afterwards would leave a gap.
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with_short_name(path, listener.bind)
    except OSError as error:
        listener.close()
        raise MesimqttError(f"cannot make the control socket {path}: {error.strerror}; choose another --data") from None
    finally:
        os.umask(before)
    return listener
