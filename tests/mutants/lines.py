"""A plugin of pytest that writes down which test runs which lines of the packages: `--lines FILE`.

With it a mutant is shown to the tests that run it, the quickest first, and to no others.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

HEART = ("mesimqtt/messaging/", "mesimqtt/store/", "mesimqtt/engine/", "mesimqtt/domain/", "mesimqtt/topics.py",
         "mesimqtt/tokens.py")  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lines", help="where to write which test runs which lines")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--lines") is not None:
        config.pluginmanager.register(Watcher(config.rootpath, Path(config.getoption("--lines"))))


class Watcher:
    """Follows the interpreter through the heart of the server during each test."""

    def __init__(self, home: Path, path: Path) -> None:
        self._home = f"{home}/"
        self._path = path
        self._files: dict[CodeType, str] = {}  # '' for what is not looked at
        self._seen: set[tuple[str, int]] = set()
        self._tests: list[tuple[str, float]] = []
        self._lines: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        self._seen = set()
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type] # typeshed knows no None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._tests.append((report.nodeid, round(report.duration, 3)))
        elif report.when == "teardown" and self._tests:
            for file, line in self._seen:
                self._lines[file][line].append(len(self._tests) - 1)

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps({"tests": self._tests, "lines": self._lines}), encoding="utf-8")

    def _called(self, frame: FrameType, event: str, argument: object) -> object:
        code = frame.f_code
        file = self._files.get(code)
        if file is None:
            name = code.co_filename.removeprefix(self._home)
            file = self._files[code] = name if name.startswith(HEART) else ""
        if not file:
            return None
        seen = self._seen

        def at(frame: FrameType, event: str, argument: object) -> object:
            if event == "line":
                seen.add((file, frame.f_lineno))
            return at

        return at
