"""`mesimqtt selftest`: what is asked for wrongly is said before anything is tried."""

from __future__ import annotations

import pytest

from mesimqtt.cli.main import run
from mesimqtt.cli.selftest import _writable


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
        (
            ["parsers", "--folder", "/proc"],
            "trials cannot keep their data in the folder /proc: No such file or directory; choose another --folder",
        ),
        (
            ["parsers", "--folder", "/dev/null/x"],
            "trials cannot keep their data in the folder /dev/null/x: Not a directory; choose another --folder",
        ),
        (["parsers", "--report", "."], "--report takes a file, not the folder . See: mesimqtt selftest --help"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(arguments, said, capsys, monkeypatch, tmp_path):
    """A trial that there is not, a form, a count, a place for report or data: exit code 2, one line, no trial runs."""
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


def test_a_dot_in_the_name_of_the_report_is_part_of_it(capsys, monkeypatch, tmp_path):
    """`--report v1.2` is v1.2.md and v1.2.json, and nothing beside them is touched; v1.2.md means the same two."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1.md").write_text("mine")
    codes = [run(["selftest", "parsers", "--count", "parsers=5", "--report", name]) for name in ("v1.2", "v1.2.md")]

    assert [0, 0] == codes
    assert ["v1.2.json", "v1.2.md", "v1.md"] == sorted(path.name for path in tmp_path.iterdir())
    assert "mine" == (tmp_path / "v1.md").read_text()
    assert "the report is in v1.2.md and v1.2.json" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".md", ".json"])
def test_where_one_of_the_two_cannot_be_written(suffix, monkeypatch, tmp_path):
    """It is said before anything is tried, and nothing is left."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"report{suffix}").mkdir()

    assert 2 == run(["selftest", "parsers", "--report", "report"])
    assert [f"report{suffix}"] == [path.name for path in tmp_path.iterdir()]


def test_what_is_looked_at_before_is_left_as_it_was(tmp_path):
    """Who looks whether a report can be written makes no folder, no empty file, and keeps the report of before."""
    (tmp_path / "old.md").write_text("of before")
    _writable(tmp_path / "old")
    _writable(tmp_path / "a" / "b" / "new")

    assert ["old.md"] == [path.name for path in tmp_path.iterdir()]
    assert "of before" == (tmp_path / "old.md").read_text()
