"""`mesimqtt stats`: what the server counts."""

from __future__ import annotations

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, facts


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("stats", short_help="Show what runs, and what it counts.", epilog="Example: mesimqtt stats --json")(
        stats
    )


def lasting(seconds: int) -> str:
    """Return a duration as days and hh:mm:ss."""
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3_600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


def stats(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Show where the data lies, what runs on it since when, the store's health, and counters since the start."""
    answer = {**perform(data, "stats"), "server": perform(data, "server_info")}
    if json:
        emit(answer)
        return
    info = answer.pop("server")
    counters = answer.pop("counters", {})
    listeners = [f"{each['kind']} {each['host']}:{each['port']}" for each in info["listeners"]]
    uptime_s = answer.pop("uptime_s")
    facts({
        "version": info["version"],
        "data": info["data"],
        "listeners": listeners or "none: no server runs on this folder",
        "uptime": lasting(uptime_s) if listeners else "",
        **answer,
        **counters,
    })  # fmt: skip
