"""The OpenAPI document: complete, well-formed, and each of its examples works as it stands."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, urlencode

import pytest

from mesimqtt.api.forms import EXAMPLE_IDS, FORMS
from mesimqtt.api.openapi import document, html_page
from mesimqtt.api.routes import TABLE
from mesimqtt.domain.groups import KINDS
from mesimqtt.messaging.operations import OPERATIONS
from parity.doors import Documentation
from parity.test_parity import AFTER, REFUSED

DOCUMENT = document()
ALL = [(path, method, each) for path, methods in DOCUMENT["paths"].items() for method, each in methods.items()]


def test_every_operation_is_in_it_once() -> None:
    """Each has its own place, and its identifier is its name."""
    names = [each["operationId"] for _, _, each in ALL]

    assert sorted(set(names)) == sorted(names)
    assert set() == OPERATIONS.keys() - set(names)
    assert "3.1.0" == DOCUMENT["openapi"]
    assert len(TABLE) < len(ALL)


def test_it_is_well_formed() -> None:
    """Every reference leads somewhere, every name of a path is a parameter, every request has its answers."""
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        found = DOCUMENT
        for part in reference.split("/"):
            found = found[part]
    for path, method, each in ALL:
        names = [parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"]
        assert re.findall(r"{(\w+)}", path) == names
        assert {"default"} < each["responses"].keys()
        assert ("requestBody" in each) == (method != "get")
        assert each["summary"].endswith((".", ":", "`"))


def test_no_path_stands_twice() -> None:
    """Two paths that differ in the name of an argument alone would be one (OpenAPI, Paths Object)."""
    shapes = [re.sub(r"{\w+}", "{}", path) for path in DOCUMENT["paths"]]

    assert sorted(set(shapes)) == sorted(shapes)


def test_an_argument_has_its_bounds() -> None:
    """Numbers have their range, names their words; what the caller is by himself need not be said."""
    groups = DOCUMENT["paths"]["/v1/groups"]
    (limit,) = [each["schema"] for each in groups["get"]["parameters"] if each["name"] == "limit"]
    kind = groups["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["kind"]
    presence = {each["name"]: each["required"] for each in DOCUMENT["paths"]["/v1/presence"]["get"]["parameters"]}

    assert {"type": "integer", "minimum": 1, "maximum": 1_000} == limit
    assert [*KINDS, None] == kind["enum"]
    assert {"user": False, "addresses": True} == presence


def test_every_form_is_of_an_argument() -> None:
    """A form whose argument is gone, or is called otherwise, says nothing."""
    names = {name for each in OPERATIONS.values() for key in each.parameters for name in (key, f"{each.name}.{key}")}

    assert set() == FORMS.keys() - names


def test_it_tells_no_version_of_the_program() -> None:
    """Its version is the API's."""
    assert "1" == DOCUMENT["info"]["version"]


@pytest.mark.parametrize(("path", "method", "each"), ALL, ids=[f"{method} {path}" for path, method, _ in ALL])
def test_every_example_works(tmp_path, path, method, each) -> None:
    """A request made of nothing but the document's own examples is answered with the status that it promises."""
    world = Documentation(tmp_path / "data")
    name = each["operationId"]
    if name in AFTER:
        world.python(AFTER[name], world.example(AFTER[name]))

    def real(value):
        text = json.dumps(value)
        for name, shown in EXAMPLE_IDS.items():
            text = text.replace(shown, name)
        return json.loads(world.filled(text))

    target, pairs = path, []
    for parameter in each["parameters"]:
        if "example" in parameter and parameter["in"] == "path":
            target = target.replace(f"{{{parameter['name']}}}", quote(str(real(parameter["example"])), safe=""))
        elif "example" in parameter:
            pairs.append((parameter["name"], real(parameter["example"])))
    target += f"?{urlencode(pairs, doseq=True)}" if pairs else ""
    content = each.get("requestBody", {}).get("content", {})
    body = real(content.get("application/json", {}).get("example"))
    plain = content.get("text/plain", {}).get("example", "").encode()
    user = "alice" if plain else "root"
    try:
        reply = world.ask(method.upper(), target, body, body=plain, user=user)
    finally:
        world.close()

    assert REFUSED.get(name, "") == reply.code, reply
    assert name in REFUSED or str(reply.status) in each["responses"]


def test_the_page_needs_nothing_from_elsewhere(ask) -> None:
    """No script, no style, no address of another host; every route is on it."""
    page = ask.world.run(html_page()).body.decode()

    assert [] == re.findall(r"<script|<style|<link|<img|https?://", page)
    assert all(f"<code>{' '.join(line.split()[:2])}</code>" in page for line in TABLE.values())
