"""The examples in docs/ are programs: each is run as it is written, and shows what the page says that it shows.

A block after `<!-- run -->` is run by Python in an empty folder; `<!-- run: stop -->` serves until it is told to stop;
`<!-- run: NAME -->` is a file that goes beside it; `<!-- run by pytest -->` is a test file. Lines of the
`<!-- shown -->` block after it stand in what it prints. Nothing is changed but the ports.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
PAGES = ("modules.md", "bots.md", "embed.md", "testing.md")
DEADLINE_S = 60
ON_A_FREE_PORT = 'App("chat-data", mqtt="127.0.0.1:0", ws="off", http="off")'
_BLOCK = re.compile(r"^<!-- (run|shown)([^\n]*) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, how: str) -> list[tuple[str, list[str]]]:
    """List the programs of a page that are run that way, each with the lines that it must show."""
    found: list[tuple[str, list[str]]] = []
    last = ""
    for kind, said, text in _BLOCK.findall((HOME / "docs" / page).read_text(encoding="utf-8")):
        if kind == "run" and said == how:
            found.append((text.replace('App("chat-data")', ON_A_FREE_PORT), []))
        elif kind == "shown" and last == how:
            found[-1][1].extend(text.splitlines())
        last = said if kind == "run" else last
    return found


def cases(how: str):
    """Give each program of the pages as a test case."""
    return [
        pytest.param(text, shown, id=f"{page}-{number}")
        for page in PAGES
        for number, (text, shown) in enumerate(blocks(page, how), 1)
    ]


@pytest.mark.parametrize(("text", "shown"), cases(""))
def test_a_program_shows_what_its_page_says(tmp_path, text, shown):
    """It ends without an error or a warning, and its lines are those of the page, among others perhaps."""
    (tmp_path / "example.py").write_text(text)

    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip

    assert ("", 0) == (done.stderr, done.returncode)
    assert shown
    assert [] == [line for line in shown if line not in done.stdout.splitlines()]


@pytest.mark.parametrize(("text", "shown"), cases(": stop"))
def test_a_server_of_a_page_serves_until_it_is_told_to_stop(tmp_path, text, shown):
    """It says where it listens, and ends in order on SIGTERM."""
    (tmp_path / "example.py").write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "example.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    ready = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=DEADLINE_S)

    assert re.fullmatch(r"ready mqtt 127\.0\.0\.1:\d+\n", ready)
    assert (0, "") == (process.returncode, rest)


@pytest.mark.parametrize(("text", "shown"), cases(" by pytest"))
def test_tests_of_a_page_pass(tmp_path, text, shown):
    """They pass in a folder of their own, with nothing but the plugin, and with warnings as errors."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mesimqtt.testing"]\n')
    (tmp_path / "test_example.py").write_text(text)

    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert text.count("def test_") >= 2
    assert re.search(rf"^{text.count('def test_')} passed", done.stdout, re.MULTILINE), done.stdout


def test_modules_of_the_configuration_are_loaded(tmp_path):
    """docs/modules.md: the YAML loads the class beside it, and its word holds for a real client's message."""
    from mesimqtt.testing.process import Server, wait_until

    files = {
        said.removeprefix(": "): text
        for kind, said, text in _BLOCK.findall((HOME / "docs/modules.md").read_text(encoding="utf-8"))
        if kind == "run" and "." in said
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = ["env", f"PYTHONPATH={tmp_path}"]
    with Server(tmp_path / "data", config=tmp_path / "mesimqtt.yaml", wrapper=environment) as server:
        server.run("user", "add", "alice", "bob")
        server.run("send", "--from", "alice", "--to", "bob", "hello")
        with pytest.raises(AssertionError, match="language"):
            server.run("send", "--from", "alice", "--to", "bob", "what the heck")
        wait_until(lambda: "alice sent" in server.printed and "alice denied" in server.printed, what="both statuses")

    assert {"shop.py", "mesimqtt.yaml"} == set(files)
