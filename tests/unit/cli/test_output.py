"""What commands print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesimqtt.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_control_characters_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a line nor a cell can move the cursor, ring the bell or forge a second line."""
    output.line("a\x1b[2Jb\nc")
    output.table(["name"], [["\x07bell\r"]])
    output.facts({"name": "x\u202ey"})
    shown = capsys.readouterr().out

    assert ["a\\x1b[2Jb\\nc", "NAME", "\\x07bell\\r", "name  x\\u202ey"] == shown.splitlines()


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their widest cell; nothing trails; None is a dash, a bool a word."""
    output.table(["who", "online", "device"], [["alice", True, "phone"], ["b", False, None]])
    shown = capsys.readouterr().out

    assert "WHO    ONLINE  DEVICE\nalice  yes     phone\nb      no      -\n" == shown


def test_facts_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """Empty values are not shown, zero is; a list stands on one line."""
    output.facts({"a": "", "bytes": 0, "groups": ["x", "y"], "none": None, "list": []})
    shown = capsys.readouterr().out

    assert "bytes   0\ngroups  x, y\n" == shown


def test_json_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What turns or hides text, and C1 controls, are escaped as JSON may escape them: a program reads the same."""
    text = "Zoë 👨\u200d👩 \u202egpj\x9b31m\u2028"
    output.emit({"text": text})
    shown = capsys.readouterr().out

    assert '{"text": "Zoë 👨\\u200d👩 \\u202egpj\\u009b31m\\u2028"}\n' == shown
    assert text == json.loads(shown)["text"]


def test_json_is_one_line_of_unicode(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON keeps text readable, escapes control characters and stays on one line."""
    output.emit({"name": "Zoë\n\x1b"})
    shown = capsys.readouterr().out

    assert '{"name": "Zoë\\n\\u001b"}\n' == shown
    assert {"name": "Zoë\n\x1b"} == json.loads(shown)


def test_a_log_line_cannot_be_forged() -> None:
    """A client id with a line break stays on the line of its record."""
    import logging

    from mesimqtt.cli.logs import LineFormatter

    record = logging.LogRecord("mesimqtt", logging.INFO, "", 0, "client %s", ("x\n2026 ERROR forged\x1b[2J",), None)
    text = LineFormatter("%(levelname)s %(message)s").format(record)

    assert "INFO client x\\n2026 ERROR forged\\x1b[2J" == text


def test_the_program_is_named_as_it_can_be_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its name where the shell finds it, else by its path, relative where that is possible."""
    script = tmp_path / "bin" / "mesimqtt"
    script.parent.mkdir()
    script.write_text("")
    script.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(script)])
    monkeypatch.setenv("PATH", "")
    found = [output.program()]
    monkeypatch.setenv("PATH", str(script.parent))
    found.append(output.program())
    monkeypatch.setattr("sys.argv", [str(tmp_path / "__main__.py")])
    monkeypatch.setattr("sys.executable", str(script.parent / "python"))
    found.append(output.program())

    assert ["bin/mesimqtt", "mesimqtt", "bin/python -m mesimqtt"] == found
    assert "./mesimqtt" == output.shortest("mesimqtt")


def test_the_plugin_manager_does_not_talk_before_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own news at INFO are left out, its warnings and what a plugin tells are not."""
    import logging

    from mesimqtt.cli import logs

    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    try:
        handler = logs.start_logging("INFO")
        manager = logging.getLogger("mesimqtt.broker.plugins")
        manager.info("Loading plugins from config")
        manager.warning("odd")
        manager.getChild("Mine").info("hello")
        handler.close()
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    told = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]

    assert ["WARNING mesimqtt.broker.plugins: odd", "INFO mesimqtt.broker.plugins.Mine: hello"] == told


class Pieces:
    """A stream that keeps each write apart, as a pipe without a buffer does."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)

    def flush(self) -> None: ...


def test_a_line_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else goes into the same pipe, a log above all, comes before a line or after it, never into it."""
    pieces = Pieces()
    monkeypatch.setattr("sys.stdout", pieces)
    monkeypatch.setattr("sys.stderr", pieces)
    output.line("ready mqtt 127.0.0.1:1883")
    output.emit({"ready": "mqtt"})
    output.tell("be careful")

    assert ["ready mqtt 127.0.0.1:1883\n", '{"ready": "mqtt"}\n', "be careful\n"] == pieces.written
