"""`mesimqtt policy`: what holds for a class of users."""

from __future__ import annotations

from typing import Annotated

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, pairs
from mesimqtt.cli.output import emit, facts, line, table

app = typer.Typer(help="Policies: what holds for a class of users.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The policy's name.")]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="policy")


@app.command("list", epilog="Example: mesimqtt policy list")
def list_(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """List the policies, where each stands, and how many users name it."""
    answer = perform(data, "policy_list")
    if json:
        emit(answer)
        return
    table(
        ["name", "stands in", "users"],
        [
            [each["name"], "the configuration" if each["configured"] else "the data", each["users"]]
            for each in answer["policies"]
        ],
    )


@app.command("show", epilog="Example: mesimqtt policy show default")
def show(name: Name, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Show all rules of a policy; an empty one is left to the server."""
    answer = perform(data, "policy_show", name=name)
    if json:
        emit(answer)
    else:
        facts(answer["rules"])


@app.command("set", epilog="Example: mesimqtt policy set staff messages=60:120 silent_blocks=on")
def set_(
    name: Name,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="RULE=VALUE", help="An empty value takes the rule back.")
    ] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Make a policy, or change rules of one; whoever has it is bound by it at once."""
    answer = perform(data, "policy_set", name=name, rules=pairs(values or []))
    if json:
        emit(answer)
    else:
        facts(answer["rules"])


@app.command("delete", epilog="Example: mesimqtt policy delete staff")
def delete(name: Name, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Delete a policy that no user names."""
    answer = perform(data, "policy_delete", name=name)
    if json:
        emit(answer)
    else:
        line(f"deleted {name}" if answer["deleted"] else f"there was no {name}")
