"""The command line on a stopped and on a running server alike: what it prints, its exit codes, its errors."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from integration.server import Server
from mesimqtt.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """`mesimqtt …` in this process, which is quicker, on one data folder."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        """Run a command; its errors must be one line each."""
        self._capsys.readouterr()
        code = run([*arguments, "--data", str(self.data)])
        shown = self._capsys.readouterr()
        assert "Traceback" not in shown.err
        return Said(code, shown.out, shown.err)

    def fine(self, *arguments: str) -> Said:
        """Run a command that must succeed."""
        said = self(*arguments)
        assert (0, "") == (said.code, said.err)
        return said


@pytest.fixture(params=["stopped", "running"])
def mesimqtt(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """Give the command line on a folder that nobody has, and on one that a server has."""
    data = tmp_path / "data"
    if request.param == "stopped":
        yield CommandLine(data, capsys)
        return
    with Server(data):
        yield CommandLine(data, capsys)


@pytest.fixture
def stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Give the command line on a folder that nobody has."""
    return CommandLine(tmp_path / "data", capsys)


def test_users_from_first_to_last(mesimqtt: CommandLine) -> None:
    """Add, list, set, show, disable, enable and delete, in text and in JSON."""
    added = mesimqtt.fine("user", "add", "alice", "bob")
    again = mesimqtt("user", "add", "bob", "door/7")
    mesimqtt.fine("user", "set", "alice", "name=Alice Liddell", "team=a")
    disabled = mesimqtt.fine("user", "disable", "bob")
    shown = mesimqtt.fine("user", "show", "alice", "--json").json
    listed = mesimqtt.fine("user", "list").lines
    refused = mesimqtt("token", "issue", "bob")
    enabled = mesimqtt.fine("user", "enable", "bob", "--json").json
    deleted = mesimqtt.fine("user", "delete", "alice", "door/7").lines
    rest = mesimqtt.fine("user", "list", "--json").json["users"]

    assert ["added alice", "added bob"] == added.lines
    assert (1, ["added door/7"], "mesimqtt: bob exists already\n") == (again.code, again.lines, again.err)
    assert ["disabled bob"] == disabled.lines
    assert ({"name": "Alice Liddell", "team": "a"}, "active") == (shown["profile"], shown["state"])
    assert ["ADDRESS", "alice", "bob", "door/7"] == [line.split()[0] for line in listed]
    assert "disabled" in listed[2]
    assert (1, "mesimqtt: 'bob' is disabled; first: mesimqtt user enable bob\n") == (refused.code, refused.err)
    assert {"enabled": ["bob"], "unchanged": []} == enabled
    assert ["deleted alice", "deleted door/7"] == deleted
    assert ["bob"] == [each["address"] for each in rest]


def test_tokens_from_first_to_last(mesimqtt: CommandLine) -> None:
    """One token stands alone, several in lines; they are listed and shown without their text, and revoked."""
    mesimqtt.fine("user", "add", "alice", "bob")
    token = mesimqtt.fine("token", "issue", "alice", "--ttl", "12h", "--device", "phone").out
    several = mesimqtt.fine("token", "issue", "alice", "bob").lines
    short = mesimqtt.fine("token", "issue", "bob", "--short", "--packet", "128").out.strip()
    listed = mesimqtt.fine("token", "list", "alice", "--json").json["tokens"]
    shown = mesimqtt.fine("token", "show", token.strip(), "--json")
    jti = shown.json["jti"]
    revoked = mesimqtt.fine("token", "revoke", jti).lines
    after = mesimqtt.fine("token", "show", token.strip()).lines
    all_of_bob = mesimqtt.fine("token", "revoke", "bob").lines
    none = mesimqtt.fine("token", "revoke", "bob").lines
    small = mesimqtt.fine("token", "show", short).out

    assert 2 == token.count(".")
    assert token.endswith("\n")
    assert ["alice", "bob"] == [line.split("\t")[0] for line in several]
    assert re.fullmatch("[a-z2-7]{32}", short)
    assert (2, "phone", 43_200) == (
        len(listed),
        shown.json["device"],
        shown.json["expires_at"] - shown.json["issued_at"],
    )
    assert token.strip().rpartition(".")[2] not in shown.out
    assert [f"revoked {jti}"] == revoked
    assert re.search(r"state +revoked", "\n".join(after))
    assert (2, ["nothing to revoke: no token of this was good any more"]) == (len(all_of_bob), none)
    assert short not in small
    assert re.search(r"kind +short\n.*state +revoked", small, re.DOTALL)


