"""`mesimqtt bot`: what bots gave up."""

from __future__ import annotations

from typing import Annotated

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, table, tell, when_ms

app = typer.Typer(help="Bots: what they gave up.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Bots: what they gave up."""


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="bot")


@app.command("dead", epilog="Example: mesimqtt bot dead helper")
def dead(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The bot's user.")],
    *,
    after: Annotated[int, typer.Option("--after", metavar="N", help="Go on behind a page: its `next`.")] = 0,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many, the oldest first.")] = 100,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """List the messages that a bot could not handle, and why."""
    answer = perform(data, "bot_dead_list", address=address, after=after, limit=limit)
    if json:
        emit(answer)
        return
    table(
        ["mid", "device", "given up", "tries", "error"],
        [
            [each["mid"], each["device"], when_ms(each["ts"]), each["tries"], each["error"]]
            for each in answer["letters"]
        ],
    )
    if answer["next"]:
        tell(f"mesimqtt: there is more: --after {answer['next']}")
