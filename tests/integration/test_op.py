"""`mesimqtt op` on a stopped server: any operation by its name. The control socket's side is in test_control.py."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from mesimqtt.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_any_operation_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`op` prints an operation's answer as JSON, as the operator or in a user's name; `--list` shows them all."""

    def said(*arguments: str) -> str:
        assert 0 == run([*arguments, "--data", str(tmp_path)])
        return capsys.readouterr().out

    def asked(*arguments: str) -> Any:
        return json.loads(said("op", *arguments))

    said("user", "add", "alice", "bob")

    assert "alice" == asked("user_show", '{"address": "alice"}')["address"]
    assert "sent" == asked("send", '{"to": "bob", "text": "hi"}', "--as", "alice")["name"]
    listed = {each["name"]: each for each in asked("--list", "--json")["operations"]}
    assert {"scope": "user", "actor": "sender"}.items() <= listed["send"].items()
    assert {"type": "list[str]", "required": True} == listed["user_add"]["arguments"]["addresses"]
    assert any(line.startswith("user_add") for line in said("op", "--list").splitlines())


def test_arguments_come_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` reads them, however long they are."""
    names = {f"user{n}": "" for n in range(500)}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps({"names": names}).encode())))
    code = run(["op", "user_import", "-", "--data", str(tmp_path)])

    assert (0, 500) == (code, len(json.loads(capsys.readouterr().out)["added"]))
