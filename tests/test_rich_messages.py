"""The examples of rich messages in docs/messages.md are what their JSON Schema describes, and nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCHEMA = json.loads((DOCS / "rich-message.schema.json").read_text(encoding="utf-8"))
EXAMPLES = re.findall(r"```json rich\n(.*?)```", (DOCS / "messages.md").read_text(encoding="utf-8"), re.DOTALL)
KINDS = {"object": dict, "string": str, "integer": int, "number": (int, float)}
KNOWN = {
    "$schema", "title", "description", "type", "properties", "required", "additionalProperties", "minProperties",
    "minLength", "maxLength", "pattern", "minimum", "maximum",
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], place: str = "message") -> list[str]:
    """Return what of `value` a schema of these keywords does not allow."""
    assert set(schema) <= KNOWN, "a keyword that this check does not know"
    if not isinstance(value, KINDS[schema["type"]]) or isinstance(value, bool):
        return [f"{place}: no {schema['type']}"]
    found = []
    if isinstance(value, dict):
        known = schema["properties"]
        found += [f"{place}: {key} is missing" for key in schema.get("required", []) if key not in value]
        found += [f"{place}: unknown {key}" for key in value if key not in known]
        if len(value) < schema.get("minProperties", 0):
            found.append(f"{place}: empty")
        for key in value.keys() & known.keys():
            found += faults(value[key], known[key], f"{place}.{key}")
    elif isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            found.append(f"{place}: length")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{place}: pattern")
    elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{place}: range")
    return found


def test_there_are_examples() -> None:
    """Each field of the schema is shown at least once."""
    shown = {key for example in EXAMPLES for key in json.loads(example)}

    assert set(SCHEMA["properties"]) == shown


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_what_the_schema_says(example: str) -> None:
    """Word for word as it stands in the documentation."""
    assert [] == faults(json.loads(example), SCHEMA)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({}, "message: empty"),
        ([], "message: no object"),
        ({"txt": "x"}, "message: unknown txt"),
        ({"title": "two\nlines"}, "message.title: pattern"),
        ({"text": 5}, "message.text: no string"),
        ({"location": {"lat": 91, "lon": 0}}, "message.location.lat: range"),
        ({"location": {"lat": 1}}, "message.location: lon is missing"),
        ({"file": {"url": "javascript:alert(1)"}}, "message.file.url: pattern"),
        ({"file": {"url": "https://a", "sha256": "x"}}, "message.file.sha256: pattern"),
        ({"thumbnail": {"type": "text/html", "data": "AA=="}}, "message.thumbnail.type: pattern"),
    ],
)
def test_what_the_schema_refuses(message: Any, fault: str) -> None:
    """A mistake in each place is found, and named by its place."""
    assert [fault] == faults(message, SCHEMA)


def test_the_table_names_what_the_schema_knows() -> None:
    """docs/messages.md lists every field, and no other."""
    table = (DOCS / "messages.md").read_text(encoding="utf-8").partition("## Rich messages")[2]

    assert sorted(SCHEMA["properties"]) == sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
