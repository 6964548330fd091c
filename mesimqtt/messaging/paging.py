"""Places to go on from, as opaque text: the `next` of an answer is the `cursor` of the next question."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from mesimqtt.domain.errors import OperationError

LAST = 2**62  # more than any seq, mid of ours or time will be
_LENGTH_MAX = 400


def pack(values: dict[str, Any]) -> str:
    """Return a place as text."""
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def unpack(cursor: str) -> dict[str, Any]:
    """Return what `pack` was given.

    Raises:
        OperationError: it is no text of ours.

    """
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor[:_LENGTH_MAX] + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise bad_cursor() from None
    if not isinstance(values, dict):
        raise bad_cursor()
    return values


def number_of(values: dict[str, Any], key: str) -> int:
    """Return a number of a place. Raises OperationError if it is none."""
    value = values.get(key)
    if type(value) is not int or not 0 <= value <= LAST:
        raise bad_cursor()
    return value


def bad_cursor() -> OperationError:
    """Return the refusal of a cursor that is not ours, or belongs to another question."""
    return OperationError("bad-cursor", "cursor is the `next` of an answer to the same question; leave it out to begin")
