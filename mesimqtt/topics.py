"""The topic contract of messaging, pure: what a topic or filter under the root says (contract section 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote_to_bytes

from mesimqtt.domain.addresses import decode_address
from mesimqtt.domain.errors import AddressError

CID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
MID_PATTERN = re.compile(r"[0-9a-f]{16}")
PARAMS_MAX = 16
PARAMS_BYTES_MAX = 2048  # of contract keys and own ones; the native ones have as much again
TYPE_MAX = 2**32 - 1
WHEN_MAX_S = 31_536_000
EXPIRY_MAX_S = 31_536_000
FLAG_DELIVERY_RECEIPT = 1
FLAG_READ_RECEIPT = 2
FLAG_TRANSIENT = 4
FLAG_FORWARDED = 0x80
FLAGS_DEFAULT = FLAG_DELIVERY_RECEIPT | FLAG_READ_RECEIPT
_FLAGS_ALLOWED = FLAGS_DEFAULT | FLAG_TRANSIENT | FLAG_FORWARDED
_OWN_PARAMS = frozenset({"type", "expiry", "flags", "ref", "edit", "recall", "when", "age"})
PRIORITY_MAX = 15  # the least urgent; 0 is the most
PRIORITY_DEFAULT = 8
AGE_FROM = ("read", "delivered", "sent")  # when an `age` begins, the default first
CONTENT_TYPE = "content-type"  # these four are properties of their own in MQTT 5.0
RESPONSE_TOPIC = "response-topic"
CORRELATION_DATA = "correlation-data"
PAYLOAD_FORMAT = "payload-format"
NATIVE_PARAMS = frozenset({CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, PAYLOAD_FORMAT})
PLAIN_PARAMS = _OWN_PARAMS | NATIVE_PARAMS
_ENCODED = re.compile(r"(?:[A-Za-z0-9._~@!$'()*,;:-]|%[0-9A-Fa-f]{2})*")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,11}")
IN_CLASSES = frozenset({"u", "g", "sent", "status", "s", "read", "presence", "rpc", "event"})


class TopicError(ValueError):
    """A topic under `out/` that the contract does not know; the text becomes the status' reason.

    `cid` is the usable cid that the topic names, if any.
    """

    def __init__(self, reason: str, cid: str | None = None) -> None:
        super().__init__(reason)
        self.cid = cid


class ParamsError(TopicError):
    """Parameters that the contract does not know; the topic before them is a good one."""


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of one message. `raw` is the sender's spelling, without `seq`, `''` if none.

    `age_from`, `priority` and `has_stub` are keys of the sender's own that the server heeds, too: `age-from`,
    `priority` and, beside `recall`, `stub`.
    """

    raw: str = ""
    type: int = 0
    expiry: int | None = None
    flags: int = FLAGS_DEFAULT
    ref: str | None = None
    edit: str | None = None
    recall: str | None = None
    when: int = 0
    age: int = 0
    age_from: str = AGE_FROM[0]
    priority: int | None = None
    has_stub: bool = True

    @property
    def is_rare(self) -> bool:
        """Tell whether it asks for more than delivery (messaging/particulars.py)."""
        return bool(
            self.when
            or self.edit
            or self.recall
            or self.age
            or self.flags & FLAG_FORWARDED
            or self.priority is not None
        )

    @property
    def is_transient(self) -> bool:
        """Tell whether the message goes only to who is online now (expiry 0 or flag 4)."""
        return self.expiry == 0 or bool(self.flags & FLAG_TRANSIENT)


NO_PARAMS = Params()


class Kind(StrEnum):
    """What a topic under `out/` asks for."""

    USER = "u"
    GROUP = "g"
    READ_USER = "read/u"
    READ_GROUP = "read/g"
    PRESENCE_USER = "presence/u"
    PRESENCE_GROUP = "presence/g"
    RPC = "rpc"


@dataclass(frozen=True, slots=True)
class OutTopic:
    """A parsed topic under `ROOT/{me}/out/`. `name` is the peer, the group, or the rpc operation."""

    kind: Kind
    name: str
    cid: str | None = None
    params: Params = NO_PARAMS


def parse_params(level: str) -> Params:
    """Parse a parameter level. Raises ParamsError, whose text names the key."""
    return _checked(split_params(level), level)


