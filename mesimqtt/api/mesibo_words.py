"""How Mesibo's requests say things, and what its error codes are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.strict_json import read_json

if TYPE_CHECKING:
    from mesimqtt.domain.errors import MesimqttError

    Json = dict[str, Any]

BAD_OP = "BADOP"  # Mesibo's documentation names this one; the others are its result codes without their prefix
BAD_REQUEST = "BADREQ"
AUTH_FAILED = "AUTHFAIL"
PAGE_MAX = 20  # of users and members in one answer
NAMES_MAX = 1_000
_TYPES = {list: "a list", str: "a text", type(None): "null", bool: "true or false", int: "a number", float: "a number"}
_FLAGS = {True: True, False: False, "1": True, "0": False, "true": True, "false": False}
_ERRORS = {
    "unauthorized": AUTH_FAILED,
    "forbidden": "DENIED",
    "denied": "DENIED",
    "blocked": "BLOCKED",
    "rate-limited": "RATELIMIT",
    "inbox-full": "INBOXFULL",
    "invalid-destination": "INVALIDDEST",
    "not-member": "NOTMEMBER",
    "group-paused": "GROUPPAUSED",
    "user-offline": "USEROFFLINE",
    "expired": "EXPIRED",
    "no-such-user": "NOSUCHUSER",
    "no-such-group": "NOSUCHGROUP",
    "store": "RETRYLATER",
    "busy": "RETRYLATER",
    "internal": "GENERROR",
}


class MesiboError(Exception):
    """A request is refused with one of Mesibo's codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def error_of(error: MesimqttError | None, code: str = "") -> str:
    """Return Mesibo's name for a refusal of ours; what it has no name for is a bad request."""
    code = code or getattr(error, "code", "store")
    return _ERRORS.get(code, BAD_REQUEST)


def request_of(raw: bytes) -> Json:
    """Return the request that a body is; raise MesiboError, whose text says what is wrong with it."""
    try:
        found = read_json(raw)
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except ValueError as error:
        why = f"it is no JSON: {error}"
    else:
        if isinstance(found, dict):
            return found
        why = f"it is {_TYPES[type(found)]}"
    raise MesiboError(BAD_REQUEST, f"a request is a JSON object with op and token; {why}")


def object_of(body: Json, name: str) -> Json:
    """Return what an operation is about: the object of that name, or, as before, the body itself."""
    found = body.get(name)
    if isinstance(found, dict):
        return found
    return {key: value for key, value in body.items() if key not in ("op", "token", "id")}


def is_text(value: str) -> bool:
    """Tell whether a text can be written: JSON can spell half a character, which nothing can store or send."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def text(values: Json, key: str, default: str) -> str:
    """Return a text."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not is_text(str(value)):
        raise MesiboError(BAD_REQUEST, f"{key} is a text")
    return str(value)


def number(values: Json, key: str, default: int) -> int:
    """Return a whole number, which may come as a text."""
    value = values.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 15:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MesiboError(BAD_REQUEST, f"{key} is a whole number")
    return value


def flag(values: Json, key: str, *, default: bool) -> bool:
    """Return a yes or no, which may come as 1 or 0, also as a text."""
    value = values.get(key, default)
    found = _FLAGS.get(value) if isinstance(value, (str, int)) else None
    if found is None:
        raise MesiboError(BAD_REQUEST, f"{key} is true or false, 1 or 0")
    return found


def names(value: object) -> list[str]:
    """Return the addresses of a comma separated text, or of a list, each once."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) > NAMES_MAX or not all(isinstance(each, str) for each in parts):
        raise MesiboError(BAD_REQUEST, f"at most {NAMES_MAX} addresses, comma separated")
    return list(dict.fromkeys(each.strip() for each in parts if each.strip()))
