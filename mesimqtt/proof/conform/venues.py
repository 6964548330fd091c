"""From what somebody asked for to a server, the people on it, and what can be done to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.conform.links import UnreachableError, dialer
from mesimqtt.proof.conform.makers import CommandMaker, ControlMaker, RpcMaker
from mesimqtt.proof.conform.own import own_server
from mesimqtt.proof.conform.people import Given, Made
from mesimqtt.proof.conform.stage import Options, Venue
from mesimqtt.proof.conform.table import statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mesimqtt.proof.conform.links import Link
    from mesimqtt.proof.conform.people import Cast

RESTART_S = 60.0
_COMMANDS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at, in the words of the command line."""

    url: str | None
    options: Options = field(default_factory=Options)
    who: tuple[str, ...] = ()
    tokens: Path | None = None
    group: str = ""
    command: str = ""
    backend: str = ""
    restart_command: str = ""
    websocket: str = ""
    authority: Path | None = None
    insecure: bool = False
    data: Path = Path("mesimqtt-data")


@asynccontextmanager
async def open_venue(wanted: Wanted) -> AsyncIterator[Venue]:
    """Give the server that was asked for; ours is started and ended, of others what was made is deleted at the end.

    Raises MesimqttError with what to write instead.
    """
    _check_only(wanted.options)
    if wanted.url is None:
        async with own_server(wanted.options) as venue:
            yield venue
        return
    cast, rpc = _cast(wanted)
    venue = Venue(_dialer(wanted, wanted.url), cast, wanted.options)
    venue.websocket = _dialer(wanted, wanted.websocket) if wanted.websocket else None
    venue.restart = _restarter(wanted.restart_command) if wanted.restart_command else None
    if rpc is not None:
        rpc.attach(venue)
    try:
        yield venue
    finally:
        if isinstance(cast, Made):
            await cast.clean_up()


def _check_only(options: Options) -> None:
    known = {each.section for each in statements().values()} | {number[1:] for number in statements()}
    for word in options.only:
        if word.upper().removeprefix("C") not in known:
            raise UnreachableError(f"{word!r} is no section or statement of the contract; write for example 4 or C2.13")


def _dialer(wanted: Wanted, url: str) -> Callable[[], Awaitable[Link]]:
    return dialer(url, authority=wanted.authority, insecure=wanted.insecure)


def _cast(wanted: Wanted) -> tuple[Cast, RpcMaker | None]:
    given = _given(wanted)
    if given:
        group, _, members = wanted.group.partition("=")
        return Given(given, group, tuple(filter(None, members.split(",")))), None
    if wanted.command:
        return Made(CommandMaker(wanted.command), at_once=_COMMANDS_AT_ONCE), None
    if wanted.backend:
        rpc = RpcMaker(*_pair(wanted.backend, "--backend"))
        return Made(rpc), rpc
    return Made(ControlMaker(wanted.data)), None


def _given(wanted: Wanted) -> dict[str, str]:
    lines = [_pair(word, "--as") for word in wanted.who]
    if wanted.tokens is not None:
        try:
            text = wanted.tokens.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreachableError(f"cannot read {wanted.tokens}: {error}") from None
        for line in filter(None, map(str.strip, text.splitlines())):
            address, _, token = line.rpartition("\t" if "\t" in line else " ")
            lines.append((address.strip(), token.strip()))
    return dict(lines)


def _pair(word: str, option: str) -> tuple[str, str]:
    address, _, token = word.partition("=")
    if not address or not token:
        raise UnreachableError(f"{option} {word[:40]!r} is not ADDRESS=TOKEN")
    return address, token


def _restarter(command: str) -> Callable[[], Awaitable[None]]:
    async def restart() -> None:
        process = await asyncio.create_subprocess_shell(
            command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(RESTART_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise MesimqttError(f"the restart command did not end within {RESTART_S:.0f} s") from None
        if code:
            raise MesimqttError(f"the restart command ended with {code}")

    return restart
