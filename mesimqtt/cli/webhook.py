"""`mesimqtt webhook`: who is told what happens, and what could not be told."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, facts, line, table, tell, when_ms

app = typer.Typer(help="Webhooks: who is told what happens, and what could not be told.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint's name.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="EVENT", help="An event or a kind such as 'message.*'; again for more. None: all."),
]
BatchMax = Annotated[int | None, typer.Option("--batch-max", metavar="N", help="Most events in one request.")]
BatchAge = Annotated[
    int | None, typer.Option("--batch-age", metavar="MS", help="Milliseconds between two requests, unless one is full.")
]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="webhook")


@app.command("add", epilog="Example: mesimqtt webhook add crm https://crm.example.org/hook --event 'message.*'")
def add(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it is told: https://…")],
    *,
    event: Events = None,
    payload: Annotated[bool, typer.Option("--payload", help="Tell what messages say, too.")] = False,
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="standard or mesibo.")] = "standard",
    batch_max: BatchMax = None,
    batch_age: BatchAge = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Make an endpoint and print its secret, which is shown this once."""
    answer = perform(
        data, "webhook_add", name=name, url=url, events=event or [], payload=payload, format=format_,
        batch_max=batch_max, batch_age_ms=batch_age,
    )  # fmt: skip
    _show_secret(answer, as_json=json)


@app.command("list", epilog="Example: mesimqtt webhook list")
def list_(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """List the endpoints with what waits for each."""
    answer = perform(data, "webhook_list")
    if json:
        emit(answer)
        return
    table(
        ["name", "state", "sent", "waiting", "dead", "error", "url"],
        [
            [each["name"], "on" if each["active"] else "off", each["sent"], each["waiting"], each["dead_letters"],
             each["error"] or "", each["url"]]
            for each in answer["webhooks"]
        ],
    )  # fmt: skip


@app.command("show", epilog="Example: mesimqtt webhook show crm")
def show(name: Name, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Show one endpoint; its secret is never shown again."""
    _show(perform(data, "webhook_show", name=name), as_json=json)


@app.command("set", epilog="Example: mesimqtt webhook set crm --on")
def set_(
    name: Name,
    *,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Where it is told from now on.")] = None,
    event: Events = None,
    payload: Annotated[bool | None, typer.Option("--payload/--no-payload", help="What messages say.")] = None,
    batch_max: BatchMax = None,
    batch_age: BatchAge = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="Switch it on (and try at once) or off.")] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Change an endpoint. While it is off nothing is recorded for it; what waits stays."""
    answer = perform(
        data, "webhook_set", name=name, url=url, events=event or None, payload=payload, batch_max=batch_max,
        batch_age_ms=batch_age, active=on,
    )  # fmt: skip
    _show(answer, as_json=json)


@app.command("delete", epilog="Example: mesimqtt webhook delete crm")
def delete(name: Name, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Remove an endpoint with all that waits for it and its dead letters."""
    answer = perform(data, "webhook_delete", name=name)
    if json:
        emit(answer)
    else:
        line(f"deleted {name}" + (f"; {answer['dropped']} events were waiting" if answer["dropped"] else ""))


@app.command("rotate", epilog="Example: mesimqtt webhook rotate crm")
def rotate(name: Name, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Print a new secret; the former one goes on signing beside it for webhooks.secret_overlap_s."""
    _show_secret(perform(data, "webhook_rotate", name=name), as_json=json)


@app.command("test", epilog="Example: mesimqtt webhook test crm")
def try_(name: Name, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Send an event webhook.test now and tell what was answered; exit code 1 if it was not taken."""
    answer = perform(data, "webhook_test", name=name)
    if json:
        emit(answer)
    elif answer["delivered"]:
        line(f"{name} took it: {answer['status']}")
    else:
        tell(f"mesimqtt: {name}: {answer['error']}")
    if not answer["delivered"]:
        raise typer.Exit(1)


@app.command("dead", epilog="Example: mesimqtt webhook dead crm")
def dead(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many, the oldest first.")] = 100,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """List what was given up: dead letters, which can be sent again."""
    answer = perform(data, "webhook_dead_list", name=name, limit=limit)
    if json:
        emit(answer)
        return
    table(
        ["letter", "events", "from", "died", "tries", "reason"],
        [
            [each["id"], each["events"], when_ms(each["created_at"]), when_ms(each["died_at"]), each["attempts"],
             each["reason"]]
            for each in answer["letters"]
        ],
    )  # fmt: skip


@app.command("retry", epilog="Example: mesimqtt webhook retry crm")
def retry(
    name: Name,
    letter: Annotated[list[str] | None, typer.Argument(metavar="LETTER", help="Which; none: the oldest 100.")] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Send dead letters again, behind what waits."""
    answer = perform(data, "webhook_dead_retry", name=name, ids=letter or None)
    if json:
        emit(answer)
    else:
        line(f"{len(answer['retried'])} letters with {answer['events']} events wait again")


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    times = {key: when_ms(answer[key]) for key in ("next_at", "succeeded_at", "created_at")}
    facts({**answer, **times, "events": answer["events"] or "all"})


def _show_secret(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    line(answer["secret"])
    tell("Keep it: it is not shown again. Whoever receives needs it to see that a request is ours.")
