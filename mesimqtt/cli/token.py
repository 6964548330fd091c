"""`mesimqtt token`: what lets a client in."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from mesimqtt.cli.link import Answer, perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError, duration_s
from mesimqtt.cli.output import emit, facts, line, table, when

app = typer.Typer(help="Tokens: issue, list, look into, revoke.", rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="token")


@app.command(
    "issue",
    short_help="Print a token for each address.",
    epilog="Example: mesimqtt token issue alice --ttl 12h --device phone",
)
def issue(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS", help="For whom.")],
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="TIME", help="How long it is good: 90s, 45m, 12h; 30d by default."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="ID", help="The one client id that may use it.")
    ] = None,
    scope: Annotated[str, typer.Option("--scope", metavar="SCOPE", help="user, backend or admin.")] = "user",
    short: Annotated[bool, typer.Option("--short", help="32 characters instead of a JWT, for tiny clients.")] = False,
    packet: Annotated[
        int,
        typer.Option(
            "--packet", metavar="N", help="With --short: the largest packet, in bytes, that the device takes; 0: any."
        ),
    ] = 0,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Print a token: for one address alone, for several a line `address<TAB>token` each."""
    if packet and not short:
        raise UsageError("--packet goes with --short")
    arguments: Answer = {"addresses": addresses, "scope": scope, "short": short, "packet": packet, "device": device}
    if ttl is not None:
        arguments["ttl"] = duration_s(ttl)
    answer = perform(data, "token_issue", **arguments)
    if json:
        emit(answer)
    elif len(answer["tokens"]) == 1:
        line(answer["tokens"][0]["token"])
    else:
        for each in answer["tokens"]:
            line(f"{each['address']}\t{each['token']}", is_clean=True)


@app.command("list", epilog="Example: mesimqtt token list alice")
def list_(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose tokens.")],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """List a user's tokens, newest first; their text is kept nowhere."""
    answer = perform(data, "token_list", address=address)
    if json:
        emit(answer)
        return
    table(
        ["jti", "state", "kind", "scope", "device", "issued", "expires"],
        [
            [
                each["jti"],
                each["state"],
                "short" if each["short"] else "jwt",
                each["scope"],
                each["device"],
                when(each["issued_at"]),
                when(each["expires_at"]),
            ]
            for each in answer["tokens"]
        ],
    )


@app.command(
    "show",
    short_help="Tell what a token says and whether it is good now.",
    epilog="Example: mesimqtt token show $TOKEN   (or - to read it from standard input)",
)
def show(
    token: Annotated[str, typer.Argument(metavar="TOKEN|-", help="The token; - reads it from standard input.")],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Tell what a token says and whether it is good now; the token itself is not printed."""
    text = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 - a dash is no secret
    answer = perform(data, "token_show", token=text)
    if json:
        emit(answer)
        return
    claims = answer.pop("claims", {})
    answer.pop("short", None)  # the kind says it
    facts(_dated(answer, "issued_at", "expires_at", "revoked_at"))
    if answer["state"] == "invalid" and claims:
        line("it claims, unverified:")
        facts({f"  {key}": value for key, value in _dated(claims, "iat", "nbf", "exp").items()})


def _dated(values: Answer, *keys: str) -> Answer:
    """Return `values` with times that a person can read; what is no time stays what it claims to be."""
    dated = dict(values)
    for key in keys:
        if isinstance(dated.get(key), int | float):
            with contextlib.suppress(OverflowError, OSError, ValueError):
                dated[key] = when(dated[key])
    return dated


@app.command(
    "revoke", short_help="Revoke tokens and close what they opened.", epilog="Example: mesimqtt token revoke alice"
)
def revoke(
    what: Annotated[str, typer.Argument(metavar="JTI|ADDRESS", help="One token by its jti, or all of a user.")],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Revoke tokens; connections that they opened are closed within a second."""
    answer = perform(data, "token_revoke", what=what)
    if json:
        emit(answer)
        return
    for jti in answer["revoked"]:
        line(f"revoked {jti}")
    if not answer["revoked"]:
        line("nothing to revoke: no token of this was good any more")
