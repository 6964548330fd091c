"""`mesimqtt group`: groups and their members."""

from __future__ import annotations

from typing import Annotated

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, pairs
from mesimqtt.cli.output import emit, facts, line, table, when_ms
from mesimqtt.cli.user import all_pages

app = typer.Typer(help="Groups: make, change, join, leave, delete.", rich_markup_mode=None)
Group = Annotated[str, typer.Argument(metavar="GROUP", help="The group's address.")]
Users = Annotated[list[str], typer.Argument(metavar="USER", help="One or more users.")]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="group")


@app.command("add", epilog="Example: mesimqtt group add news --owner alice --kind broadcast")
def add(
    group: Group,
    owner: Annotated[str | None, typer.Option("--owner", metavar="USER", help="The first member.")] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="normal, broadcast, public, round-robin or no-storage.")
    ] = "normal",
    expiry: Annotated[int | None, typer.Option("--expiry", metavar="S", help="It ends after so many seconds.")] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Make a group."""
    answer = perform(data, "group_add", address=group, owner=owner, kind=kind, expiry=expiry)
    if json:
        emit(answer)
    else:
        line(f"added {group}")


@app.command("list", epilog="Example: mesimqtt group list")
def list_(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """List all groups in the order of their addresses."""
    groups = all_pages(data, "group_list", "groups")
    if json:
        emit({"groups": groups})
        return
    table(
        ["address", "state", "name", "members", "since"],
        [
            [each["address"], each["state"], each["name"], each["members"], when_ms(each["created_at"])]
            for each in groups
        ],
    )


@app.command("show", epilog="Example: mesimqtt group show family")
def show(group: Group, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Show a group's state, profile and members with their rights."""
    answer = perform(data, "group_show", address=group)
    if json:
        emit(answer)
        return
    facts({
        "address": answer["address"],
        "state": answer["state"],
        "kind": answer["kind"],
        "flags": f"{answer['flags']:#x}",
        "ends": when_ms(answer["expires_at"]) if answer["expires_at"] else "never",
        "since": when_ms(answer["created_at"]),
        **{f"profile.{key}": value for key, value in answer["profile"].items()},
    })  # fmt: skip
    line("")
    table(
        ["member", "role", "send", "receive", "since"],
        [
            [each["address"], each["role"], each["send"], each["receive"], when_ms(each["joined_at"])]
            for each in answer["members"]
        ],
    )


@app.command(
    "set",
    short_help="Pause a group, change a member's rights or its profile.",
    epilog="Example: mesimqtt group set family name='The family' paused=off send:bob=off",
)
def set_(
    group: Group,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE",
            help="paused=on|off, kind=KIND, expiry=S|never, send:USER=on|off (receive, list, …),"
            " role:USER=owner|admin|member, or a key of the profile.",
        ),
    ],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Pause a group, give or take a member's rights, or change its profile. An empty value removes a key."""
    answer = perform(data, "group_set", address=group, profile=pairs(values))
    if json:
        emit(answer)
        return
    facts({"state": answer["state"], **{f"profile.{key}": value for key, value in answer["profile"].items()}})


@app.command(
    "delete",
    short_help="Delete groups; what still waits in them fails.",
    epilog="Example: mesimqtt group delete family",
)
def delete(
    groups: Annotated[list[str], typer.Argument(metavar="GROUP", help="One or more groups.")],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Delete groups; a message of theirs that still waits for somebody fails, and its sender is told."""
    answer = perform(data, "group_delete", addresses=groups)
    if json:
        emit(answer)
        return
    for address in answer["deleted"]:
        line(f"deleted {address}")


@app.command("join", epilog="Example: mesimqtt group join family alice bob")
def join(group: Group, users: Users, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Make users members; they see what is sent from now on."""
    answer = perform(data, "group_join", address=group, users=users)
    if json:
        emit(answer)
        return
    for user in answer["joined"]:
        line(f"{user} joined {group}")
    for user in answer["unchanged"]:
        line(f"{user} was a member of {group} before")


@app.command("leave", short_help="Take users out of a group.", epilog="Example: mesimqtt group leave family bob")
def leave(group: Group, users: Users, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Take users out of a group; what still waits there for them is withdrawn."""
    answer = perform(data, "group_leave", address=group, users=users)
    if json:
        emit(answer)
        return
    for user in answer["left"]:
        line(f"{user} left {group}")
