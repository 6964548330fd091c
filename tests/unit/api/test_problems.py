"""Every code that a refusal can have has its HTTP status."""

from __future__ import annotations

import ast
from pathlib import Path

from mesimqtt.api.problems import STATUS, known_status, problem, status_of
from mesimqtt.domain.status import TITLES, Status

HOME = Path(__file__).resolve().parents[3]
ERRORS = {"OperationError": 0, "ArgumentError": 1}  # the class -> where its code stands


def codes() -> dict[str, str]:
    """Return every code that the source gives to a refusal of an operation, with the place of one."""
    found = {}
    for path in sorted((HOME / "mesimqtt").rglob("*.py")):
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ERRORS:
                continue
            place = ERRORS[node.func.id]
            if len(node.args) > place and isinstance(node.args[place], ast.Constant):
                found[str(node.args[place].value)] = f"{path.name}:{node.lineno}"
    return found


def test_every_code_of_the_source_has_its_status() -> None:
    """A new code gets a line in `STATUS` of mesimqtt/api/problems.py, unless its name says it."""
    refusals = {code: "contract section 4" for number, code in TITLES.items() if number >= Status.FAILED}
    unknown = {code: place for code, place in (codes() | refusals).items() if known_status(code) is None}

    assert {} == unknown
    assert "no-such-user" in codes()


def test_names_say_their_status() -> None:
    """What begins with no-such is not found, what begins with bad is a bad request, what exists is a conflict."""
    assert (404, 400, 409, 507) == tuple(
        status_of(code) for code in ("no-such-user", "bad-argument", "group-exists", "inbox-full")
    )
    assert 400 == status_of("something-new")
    assert all(400 <= status < 600 for status in STATUS.values())


def test_a_problem_has_the_fields_of_its_rfc() -> None:
    """RFC 9457, section 3.1, and our code."""
    assert {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "code": "rate-limited",
        "detail": "later",
    } == problem(429, "rate-limited", "later")
