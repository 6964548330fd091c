"""JSON as clients and commands may send it: what two readers could read differently is refused."""

from __future__ import annotations

import json
from typing import Any

INTEGER_MAX = 2**53 - 1  # what every JSON reader keeps exactly


def read_json(raw: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return the value of a JSON text. Raises ValueError.

    Refused beside what is no JSON: bytes that are not UTF-8, a byte order mark, a key that stands twice
    (the last one would win silently), NaN and Infinity, numbers that are not kept exactly, and depth that
    Python cannot follow.
    """
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_kept(text: str) -> dict[str, Any]:
    """Return an object that the store kept as text; nothing where damage has made it unreadable."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MAX:
        raise ValueError("an integer beyond 2^53")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number beyond all bounds")
    return number
