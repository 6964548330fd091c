"""The planted bugs: one TOML file each under `bugs/`, read, checked, and put into a source text.

A bug replaces a text that stands exactly once in its file: where the code has changed under it, it says so instead
of planting nothing.
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEYS = {"title", "promise", "suffers", "file", "old", "new", "killed_by"}
OPTIONAL = {"wider"}
PROMISE = re.compile(r"(?:P(?:1?\d|20)|N[12])\Z")
WIDER = (
    "tests/unit/domain", "tests/unit/engine", "tests/unit/store", "tests/unit/messaging", "tests/unit/broker",
    "tests/unit/api", "tests/unit/services", "tests/unit/cli", "tests/unit/test_tokens.py", "tests/unit/test_topics.py",
    "tests/conformance", "clients/python/tests",
)  # fmt: skip


class BugError(Exception):
    """A planted bug cannot be planted: what is wrong with it, and with which file."""


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug: what it changes, what a user would suffer, and the tests that must notice."""

    name: str
    title: str
    promise: tuple[str, ...]
    suffers: str
    file: str
    old: str
    new: str
    killed_by: tuple[str, ...]
    wider: tuple[str, ...] = WIDER

    def planted(self, text: str) -> str:
        """Return a source text with the bug in it.

        Raises BugError if the text to replace is not there exactly once, or what comes out is no Python.
        """
        found = text.count(self.old)
        if found != 1:
            raise BugError(f"{self.name}: `old` stands {found} times in {self.file}, not once: {self.old.strip()!r}")
        text = text.replace(self.old, self.new)
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise BugError(f"{self.name}: {self.file} is no Python any more: {error}") from None
        return text


def read(path: Path) -> Bug:
    """Read one file. Raises BugError."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BugError(f"{path.name}: {error}") from None
    if not KEYS <= found.keys() <= KEYS | OPTIONAL:
        raise BugError(f"{path.name}: it has the keys {sorted(found)}, and should have {sorted(KEYS)}")
    wrong = [promise for promise in found["promise"] if not PROMISE.match(promise)]
    if wrong or not found["promise"] or not found["killed_by"] or found["old"] == found["new"]:
        raise BugError(f"{path.name}: no promise, no test, no change, or unknown promises: {wrong}")
    lists = {key: tuple(found[key]) for key in ("promise", "killed_by", "wider") if key in found}
    return Bug(**{**found, **lists, "name": path.stem})


def read_all(folder: Path, names: Iterable[str] = ()) -> list[Bug]:
    """Read all bugs of a folder, or those of these names, in the order of their names. Raises BugError."""
    names = set(names)
    bugs = [read(path) for path in sorted(folder.glob("*.toml")) if not names or path.stem in names]
    missing = names - {bug.name for bug in bugs}
    if missing:
        raise BugError(f"there is no planted bug called {', '.join(sorted(missing))}")
    return bugs


def missing_tests(home: Path, tests: Iterable[str]) -> list[str]:
    """Return those of some test ids whose file has no such test."""
    missing = []
    for test in tests:
        file, _, rest = test.partition("::")
        path, names = home / file, rest.partition("[")[0].split("::") if rest else []
        if not path.exists() or not all(re.search(rf"\b(?:def|class) {name}\b", path.read_text()) for name in names
                                        if name != "runTest"):  # fmt: skip
            missing.append(test)
    return missing
