"""The tables of normative statements, mqtt311.json and mqtt5.json, agree with the tests and with every citation.

A table is a list of `{"id", "text", "binds": "server"|"client"|"both", "tests": ["path::test_name", …], "reason"}`.
A test is named by exactly the statements that its docstring cites as `[MQTT-x.y.z-n]`; a test that guards what no
statement says is marked `@pytest.mark.extra`.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1]
ID = re.compile(r"\bMQTT-\d+\.\d+\.\d+-\d+\b")
LOOSE_ID = re.compile(r"\bMQTT-\d[\d.]*[-.]\d+\b")
SECTION = re.compile(r"contract(?:\.md)?,? section \d")
TABLES = {"mqtt311.json": "test_v311_*.py", "mqtt5.json": "test_v5_*.py"}  # and whose tests it names

per_table = pytest.mark.parametrize("table", [name for name in TABLES if (HERE / name).exists()])


@cache
def statements(table):
    """Return the statements of a table."""
    return json.loads((HERE / table).read_text(encoding="utf-8"))


@cache
def cases_in(path):
    """Return the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def cited(table):
    """Return, for each test of a table's files, which statements its docstring cites."""
    return {
        f"{path.relative_to(HOME).as_posix()}::{test.name}": set(ID.findall(ast.get_docstring(test) or ""))
        for path in sorted(HERE.glob(TABLES[table]))
        for test in cases_in(path)
    }


def is_extra(test):
    """Tell whether a test is marked `@pytest.mark.extra`."""
    return any("pytest.mark.extra" in ast.unparse(mark) for mark in test.decorator_list)


@per_table
def test_the_table_is_well_formed(table):
    """Every statement has its five fields, a text that obliges somebody, and an id of its own."""
    wrong = [
        one["id"]
        for one in statements(table)
        if set(one) != {"id", "text", "binds", "tests", "reason"}
        or not ID.fullmatch(one["id"])
        or one["binds"] not in ("server", "client", "both")
        or len(one["text"]) < 20
    ]
    ids = [one["id"] for one in statements(table)]

    assert [] == wrong
    assert len(set(ids)) == len(ids)


def test_every_statement_of_3_1_1_is_listed():
    """Appendix B of MQTT 3.1.1 lists 141 statements, numbered without a gap; so does the table, in the same order."""
    ids = [one["id"] for one in statements("mqtt311.json")]

    assert 141 == len(ids)
    assert sorted(ids, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)]) == ids


@per_table
def test_every_statement_has_a_test_or_a_legal_reason(table):
    """A reason may stand instead of a test only where the client is bound, or a section of the contract overrides."""
    uncovered = [
        one["id"]
        for one in statements(table)
        if not one["tests"] and not (one["reason"] and (one["binds"] == "client" or SECTION.search(one["reason"])))
    ]
    explained_and_tested = [one["id"] for one in statements(table) if one["tests"] and one["reason"]]

    assert [] == uncovered
    assert [] == explained_and_tested


@per_table
def test_the_tests_that_a_statement_names_cite_it(table):
    """Each statement names the very tests that cite it: none that does not exist, none left out."""
    by_test = cited(table)
    named = {one["id"]: set(one["tests"]) for one in statements(table)}
    citing = {name: {test for test, ids in by_test.items() if name in ids} for name in named}

    assert citing == named


@per_table
def test_every_test_guards_a_statement_or_is_marked_extra(table):
    """A test cites a statement of its own version, or is marked `extra`."""
    stray = [
        f"{path.name}::{test.name}"
        for path in sorted(HERE.glob(TABLES[table]))
        for test in cases_in(path)
        if bool(ID.search(ast.get_docstring(test) or "")) == is_extra(test)
    ]

    assert [] == stray


def test_every_citation_in_the_tree_is_of_a_known_statement():
    """Whoever cites a statement in code, tests or plugins cites one that exists in one of the two versions."""
    known = {one["id"] for table in TABLES if (HERE / table).exists() for one in statements(table)}
    unknown = [
        f"{path.relative_to(HOME).as_posix()}: {name}"
        for folder in ("mesimqtt", "plugins", "tests")
        for path in sorted((HOME / folder).rglob("*.py"))
        if path != Path(__file__).resolve()
        for name in LOOSE_ID.findall(path.read_text(encoding="utf-8"))
        if name not in known
    ]

    assert [] == unknown
