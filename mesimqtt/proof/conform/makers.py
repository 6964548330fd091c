"""Who makes users, tokens and groups for a run: a command, a backend's token, or the server's own control socket."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
from typing import TYPE_CHECKING, Any

from mesimqtt.api.names import SOCKET_NAME, with_short_name
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.conform.links import UnreachableError
from mesimqtt.proof.conform.people import Person
from mesimqtt.proof.conform.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Venue

Answer = dict[str, Any]
COMMAND_S = 60.0
_LINE_MAX = 64 * 1024 * 1024

# The operations that the kit uses -> the words of the contract's section 7. Arguments in capitals stand in their place.
COMMANDS: dict[str, tuple[str, ...]] = {
    "user_add": ("user", "add", "ADDRESSES"),
    "user_disable": ("user", "disable", "ADDRESSES"),
    "user_enable": ("user", "enable", "ADDRESSES"),
    "user_delete": ("user", "delete", "ADDRESSES"),
    "token_issue": ("token", "issue", "ADDRESSES"),
    "token_revoke": ("token", "revoke", "WHAT"),
    "group_add": ("group", "add", "ADDRESS"),
    "group_join": ("group", "join", "ADDRESS", "USERS"),
    "group_leave": ("group", "leave", "ADDRESS", "USERS"),
    "group_set": ("group", "set", "ADDRESS", "PROFILE"),
    "group_delete": ("group", "delete", "ADDRESSES"),
}


class CommandMaker:
    """Any program that understands `user add`, `token issue` and the others as the contract's section 7 has them."""

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        if not self._words:
            raise UnreachableError("--command is empty; write for example --command 'mesimqtt --data /srv/chat'")

    async def perform(self, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - arguments of operations
        """Run one command. Raises MesimqttError with what it said."""
        words = [*self._words, *words_of(op, arguments)]
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise UnreachableError(f"cannot run {words[0]}: {error.strerror}") from None
        try:
            async with asyncio.timeout(COMMAND_S):
                out, said = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise MesimqttError(f"{shlex.join(words[:4])} … did not end within {COMMAND_S:.0f} s") from None
        if process.returncode:
            last = (said or out).decode("utf-8", "replace").strip().splitlines()[-1:]
            raise MesimqttError(f"{shlex.join(words[:4])} … ended with {process.returncode}: {''.join(last)}")
        return answer_of(op, arguments, out.decode("utf-8", "replace"))


def words_of(op: str, arguments: Answer) -> list[str]:
    """Return an operation as words of a command line."""
    words: list[str] = []
    left = dict(arguments)
    for word in COMMANDS[op]:
        if word.islower():
            words.append(word)
            continue
        value = left.pop(word.lower())
        if isinstance(value, dict):
            words += [f"{key}={text}" for key, text in value.items()]
        else:
            words += value if isinstance(value, list) else [str(value)]
    for key, value in left.items():
        words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return words


def answer_of(op: str, arguments: Answer, printed: str) -> Answer:
    """Return what a command printed as the operation's answer: only tokens are of interest. Raises MesimqttError."""
    if op != "token_issue":
        return {}
    addresses = arguments["addresses"]
    lines = printed.strip().splitlines()
    if len(addresses) == 1:
        lines = [f"{addresses[0]}\t{line}" for line in lines]
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    if [address for address, _ in pairs] != addresses:
        raise MesimqttError(f"token issue printed no token for each user: {printed[:100]!r}")
    return {"tokens": [{"address": address, "token": token.strip()} for address, token in pairs]}


class RpcMaker:
    """A user whose token may make others (scope `backend`): he asks by rpc, over MQTT."""

    def __init__(self, address: str, token: str) -> None:
        self._login = (address, token)
        self._venue: Venue | None = None
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    def attach(self, venue: Venue) -> None:
        """Say which server it is."""
        self._venue = venue

    async def perform(self, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - arguments of operations
        """Ask one operation. Raises MesimqttError with the refusal."""
        async with self._lock:
            if self._client is None or self._client.is_closed:
                if self._venue is None:
                    raise RuntimeError("attach it to a venue first")
                stage = Stage(self._venue)
                self._client = await Person(stage, *self._login).device("rpc/#", name="backend", clean=True)
        answer = await self._client.ask(op, arguments)
        if answer.get("ok") is not True:
            raise MesimqttError(str(answer.get("message") or answer))
        result: Answer = answer.get("result") or {}
        return result


class ControlMaker:
    """The control socket of a mesimqtt on this machine."""

    def __init__(self, data: Path) -> None:
        self._data = data

    async def perform(self, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - arguments of operations
        """Ask one operation. Raises MesimqttError with the refusal."""
        try:
            reader, writer = await self._connect()
        except OSError:
            where = self._data.absolute()
            raise UnreachableError(
                f"no mesimqtt runs on {where}; name its --data, or say who takes part: --as, --command or --backend"
            ) from None
        try:
            writer.write(json.dumps({"op": op, "args": arguments}).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
        finally:
            writer.close()
        if not answer.get("ok"):
            raise MesimqttError(str(answer.get("message") or "the server ended before it answered"))
        result: Answer = answer["result"]
        return result

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with_short_name(self._data / SOCKET_NAME, link.connect)
            link.setblocking(False)
            return await asyncio.open_connection(sock=link, limit=_LINE_MAX)
        except OSError:
            link.close()
            raise
