"""How messaging speaks MQTT 5.0: parameters as properties, refusals as reason codes (contract sections 2 and 4)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from mesimqtt.domain.status import TITLES, Status
from mesimqtt.engine import codes
from mesimqtt.engine import properties as known
from mesimqtt.engine.packets import U16, encode_length, publish_size
from mesimqtt.engine.properties import NO_PROPERTIES, Properties, write
from mesimqtt.topics import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    EXPIRY_MAX_S,
    PARAMS_MAX,
    PAYLOAD_FORMAT,
    PLAIN_PARAMS,
    RESPONSE_TOPIC,
    OutTopic,
    ParamsError,
    make_params,
    split_params,
)

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.properties import Value

_NATIVE: Final = {
    PAYLOAD_FORMAT: known.PAYLOAD_FORMAT,
    CONTENT_TYPE: known.CONTENT_TYPE,
    RESPONSE_TOPIC: known.RESPONSE_TOPIC,
    CORRELATION_DATA: known.CORRELATION_DATA,
}
_EXPIRY_SIZE: Final = 5  # a Message Expiry Interval
_CACHED_MAX: Final = 1024  # parameter levels of at most 4 KiB
_NO_EXPIRY: Final = -1
_USER_MAX: Final = PARAMS_MAX + len(PLAIN_PARAMS)

_REASON_CODES: Final = {
    Status.BLOCKED: codes.NOT_AUTHORIZED,
    Status.DENIED: codes.NOT_AUTHORIZED,
    Status.NOT_MEMBER: codes.NOT_AUTHORIZED,
    Status.INBOX_FULL: codes.QUOTA_EXCEEDED,
    Status.RATE_LIMITED: codes.QUOTA_EXCEEDED,
    Status.INVALID_DESTINATION: codes.TOPIC_NAME_INVALID,
}


class Refused(NamedTuple):
    """A refusal as a client of 5.0 is told it: Reason Code and Reason String; a code of 0 is none."""

    code: int
    reason: str

    @property
    def is_store(self) -> bool:
        """Tell whether it is the store that cannot take it: 3.1.1 is not even acknowledged then."""
        return self is STORE


ACCEPTED: Final = Refused(codes.SUCCESS, "")
STORE: Final = Refused(codes.QUOTA_EXCEEDED, f"0x{Status.FAILED:02X} store")


def refused(status: Status, why: str = "", *, is_topic: bool = False) -> Refused:
    """Return the reason code of a status (contract section 4). `is_topic`: the topic is no such one."""
    code = codes.TOPIC_NAME_INVALID if is_topic else _REASON_CODES.get(status, codes.IMPLEMENTATION_ERROR)
    return Refused(code, f"0x{status:02X} {why or TITLES[status]}")


def answer(connection: Connection, qos: int, packet_id: int, told: Refused) -> bool:
    """Answer a refused PUBLISH where its version can say so; True: it is acknowledged as if it had been taken."""
    if not qos:
        return True
    if connection.five is not None:
        connection.acknowledge(packet_id, qos, told.code, told.reason)
        return False
    if told.is_store:
        connection.close(f"{told.reason}; 3.1.1 has no other way to say so")
        return False
    return True


# ---- from a client ---------------------------------------------------------------------------------------------------


def says_nothing(properties: Properties) -> bool:
    """Tell whether a PUBLISH is the same without its properties."""
    return properties is NO_PROPERTIES or not (properties.forward or known.MESSAGE_EXPIRY in properties.values)


def with_properties(out: OutTopic, properties: Properties) -> OutTopic:
    """Add the parameters that properties give. Raises ParamsError.

    A user property outranks the same key in the topic's last level, and that outranks a native property.
    """
    if says_nothing(properties):
        return out
    try:
        values = _user_properties(properties)
        level = split_params(out.params.raw) if out.params.raw else {}
        for more in (level, _native_properties(properties)):
            values = {**values, **{key: value for key, value in more.items() if key not in values}}
        return replace(out, params=make_params(values))
    except ParamsError as error:
        error.cid = out.cid
        raise


def _user_properties(properties: Properties) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    if len(properties.user) > _USER_MAX:
        raise ParamsError(f"more than {PARAMS_MAX} parameters of your own")
    for key, value in properties.user:
        if not key:
            raise ParamsError("a user property without a name")
        if key in values:
            raise ParamsError(f"parameter {key[:32]!r} stands twice")
        values[key] = value.encode()
    return values


def _native_properties(properties: Properties) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    expiry = properties.number(known.MESSAGE_EXPIRY, _NO_EXPIRY)
    if expiry != _NO_EXPIRY:
        found["expiry"] = str(min(expiry, EXPIRY_MAX_S)).encode()
    for key, identifier in _NATIVE.items():
        value = properties.values.get(identifier)
        if value is not None:
            found[key] = value if isinstance(value, bytes) else str(value).encode()
    return found


# ---- to a client -----------------------------------------------------------------------------------------------------


class _Written(NamedTuple):
    """A parameter level as properties: the native ones, and the user properties around `expiry`, which counts down."""

    native: bytes
    before: bytes
    has_expiry: bool
    after: bytes


def for_receiver(level: str, seq: int, left_s: int) -> bytes:
    """Return a message's parameters as encoded properties: the native ones, `seq` (if not 0), the sender's in order.

    `left_s` stands for `expiry` where the sender gave one. The Message Expiry Interval is the engine's to write.
    """
    number = _pair("seq", str(seq)) if seq else b""
    if not level:
        return number
    native, before, has_expiry, after = _written(level)
    expiry = _pair("expiry", str(left_s)) if has_expiry else b""
    return b"".join((native, number, before, expiry, after))


@lru_cache(maxsize=_CACHED_MAX)
def _written(level: str) -> _Written:
    native: list[tuple[int, Value]] = []
    parts: list[list[bytes]] = [[], []]
    has_expiry = False
    for key, raw in split_params(level).items():
        identifier = _NATIVE.get(key)
        if identifier == known.PAYLOAD_FORMAT:
            native.append((identifier, int(raw)))
        elif identifier is not None:
            native.append((identifier, raw))
        elif key == "expiry":
            has_expiry = True
        else:
            parts[has_expiry].append(_pair(key, raw.decode()))
    return _Written(write(native), b"".join(parts[0]), has_expiry, b"".join(parts[1]))


def _pair(key: str, value: str) -> bytes:
    return write((), ((key, value),))


def seq_property(seq: int) -> bytes:
    """Return the user property `seq` alone: all that most messages have."""
    text = b"%d" % seq
    return b"\x26\0\x03seq%b%b" % (U16[len(text)], text)


def identifiers(numbers: list[int]) -> bytes:
    """Return the Subscription Identifiers of the filters that a message matches [MQTT-3.3.4-3]."""
    return write([(known.SUBSCRIPTION_ID, number) for number in numbers])


def packet_size(topic_size: int, payload_size: int, properties_size: int, *, expires: bool) -> int:
    """Return the size of a whole PUBLISH of 5.0 with a packet id and without a topic alias."""
    size = properties_size + (_EXPIRY_SIZE if expires else 0)
    return publish_size(topic_size, payload_size + len(encode_length(size)) + size)
