"""The API as an OpenAPI 3.1 document and as a plain page, made from the table of routes and what operations say."""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mesimqtt.api.application import Response
from mesimqtt.api.forms import example_of, schema_of
from mesimqtt.api.routes import GENERIC, all_routes, plain_routes
from mesimqtt.messaging.operations import OPERATIONS

if TYPE_CHECKING:
    from mesimqtt.api.routes import Route

Json = dict[str, Any]

_NAME = re.compile(r"{(\w+)}")

_PROBLEM: Json = {
    "type": "object",
    "description": "RFC 9457; `code` is for a program, `detail` for a person.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}
_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and the same request again: one effect, the same answer, for seven days.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_REFUSALS: Json = {
    "description": "Refused: 400 a wrong request, 401 no good token, 403 not allowed, 404 not there, 409 a conflict, "
    "429 too often, 503 or 507 the store cannot take it.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_INTRODUCTION = (
    "Users, groups, messages and their statuses. The same operations, with the same names, arguments, answers and "
    "refusals, are there over MQTT (rpc) and on the command line. docs/http.md tells the rest."
)


@cache
def document() -> Json:
    """Return the document. Its version is the API's, not the program's."""
    paths: Json = {}
    for route in [*all_routes(), *plain_routes()]:
        paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route)
    paths[f"{GENERIC}{{operation}}"] = {"post": _any_operation()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mesimqtt", "version": "1", "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(route.path) for route in all_routes())],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A JWT or a short token."}
            },
            "schemas": {"Problem": _PROBLEM},
            "responses": {"Refused": _REFUSALS},
        },
    }


def _operation(route: Route) -> Json:
    operation = route.operation
    first, _, rest = operation.description.partition("\n")
    found: Json = {
        "operationId": _identifier(route),
        "tags": [_tag(route.path)],
        "summary": first,
        "description": f"{rest.strip()}\n\nFor tokens of scope {operation.scope.name.lower()} or higher.".strip(),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.success): {
                "description": HTTPStatus(route.success).phrase,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "default": {"$ref": "#/components/responses/Refused"},
        },
    }
    if route.has_body:
        found["parameters"].append(_KEY)
        found["requestBody"] = _body(route)
    return found


def _path_parameters(route: Route) -> list[Json]:
    found: list[Json] = []
    names = _NAME.findall(_path(route))
    for name, argument in zip(names, route.bound, strict=True):
        value = example_of(route.operation).get(argument, "team" if argument == "group" else "bob")
        example = value[0] if isinstance(value, list) else next(iter(value)) if isinstance(value, dict) else value
        schema = _single(schema_of(route.operation, argument))
        if argument in route.lists or schema["type"] == "object":
            schema = {"type": "string", **(schema.get("items") or schema.get("propertyNames") or {})}
        if schema["type"] == "string":
            schema = {"minLength": 1} | schema
        found.append({"name": name, "in": "path", "required": True, "schema": schema, "example": example})
    return found


def _query_parameters(route: Route) -> list[Json]:
    if route.has_body and not route.is_plain:
        return []
    found = []
    example = example_of(route.operation)
    left_out = set(route.bound)
    if route.is_plain:  # the message is the body, and the path has named its one destination
        left_out |= {"text", "payload", "to", "group", route.operation.actor}
    for name, parameter in route.operation.parameters.items():
        schema = _single(schema_of(route.operation, name))
        if name in left_out or schema.get("type") == "object":
            continue
        is_required = parameter.is_required and name != route.operation.actor
        each: Json = {"name": name, "in": "query", "required": is_required, "schema": schema}
        if not route.is_plain and example.get(name) is not None:
            each["example"] = example[name]
        found.append(each)
    return found


def _single(schema: Json) -> Json:
    """Return the schema of an argument in a query, which cannot say null."""
    kind = schema.get("type")
    if not isinstance(kind, list):
        return schema
    kinds = [each for each in kind if each != "null"]
    found = {**schema, "type": kinds[0] if len(kinds) == 1 else kinds}
    if "enum" in schema:
        found["enum"] = [each for each in schema["enum"] if each is not None]
    return found


def _body(route: Route) -> Json:
    if route.is_plain:
        text = {"schema": {"type": "string", "minLength": 1}, "example": "hi"}
        return {"required": True, "description": "The message, as it is.", "content": {"text/plain": text}}
    parameters = {key: each for key, each in route.operation.parameters.items() if key not in route.bound}
    required = [key for key, each in parameters.items() if each.is_required and key != route.operation.actor]
    schema: Json = {
        "type": "object",
        "properties": {key: schema_of(route.operation, key) for key in parameters},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    example = {key: value for key, value in example_of(route.operation).items() if key not in route.bound}
    return {"required": bool(required), "content": {"application/json": {"schema": schema, "example": example}}}


def _any_operation() -> Json:
    return {
        "operationId": "operation",
        "tags": ["op"],
        "summary": "Do any operation by its name, with its arguments as a JSON object.",
        "parameters": [
            {
                "name": "operation",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "enum": sorted(OPERATIONS)},
                "example": "ping",
            },
            _KEY,
        ],
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}, "example": {}}}},
        "responses": {
            **{
                str(status): {
                    "description": HTTPStatus(status).phrase,
                    "content": {"application/json": {"schema": {"type": "object"}}},
                }
                for status in sorted({route.success for route in all_routes()})
            },
            "default": {"$ref": "#/components/responses/Refused"},
        },
    }


def _path(route: Route) -> str:
    """Return the path in the document, where two paths that differ in the name of an argument alone are one."""
    return _paths()[_NAME.sub("{}", route.path)]


@cache
def _paths() -> dict[str, str]:
    found: dict[str, str] = {}
    for route in [*all_routes(), *plain_routes()]:
        found.setdefault(_NAME.sub("{}", route.path), route.path)
    return found


def _identifier(route: Route) -> str:
    if not route.is_plain:
        return route.operation.name
    return f"{route.method.lower()}_{re.sub(r'[^a-z]+', '_', route.path.removeprefix('/v1/')).strip('_')}"


def _tag(path: str) -> str:
    return path.split("/")[2]


async def json_page() -> Response:
    """Answer `/openapi.json`."""
    return Response(200, _as_json())


@cache
def _as_json() -> bytes:
    return json.dumps(document(), ensure_ascii=False).encode()


async def html_page() -> Response:
    """Answer `/docs`: the same as a page without a script, a style or anything from elsewhere."""
    return Response(200, _as_html(), b"text/html; charset=utf-8")


@cache
def _as_html() -> bytes:
    rows = []
    for route in [*all_routes(), *plain_routes()]:
        operation = route.operation
        arguments = ", ".join(
            f"{key}{'' if parameter.is_required else '?'}: {parameter.annotation}"
            for key, parameter in operation.parameters.items()
        )
        cells = [
            f"<code>{route.method} {escape(route.path)}</code>",
            escape(operation.description.partition("\n")[0]),
            f"<code>{escape(arguments)}</code>",
            operation.scope.name.lower(),
        ]
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    head = "".join(f"<th>{name}</th>" for name in ("request", "what it does", "arguments", "scope"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mesimqtt: HTTP API</title></head><body>'
        f"<h1>HTTP API</h1><p>{escape(_INTRODUCTION)} <a href='/openapi.json'>OpenAPI 3.1</a></p>"
        f"<table border='1'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></body></html>"
    ).encode()
