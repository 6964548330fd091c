"""The house limits of CONTRIBUTING.md, as tests: a style that nobody has to remember.

Limits are tripwires, not targets: an honest function that needs more room goes into ALLOWED
with its own limit and the reason, and is measured against that from then on.
"""

from __future__ import annotations

import ast
import gc
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
PLUGIN_LINES_MAX = 200

# "path" or "path::function" -> (its own limit, why it is not split)
ALLOWED: dict[str, tuple[int, str]] = {}

SOURCE_FOLDERS = ("mesimqtt", "plugins", "clients/python/mesimqtt_client")
TEST_FOLDERS = ("tests", "clients/python/tests")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".json", ".service", ".cfg", ".sh", ""}
LEFT_OUT = {".git", "dist", "build", "node_modules", "mesimqtt-data"}

# what no file may contain -> what to do instead
BANNED = {
    r"\b(?:TODO|FIXME|XXX|HACK)\b": "do it now, or open an issue",
    r"/(?:work|root|home)/\w": "a path of one machine: use a path relative to the tree, or tmp_path",
    r"\b(?:pypi|npmjs|docker)\.(?:org|com|io)\b": "name the package, not where it is kept",
    r"(?i)\bsub-?agent": "the project speaks only of itself",
    r"os\.environ(?:\[|\.get)|os\.getenv": "configuration.py alone reads the environment",
    r"pytest\.(?:skip|mark\.skip|mark\.xfail|xfail)": "a test that does not run is no test",
    r"from unittest(?:\.mock)? import|mocker\.|import mock\b": "write a fake class, not a patch",
}


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    text = path.read_text(encoding="utf-8")
    gc.disable()  # CPython 3.11 may raise SystemError when an older test's garbage is finalized inside ast.parse
    try:
        return ast.parse(text)
    finally:
        gc.enable()


def python_files(*folders: str) -> list[Path]:
    """List the Python files of some folders, in order."""
    return sorted(path for folder in folders for path in (HOME / folder).rglob("*.py"))


def text_files() -> list[Path]:
    """List the files of the tree that a person writes, this one apart: it has to name what it bans."""
    found = []
    for path in HOME.rglob("*"):
        parts = path.relative_to(HOME).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts)
        if path.is_file() and not hidden and not LEFT_OUT & set(parts) and path.suffix in TEXT_SUFFIXES:
            found.append(path)
    return sorted(set(found) - {Path(__file__).resolve()})


def name_of(path: Path) -> str:
    """Return a path as it is written in ALLOWED and in messages."""
    return path.relative_to(HOME).as_posix()


