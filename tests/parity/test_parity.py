"""One operation, the same by every door: result, refusal, and nothing that one door can and another cannot.

An operation without an example that works, or without a route, fails here.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from mesimqtt.api.routes import TABLE
from mesimqtt.messaging.operations import OPERATIONS
from mesimqtt.messaging.operations_base import Scope
from parity.doors import DOORS, Documentation

# An operation whose example needs what the example of another has made.
AFTER = {
    "block_remove": "block_add",
    "contact_remove": "contact_add",
    "group_enter": "group_pin_add",
    "group_pin_remove": "group_pin_add",
    "pair_remove": "pair_add",
    "policy_delete": "policy_set",
    "presence_unfollow": "presence_follow",
    "user_enable": "user_disable",
    **dict.fromkeys([name for name in OPERATIONS if name.startswith("webhook_")], "webhook_add"),
}
del AFTER["webhook_add"]
# What cannot be done in a world without sockets; every door says so in the same words.
REFUSED = {"webhook_test": "not-running"}
# Values that differ from world to world: random, real time, the folder, and what the asking itself counts.
RANDOM = frozenset({
    "token", "jti", "secret", "took_ms", "text", "password", "claims", "data", "connections", "commits", "counters",
    "database_bytes",
})  # fmt: skip
_DRAWN = re.compile(r"(?<=guest-)[a-z0-9]{12}|\b[0-9a-f]{24}\b")  # the name of a guest, the id of a token


def same(value: Any, key: str = "") -> Any:
    """Return an answer without what is random in it."""
    if key in RANDOM:
        return "…"
    if isinstance(value, dict):
        return {name: same(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [same(each) for each in value]
    return _DRAWN.sub("…", value) if isinstance(value, str) else value


@pytest.fixture
def open_world(tmp_path):
    """Return a maker of worlds of the documentation."""
    made: list[Documentation] = []

    def make() -> Documentation:
        made.append(Documentation(tmp_path / f"data{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_door_gives_the_same_answer(open_world, name) -> None:
    """The example of an operation has the same result over MQTT, HTTP (twice), the control socket and in Python."""
    answers = {}
    for door in DOORS:
        world = open_world()
        if name in AFTER:
            before = AFTER[name]
            assert "code" not in world.python(before, world.example(before))
        answers[door] = same(getattr(world, door)(name, world.example(name)))

    assert dict.fromkeys(DOORS, answers["python"]) == answers
    assert REFUSED.get(name) == answers["python"].get("code"), answers["python"]


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if each.scope > Scope.USER])
def test_every_door_refuses_who_may_not(open_world, name) -> None:
    """A token of scope user does nothing by any door that is a backend's or an admin's."""
    world = open_world()
    answers = {door: getattr(world, door)(name, world.example(name), "alice")["code"] for door in DOORS}

    assert dict.fromkeys(DOORS, "forbidden") == answers


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if each.scope == Scope.USER and each.actor])
def test_every_door_refuses_to_act_for_another(open_world, name) -> None:
    """Who has a token of scope user acts in his own name, by every door."""
    world = open_world()
    operation = OPERATIONS[name]
    arguments = world.example(name) | {operation.actor: "bob"}
    answers = {door: getattr(world, door)(name, arguments, "carol")["code"] for door in DOORS}

    assert dict.fromkeys(DOORS, "forbidden") == answers


def test_every_operation_has_a_route_of_its_own() -> None:
    """A new operation gets its line in `TABLE` of mesimqtt/api/routes.py."""
    assert [] == [name for name in OPERATIONS if name not in TABLE]
