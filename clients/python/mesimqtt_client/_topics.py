"""The contract's spelling, both ways: addresses (section 1), topics and parameters (section 2)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import quote, unquote_to_bytes

from mesimqtt_client._status import FLAGS_DEFAULT, Flag
from mesimqtt_client._unseen import has_unseen

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS_MAX_BYTES = 63
PARAMS_MAX = 16
PARAMS_BYTES_MAX = 2048
TYPE_MAX = 2**32 - 1
SECONDS_MAX = 31_536_000
_MID = re.compile(r"[0-9a-f]{16}")
_OPERATION = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NATIVE = frozenset({"type", "expiry", "flags", "ref", "edit", "recall", "when", "age", "seq"})
_FLAGS_KNOWN = int(FLAGS_DEFAULT | Flag.TRANSIENT | Flag.FORWARDED)
_LARGEST = {"type": TYPE_MAX, "flags": 0xFFFF}


class SendOptions(TypedDict, total=False):
    """What may be said of a message; what is left out has the contract's default.

    type: the application's message type, 0…2^32-1.  expiry: seconds to live, 0 = only to who is online now.
    flags: `Flag` bits.  ref, edit, recall: mid of an earlier message.  when: deliver after so many seconds.
    age: delete so many seconds after it was read.  params: up to 16 keys of the application's own.
    """

    type: int
    expiry: int
    flags: int
    ref: str
    edit: str
    recall: str
    when: int
    age: int
    params: Mapping[str, str | int]


NO_STUB: SendOptions = {"params": {"stub": "0"}}  # beside `recall`: nothing is to be seen of the message any more


class TopicError(ValueError):
    """A topic from the server that this client does not know; it is logged and acknowledged."""


def is_a(value: object, *types: type) -> bool:
    """Tell whether `value` has one of `types`, for callers who do not run a type checker; a bool is no int."""
    return isinstance(value, types) and not isinstance(value, bool)


def check_address(address: str) -> str:
    """Return `address` unchanged if it is a legal user or group address, else raise ValueError."""
    if not is_a(address, str):
        raise TypeError(f"an address is a str, not {type(address).__name__}")
    try:
        size = len(address.encode())
    except UnicodeEncodeError:
        raise ValueError("an address must be valid UTF-8: this one has a lone surrogate") from None
    if not 1 <= size <= ADDRESS_MAX_BYTES:
        raise ValueError(f"an address is 1 to {ADDRESS_MAX_BYTES} bytes of UTF-8, this one has {size}")
    if address in (".", ".."):
        raise ValueError("an address must not be '.' or '..'")
    if address != address.strip():
        raise ValueError(f"address {address!r} begins or ends with a space: strip it")
    if any(unicodedata.category(character) == "Cc" or character in "\u2028\u2029" for character in address):
        raise ValueError(f"address {address!r} holds a control character")
    if has_unseen(address):
        raise ValueError(f"address {address!r} has a character that cannot be seen: leave it out")
    if unicodedata.normalize("NFC", address) != address:
        raise ValueError(f"address {address!r} is not in NFC: use unicodedata.normalize('NFC', address)")
    return address


@lru_cache(maxsize=4096)
def encode_address(address: str) -> str:
    """Return the one legal spelling of an address as a topic level."""
    return quote(check_address(address), safe="@")


@lru_cache(maxsize=4096)
def decode_address(level: str) -> str:
    """Return the address that a topic level spells."""
    try:
        return unquote_to_bytes(level).decode()
    except UnicodeDecodeError:
        raise TopicError(f"{level!r} spells no address") from None


def check_mid(mid: str, what: str) -> str:
    """Return `mid` if it looks like a server's message id, else raise ValueError."""
    if not is_a(mid, str) or not _MID.fullmatch(mid):
        raise ValueError(f"{what} is the mid of a message, 16 hex digits, not {mid!r}")
    return mid


def check_operation(operation: str) -> str:
    """Return `operation` if it can stand in an rpc topic, else raise ValueError."""
    if not _OPERATION.fullmatch(operation):
        raise ValueError(f"an rpc operation is one word, e.g. 'history', not {operation!r}")
    return operation


