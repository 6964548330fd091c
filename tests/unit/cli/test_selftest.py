"""`mesimqtt selftest`: what is asked for wrongly is said before anything is tried."""

from __future__ import annotations

import pytest

from mesimqtt.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["nonsense"],
            "there is no trial nonsense; mesimqtt selftest --list names them. See: mesimqtt selftest --help",
        ),
        (["--form", "huge"], "--form takes short, usual or long. See: mesimqtt selftest --help"),
        (["--count", "kills"], "--count takes TRIAL=N, such as kills=50, not kills. See: mesimqtt selftest --help"),
        (
            ["--count", "nonsense=1"],
            "there is no trial nonsense; mesimqtt selftest --list names them. See: mesimqtt selftest --help",
        ),
        (
            ["parsers", "--report", "/proc/nowhere/x"],
            "cannot write the report to /proc/nowhere/x: No such file or directory; choose another --report",
        ),
    ],
)
def test_what_cannot_be_done_is_said_at_once(arguments, said, capsys, monkeypatch, tmp_path):
    """A trial that there is not, a form, a count, a place for the report: exit code 2, one line, and no trial runs."""
    monkeypatch.chdir(tmp_path)

    assert 2 == run(["selftest", *arguments])
    assert f"mesimqtt: {said}\n" == capsys.readouterr().err


def test_the_report_is_two_files(capsys, monkeypatch, tmp_path):
    """What was found is printed, and stands as Markdown and JSON where --report says, in a folder that is made."""
    monkeypatch.chdir(tmp_path)
    code = run(["selftest", "parsers", "--count", "parsers=50", "--report", "new/report"])

    assert 0 == code
    assert "**no promise was broken.**" in capsys.readouterr().out
    assert ["report.json", "report.md"] == sorted(path.name for path in (tmp_path / "new").iterdir())