@cache
def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """List the functions and methods of a file."""
    return [node for node in statements(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Walk over the statements below a node, and not over the expressions in them, which are far more."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, part, ()):
            yield child
            yield from statements(child)


def line_count(path: Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_file_is_read_in_one_sitting() -> None:
    """No file is longer than 400 lines, no plugin longer than 200."""
    long = []
    for path in python_files(*SOURCE_FOLDERS, *TEST_FOLDERS):
        usual = PLUGIN_LINES_MAX if "plugins" in path.relative_to(HOME).parts else FILE_LINES_MAX
        limit, _ = ALLOWED.get(name_of(path), (usual, ""))
        if line_count(path) > limit:
            long.append(f"{name_of(path)}: {line_count(path)} lines, at most {limit}")

    assert [] == long


def test_a_function_fits_on_a_screen() -> None:
    """No function is longer than 50 lines, unless ALLOWED says why."""
    long = []
    for path in python_files(*SOURCE_FOLDERS, *TEST_FOLDERS):
        for function in functions(path):
            name = f"{name_of(path)}::{function.name}"
            limit, _ = ALLOWED.get(name, (FUNCTION_LINES_MAX, ""))
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > limit:
                long.append(f"{name}: {lines} lines, at most {limit}")

    assert [] == long


def test_an_exception_to_a_limit_is_needed_and_reasoned() -> None:
    """ALLOWED names only what exists, and every entry gives its reason."""
    known = {name_of(path) for path in python_files(*SOURCE_FOLDERS, *TEST_FOLDERS)}
    known |= {
        f"{name_of(path)}::{function.name}"
        for path in python_files(*SOURCE_FOLDERS, *TEST_FOLDERS)
        for function in functions(path)
    }
    bad = [name for name, (_, reason) in ALLOWED.items() if name not in known or len(reason.split()) < 4]

    assert [] == bad


def test_a_file_says_what_it_is_for() -> None:
    """Every file opens with a docstring whose first line is a sentence on its own."""
    silent = []
    for path in python_files(*SOURCE_FOLDERS, *TEST_FOLDERS):
        docstring = ast.get_docstring(parsed(path))
        if not docstring or not docstring.splitlines()[0].rstrip().endswith((".", ":")):
            silent.append(name_of(path))

    assert [] == silent


def test_nothing_banned_is_written_anywhere() -> None:
    """No file holds an unfinished thought, a path of one machine or a habit we left; the reason is in BANNED."""
    found = []
    for path in text_files():
        text = path.read_text(encoding="utf-8")
        written = [each for each in BANNED.items() if re.search(each[0], text)]  # line by line only where there is one
        for number, line in enumerate(text.splitlines() if written else (), 1):
            for pattern, instead in written:
                if "environ" in pattern and not name_of(path).startswith(("mesimqtt/", "plugins/")):
                    continue
                if re.search(pattern, line):
                    found.append(f"{name_of(path)}:{number}: {line.strip()[:60]!r}: {instead}")

    assert [] == found


def imported_modules(path: Path) -> set[str]:
    """Return the top-level names of what a file imports."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_time_and_chance_are_passed_in() -> None:
    """Nothing of the data path reads a clock or draws a random number by itself: a run can be repeated."""
    folders = [f"mesimqtt/{folder}" for folder in ("domain", "engine", "store", "messaging")]
    found = [
        f"{name_of(path)}: {', '.join(sorted(taken))}"
        for path in python_files(*folders)
        if (taken := imported_modules(path) & {"random", "secrets", "time", "uuid", "datetime"})
    ]

    assert ["mesimqtt/domain/chance.py: random, secrets"] == found


def code_map() -> dict[str, str]:
    """Return the sections of the code map in ARCHITECTURE.md, by folder."""
    text = (HOME / "ARCHITECTURE.md").read_text(encoding="utf-8")
    sections = re.split(
        r"^### `([^`]+)/`.*$", text.split("\n## Code map\n", 1)[1].split("\n## ", 1)[0], flags=re.MULTILINE
    )
    return dict(zip(sections[1::2], sections[2::2], strict=True))


def test_the_code_map_names_every_module() -> None:
    """ARCHITECTURE.md lists each module under its folder in the words of its docstring, and none that is gone."""
    modules = {
        (name_of(path.parent), path.name): (ast.get_docstring(parsed(path)) or "").split("\n", 1)[0]
        for path in python_files(*SOURCE_FOLDERS)
        if path.name != "__init__.py"
    }
    mapped = {
        (folder, name): line
        for folder, section in code_map().items()
        for name, line in re.findall(r"^- `(\w+\.py)`: (.*)$", section, re.MULTILINE)
    }
    # Ready to be pasted under the heading of the folder.
    missing = [
        f"{folder}/ - `{name}`: {line}"
        for (folder, name), line in modules.items()
        if mapped.get((folder, name)) != line
    ]

    assert [] == missing
    assert set() == mapped.keys() - modules.keys()


def test_a_rule_is_switched_off_only_with_its_reason() -> None:
    """Each `noqa` and `type: ignore` names what it switches off, and says why on its own line."""
    reasoned = re.compile(r"# (?:noqa: [A-Z0-9, ]+ - \S|type: ignore\[[a-z, -]+\] # \S)")
    bare = [
        f"{name_of(path)}:{number}"
        for path in python_files(*SOURCE_FOLDERS, *TEST_FOLDERS)
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"# ?(?:noqa|type: ?ignore)", line) and not reasoned.search(line)
    ]

    assert [] == bare


def test_the_road_is_where_architecture_says() -> None:
    """Each `folder/file.py: function` that ARCHITECTURE.md names exists."""
    text = (HOME / "ARCHITECTURE.md").read_text(encoding="utf-8")
    road = re.findall(r"`([\w/]+\.py): (\w+)`", text)
    lost = [
        f"{file}: {name}"
        for file, name in road
        if not (HOME / "mesimqtt" / file).is_file()
        or name not in {each.name for each in functions(HOME / "mesimqtt" / file)}
    ]

    assert len(road) > 10
    assert [] == lost


def called_names(function: ast.AST) -> set[str]:
    """Return the names of what a function calls."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            target = node.func
            names.add(target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""))
    return names


def asserts(function: ast.AST) -> bool:
    """Tell whether a function itself can fail on what it sees."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Raise) and "AssertionError" in ast.dump(node))
        or (isinstance(node, ast.Attribute) and node.attr in ("raises", "warns", "fail"))
        for node in ast.walk(function)
    )


def cases_of(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """List the test functions of a file."""
    return [function for function in functions(path) if function.name.startswith("test_")]


def test_a_test_asserts_something() -> None:
    """Every test asserts, itself or through a helper of the tests that does."""
    everything = [function for path in python_files(*TEST_FOLDERS) for function in functions(path)]
    asserting = {function.name for function in everything if asserts(function)}
    calls = [(function.name, called_names(function)) for function in everything]
    for _ in range(3):  # helpers of helpers
        asserting |= {name for name, called in calls if called & asserting}
    idle = [
        f"{name_of(path)}::{test.name}"
        for path in python_files(*TEST_FOLDERS)
        for test in cases_of(path)
        if not asserts(test) and not called_names(test) & asserting
    ]

    assert [] == idle


def test_a_test_says_which_behaviour_it_guards() -> None:
    """Every test has a docstring, and it is the behaviour."""
    silent = [
        f"{name_of(path)}::{test.name}"
        for path in python_files(*TEST_FOLDERS)
        for test in cases_of(path)
        if not ast.get_docstring(test)
    ]

    assert [] == silent


def test_packages_carry_their_types() -> None:
    """Each package that the wheel installs has a py.typed marker."""
    packages = [HOME / "mesimqtt", HOME / "plugins/mesimqtt_plugins", HOME / "clients/python/mesimqtt_client"]

    assert [] == [name_of(package) for package in packages if not (package / "py.typed").is_file()]