def format_params(
    *,
    type: int | None = None,  # noqa: A002 - the contract's word
    expiry: int | None = None,
    flags: int | None = None,
    ref: str | None = None,
    edit: str | None = None,
    recall: str | None = None,
    when: int | None = None,
    age: int | None = None,
    params: Mapping[str, str | int] | None = None,
) -> str:
    """Return the parameter level of a message, '' if it has none. Raises ValueError for what would be refused."""
    pairs: dict[str, str | int] = {}
    for key, number in (("type", type), ("expiry", expiry), ("when", when), ("age", age), ("flags", flags)):
        if number is not None:
            pairs[key] = _check_number(key, number, _LARGEST.get(key, SECONDS_MAX))
    if flags is not None and flags & ~_FLAGS_KNOWN:
        raise ValueError(f"flags has unknown bits {flags & ~_FLAGS_KNOWN:#x}: combine members of Flag")
    for key, mid in (("ref", ref), ("edit", edit), ("recall", recall)):
        if mid is not None:
            pairs[key] = check_mid(mid, key)
    if edit is not None and recall is not None:
        raise ValueError("a message either edits or recalls an earlier one: leave one of edit= and recall= out")
    pairs.update(_check_own_params(params or {}))
    level = "&".join(f"{_encode(key)}={_encode(str(value))}" for key, value in pairs.items())
    if len(level) > PARAMS_BYTES_MAX:
        raise ValueError(f"the parameters take {len(level)} bytes, the limit is {PARAMS_BYTES_MAX}: use the payload")
    return level


def parse_params(level: str) -> dict[str, str]:
    """Return the decoded keys and values of a parameter level, in their order."""
    pairs = (part.partition("=") for part in level.split("&"))
    try:
        return {unquote_to_bytes(key).decode(): unquote_to_bytes(value).decode() for key, _, value in pairs}
    except UnicodeDecodeError:
        raise TopicError(f"{level!r} holds no parameters") from None


@dataclass(frozen=True, slots=True)
class InTopic:
    """A parsed topic under `ROOT/{me}/in/`.

    `cls` is its first level. `peer` is the other user: the sender, or the recipient of a `sent` copy; `group` the
    group, if it is about one. `id` is the mid, the cid of a status, or the request id of an rpc.
    """

    cls: str
    peer: str | None = None
    group: str | None = None
    id: str = ""
    params: dict[str, str] = field(default_factory=dict)


def parse_in(topic: str, prefix: str) -> InTopic:
    """Parse a topic under `prefix`, `ROOT/{me}/in/`. Raises TopicError for one that this client does not know."""
    rest = topic.removeprefix(prefix)
    if not topic.startswith(prefix):
        raise TopicError(f"not under {prefix}: {topic[:200]!r}")
    levels = rest.split("/")
    # An address never holds a raw `=`, so the last level is parameters exactly if it contains one (section 2).
    params = parse_params(levels.pop()) if len(levels) > 1 and "=" in levels[-1] else {}
    match levels:
        case ["u", peer, mid]:
            return InTopic("u", decode_address(peer), None, mid, params)
        case ["g", group, sender, mid]:
            return InTopic("g", decode_address(sender), decode_address(group), mid, params)
        case ["sent", "u", peer, mid]:
            return InTopic("sent", decode_address(peer), None, mid, params)
        case ["sent", "g", group, mid]:
            return InTopic("sent", None, decode_address(group), mid, params)
        case ["read" | "presence" as cls, "u", peer]:
            return InTopic(cls, decode_address(peer))
        case ["read", "g", group]:
            return InTopic("read", None, decode_address(group))
        case ["presence", "g", group, peer]:
            return InTopic("presence", decode_address(peer), decode_address(group))
        case ["event", "g", group, mid]:
            return InTopic("event", None, decode_address(group), mid, params)
        case ["status" | "rpc" as cls, identifier]:
            return InTopic(cls, id=identifier)
        case ["session"]:
            return InTopic("session")
        case _:
            raise TopicError(f"unknown topic under in/: {rest[:200]!r}")


def own_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return the application's keys: those that the contract does not name."""
    return {key: value for key, value in params.items() if key not in _NATIVE}


def _check_own_params(params: Mapping[str, str | int]) -> dict[str, str | int]:
    if len(params) > PARAMS_MAX:
        raise ValueError(f"{len(params)} keys in params, the limit is {PARAMS_MAX}: use the payload")
    for key, value in params.items():
        if not is_a(key, str) or not key:
            raise ValueError(f"a key of params is a non-empty str, not {key!r}")
        if key == "seq":
            raise ValueError("'seq' is the server's: choose another key in params")
        if key in _NATIVE:
            raise ValueError(f"{key!r} is the contract's own key: give it as {key}=… beside params")
        if not is_a(value, str, int):
            raise ValueError(f"params[{key!r}] is a str or int, not {type(value).__name__}")
    return dict(params)


def _check_number(key: str, value: int, largest: int) -> int:
    if not is_a(value, int) or not 0 <= value <= largest:
        raise ValueError(f"{key} is a whole number from 0 to {largest}, not {value!r}")
    return int(value)


def _encode(text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is not valid UTF-8: it has a lone surrogate") from None
