"""`mesimqtt bench`: our figures beside mosquitto's, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mesimqtt.cli.options import Json, data_folder


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "bench",
        short_help="Measure this server and mosquitto in turn.",
        epilog="Example: mesimqtt bench --quick relay messaging   (all of it: mesimqtt bench)",
    )(bench)


def bench(
    scenarios: Annotated[
        list[str] | None, typer.Argument(metavar="SCENARIO", help="Names, beginnings or patterns; all if none.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="HOST:PORT", help="A broker that runs, instead of mosquitto.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, max=99, help="Rounds; the median counts.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One short round: a look, not a measurement.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Hold the figures against what the project promises.")] = False,
    tmpfs: Annotated[bool, typer.Option("--tmpfs", help="Allow a data folder in memory.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Where the measured data lies meanwhile.", parser=data_folder),
    ] = None,
    json: Json = False,
) -> None:
    """Measure this server and mosquitto in turn, on one core, loaded from the other, and print a table."""
    from mesimqtt.bench import BenchOptions, run
    from mesimqtt.domain.errors import MesimqttError

    if data is not None:
        try:
            data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MesimqttError(f"cannot make the folder {data}: {error.strerror}") from None
    options = BenchOptions(
        against=against,
        scenarios=tuple(scenarios or ()),
        rounds=rounds,
        json=json,
        quick=quick,
        tmpfs=tmpfs,
        check=check,
        folder=data,
    )
    raise typer.Exit(run(options))
