"""A plugin of pytest for runs on a copy of the tree: it makes sure that the copy is what is tested, and takes notes.

What is installed points at the original tree. A run in which any package came from there would prove nothing.
"""

from __future__ import annotations

import json
import resource
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ("mesimqtt", "mesimqtt_plugins", "mesimqtt_client")
MEMORY_MAX = 3 << 30  # a bug may be that something has no bound


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--copy", help="the folder from which every package must come")
    parser.addoption("--notes", help="where a line is written for each test that begins, passes or fails")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--copy") is None:
        return
    copy = Path(config.getoption("--copy")).resolve()
    for package in PACKAGES:
        place = Path(str(import_module(package).__file__)).resolve()
        if not place.is_relative_to(copy):
            raise pytest.UsageError(f"{package} comes from {place}, which is not in the copy {copy}")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    config.pluginmanager.register(Notes(Path(config.getoption("--notes"))))


class Notes:
    """Writes what happens, line by line: a run that hangs and is ended has told where."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def _note(self, **facts: object) -> None:
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._note(began=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note(failed=report.nodeid, seconds=round(report.duration, 3))
        elif report.when == "call":
            self._note(passed=report.nodeid, seconds=round(report.duration, 3))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(broken=report.nodeid, why=str(report.longrepr)[-2000:])