def make_params(values: dict[str, bytes]) -> Params:
    """Return parameters that came otherwise than in a level. Raises ParamsError, whose text names the key."""
    if sum(len(key) + len(value) for key, value in values.items()) > 2 * PARAMS_BYTES_MAX:  # not worth the encoding
        raise ParamsError(f"parameters are longer than {PARAMS_BYTES_MAX} bytes")
    return _checked(values, "&".join(_spelled(*pair) for pair in values.items()))


def split_params(level: str) -> dict[str, bytes]:
    """Return the keys and values of a level, decoded. Raises ParamsError for what is no level."""
    values: dict[str, bytes] = {}
    for part in level.split("&"):
        key, equals, value = part.partition("=")
        if not equals or not key or not _ENCODED.fullmatch(key) or not _ENCODED.fullmatch(value):
            raise ParamsError(f"parameter {part[:32]!r} is not key=value, percent-encoded")
        spelled, key = key, _text(unquote_to_bytes(key), key)
        if key in PLAIN_PARAMS and spelled != key:
            raise ParamsError(f"parameter {key!r} is written plainly")
        if key in values:
            raise ParamsError(f"parameter {key[:32]!r} stands twice")
        values[key] = unquote_to_bytes(value)
    return values


def has_param(level: str, key: str) -> bool:
    """Tell whether a level holds one of the contract's keys, which are written plainly."""
    return f"&{key}=" in f"&{level}"


def same_params(level: str) -> str:
    """Return one spelling for all levels that say the same: in whatever order, however encoded."""
    return "&".join(sorted(_spelled(*pair) for pair in split_params(level).items())) if level else ""


def _spelled(key: str, value: bytes) -> str:
    return f"{quote(key, safe='')}={quote(value, safe='')}"


def _checked(raw_values: dict[str, bytes], level: str) -> Params:
    if "seq" in raw_values:
        raise ParamsError("parameter 'seq' is the server's")
    native = sum(len(_spelled(key, raw_values[key])) + 1 for key in NATIVE_PARAMS & raw_values.keys())
    if native > PARAMS_BYTES_MAX:
        raise ParamsError(f"{', '.join(sorted(NATIVE_PARAMS))} are longer than {PARAMS_BYTES_MAX} bytes together")
    if len(level) - native > PARAMS_BYTES_MAX:
        raise ParamsError(f"parameters are longer than {PARAMS_BYTES_MAX} bytes")
    if len(raw_values.keys() - PLAIN_PARAMS) > PARAMS_MAX:
        raise ParamsError(f"more than {PARAMS_MAX} parameters of your own")
    values = {key: _text(value, key) for key, value in raw_values.items() if key != CORRELATION_DATA}
    _check_native(values)
    expiry = _number(values, "expiry", EXPIRY_MAX_S) if "expiry" in values else None
    flags = _number(values, "flags", 0xFFFF) if "flags" in values else FLAGS_DEFAULT
    if flags & ~_FLAGS_ALLOWED:
        raise ParamsError(f"parameter 'flags' has unknown bits {flags & ~_FLAGS_ALLOWED:#x}")
    return Params(
        raw=level,
        type=_number(values, "type", TYPE_MAX) if "type" in values else 0,
        expiry=expiry,
        flags=flags,
        ref=_mid(values, "ref"),
        edit=_mid(values, "edit"),
        recall=_mid(values, "recall"),
        when=_number(values, "when", WHEN_MAX_S) if "when" in values else 0,
        age=_number(values, "age", EXPIRY_MAX_S) if "age" in values else 0,
        age_from=_age_from(values),
        priority=_priority(values),
        has_stub=values.get("stub") != "0",
    )


def _age_from(values: dict[str, str]) -> str:
    word = values.get("age-from", AGE_FROM[0])
    if "age" in values and word not in AGE_FROM:
        raise ParamsError(f"parameter 'age-from' is one of {', '.join(AGE_FROM)}")
    return word


def _priority(values: dict[str, str]) -> int | None:
    """Return the priority; what is none is the application's own affair, as any key that is not the contract's."""
    text = values.get("priority", "")
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= PRIORITY_MAX else None


def _check_native(values: dict[str, str]) -> None:
    """Refuse what a client of MQTT 5.0 must not be sent as a property of its own."""
    if values.get(PAYLOAD_FORMAT, "0") not in ("0", "1"):
        raise ParamsError(f"parameter {PAYLOAD_FORMAT!r} is 0 (bytes) or 1 (UTF-8)")
    topic = values.get(RESPONSE_TOPIC, "-")
    if not topic or "+" in topic or "#" in topic:  # [MQTT-3.3.2-14]
        raise ParamsError(f"parameter {RESPONSE_TOPIC!r} is a topic without wildcards")


