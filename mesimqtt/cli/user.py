"""`mesimqtt user`: who there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mesimqtt.cli.link import Answer, perform, perform_all
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError, pairs
from mesimqtt.cli.output import emit, facts, line, table, tell, when_ms
from mesimqtt.domain.errors import MesimqttError

CHUNK = 500
NAME_MAX = 128

app = typer.Typer(help="Users: make, change, list, delete.", rich_markup_mode=None)
Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS", help="One or more addresses.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The user's address.")]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.add_typer(app, name="user")


@app.command("add", epilog="Example: mesimqtt user add alice bob")
def add(addresses: Addresses, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Make users. Exit code 1 if one existed already; the others are made."""
    answer = perform(data, "user_add", addresses=addresses)
    _report(answer, as_json=json)
    if answer["existed"]:
        raise typer.Exit(1)


@app.command(
    "disable",
    short_help="Disconnect users at once and let them in no more.",
    epilog="Example: mesimqtt user disable alice",
)
def disable(addresses: Addresses, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Disable users: they are disconnected at once and cannot return; what waits for them stays."""
    _changed(perform(data, "user_disable", addresses=addresses), "disabled", as_json=json)


@app.command("enable", epilog="Example: mesimqtt user enable alice")
def enable(addresses: Addresses, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Enable users who were disabled."""
    _changed(perform(data, "user_enable", addresses=addresses), "enabled", as_json=json)


@app.command("delete", epilog="Example: mesimqtt user delete alice")
def delete(addresses: Addresses, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Delete users with their inbox, devices, memberships and tokens. This cannot be taken back."""
    answer = perform(data, "user_delete", addresses=addresses)
    if json:
        emit(answer)
        return
    for address in answer["deleted"]:
        line(f"deleted {address}")


@app.command("list", epilog="Example: mesimqtt user list --json")
def list_(data: Data = NOT_GIVEN, json: Json = False) -> None:
    """List all users in the order of their addresses."""
    users = all_pages(data, "user_list", "users")
    if json:
        emit({"users": users})
        return
    table(
        ["address", "state", "name", "since"],
        [[each["address"], each["state"], each["name"], when_ms(each["created_at"])] for each in users],
    )


def all_pages(data: Path, op: str, key: str) -> list[Answer]:
    """Return all entries of a list that comes in pages."""
    found: list[Answer] = []
    after: str | None = ""
    while after is not None:
        answer = perform(data, op, after=after)
        found += answer[key]
        after = answer["next"]
    return found


@app.command("show", epilog="Example: mesimqtt user show alice")
def show(address: Address, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Show a user's state, profile, groups, devices and inbox."""
    answer = perform(data, "user_show", address=address)
    if json:
        emit(answer)
        return
    facts({
        "address": answer["address"],
        "state": answer["state"],
        "since": when_ms(answer["created_at"]),
        "presence": answer["presence"]["state"],
        **_class(answer),
        "groups": answer["groups"],
        "tokens": f"{answer['tokens']} valid",
        "inbox": f"{answer['inbox']['messages']} messages, {answer['inbox']['bytes']} bytes",
        **{f"profile.{key}": value for key, value in answer["profile"].items()},
    })  # fmt: skip
    if answer["devices"]:
        line("")
        table(
            ["device", "online", "seen"],
            [[each["device"], each["online"], when_ms(each["seen_at"])] for each in answer["devices"]],
        )


@app.command(
    "set",
    epilog="Example: mesimqtt user set alice name='Alice Liddell' team=   (or: --policy staff --rule peers=paired)",
)
def set_(
    address: Address,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="An empty value removes the key.")
    ] = None,
    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help="What holds for this user.")] = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", metavar="RULE=VALUE", help="What differs from the policy.")
    ] = None,
    privacy: Annotated[
        list[str] | None, typer.Option("--privacy", metavar="WHAT=WHO", help="presence, last_seen, profile, receipts.")
    ] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Change a user's profile, policy or privacy. Others see name, about, avatar and public.…; other keys are yours."""
    answer = perform(
        data,
        "user_set",
        address=address,
        profile=pairs(values or []),
        policy=policy,
        rules=pairs(rules or []),
        privacy=pairs(privacy or []),
    )
    if json:
        emit(answer)
    else:
        facts({**answer["profile"], **_class(answer)})


def _class(answer: Answer) -> dict[str, object]:
    """Return what a user's policy and privacy are, as facts."""
    ends = {"ends": when_ms(answer["expires_at"])} if "expires_at" in answer else {}
    special = {f"rule.{key}": value for key, value in answer["rules"].items()}
    return {"policy": answer["policy"], **ends, **special} | {
        f"privacy.{key}": value for key, value in answer["privacy"].items()
    }


@app.command("import", epilog="Example: mesimqtt user import people.csv   (or: … | mesimqtt user import -)")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="One user a line: ADDRESS, or ADDRESS,NAME.")],
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Make many users from a file. A comma or a tab divides address and name; who exists already is left alone."""
    names = read_users(file)
    if not names:
        raise UsageError(f"{file}: there is no user in it")
    entries = list(names.items())
    chunks = [dict(entries[start : start + CHUNK]) for start in range(0, len(entries), CHUNK)]
    answers = perform_all(data, [("user_import", {"names": chunk}) for chunk in chunks])
    total = {key: [each for answer in answers for each in answer[key]] for key in ("added", "existed")}
    if json:
        emit(total)
    else:
        made = len(total["added"])
        line(f"{made} {'user' if made == 1 else 'users'} made, {len(total['existed'])} existed already")


def read_users(file: str) -> dict[str, str]:
    """Return address and name of every line; raise MesimqttError that names the line that is wrong."""
    from mesimqtt.domain.addresses import check_address

    names: dict[str, str] = {}
    for number, text in enumerate(_lines(file), start=1):
        entry = text.strip("\r\n")
        if not entry.strip() or entry.startswith("#"):
            continue
        address, _, name = entry.partition("\t" if "\t" in entry else ",")
        try:
            names[check_address(address.strip())] = name.strip()
        except ValueError as error:
            raise MesimqttError(f"{file}: line {number}: {error}; nothing was imported") from None
        if len(name) > NAME_MAX:
            raise MesimqttError(
                f"{file}: line {number}: a name has at most {NAME_MAX} characters; nothing was imported"
            )
    return names


def _lines(file: str) -> list[str]:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise MesimqttError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MesimqttError(f"{file} is not UTF-8 text") from None


def _report(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    for address in answer["added"]:
        line(f"added {address}")
    for address in answer["existed"]:
        tell(f"mesimqtt: {address} exists already")


def _changed(answer: Answer, word: str, *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    for address in answer[word]:
        line(f"{word} {address}")
    for address in answer["unchanged"]:
        line(f"{address} was {word} before")
