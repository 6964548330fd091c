"""How a command starts: quickly, because nothing heavy is imported before it runs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = (
    "amqtt",
    "asyncio",
    "jwt",
    "mesimqtt_client",
    "paho",
    "peewee",
    "pydantic",
    "rich",
    "sqlite3",
    "uvloop",
    "yaml",
)
HELP_S = 0.3


def test_the_command_line_imports_nothing_heavy() -> None:
    """Loading all commands and showing a help text needs neither the server, nor a database, nor JWT."""
    script = (
        "import sys; from mesimqtt.cli.main import run; run(['token', 'issue', '--help']); print(sorted(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = ended.stdout.splitlines()[-1]

    assert "Usage: mesimqtt token issue" in ended.stdout
    assert [] == [name for name in HEAVY if f"'{name}'" in loaded]


@pytest.mark.parametrize("command", [[], ["user"], ["token", "issue"], ["serve"], ["bench"], ["demo"], ["listen"]])
def test_help_answers_at_once(command: list[str]) -> None:
    """`--help` takes less than 0.3 s of processor time; the best of three, because other programs run here too."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "mesimqtt", *command, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(times) < HELP_S
