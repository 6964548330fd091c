"""`mesimqtt inbox`, `history` and `search`: what a user has, and what was said."""

from __future__ import annotations

from typing import Annotated

import typer

from mesimqtt.cli.link import Answer, perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError
from mesimqtt.cli.output import emit, line, table, when_ms

_TEXT_MAX = 60
Limit = Annotated[int, typer.Option("--limit", metavar="N", help="How many on a page.")]
Cursor = Annotated[str | None, typer.Option("--cursor", metavar="TEXT", help="The `next` of the page before.")]
Peer = Annotated[str | None, typer.Option("--peer", metavar="USER", help="With this user, …")]
Group = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="… or in this group.")]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("inbox", epilog="Example: mesimqtt inbox bob")(inbox)
    root.command("history", epilog="Example: mesimqtt history bob --peer alice --limit 20")(history)
    root.command("search", epilog="Example: mesimqtt search bob pizza tonight --peer alice")(search)


def inbox(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose inbox.")],
    limit: Limit = 100,
    cursor: Cursor = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Show a user's conversations: what waits for his devices, what is unread, the last message."""
    answer = perform(data, "inbox", address=address, limit=limit, cursor=cursor)
    if json:
        emit(answer)
        return
    waiting = f"waiting for {address}: {answer['messages']} ({answer['bytes']} bytes)"
    line(f"{waiting}, unread: {answer['unread']}")
    if answer["conversations"]:
        table(
            ["conversation", "waiting", "unread", "last seq", "last active", "last message"],
            [
                [
                    f"group {each['group']}" if "group" in each else each["peer"],
                    each["messages"],
                    each["unread"],
                    each["last_seq"],
                    when_ms(each["ts"]),
                    _text(each["last"]) if each["last"] else "",
                ]
                for each in answer["conversations"]
            ],
        )
    _tell_next(answer)


def history(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose history.")],
    *,
    peer: Peer = None,
    group: Group = None,
    before: Annotated[str | None, typer.Option("--before", metavar="SEQ|MID", help="Only what came before.")] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="SEQ|MID", help="Only what came after.")] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Show a page of a user's conversation, as far as he may see it; the newest first."""
    if (peer is None) == (group is None):
        raise UsageError("name one conversation: --peer USER or --group GROUP")
    arguments: Answer = {"peer": peer, "group": group, "before": before, "after": after, "limit": limit}
    arguments |= {"order": "oldest" if oldest else "newest", "cursor": cursor}
    answer = perform(data, "history", address=address, **arguments)
    if json:
        emit(answer)
        return
    table(
        ["seq", "mid", "from", "at", "state", "message"],
        [
            [each["seq"], each["mid"], each.get("from", ""), when_ms(each["ts"]), _state(each), _text(each)]
            for each in answer["messages"]
        ],
    )
    if not answer["complete"]:
        line("not complete: retention has removed older messages")
    _tell_next(answer)


def search(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose conversations.")],
    words: Annotated[list[str], typer.Argument(metavar="WORD", help="All of them must be there.")],
    *,
    peer: Peer = None,
    group: Group = None,
    sender: Annotated[str | None, typer.Option("--from", metavar="USER", help="Who wrote it.")] = None,
    type_: Annotated[int | None, typer.Option("--type", metavar="N", help="Only messages of this type.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Search a user's conversations for words, the newest message first; the last word may be the beginning of one."""
    arguments: Answer = {"text": " ".join(words), "peer": peer, "group": group, "sender": sender, "type": type_}
    answer = perform(data, "search", address=address, limit=limit, cursor=cursor, **arguments)
    if json:
        emit(answer)
        return
    table(
        ["conversation", "seq", "mid", "from", "at", "message"],
        [
            [
                f"group {each['group']}" if "group" in each else each["peer"],
                each["seq"],
                each["mid"],
                each["from"],
                when_ms(each["ts"]),
                _text(each),
            ]
            for each in answer["messages"]
        ],
    )
    if not answer["complete"]:
        line("not complete: the newest messages are not searched yet")
    _tell_next(answer)


def _tell_next(answer: Answer) -> None:
    if answer["next"]:
        line(f"more: --cursor {answer['next']}")


def _state(entry: Answer) -> str:
    if "event" in entry:
        return "event"
    if "read" in entry:
        return "read" if entry["read"] else "unread"
    counts = entry.get("counts")
    return f"{counts['delivered']} delivered, {counts['read']} read" if counts else str(entry["name"])


def _text(entry: Answer) -> str:
    if "event" in entry:
        event = entry["event"]
        return f"{event.get('event', '')} {', '.join(event.get('users', ()))}".strip()
    if "text" not in entry:
        return f"({entry.get('size', len(entry['payload']) * 3 // 4)} bytes)"
    text = str(entry["text"])
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
