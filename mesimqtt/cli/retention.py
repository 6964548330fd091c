"""`mesimqtt purge` and `retention`: for how long messages are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from mesimqtt.cli.link import Answer, perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError, duration_s
from mesimqtt.cli.output import emit, line, table

app = typer.Typer(help="For how long messages are kept: of groups, of types, of all.", rich_markup_mode=None)
_FOREVER = "forever"
_NO_RULE = "default"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("purge", epilog="Example: mesimqtt purge --dry-run")(purge)
    root.add_typer(app, name="retention")


def purge(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Remove what is older than it is to be kept. A running server does so every night."""
    answer = perform(data, "purge", dry_run=dry_run)
    if json:
        emit(answer)
        return
    line(
        f"{'would remove' if dry_run else 'removed'} {answer['messages']} messages ({answer['bytes']} bytes), "
        f"{answer['statuses']} statuses, {answer['cids']} cids, {answer['tokens']} tokens"
    )
    if answer["waiting"]:
        line(f"kept {answer['waiting']} old messages that still wait for somebody")


@app.command("list", epilog="Example: mesimqtt retention list")
def list_(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """List for how long messages are kept; the most specific line counts."""
    answer = perform(data, "retention_list")
    if json:
        emit(answer)
        return
    _print(answer)


@app.command("set", epilog="Example: mesimqtt retention set 30d --group family")
def set_(
    keep: Annotated[str, typer.Argument(metavar="TIME", help="90s, 12h, 30d …, forever, or default (no rule).")],
    *,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Only in this group.")] = None,
    type_: Annotated[int | None, typer.Option("--type", metavar="N", help="Only messages of this type.")] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Set for how long messages are kept: of a group, of a type, of both, or of all. What is older goes at night."""
    keep_s = None if keep == _NO_RULE else 0 if keep == _FOREVER else duration_s(keep)
    if type_ is not None and type_ < 0:
        raise UsageError("--type takes a number from 0")
    answer = perform(data, "retention_set", group=group, type=type_, keep_s=keep_s)
    if json:
        emit(answer)
        return
    _print(answer)


def _print(answer: Answer) -> None:
    rows: list[list[object]] = [["all", "all", _time(answer["keep_s"]), "configuration"]]
    for origin, rules in (("configuration", answer["configured"]), ("set", answer["rules"])):
        for rule in rules:
            kind = "all" if rule["type"] is None else rule["type"]
            rows.append([rule["group"] or "all", kind, _time(rule["keep_s"]), origin])
    table(["group", "type", "kept", "from"], rows)


def _time(seconds: int) -> str:
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s" if seconds else _FOREVER
