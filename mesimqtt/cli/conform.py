"""`mesimqtt conform`: the contract, held against any server from outside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, line, table

if TYPE_CHECKING:
    from mesimqtt.proof.conform.runner import Result
    from mesimqtt.proof.conform.venues import Wanted

SLOW_S = 120.0

Url = Annotated[
    str | None,
    typer.Argument(metavar="URL", help="mqtt://, mqtts://, ws:// or wss://; if none: our own server."),
]
Who = Annotated[
    list[str] | None, typer.Option("--as", metavar="ADDRESS=TOKEN", help="A user who takes part; several of them.")
]
Tokens = Annotated[
    Path | None, typer.Option("--tokens", metavar="FILE", help="The same: a line ADDRESS TOKEN for each.")
]
Group = Annotated[str, typer.Option("--group", metavar="GROUP=A,B,C", help="A group, and which of them are in it.")]
Command = Annotated[
    str, typer.Option("--command", metavar="COMMAND", help="What makes users: COMMAND user add …, token issue ….")
]
Backend = Annotated[
    str, typer.Option("--backend", metavar="ADDRESS=TOKEN", help="A user whose token may make others, by rpc.")
]
RestartCommand = Annotated[
    str, typer.Option("--restart-command", metavar="COMMAND", help="What kills the server and starts it again.")
]
WebSocket = Annotated[str, typer.Option("--ws", metavar="URL", help="Where the server speaks WebSocket.")]
Free = Annotated[str, typer.Option("--free", metavar="PREFIX", help="Free topics that every user may use begin so.")]
Cap = Annotated[int, typer.Option("--inbox-cap", metavar="N", min=0, help="How many messages wait for a user at most.")]
Root = Annotated[str, typer.Option("--root", metavar="ROOT", help="The topic root.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="SECTION", help="Only a section or statement: 4, C2.13; several.")
]
Slow = Annotated[bool, typer.Option("--slow", help="Also what takes up to two minutes.")]
Longest = Annotated[float, typer.Option("--longest", metavar="S", min=0, help="Also what takes up to so long.")]
Patience = Annotated[
    float, typer.Option("--patience", metavar="S", min=0, help="For how long nothing must come to be believed.")
]
Wait = Annotated[float, typer.Option("--wait", metavar="S", min=0.1, help="How long something may take to come.")]
Authority = Annotated[
    Path | None, typer.Option("--cafile", metavar="FILE", help="The authority of the server's certificate.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Take any certificate.")]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "conform",
        short_help="Hold the contract against any server, from outside.",
        epilog="Example: mesimqtt conform mqtt://127.0.0.1:1883 --command ./chatctl   (our own: mesimqtt conform)",
    )(conform)


def conform(  # noqa: PLR0917 - typer calls it with names
    url: Url = None,
    who: Who = None,
    tokens: Tokens = None,
    group: Group = "",
    command: Command = "",
    backend: Backend = "",
    restart_command: RestartCommand = "",
    ws: WebSocket = "",
    free: Free = "",
    inbox_cap: Cap = 0,
    root: Root = "m",
    only: Only = None,
    slow: Slow = False,
    longest: Longest = 4.0,
    patience: Patience = 0.3,
    wait: Wait = 5.0,
    cafile: Authority = None,
    insecure: Insecure = False,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Hold the contract against a server, statement by statement, and tell what is kept and what is broken.

    Exit code 0: what was checked is kept; 1: something is broken; 2: it could not be tried.
    """
    import asyncio

    from mesimqtt.proof.conform import report
    from mesimqtt.proof.conform.stage import Options
    from mesimqtt.proof.conform.venues import Wanted

    options = Options(
        root=root, patience_s=patience, wait_s=wait, longest_s=max(longest, SLOW_S if slow else 0.0), free=free,
        inbox_cap=inbox_cap, only=tuple(only or ()),
    )  # fmt: skip
    wanted = Wanted(
        url, options, tuple(who or ()), tokens, group, command, backend, restart_command, ws, cafile, insecure, data
    )
    results = asyncio.run(_run(wanted))
    if json:
        emit(report.document(url or "our own", results))
    else:
        _show(results)
    raise typer.Exit(report.exit_code(results))


async def _run(wanted: Wanted) -> list[Result]:
    from mesimqtt.proof.conform.runner import run
    from mesimqtt.proof.conform.venues import open_venue

    is_watched = sys.stderr.isatty()

    def progress(done: int, of: int) -> None:
        if is_watched:
            print(f"\r{done} of {of} checks" + (" \r" + " " * 24 + "\r" if done == of else ""), end="", file=sys.stderr)

    async with open_venue(wanted) as venue:
        return await run(venue, progress)


def _show(results: list[Result]) -> None:
    from mesimqtt.proof.conform import report

    table(["section", *map(str, report.SHOWN)], report.rows(results))
    for text in report.failures(results):
        line(text)
    left_out = list(report.unchecked(results))
    if left_out:
        line("")
        line("not checked:")
        for text in left_out:
            line(f"  {text}")
    line("")
    line(report.verdict(results))
