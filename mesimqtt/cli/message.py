"""`mesimqtt send`, `status` and `trace`: a message from the operator's side."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mesimqtt.cli.link import Answer, perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError
from mesimqtt.cli.output import emit, facts, line, table, when_ms


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("send", epilog="Example: mesimqtt send --from alice --to bob 'see you at eight'")(send)
    root.command("status", epilog="Example: mesimqtt status 0a1b2c3d4e5f6071")(status)
    root.command("trace", epilog="Example: mesimqtt trace 0a1b2c3d4e5f6071")(trace)


def send(
    *,
    text: Annotated[
        str, typer.Argument(metavar="TEXT|-", help="The message; - reads it from standard input. None for --recall.")
    ] = "",
    sender: Annotated[str, typer.Option("--from", metavar="USER", help="In whose name.")],
    to: Annotated[str | None, typer.Option("--to", metavar="USER", help="To a user, …")] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="… or to a group.")] = None,
    type_: Annotated[int, typer.Option("--type", metavar="N", help="The application's message type.")] = 0,
    expiry: Annotated[
        int | None, typer.Option("--expiry", metavar="S", help="Seconds to live; 0: only to who is online now.")
    ] = None,
    when: Annotated[int, typer.Option("--when", metavar="S", help="Deliver it after so many seconds.")] = 0,
    age: Annotated[
        int, typer.Option("--age", metavar="S", help="Let it disappear so many seconds after it was read.")
    ] = 0,
    ref: Annotated[str | None, typer.Option("--ref", metavar="MID", help="The message that this one answers.")] = None,
    edit: Annotated[
        str | None, typer.Option("--edit", metavar="MID", help="The own message that this one replaces.")
    ] = None,
    recall: Annotated[
        str | None, typer.Option("--recall", metavar="MID", help="The own message to take back, or to cancel.")
    ] = None,
    cid: Annotated[str | None, typer.Option("--cid", metavar="ID", help="Your own id: makes a resend safe.")] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Send a message and print its mid, once it is on disk. See what became of it: mesimqtt status MID."""
    if (to is None) == (group is None):
        raise UsageError("name one destination: --to USER or --group GROUP")
    if not text and recall is None:
        raise UsageError("say what to send: a text, or - for the standard input")
    arguments: Answer = {
        "sender": sender, "to": to, "group": group, "type": type_, "expiry": expiry, "when": when, "age": age,
        "ref": ref, "edit": edit, "recall": recall, "cid": cid,
    }  # fmt: skip
    if text == "-":
        import base64

        arguments["payload"] = base64.b64encode(sys.stdin.buffer.read()).decode()
    else:
        arguments["text"] = text
    answer = perform(data, "send", **arguments)
    if json:
        emit(answer)
    else:
        line(answer["mid"])


def status(
    mid: Annotated[str, typer.Argument(metavar="MID", help="The 16 hex digits of the message.")],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Show what became of a message, for each recipient."""
    answer = perform(data, "status", mid=mid)
    while answer["next"]:
        more = perform(data, "status", mid=mid, cursor=answer["next"])
        answer["status"] += more["status"]
        answer["next"] = more["next"]
    if json:
        emit(answer)
        return
    rows = answer.pop("status")
    counts = answer.pop("counts", {})
    shown = {**answer, "ts": when_ms(answer["ts"]), "expires_at": when_ms(answer.get("expires_at"))}
    if "due" in answer:
        shown["due"] = when_ms(answer["due"])
    facts(shown | {"counts": ", ".join(f"{number} {name}" for name, number in counts.items())})
    line("")
    table(
        ["recipient", "status", "code", "at", "delivered", "read", "device", "reason"],
        [
            [
                each.get("peer", "(the group)" if "group" in answer else answer.get("to")),
                each["name"],
                each["status"],
                when_ms(each["ts"]),
                when_ms(each.get("delivered_at")),
                when_ms(each.get("read_at")),
                each.get("device", ""),
                each.get("reason", ""),
            ]
            for each in rows
        ],
    )


def trace(
    mid: Annotated[str, typer.Argument(metavar="MID", help="The 16 hex digits of the message.")],
    after: Annotated[
        str, typer.Option("--after", metavar="USER", help="Of a large group: the members after this one.")
    ] = "",
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Show how a message got where it is: every status it had, and how far each device of its recipients is."""
    answer = perform(data, "trace", mid=mid, after=after)
    if json:
        emit(answer)
        return
    steps, devices, following = answer["steps"], answer["devices"], answer["next"]
    told = {key: value for key, value in answer.items() if key not in ("steps", "devices", "next", "status")}
    times = {key: when_ms(answer[key]) for key in ("ts", "due", "expires_at") if key in answer}
    facts(told | times)
    line("")
    table(
        ["at", "status", "code", "recipient", "device", "reason"],
        [
            [when_ms(each["ts"]), each["name"], each["status"], each.get("peer", ""), each.get("device", ""),
             each.get("reason", "")]
            for each in steps
        ],
    )  # fmt: skip
    if not devices:
        return
    line("")
    table(
        ["recipient", "device", "is", "message", "seen"],
        [
            [each["user"], each["device"] or "", "online" if each["online"] else "offline", each["state"],
             when_ms(each.get("seen_at"))]
            for each in devices
        ],
    )  # fmt: skip
    if following is not None:
        line(f"more: mesimqtt trace {mid} --after {following}")
