"""The contract as an AsyncAPI 3 document, made from what the router itself uses: topics, statuses, operations."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mesimqtt import __version__
from mesimqtt.api.channels import IN, LEVELS, OUT, Channel
from mesimqtt.api.forms import example_of, schema_of
from mesimqtt.domain.status import Status
from mesimqtt.messaging.operations import OPERATIONS
from mesimqtt.topics import NATIVE_PARAMS, Params

if TYPE_CHECKING:
    from mesimqtt.messaging.operations_base import Operation

Json = dict[str, Any]
_PARAMS = {
    "type": "The application's message type, opaque to the server.",
    "expiry": "Seconds to live; 0: only to who is online now. On the way in: those that remain, rounded up.",
    "flags": "Bits: 1 delivery receipt wanted, 2 read receipt wanted, 4 transient, 128 forwarded.",
    "ref": "The mid of the message that this one answers.",
    "edit": "The mid of an own earlier message that this one replaces.",
    "recall": "The mid of an own earlier message that this one takes back.",
    "when": "Deliver after that many seconds.",
    "age": "Delete everywhere that many seconds after it was read.",
}
_HEEDED = {  # keys of the sender's own that the server heeds, by their field in Params
    "age_from": ("age-from", "When an age begins: read (the default), delivered or sent."),
    "priority": ("priority", "0 (most urgent) to 15: which conversation a returning device gets first."),
    "has_stub": ("stub", "Beside recall, 0: nothing is to be seen of the message any more."),
}
_NAMES = {"bytes": "Opaque bytes, delivered identical."}


def document(*, root: str = "m", host: str = "127.0.0.1:1883") -> Json:
    """Return the AsyncAPI document of a server whose topics stand under `root`."""
    channels, operations = {}, {}
    for action, table in (("receive", OUT), ("send", IN)):
        for channel in table:
            for number, form in enumerate(channel.forms):
                name = channel.name if not number else f"{channel.name}{number + 1}"
                channels[name] = _channel(root, form, channel)
                operations[name] = _operation(action, name, channel)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "mesimqtt",
            "version": __version__,
            "description": "Messages between users and groups over plain MQTT, with a truthful status for each.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/octet-stream",
        "servers": {
            "mqtt": {
                "host": host,
                "protocol": "mqtt",
                "description": "User name: the address. Password: a token. MQTT 3.1.1 or 5.0, also over WebSocket.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "userPassword", "description": "Address and token."}},
        },
    }


def _channel(root: str, form: str, channel: Channel) -> Json:
    address = f"{root}/{{me}}/{form}"
    levels = [name for name in LEVELS if f"{{{name}}}" in address]
    parameters: Json = {name: {"description": LEVELS[name][1]} for name in levels}
    if channel.schema == "question":
        parameters["op"] = {**parameters["op"], "enum": sorted(OPERATIONS)}
    messages = (
        {name: {"$ref": f"#/components/messages/{name}"} for name in map(_question_name, OPERATIONS)}
        if channel.schema == "question"
        else {channel.schema: {"$ref": f"#/components/messages/{channel.schema}"}}
    )
    return {"address": address, "description": channel.summary, "parameters": parameters, "messages": messages}


def _operation(action: str, name: str, channel: Channel) -> Json:
    found: Json = {"action": action, "channel": {"$ref": f"#/channels/{name}"}, "summary": channel.summary}
    if channel.schema == "question":
        found["reply"] = {"channel": {"$ref": "#/channels/answer"}}
    return found


def _question_name(operation: str) -> str:
    return f"question.{operation}"


def _messages() -> Json:
    names = dict.fromkeys(channel.schema for channel in (*OUT, *IN) if channel.schema != "question")
    found: Json = {}
    for name in names:
        message: Json = {"name": name, "payload": {"$ref": f"#/components/schemas/{name}"}}
        if name in _NAMES:
            message |= {"summary": _NAMES[name], "headers": {"$ref": "#/components/schemas/parameters"}}
        else:
            message["contentType"] = "text/plain" if name in ("readMark", "statusCode") else "application/json"
        found[name] = message
    for operation in OPERATIONS.values():
        found[_question_name(operation.name)] = _question(operation)
    return found


def _question(operation: Operation) -> Json:
    first, _, rest = operation.description.partition("\n\n")
    properties = {key: schema_of(operation, key) for key in operation.parameters}
    required = [key for key, each in operation.parameters.items() if each.is_required and key != operation.actor]
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    scope = f"Needs a token of scope {operation.scope.name.lower()}."
    found: Json = {
        "name": operation.name,
        "summary": first,
        "description": f"{rest}\n\n{scope}".strip(),
        "contentType": "application/json",
        "payload": schema,
    }
    if operation.example:
        found["examples"] = [{"payload": example_of(operation)}]
    return found


def _schemas() -> Json:
    text, number = {"type": "string"}, {"type": "integer"}
    mid = {"type": "string", "pattern": f"^{LEVELS['mid'][0]}$"}
    codes = [int(each) for each in Status]
    status = {
        "cid": text, "mid": mid, "peer": text, "group": text, "status": {"type": "integer", "enum": codes},
        "name": {"type": "string", "enum": [each.title for each in Status]}, "ts": number, "device": text,
        "reason": text, "limit": number, "rule": text, "retry_after": number, "counts": {"type": "object"},
    }  # fmt: skip
    return {
        "bytes": {"description": _NAMES["bytes"]},
        "parameters": _parameters(),
        "readMark": {"type": "string", "pattern": f"^(<=)?{LEVELS['mid'][0]}$"},
        "statusCode": {"type": "integer", "enum": codes},
        "status": {
            "type": "object",
            "properties": status,
            "required": ["cid", "mid", "status", "name", "ts"],
            "additionalProperties": False,
        },
        "groupEvent": {
            "type": "object",
            "properties": {"event": text, "group": text, "users": {"type": "array", "items": text}},
            "required": ["event", "group"],
        },
        "news": {"type": "object", "properties": {"event": text}, "required": ["event"]},
        "answer": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"ok": {"const": True}, "result": {"type": "object"}},
                    "required": ["ok", "result"],
                },
                {
                    "type": "object",
                    "properties": {"ok": {"const": False}, "code": text, "message": text, "retry_after": number},
                    "required": ["ok", "code", "message"],
                },
            ]
        },
    }


def _parameters() -> Json:
    """Return the keys of a parameter level, which a client of MQTT 5.0 may write as user properties."""
    own = [each for each in fields(Params) if each.name != "raw" and each.name not in _HEEDED]
    properties: Json = {}
    for each in own:
        kind = {"type": "integer", "minimum": 0}
        if each.name in ("ref", "edit", "recall"):
            kind = {"type": "string", "pattern": f"^{LEVELS['mid'][0]}$"}
        properties[each.name] = {**kind, "description": _PARAMS[each.name]}
    properties["seq"] = {"type": "integer", "description": "The message's number in its conversation; on `in/` only."}
    properties |= {key: {"type": "string", "description": text} for key, text in _HEEDED.values()}
    properties |= {name: {"type": "string"} for name in sorted(NATIVE_PARAMS)}
    return {"type": "object", "properties": properties, "additionalProperties": {"type": "string"}}