def test_groups_from_first_to_last(mesimqtt: CommandLine) -> None:
    """Make a group, let users join and leave, take a right, pause it, delete it."""
    mesimqtt.fine("user", "add", "alice", "bob", "carol")
    mesimqtt.fine("group", "add", "family", "--owner", "alice")
    joined = mesimqtt.fine("group", "join", "family", "bob", "carol", "alice").lines
    mesimqtt.fine("group", "set", "family", "name=The family", "paused=on", "send:bob=off")
    left = mesimqtt.fine("group", "leave", "family", "carol").lines
    shown = mesimqtt.fine("group", "show", "family", "--json").json
    text = mesimqtt.fine("group", "show", "family").out
    listed = mesimqtt.fine("group", "list").lines
    refused = mesimqtt("group", "leave", "family", "carol")
    deleted = mesimqtt.fine("group", "delete", "family").lines
    gone = mesimqtt("group", "show", "family")

    assert ["bob joined family", "carol joined family", "alice was a member of family before"] == joined
    assert ["carol left family"] == left
    rights = [(each["address"], each["role"], each["send"], each["receive"]) for each in shown["members"]]
    assert [("alice", "owner", True, True), ("bob", "member", False, True)] == rights
    assert ("paused", {"name": "The family"}) == (shown["state"], shown["profile"])
    assert re.search(r"bob +member +no +yes", text)
    assert re.search(r"family +paused +The family +2", listed[1])
    assert (1, "mesimqtt: 'carol' is not a member of 'family'; nothing was changed\n") == (refused.code, refused.err)
    assert (["deleted family"], 1) == (deleted, gone.code)


def test_a_message_from_the_operators_side(mesimqtt: CommandLine) -> None:
    """`send` prints the mid alone; `status` and `inbox` tell about it, to a person and to a program."""
    mesimqtt.fine("user", "add", "alice", "bob")
    mid = mesimqtt.fine("send", "--from", "alice", "--to", "bob", "hello", "--cid", "c1").out.strip()
    same = mesimqtt.fine("send", "--from", "alice", "--to", "bob", "hello", "--cid", "c1", "--json").json
    other = mesimqtt("send", "--from", "alice", "--to", "bob", "something else", "--cid", "c1")
    status = mesimqtt.fine("status", mid, "--json").json
    text = mesimqtt.fine("status", mid).out
    inbox = mesimqtt.fine("inbox", "bob", "--json").json
    table = mesimqtt.fine("inbox", "bob").lines
    stats = mesimqtt.fine("stats", "--json").json

    assert re.fullmatch("[0-9a-f]{16}", mid)
    assert (mid, 1) == (same["mid"], same["status"])
    assert 1 == other.code
    assert "cid-reused" in other.err
    assert [("bob", 1, "sent")] == [(each["peer"], each["status"], each["name"]) for each in status["status"]]
    assert re.search(r"bob +sent +1", text)
    assert (1, 5) == (inbox["messages"], inbox["bytes"])
    assert ["waiting for bob: 1 (5 bytes), unread: 1", "alice"] == [table[0], table[2].split()[0]]
    assert (2, 1, "ok") == (stats["users"], stats["messages"], stats["health"])
    assert (0, str(mesimqtt.data.absolute())) == (stats["connections"], stats["server"]["data"])
    assert stats["database_bytes"] >= (mesimqtt.data / "mesimqtt.db").stat().st_size > 0


def test_a_deleted_user_takes_his_inbox_along(mesimqtt: CommandLine) -> None:
    """What waited for him fails with `user-deleted`; a namesake made later has none of it, and no old token is good."""
    mesimqtt.fine("user", "add", "alice", "bob")
    mesimqtt.fine("group", "add", "family", "--owner", "alice")
    mesimqtt.fine("group", "join", "family", "bob")
    token = mesimqtt.fine("token", "issue", "bob").out.strip()
    mids = [
        mesimqtt.fine("send", "--from", "alice", *to, "hello").out.strip()
        for to in (("--to", "bob"), ("--group", "family"))
    ]
    mesimqtt.fine("user", "delete", "bob")
    gone = mesimqtt("send", "--from", "alice", "--to", "bob", "hello?")
    mesimqtt.fine("user", "add", "bob")
    statuses = [mesimqtt.fine("status", mid, "--json").json["status"] for mid in mids]
    members = mesimqtt.fine("group", "show", "family", "--json").json["members"]

    assert [(128, "user-deleted")] == [(each["status"], each["reason"]) for each in statuses[0]]
    assert [1, 128] == sorted(each["status"] for each in statuses[1])
    assert (1, "mesimqtt: no user 'bob'; make it with: mesimqtt user add bob\n") == (gone.code, gone.err)
    assert 0 == mesimqtt.fine("inbox", "bob", "--json").json["messages"]
    assert ["alice"] == [each["address"] for each in members]
    assert "revoked" == mesimqtt.fine("token", "show", token, "--json").json["state"]


