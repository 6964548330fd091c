"""From a request to an operation's arguments: path, query and body, and no way to say one thing twice."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from mesimqtt.api.problems import ProblemError
from mesimqtt.api.routes import ME
from mesimqtt.domain.strict_json import read_json

if TYPE_CHECKING:
    from mesimqtt.api.routes import Route

QUERY_FIELDS_MAX = 128  # presence asks about up to a hundred addresses
_SECRETS = frozenset({"token", "access_token", "authorization", "bearer", "jwt", "password"})
_NUMBER = re.compile(r"-?[0-9]{1,16}")
_FLAGS = {"true": True, "false": False}
_JSON = re.compile(rb"application/json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)


def read_query(query: bytes) -> list[tuple[str, str]]:
    """Return what a query says. Raises ProblemError, also for a token: it would stand in logs and histories."""
    if not query:
        return []
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )  # fmt: skip
    except ValueError:
        raise ProblemError(400, "bad-request", "the query is not name=value&name=value in UTF-8") from None
    if any(name.lower() in _SECRETS for name, _ in pairs):
        where = "into the header Authorization (at /backend into the body)"
        raise ProblemError(400, "token-in-query", f"a token goes {where}, never into an address")
    return pairs


def from_request(
    route: Route, values: list[str], pairs: list[tuple[str, str]], body: bytes, kind: bytes, user: str
) -> dict[str, Any]:
    """Return the arguments of a request; raise ProblemError.

    `values` stand for the names of the path, `pairs` are the query, `kind` is the Content-Type.
    """
    if route.is_plain:
        arguments = _from_query(route, pairs)
        arguments |= _message(body)
    elif route.has_body:
        if pairs:
            raise ProblemError(400, "bad-request", f"arguments of {route.method} go into the body, not into the query")
        arguments = _from_body(body, kind)
    else:
        if body:
            raise ProblemError(400, "bad-request", "arguments of GET go into the query, not into a body")
        arguments = _from_query(route, pairs)
    for name, text in zip(route.bound, values, strict=True):
        value = user if text == ME and name in route.users else text
        found: Any = [value] if name in route.lists else _typed(route, name, value)
        if arguments.setdefault(name, found) != found:
            raise ProblemError(400, "id-mismatch", f"{name} says another thing than the path: leave it out")
    return arguments


def _from_body(body: bytes, kind: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    if not _JSON.fullmatch(kind.strip()):
        raise ProblemError(415, "not-json", "the body is JSON in UTF-8: say Content-Type: application/json")
    try:
        found = read_json(body)
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ProblemError(400, "bad-json", f"the body cannot be taken as JSON: {reason}") from None
    if not isinstance(found, dict):
        raise ProblemError(400, "bad-json", "the body is a JSON object, its keys are the arguments")
    return found


def _message(body: bytes) -> dict[str, Any]:
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(body).decode()}


def _from_query(route: Route, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, text in pairs:
        parameter = route.operation.parameters.get(name)
        if parameter is not None and parameter.annotation == "list[str]":
            arguments.setdefault(name, []).append(text)
        elif name in arguments:
            raise ProblemError(400, "bad-request", f"{name} stands twice in the query")
        else:
            arguments[name] = _typed(route, name, text)
    return arguments


def _typed(route: Route, name: str, text: str) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return what a text of the query or the path means; what it cannot mean, the operation refuses."""
    parameter = route.operation.parameters.get(name)
    if parameter is None:
        return text
    if parameter.annotation.startswith("int") and _NUMBER.fullmatch(text):
        return int(text)
    if parameter.annotation.startswith("bool"):
        return _FLAGS.get(text, text)
    return text