def format_params(pairs: dict[str, str | int]) -> str:
    """Return the parameter level for `pairs`, in their order; '' if there are none."""
    return "&".join(f"{quote(key, safe='')}={quote(str(value), safe='')}" for key, value in pairs.items())


def params_in(level: str, left_s: int) -> bytes:
    """Return the sender's parameters as they stand on the way in: expiry counted down, rounded up."""
    if "expiry=" not in level:
        return level.encode()
    parts = [f"expiry={left_s}" if part.startswith("expiry=") else part for part in level.split("&")]
    return "&".join(parts).encode()


def parse_out(rest: str) -> OutTopic:
    """Parse what follows `ROOT/{me}/out/`. Raises TopicError (contract: status 0x85)."""
    levels = rest.split("/")
    raw = levels.pop() if len(levels) > 1 and "=" in levels[-1] else None
    kind = levels[0]
    if kind in ("u", "g"):
        return _parse_message(Kind(kind), levels, raw)
    if raw is not None:
        raise TopicError("parameters belong to messages only")
    if kind in ("read", "presence") and len(levels) == 3 and levels[1] in ("u", "g"):
        return OutTopic(Kind(f"{kind}/{levels[1]}"), _address(levels[2], None))
    if kind == "rpc" and len(levels) == 3 and levels[1] and CID_PATTERN.fullmatch(levels[2]):
        return OutTopic(Kind.RPC, levels[1], levels[2])
    raise TopicError("no such topic under out/: use u/{peer}, g/{group}, read/, presence/ or rpc/")


def find_cid(topic: str, root: str) -> str | None:
    """Return the cid that any topic `ROOT/*/out/u|g/*/{cid}…` names, for a refusal of it."""
    levels = topic.split("/")
    if len(levels) >= 6 and levels[0] == root and levels[2] == "out" and levels[3] in ("u", "g"):
        cid = levels[5]
        return cid if CID_PATTERN.fullmatch(cid) else None
    return None


@dataclass(frozen=True, slots=True)
class InFilter:
    """A filter under `ROOT/{me}/in/`. `cls` is '#', a class, or 'session'; `name` a peer or group."""

    cls: str
    name: str | None = None


def parse_in_filter(rest: str) -> InFilter | None:
    """Parse what follows `ROOT/{me}/in/`; None for a filter the contract does not allow (0x80)."""
    if rest in ("#", "session"):
        return InFilter(rest)
    levels = rest.split("/")
    if levels[-1] != "#" or levels[0] not in IN_CLASSES:
        return None
    if len(levels) == 2:
        return InFilter(levels[0])
    if len(levels) == 3 and levels[0] in ("u", "g"):
        try:
            return InFilter(levels[0], decode_address(levels[1]))
        except AddressError:
            return None
    return None


def _parse_message(kind: Kind, levels: list[str], raw: str | None) -> OutTopic:
    cid = levels[2] if len(levels) == 3 else None
    if len(levels) not in (2, 3):
        raise TopicError(f"write {kind.value}/{{address}}/{{cid}}, at most one level of parameters after it")
    if cid is not None and not CID_PATTERN.fullmatch(cid):
        raise TopicError("a cid is 1 to 64 of A-Z a-z 0-9 _ -")
    try:
        params = parse_params(raw) if raw is not None else NO_PARAMS
    except TopicError as error:
        error.cid = cid
        raise
    return OutTopic(kind, _address(levels[1], cid), cid, params)


def _address(level: str, cid: str | None) -> str:
    try:
        return decode_address(level)
    except AddressError as error:
        raise TopicError(str(error), cid) from None


def _text(raw: bytes, key: str) -> str:
    if b"\0" in raw:  # no string of MQTT may hold it [MQTT-1.5.4-2]
        raise ParamsError(f"parameter {key[:32]!r} holds U+0000")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ParamsError(f"parameter {key[:32]!r} is not UTF-8") from None


def _number(values: dict[str, str], key: str, largest: int) -> int:
    text = values[key]
    if not _NUMBER.fullmatch(text) or int(text) > largest:
        raise ParamsError(f"parameter {key!r} is a number from 0 to {largest}")
    return int(text)


def _mid(values: dict[str, str], key: str) -> str | None:
    text = values.get(key)
    if text is not None and not MID_PATTERN.fullmatch(text):
        raise ParamsError(f"parameter {key!r} is a mid: 16 hex digits, lower case")
    return text