def test_text_from_standard_input(stopped: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads the payload, the token or the users from standard input, bytes as they are."""

    class Input:
        buffer = __import__("io").BytesIO(b"\0\xff binary")

    stopped.fine("user", "add", "alice", "bob")
    monkeypatch.setattr(sys, "stdin", Input)
    stopped.fine("send", "--from", "alice", "--to", "bob", "-")
    Input.buffer = __import__("io").BytesIO(b"carol,Carol\ndave\n")
    imported = stopped.fine("user", "import", "-", "--json").json
    inbox = stopped.fine("inbox", "bob", "--json").json

    assert (1, 9) == (inbox["messages"], inbox["bytes"])
    assert {"added": ["carol", "dave"], "existed": []} == imported


def test_a_thousand_users_from_a_file(mesimqtt: CommandLine, tmp_path: Path) -> None:
    """A file is imported in parts; a second time nobody is new; all come back in pages."""
    people = tmp_path / "people.csv"
    people.write_text("".join(f"user{number:04},Nr {number}\n" for number in range(1_200)))
    first = mesimqtt.fine("user", "import", str(people)).lines
    second = mesimqtt.fine("user", "import", str(people)).lines
    users = mesimqtt.fine("user", "list", "--json").json["users"]

    assert ["1200 users made, 0 existed already"] == first
    assert ["0 users made, 1200 existed already"] == second
    assert (1_200, "Nr 1199") == (len(users), users[-1]["name"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["user", "show", "nobody"], 1, "no user 'nobody'; make it with: mesimqtt user add nobody"),
        (["token", "issue", "nobody"], 1, "no user 'nobody'"),
        (["token", "revoke", "nobody"], 1, "neither the jti of a token nor"),
        (["group", "join", "nowhere", "alice"], 1, "no group 'nowhere'; make it with: mesimqtt group add nowhere"),
        (["inbox", "nobody"], 1, "no user 'nobody'"),
        (["status", "0" * 16], 1, "no message 0000000000000000"),
        (["send", "--from", "alice", "--to", "nobody", "x"], 1, "no user 'nobody'; make it with: mesimqtt user add"),
        (["send", "--from", "alice", "--group", "nowhere", "x"], 1, "no group 'nowhere'; make it with: mesimqtt group"),
        (["send", "--from", "alice", "--to", "alice", "x" * 262_145], 1, "at most 262144 bytes"),
        (["user", "add", "a\x1b[2Jb"], 2, "'a\\x1b[2Jb': an address must not contain control characters"),
        (["user", "add", "x" * 64], 2, "1 to 63 bytes of UTF-8, this one has 64"),
        (["user", "add"], 2, "Missing argument 'ADDRESS'. See: mesimqtt user add --help"),
        (["user", "set", "alice", "name"], 2, "'name' is not KEY=VALUE. See: mesimqtt user set --help"),
        (["token", "issue", "alice", "--ttl", "soon"], 2, "'soon' is no duration; write for example 90s"),
        (["token", "issue", "alice", "--packet", "128"], 2, "--packet goes with --short"),
        (["token", "issue", "alice", "--scope", "root"], 2, "scope is one of admin, backend, user"),
        (["token", "show", "x"], 2, "neither a JWT"),
        (["send", "--from", "alice", "x"], 2, "name one destination: --to USER or --group GROUP"),
        (
            ["send", "--from", "alice", "--to", "bob", "--type", "x", "y"],
            2,
            "--type takes a whole number. See: mesimqtt s",
        ),
        (["listen", "--as", "alice", "--count", "-1"], 2, "--count takes at least 0. See: mesimqtt listen --help"),
        (["status", "12"], 2, "'12' is no mid"),
        (["user", "import", "/nowhere"], 2, "cannot read /nowhere: No such file or directory"),
        (["serve", "--ws", "8083"], 2, "'8083' is not ADDR:PORT"),
        (["serve", "--http", "8080"], 2, "'8080' is not ADDR:PORT"),
        (["op"], 2, "name an operation; mesimqtt op --list shows them all"),
        (["op", "nonsense"], 2, "no operation 'nonsense'"),
        (["op", "ping", "{"], 2, "the arguments are no JSON"),
        (["op", "ping", "[]"], 2, "the arguments are a JSON object"),
        (["op", "user_list", "--as", "alice"], 1, "user_list needs a token of scope backend; yours is user"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["user", "ad"], 2, "No such command 'ad'. Did you mean 'add'? See: mesimqtt user --help"),
        (["user", "list", "--nonsense"], 2, "No such option"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    stopped: CommandLine, arguments: list[str], code: int, told: str
) -> None:
    """Refused is exit code 1, wrong usage 2; nothing on the output, one line beside it."""
    stopped.fine("user", "add", "alice")
    said = stopped(*arguments)

    assert (code, "") == (said.code, said.out)
    assert told in said.err
    assert said.err.startswith("mesimqtt: ")
    assert 1 == said.err.count("\n")


def test_the_data_folder_stands_before_or_after_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both spellings reach the same folder; if both are given the command's own counts."""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    codes = [
        run(["--data", one, "user", "add", "alice"]),
        run(["user", "add", "bob", f"--data={one}"]),
        run([f"--data={one}", "user", "add", "carol", "--data", two]),
    ]
    capsys.readouterr()
    run(["user", "list", "--data", one, "--json"])
    users = json.loads(capsys.readouterr().out)["users"]

    assert [0, 0, 0] == codes
    assert ["alice", "bob"] == [each["address"] for each in users]
    assert 2 == run(["--data"])
    assert "mesimqtt: --data needs a folder" in capsys.readouterr().err


def test_who_may_send_in_the_name_of_whom(mesimqtt: CommandLine) -> None:
    """A disabled user and one outside the group send nothing, and the line says how they could."""
    mesimqtt.fine("user", "add", "alice", "bob")
    mesimqtt.fine("group", "add", "family", "--owner", "bob")
    outside = mesimqtt("send", "--from", "alice", "--group", "family", "x")
    mesimqtt.fine("user", "disable", "alice")
    disabled = mesimqtt("send", "--from", "alice", "--to", "bob", "x")

    assert (1, 1) == (outside.code, disabled.code)
    assert "mesimqtt: 'alice' is not a member of 'family'; first: mesimqtt group join family alice\n" == outside.err
    assert "mesimqtt: 'alice' is disabled; first: mesimqtt user enable alice\n" == disabled.err
    assert 0 == mesimqtt.fine("inbox", "bob", "--json").json["messages"]


def test_a_token_is_shown_for_a_person(stopped: CommandLine) -> None:
    """Its kind is told once, and times are dates, also those that a forged token claims."""
    stopped.fine("user", "add", "alice")
    token = stopped.fine("token", "issue", "alice").out.strip()
    good = stopped.fine("token", "show", token).out
    forged = stopped.fine("token", "show", f"{token[:-8]}AAAAAAAA").out

    assert not re.search(r"^short ", good, re.MULTILINE)
    assert re.search(r"^expires_at +\d{4}-\d\d-\d\d \d\d:", good, re.MULTILINE)
    assert re.search(r"^  exp +\d{4}-\d\d-\d\d \d\d:", forged, re.MULTILINE)


@pytest.mark.parametrize("group", [[], ["user"]])
def test_a_group_of_commands_alone_shows_its_help(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Who types nothing more is told what there is; it is wrong usage all the same."""
    code = run(group)
    shown = capsys.readouterr()

    assert (2, "") == (code, shown.out)
    assert "Commands:" in shown.err


def test_looking_makes_no_folder(stopped: CommandLine) -> None:
    """A mistyped folder is not made by a command that only looks; the error says how to begin."""
    said = stopped("user", "list")

    assert 2 == said.code
    assert f"there is no data folder {stopped.data}; begin with: mesimqtt user add alice" in said.err
    assert not stopped.data.exists()
    stopped.data.mkdir()
    said = stopped("user", "list")
    empty = run(["user", "list", "--data", ""])

    assert f"there is no data of mesimqtt in {stopped.data}; begin with:" in said.err
    assert (2, 2, []) == (said.code, empty, list(stopped.data.iterdir()))


def test_data_is_for_its_owner(stopped: CommandLine) -> None:
    """Whoever made it: the folder is 0700 and every file in it 0600."""
    stopped.fine("user", "add", "alice")
    modes = {path.name: path.stat().st_mode & 0o777 for path in stopped.data.iterdir()}

    assert 0o700 == stopped.data.stat().st_mode & 0o777
    assert {0o600} == set(modes.values())
    assert {"mesimqtt.db", "token.secret"} <= set(modes)


def test_an_unforeseen_error_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says how to learn more, and --debug does: nothing but the hidden flag prints a traceback."""
    data = str(tmp_path / "a\0b")
    code = run(["user", "add", "alice", "--data", data])
    short = capsys.readouterr().err
    run(["--debug", "--data", data, "user", "add", "alice"])
    long = capsys.readouterr().err

    assert 2 == code
    assert 1 == short.count("\n")
    assert "Traceback" not in short
    assert "Traceback" in long


def test_commands_complete_in_the_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The shell is told the commands and options that begin with what was typed, behind --data too."""
    found = []
    for words in ("mesimqtt us", "mesimqtt --data x token is", "mesimqtt send --fr"):
        monkeypatch.setenv("_MESIMQTT_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            run([])
        found.append(capsys.readouterr().out.split())

    assert [["user"], ["issue"], ["--from"]] == found
