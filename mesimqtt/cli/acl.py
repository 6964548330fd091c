"""`mesimqtt acl`: who may use which topic, and why."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mesimqtt.cli.link import Answer, perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, line, table

app = typer.Typer(help="Access to topics: explain a decision, list the rules.", rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="acl")


@app.command(
    "explain",
    short_help="Tell whether a user may use a topic, and which rule says so.",
    epilog="Example: mesimqtt acl explain alice publish home/alice/lamp --client-id phone",
)
def explain(
    user: Annotated[str, typer.Argument(metavar="USER", help="Who.")],
    action: Annotated[str, typer.Argument(metavar="publish|subscribe", help="What for.")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="A topic, or to subscribe a filter.")],
    client_id: Annotated[str, typer.Option("--client-id", metavar="ID", help="The client id, for rules with %c.")] = "",
    scope: Annotated[
        str, typer.Option("--scope", metavar="SCOPE", help="The token's scope: user, backend or admin.")
    ] = "user",
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="JWT|-", help="A token of that user, whose scope and own rules count; - reads it."
        ),
    ] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Tell what every layer says of a topic, in the order in which they are asked.

    Exit code 0 allowed, 1 denied, 2 not an address, action, topic or filter. An unknown user is judged as any other.
    """
    arguments: Answer = {"user": user, "action": action, "topic": topic, "client_id": client_id, "scope": scope}
    if token is not None:
        arguments["token"] = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 - a dash is no secret
    answer = perform(data, "acl_explain", **arguments)
    if json:
        emit(answer)
    else:
        line(f"{'allow' if answer['allow'] else 'deny'} ({answer['rule']}): {user}, {action} {topic}")
        table(["layer", "said", "why"], [[each["layer"], each["said"], each["why"]] for each in answer["steps"]])
    if not answer["allow"]:
        raise typer.Exit(1)


@app.command("list", epilog="Example: mesimqtt acl list")
def list_(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """List the rules for free topics that are in force, in the order in which they are tried."""
    answer = perform(data, "acl_list")
    if json:
        emit(answer)
        return
    if answer["rules"]:
        table(["name", "rule"], [[each["name"], each["rule"]] for each in answer["rules"]])
    else:
        line("no rules: free topics are closed")
    for name in answer["others"]:
        line(f"{name} may have a say, too")
