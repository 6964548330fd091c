"""`mesimqtt op`: any operation by its name, as rpc and HTTP have it."""

from __future__ import annotations

import json as json_text
import sys
from typing import Annotated, Any

import typer

from mesimqtt.cli.link import perform_all
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError
from mesimqtt.cli.output import emit, table


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "op",
        short_help="Do any operation by its name; --list shows them all.",
        epilog='Example: mesimqtt op send \'{"to": "bob", "text": "hi"}\' --as alice',
    )(op)


def op(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The operation; see --list.")] = None,
    arguments: Annotated[
        str, typer.Argument(metavar="[JSON]", help="Its arguments as a JSON object; -: from standard input.")
    ] = "{}",
    user: Annotated[
        str, typer.Option("--as", metavar="USER", help="In whose name, with the rights of a token of scope user.")
    ] = "",
    list_: Annotated[bool, typer.Option("--list", help="List all operations.")] = False,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Do any operation that rpc and HTTP know, and print its answer as JSON. The operator may do everything."""
    if list_:
        _list(as_json=json)
        return
    if not name:
        raise UsageError("name an operation; mesimqtt op --list shows them all.")
    emit(perform_all(data, [(name, _object(arguments))], user=user)[0])


def _object(text: str) -> dict[str, Any]:
    from mesimqtt.domain.strict_json import read_json

    raw = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    try:
        found = read_json(raw)
    except ValueError as error:
        raise UsageError(f'the arguments are no JSON ({error}); write for example \'{{"to": "bob"}}\'.') from None
    if not isinstance(found, dict):
        raise UsageError('the arguments are a JSON object, for example \'{"to": "bob"}\'.')
    return found


def _list(*, as_json: bool) -> None:
    from mesimqtt.messaging.operations import OPERATIONS

    if as_json:
        emit({
            "operations": [
                {
                    "name": each.name,
                    "scope": each.scope.name.lower(),
                    "actor": each.actor or None,
                    "arguments": {
                        key: {"type": parameter.annotation, "required": parameter.is_required}
                        for key, parameter in each.parameters.items()
                    },
                    "description": each.description,
                    "example": json_text.loads(json_text.dumps(dict(each.example))),
                }
                for each in OPERATIONS.values()
            ]
        })  # fmt: skip
        return
    table(
        ["name", "scope", "arguments", "what it does"],
        [
            [
                each.name,
                each.scope.name.lower(),
                [f"{key}{'' if parameter.is_required else '?'}" for key, parameter in each.parameters.items()],
                each.description.split("\n", 1)[0],
            ]
            for each in OPERATIONS.values()
        ],
    )
