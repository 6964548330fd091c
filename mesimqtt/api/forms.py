"""What an argument looks like beyond its type, as JSON Schema for OpenAPI and AsyncAPI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.access_rules import SCOPES
from mesimqtt.domain.addresses import ADDRESS_MAX_BYTES
from mesimqtt.domain.events import FORMATS
from mesimqtt.domain.groups import GROUP_ALL, KINDS, RIGHTS, Role
from mesimqtt.messaging.operations_base import ARGUMENT_TYPES, FAR_FUTURE_S, PAGE_MAX, PROFILE_VALUE_MAX
from mesimqtt.messaging.operations_groups import EXPIRY_MAX_S as GROUP_EXPIRY_MAX_S
from mesimqtt.messaging.operations_members import TTL_MAX_S, USES_MAX
from mesimqtt.messaging.operations_policies import NAME_MAX
from mesimqtt.messaging.operations_presence import ASKED_MAX
from mesimqtt.messaging.operations_tokens import PACKET_MAX
from mesimqtt.messaging.operations_webhooks import BATCH_AGE_MS_MAX, BATCH_MAX
from mesimqtt.messaging.pins import PIN_MAX, PIN_MIN
from mesimqtt.tokens import TOKEN_MAX_BYTES
from mesimqtt.topics import CID_PATTERN, EXPIRY_MAX_S, MID_PATTERN, PRIORITY_MAX, TYPE_MAX, WHEN_MAX_S

if TYPE_CHECKING:
    from mesimqtt.messaging.operations import Operation

Json = dict[str, Any]


def _from(least: int, most: int) -> Json:
    return {"minimum": least, "maximum": most}


# `format` stands for what no pattern says (NFC, nothing hidden). A length is in characters, never more than its bytes.
_ADDRESS: Json = {"format": "address", "minLength": 1, "maxLength": ADDRESS_MAX_BYTES}
_ADDRESSES: Json = {"minItems": 1, "items": {"type": "string", **_ADDRESS}}
_MID: Json = {"pattern": f"^{MID_PATTERN.pattern}$"}
_TOKEN: Json = {"maxLength": TOKEN_MAX_BYTES}

# By the name of an argument, or `operation.argument` where a name has two meanings.
FORMS: dict[str, Json] = {
    **dict.fromkeys(("address", "by", "group", "owner", "peer", "sender", "to", "user"), _ADDRESS),
    **dict.fromkeys(("addresses", "peers", "users"), _ADDRESSES),
    **dict.fromkeys(("edit", "mid", "recall", "ref"), _MID),
    "action": {"enum": ["publish", "subscribe"]},
    "age": _from(0, EXPIRY_MAX_S),
    "batch_age_ms": _from(0, BATCH_AGE_MS_MAX),
    "batch_max": _from(1, BATCH_MAX),
    "cid": {"pattern": f"^{CID_PATTERN.pattern}$"},
    "contact_add.contacts": {"minProperties": 1, "propertyNames": _ADDRESS},
    "contact_remove.contacts": _ADDRESSES,
    "expiry": _from(0, EXPIRY_MAX_S),
    "flags": _from(0, 0xFFFF),
    "format": {"enum": list(FORMATS)},
    "group_add.expiry": _from(1, GROUP_EXPIRY_MAX_S),
    "group_add.flags": _from(0, GROUP_ALL),
    "group_pin_add.pin": {"minLength": PIN_MIN, "maxLength": PIN_MAX},
    "group_pin_add.rights": {"items": {"type": "string", "enum": list(RIGHTS)}},
    "group_pin_add.ttl": _from(1, TTL_MAX_S),
    "groups": {"items": {"type": "string", **_ADDRESS}},
    "guest_add.ttl": _from(1, FAR_FUTURE_S),
    "ids": {"minItems": 1, "items": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
    "keep_s": {"minimum": 0},
    "kind": {"enum": list(KINDS)},
    "limit": _from(1, PAGE_MAX),
    "message_send.to": {"items": {"type": "string", **_ADDRESS}},
    "mids": {"minItems": 1, "items": {"type": "string", **_MID}},
    "names": {"minProperties": 1, "propertyNames": _ADDRESS},
    "order": {"enum": ["newest", "oldest"]},
    "packet": _from(0, PACKET_MAX),
    "policy_set.name": {"minLength": 1, "maxLength": NAME_MAX},
    "presence.addresses": {**_ADDRESSES, "maxItems": ASKED_MAX},
    "priority": _from(0, PRIORITY_MAX),
    "group_set.profile": {"minProperties": 1, "additionalProperties": {"type": "string"}},
    "profile_set.profile": {"minProperties": 1},
    "topic": {"minLength": 1, "maxLength": 0xFFFF},
    "profile": {"additionalProperties": {"type": "string", "maxLength": PROFILE_VALUE_MAX}},
    "role": {"enum": [Role.MEMBER.value, Role.ADMIN.value]},
    "scope": {"enum": list(SCOPES)},
    "send.payload": {"contentEncoding": "base64"},
    "token_issue.ttl": _from(1, FAR_FUTURE_S),
    "token_show.token": _TOKEN,
    "type": _from(0, TYPE_MAX),
    "uses": _from(1, USES_MAX),
    "when": _from(0, WHEN_MAX_S),
}


# What stands in the documents for the ids of an example, which differ from server to server.
EXAMPLE_IDS = {
    "{mid}": "0cb1969cae800001",
    "{gmid}": "0cb1969cae800003",
    "{later}": "0cb1969cae800005",
    "{token}": "mQ3xV7bJ0sZk5LrT9wYc2HnE8dGf4PaU",
}


def example_of(operation: Operation) -> Json:
    """Return arguments that look as they would on a server."""
    text = json.dumps(dict(operation.example), ensure_ascii=False)
    for name, value in EXAMPLE_IDS.items():
        text = text.replace(name, value)
    found: Json = json.loads(text)
    return found


def schema_of(operation: Operation, name: str) -> Json:
    """Return the schema of an argument. Null for the one that says in whose name it is done means: in the caller's."""
    schema = dict(ARGUMENT_TYPES[operation.parameters[name].annotation].schema)
    schema |= FORMS.get(f"{operation.name}.{name}", FORMS.get(name, {}))
    if name == operation.actor and schema["type"] == "string":
        schema["type"] = ["string", "null"]
    if "enum" in schema and "null" in schema["type"]:
        schema["enum"] = [*schema["enum"], None]
    return schema
