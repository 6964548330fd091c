"""`mesimqtt spec`: the contract as documents for programs."""

from __future__ import annotations

from typing import Annotated

import typer

from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "spec", short_help="Print the contract as AsyncAPI 3.", epilog="Example: mesimqtt spec > asyncapi.yaml"
    )(spec)


def spec(
    topic_root: Annotated[str, typer.Option("--root", metavar="ROOT", help="The topic root of your server.")] = "m",
    host: Annotated[
        str, typer.Option("--host", metavar="HOST:PORT", help="Where your server listens.")
    ] = "127.0.0.1:1883",
    data: Data = NOT_GIVEN,  # noqa: ARG001 - every command takes it (contract section 7); the contract needs no data
    json: Json = False,
) -> None:
    """Print all topics, parameters, statuses and operations as an AsyncAPI 3 document: YAML, or JSON with --json."""
    from mesimqtt.api.asyncapi import document

    made = document(root=topic_root, host=host)
    if json:
        emit(made)
        return
    import yaml

    print(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=120), end="")
