"""`mesimqtt stats`: what the server counts."""

from __future__ import annotations

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, facts


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("stats", epilog="Example: mesimqtt stats --json")(stats)


def stats(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Show counters, the store's health and the listeners."""
    answer = {**perform(data, "stats"), "server": perform(data, "server_info")}
    if json:
        emit(answer)
        return
    info = answer.pop("server")
    counters = answer.pop("counters", {})
    listeners = [f"{each['kind']} {each['host']}:{each['port']}" for each in info["listeners"]]
    facts({
        "version": info["version"],
        "data": info["data"],
        "listeners": listeners or "none: no server runs on this folder",
        **answer,
        **counters,
    })  # fmt: skip
