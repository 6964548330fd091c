"""What an operation is: a coroutine with keyword arguments that are checked against its annotations."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError, OperationError
from mesimqtt.store import groups, tokens, users

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mesimqtt.messaging.messaging import Messaging
    from mesimqtt.store.groups import GroupRow
    from mesimqtt.store.users import UserRow

ADDRESSES_MAX = 1_000
PAGE_MAX = 1_000
PROFILE_KEYS_MAX = 64
PROFILE_VALUE_MAX = 4_096
FAR_FUTURE_S = 253_402_300_799  # the end of the year 9999: what a person could still read as a date

Answer = dict[str, Any]


class Scope(IntEnum):
    """Who may call an operation: a token of this scope (contract section 5) or of a higher one.

    A USER operation is done in the caller's own name: its argument `actor` can name nobody else.
    """

    USER = 0
    BACKEND = 1
    ADMIN = 2


class Caller(NamedTuple):
    """Who calls an operation. `user` is '' for the operator on the control socket, who acts in no one's name."""

    user: str = ""
    scope: str = "admin"

    @property
    def power(self) -> Scope:
        """Return how much this caller may do; an unknown scope is a user's."""
        return Scope.__members__.get(self.scope.upper(), Scope.USER)


OPERATOR = Caller()


class ArgumentError(OperationError):
    """The arguments are not what the operation takes: wrong usage, exit code 2."""

    exit_code = 2

    def __init__(self, message: str, code: str = "bad-argument") -> None:
        super().__init__(code, message)


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations work on. `bound` lists the listeners as (kind, host, port)."""

    messaging: Messaging
    bound: Sequence[tuple[str, str, int]] = ()
    caller: Caller = OPERATOR

    @property
    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return self.messaging.now_ms()

    @property
    def now_s(self) -> int:
        """Return the time in seconds since 1970."""
        return self.messaging.now_ms() // 1000

    @property
    def read(self) -> sqlite3.Connection:
        """Return the connection for reading."""
        return self.messaging.store.read


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operation: its annotation, and whether it may be left out."""

    annotation: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """A named operation, the same by every door: rpc, HTTP, command line, Python.

    `actor` is the argument that says in whose name it is done, '' if none does. `example` are arguments that work in
    the world of the documentation (users alice, bob and carol, group team), for OpenAPI and the parity test.
    `is_lookup`: it changes nothing, and reads as much as is asked for (`rates.lookups`).
    """

    name: str
    call: Callable[..., Awaitable[Answer]]
    parameters: dict[str, Parameter]
    description: str
    scope: Scope = Scope.ADMIN
    actor: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    is_lookup: bool = False

    def admit(self, caller: Caller, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with the caller in his place; raise OperationError if he may not call this."""
        if caller.power < self.scope:
            raise OperationError(
                "forbidden", f"{self.name} needs a token of scope {self.scope.name.lower()}; yours is {caller.scope}"
            )
        if not self.actor or not caller.user:
            return arguments
        named = arguments.get(self.actor)
        if named is None:
            return {**arguments, self.actor: caller.user}
        if named != caller.user and caller.power is Scope.USER:
            raise OperationError("forbidden", f"{self.actor} is you: leave it out, or write {caller.user!r}")
        return arguments

    def check(self, arguments: dict[str, Any]) -> None:
        """Raise ArgumentError unless `arguments` are what the operation takes."""
        for key, value in arguments.items():
            parameter = self.parameters.get(key)
            if parameter is None:
                known = ", ".join(self.parameters) or "none"
                raise ArgumentError(f"{self.name}: unknown argument {key!r}; it takes {known}")
            kind = ARGUMENT_TYPES[parameter.annotation]
            if not kind.accepts(value):
                raise ArgumentError(f"{self.name}: {key} must be {kind.words}")
        for key, parameter in self.parameters.items():
            if parameter.is_required and key not in arguments:
                raise ArgumentError(f"{self.name}: {key} is missing")


OPERATIONS: dict[str, Operation] = {}


def operation(
    scope: Scope, *, actor: str = "", example: Mapping[str, Any] | None = None, is_lookup: bool = False
) -> Callable[[Callable[..., Awaitable[Answer]]], Callable[..., Awaitable[Answer]]]:
    """Register a coroutine under its name; its keyword arguments and docstring describe it (see Operation)."""

    def register(call: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
        parameters = {
            key: Parameter(str(each.annotation), is_required=each.default is inspect.Parameter.empty)
            for key, each in inspect.signature(call).parameters.items()
            if each.kind is inspect.Parameter.KEYWORD_ONLY
        }
        unknown = [each.annotation for each in parameters.values() if each.annotation not in ARGUMENT_TYPES]
        if unknown or (actor and actor not in parameters):
            raise TypeError(f"{call.__name__}: no check is known for {unknown or actor}")
        description = inspect.getdoc(call) or ""
        OPERATIONS[call.__name__] = Operation(
            call.__name__, call, parameters, description, scope, actor, dict(example or {}), is_lookup
        )
        return call

    return register


def _is_text(value: object) -> bool:
    # JSON can spell half a character ("\\ud800"), which nothing behind this point could store.
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) < 2**53


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and len(value) <= ADDRESSES_MAX and all(map(_is_text, value))


def _is_map(value: object) -> bool:
    return isinstance(value, dict) and len(value) <= ADDRESSES_MAX and all(map(_is_text, [*value, *value.values()]))


class ArgumentType(NamedTuple):
    """A kind of argument: in words, as a check, and as JSON Schema (for OpenAPI and AsyncAPI)."""

    words: str
    accepts: Callable[[object], bool]
    schema: dict[str, Any]


_TEXTS = {"type": "array", "items": {"type": "string"}, "maxItems": ADDRESSES_MAX}
_WHOLE = {"type": "integer", "minimum": 1 - 2**53, "maximum": 2**53 - 1}
ARGUMENT_TYPES: dict[str, ArgumentType] = {
    "str": ArgumentType("a text", _is_text, {"type": "string"}),
    "str | None": ArgumentType(
        "a text or null", lambda value: value is None or _is_text(value), {"type": ["string", "null"]}
    ),
    "int": ArgumentType("a whole number", _is_number, _WHOLE),
    "int | None": ArgumentType(
        "a whole number or null",
        lambda value: value is None or _is_number(value),
        {**_WHOLE, "type": ["integer", "null"]},
    ),
    "int | str | None": ArgumentType(
        "a whole number, a text or null",
        lambda value: value is None or _is_number(value) or _is_text(value),
        {"type": ["integer", "string", "null"]},
    ),
    "bool": ArgumentType("true or false", lambda value: isinstance(value, bool), {"type": "boolean"}),
    "bool | None": ArgumentType(
        "true, false or null", lambda value: value is None or isinstance(value, bool), {"type": ["boolean", "null"]}
    ),
    "list[str]": ArgumentType(f"a list of at most {ADDRESSES_MAX} texts", _is_texts, _TEXTS),
    "list[str] | None": ArgumentType(
        f"a list of at most {ADDRESSES_MAX} texts, or null",
        lambda value: value is None or _is_texts(value),
        {**_TEXTS, "type": ["array", "null"]},
    ),
    "dict[str, str] | None": ArgumentType(
        "an object whose values are texts, or null",
        lambda value: value is None or _is_map(value),
        {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
    ),
    "dict[str, str]": ArgumentType(
        "an object whose values are texts", _is_map, {"type": "object", "additionalProperties": {"type": "string"}}
    ),
}


def checked_address(address: str) -> str:
    """Return a legal address; raise ArgumentError otherwise."""
    try:
        return check_address(address)
    except AddressError as error:
        raise ArgumentError(f"{address[:80]!r}: {error}") from None


def checked_addresses(addresses: list[str]) -> list[str]:
    """Return legal addresses, each once, in the given order."""
    if not addresses:
        raise ArgumentError("name at least one address")
    return list(dict.fromkeys(checked_address(address) for address in addresses))


def known_user(connection: sqlite3.Connection, address: str) -> UserRow:
    """Return a user; raise OperationError if there is none."""
    user = users.find(connection, checked_address(address))
    if user is None:
        raise OperationError("no-such-user", f"no user {address!r}; make it with: mesimqtt user add {address}")
    return user


def known_users(connection: sqlite3.Connection, addresses: list[str]) -> list[UserRow]:
    """Return users; raise OperationError that names all that there are not."""
    found = {address: users.find(connection, address) for address in checked_addresses(addresses)}
    missing = [address for address, user in found.items() if user is None]
    if len(missing) == 1:
        known_user(connection, missing[0])
    if missing:
        raise OperationError("no-such-user", f"no users {', '.join(map(repr, missing))}; nothing was changed")
    return [user for user in found.values() if user is not None]


def managed_users(desk: Desk, connection: sqlite3.Connection, addresses: list[str]) -> list[UserRow]:
    """Return users whom the caller may disable, delete or change; raise OperationError for those that there are not.

    Nobody manages who may do more than himself: a backend that is broken into must not take the admins' way in.
    """
    found = known_users(connection, addresses)
    for user in found:
        checked_power(desk, connection, user)
    return found


def checked_power(desk: Desk, connection: sqlite3.Connection, user: UserRow) -> None:
    """Raise OperationError where a user holds a good token that may do more than the caller's."""
    if desk.caller.power is Scope.ADMIN or desk.caller.user == user.address:
        return
    for scope in tokens.scopes_of(connection, user.id, desk.now_s):
        if Caller(scope=scope).power > desk.caller.power:
            raise OperationError(
                "forbidden", f"{user.address!r} holds a token of scope {scope}, which is more than yours; ask an admin"
            )


def known_group(connection: sqlite3.Connection, address: str) -> GroupRow:
    """Return a group; raise OperationError if there is none."""
    group = groups.find(connection, checked_address(address))
    if group is None:
        raise OperationError("no-such-group", f"no group {address!r}; make it with: mesimqtt group add {address}")
    return group


def checked_limit(limit: int) -> int:
    """Return how many rows a page may have."""
    if not 1 <= limit <= PAGE_MAX:
        raise ArgumentError(f"limit must be from 1 to {PAGE_MAX}")
    return limit


def merged_profile(profile: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """Return a profile with `changes`: an empty value removes its key; known keys are checked, any other is free."""
    merged = dict(profile)
    for key, value in changes.items():
        if not key or len(key) > 64 or not key.isprintable() or key != key.strip() or "=" in key:
            raise ArgumentError(f"profile key {key[:64]!r}: 1 to 64 printable characters, without = and outer spaces")
        if len(value.encode()) > PROFILE_VALUE_MAX:
            raise ArgumentError(f"{key}: at most {PROFILE_VALUE_MAX} bytes of UTF-8")
        if key == "name" and not (len(value) <= 128 and value.isprintable()):
            raise ArgumentError("name: at most 128 printable characters")
        if value:
            merged[key] = value
        else:
            merged.pop(key, None)
    if len(merged) > PROFILE_KEYS_MAX:
        raise ArgumentError(f"a profile has at most {PROFILE_KEYS_MAX} keys")
    return merged
