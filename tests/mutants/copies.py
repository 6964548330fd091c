"""Copies of the tree: made once, patched, tested, and put back as they were.

The installed package points at the original. A copy is tested with its own folders first on the path, and the plugin
`witness` refuses to run anything else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HOME = Path(__file__).resolve().parents[2]
PARTS = ("mesimqtt", "plugins", "clients", "tests", "config", "docs", "pyproject.toml", "README.md", "ARCHITECTURE.md")
LEFT_OUT = ("__pycache__", ".*", "node_modules", "*.so", "compiled.json")
FOLDERS = ("", "plugins", "clients/python", "tests")  # first on the path
# CI: hypothesis then has no deadline, and the same examples each time.
REPEATABLE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0", "CI": "1"}
PLUGINS = ("mutants.witness",)  # besides those of pyproject.toml; what else is installed is not loaded


class CopyError(Exception):
    """A copy cannot be tested, or something else than the copy would be."""


@dataclass(slots=True)
class Run:
    """What became of one run of pytest."""

    code: int  # of pytest; -1: it was ended because it took too long
    seconds: float
    passed: list[tuple[str, float]] = field(default_factory=list)
    failed: list[tuple[str, float]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    last: str = ""  # the test that began last
    output: str = ""


class Copy:
    """One copy of the tree in a folder of its own."""

    def __init__(self, folder: Path, *, of: Path = HOME) -> None:
        self.folder = folder
        self._notes = folder.with_suffix(".notes")
        ignore = shutil.ignore_patterns(*LEFT_OUT) if of == HOME else None
        folder.mkdir(parents=True)
        for part in PARTS:
            source = of / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=ignore)
            elif source.exists():
                shutil.copy2(source, folder / part)

    def clone(self, folder: Path) -> Copy:
        """Make another copy, with all that this one has compiled."""
        return Copy(folder, of=self.folder)

    @contextmanager
    def patched(self, file: str, text: str) -> Iterator[None]:
        """Have another text in a file for a while."""
        path = self.folder / file
        before, status = path.read_bytes(), path.stat()
        try:
            path.write_text(text, encoding="utf-8")
            later = status.st_mtime_ns + 10_000_000_000  # so that nothing compiled before passes for it
            os.utime(path, ns=(later, later))
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def prove(self) -> None:
        """Make sure that a process which a test starts has the packages of this copy, too. Raises CopyError."""
        code = "import mesimqtt, mesimqtt_client, mesimqtt_plugins; print(*mesimqtt.__path__)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder.parent, env=self._environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if Path(done.stdout.strip() or "/").resolve() != (self.folder / "mesimqtt").resolve():
            raise CopyError(f"a process would import mesimqtt from {done.stdout.strip()!r}\n{done.stderr}")

    def pytest(
        self,
        tests: Sequence[str],
        *options: str,
        timeout_s: float,
        plugins: Iterable[str] = PLUGINS,
        keeps_compiled: bool = False,
    ) -> Run:
        """Run some tests in the copy and return what became of them; it is ended after `timeout_s`.

        A test that hangs ends it earlier (tests/running.py).
        """
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [part for plugin in plugins for part in ("-p", plugin)]
        command += ["--copy", str(self.folder), "--notes", str(self._notes), "--tb=line", *options, *tests]
        self._notes.unlink(missing_ok=True)
        environment = self._environment()
        if not keeps_compiled:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=timeout_s)
                code = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the servers that it started
                output, code = process.communicate()[0], -1
        return self._told(Run(code, round(time.monotonic() - began, 3), output=output))

    def _told(self, run: Run) -> Run:
        if not self._notes.exists():
            raise CopyError(f"pytest did not begin (exit code {run.code}):\n{run.output}")
        for line in self._notes.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            run.last = note.get("began", run.last)
            if "passed" in note:
                run.passed.append((note["passed"], note["seconds"]))
            elif "failed" in note:
                run.failed.append((note["failed"], note["seconds"]))
            elif "broken" in note:
                run.broken.append(f"{note['broken']}: {note['why']}")
        return run

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(str(self.folder / part) for part in FOLDERS)
        return {**os.environ, "PYTHONPATH": path, **REPEATABLE}
