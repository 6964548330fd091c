"""What every test may use: the helpers under tests/ as `integration.…`, and tests that say which tools they need.

A test marked `tools("strace")` runs wherever strace is installed. Elsewhere `make test` leaves it out and says so
at the end, because it needs only Python, pip and make; with `--every-tool` (`make interop`, CI) it fails instead.
The suite runs on plain Python and on compiled modules (`make test-compiled`), never on a mixture; a test marked
`interpreted_only(reason)` is left out where they are compiled.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mesimqtt.broker.compiled import is_compiled
from mesimqtt.domain.errors import MesimqttError
from running import HANGS_AFTER_S, settle, watch

if TYPE_CHECKING:
    from collections.abc import Iterable

# Tests run with import mode importlib, which puts no folder on the path by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))
# Debian's mosquitto is where only root's PATH looks.
os.environ["PATH"] = os.pathsep.join([*os.get_exec_path(), "/usr/sbin"])

MQTT_JS = Path(__file__).resolve().parent / "interop/js/node_modules/mqtt/package.json"
# what a test names -> what installs it
TOOLS = {
    "chromium": "apt-get install chromium",
    "curl": "apt-get install curl",
    "mosquitto": "apt-get install mosquitto",
    "mosquitto_pub": "apt-get install mosquitto-clients",
    "mqtt.js": "make interop",
    "node": "apt-get install nodejs npm",
    "strace": "apt-get install strace",
}
PLAIN = "plain Python"  # what a test needs that is `interpreted_only`
_left_out: dict[str, int] = {}


def is_installed(tool: str) -> bool:
    """Tell whether a tool is there."""
    return MQTT_JS.is_file() if tool == "mqtt.js" else shutil.which(tool) is not None


def missing_tools(item: pytest.Item) -> list[str]:
    """List what a test needs and this machine has not."""
    needed = {tool for marker in item.iter_markers("tools") for tool in marker.args}
    return sorted(tool for tool in needed if not is_installed(tool))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-tool", action="store_true", help="a test whose tool is not installed fails")
    parser.addoption("--compiled", action="store_true", help="run on compiled modules or not at all")
    parser.addoption(
        "--hangs-after", type=float, default=HANGS_AFTER_S, metavar="SECONDS",
        help="a test that takes longer ends the run and shows where it stands; 0: none does",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    try:
        compiled = is_compiled()
    except MesimqttError as error:
        raise pytest.UsageError(str(error)) from None
    if config.getoption("--compiled") and not compiled:
        raise pytest.UsageError("nothing is compiled: run `make compile`")
    watch(config, config.getoption("--hangs-after"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    compiled = is_compiled()
    possible = []
    for item in items:
        if compiled and item.get_closest_marker("interpreted_only"):
            _note({PLAIN: 1}.items())
            continue
        missing = [] if config.getoption("--every-tool") else missing_tools(item)
        if missing:
            _note(dict.fromkeys(missing, 1).items())
        else:
            possible.append(item)
    if len(possible) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in set(possible)])
        items[:] = possible


def pytest_collection_finish() -> None:
    settle()


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = missing_tools(item)
    if missing:
        raise AssertionError("; ".join(f"{tool} is not installed: {TOOLS[tool]}" for tool in missing))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of xdist collects, and another process tells
        session.config.workeroutput["left_out"] = _left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    found = getattr(node, "workeroutput", {}).get("left_out", {})
    if not _left_out:  # every worker collects the same
        _note(found.items())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.section("left out", sep="=", yellow=True)
        for tool, count in sorted(_left_out.items()):
            if tool == PLAIN:
                terminalreporter.line(f"{count} tests need {PLAIN}, and modules are compiled here: make uncompile")
            else:
                terminalreporter.line(f"{count} tests need {tool}, which is not installed: {TOOLS[tool]}")
        if _left_out.keys() - {PLAIN}:
            terminalreporter.line("`make interop` runs them all, and fails where a tool is still missing")


def _note(counts: Iterable[tuple[str, int]]) -> None:
    for tool, count in counts:
        _left_out[tool] = _left_out.get(tool, 0) + count
