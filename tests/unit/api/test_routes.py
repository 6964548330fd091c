"""The table of routes: every operation once, and no path that hides another."""

from __future__ import annotations

import re

import pytest

from mesimqtt.api.routes import GENERIC, TABLE, Router, all_routes, plain_routes
from mesimqtt.messaging.operations import OPERATIONS

ROUTES = [*all_routes(), *plain_routes()]


def test_every_operation_has_a_route_and_every_line_an_operation() -> None:
    """A line for what is no operation any more is dead."""
    assert set(OPERATIONS) == {route.operation.name for route in ROUTES}
    assert set() == TABLE.keys() - OPERATIONS.keys()
    assert all(line.split()[1] for line in TABLE.values())


def test_no_route_hides_another() -> None:
    """No method and path stand twice, and no word stands where a name does: it would hide who is called so."""
    places = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in ROUTES]
    named = {path.rpartition("/")[0] for _, path in places if path.endswith("{}")}
    named |= {path.split("/{}")[0] for _, path in places if "/{}" in path}
    hiding = [path for _, path in places if path.rpartition("/")[0] in named and not path.endswith("{}")]

    assert sorted(set(places)) == sorted(places)
    assert [] == [path for path in hiding if "{}" not in path]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_is_found_by_its_path(route) -> None:
    """Each name of the path is an argument of the operation."""
    routes, values = Router(ROUTES).find(re.sub(r"{\w+}", "a%2Fb", route.path))

    assert route is routes[route.method]
    assert ["a/b"] * len(route.bound) == values
    assert set(route.bound) <= route.operation.parameters.keys()


def test_a_user_called_like_nothing_else_is_found() -> None:
    """The word of the generic path is no operation's name."""
    assert Router(ROUTES).find(f"{GENERIC}send") is None
    assert Router(ROUTES).find("/v1/users//inbox") is None
