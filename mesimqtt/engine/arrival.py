"""CONNECT on the wire, 3.1.1 and 5.0: read as a whole before anything is done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine import auth, codes, properties
from mesimqtt.engine.five import Five
from mesimqtt.engine.packets import (
    BAD_CLIENT_ID,
    BAD_CREDENTIALS,
    BAD_PROTOCOL,
    FIVE,
    PROTOCOL_LEVEL,
    UNAVAILABLE,
    MalformedError,
    check_topic,
    read_field,
    read_text,
)
from mesimqtt.engine.properties import NO_PROPERTIES, Properties
from mesimqtt.engine.will import Will
from mesimqtt.hooks import ConnectRequest

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection

_NAME = b"\0\4MQTT"
_USUAL_FLAGS = frozenset({0x00, 0x02, 0xC0, 0xC2})  # no will; user name and password, or neither
NEVER_S = 0xFFFFFFFF  # a Session Expiry Interval that does not expire [MQTT 5.0, 3.1.2.11.2]


class Arrival(NamedTuple):
    """A CONNECT that was read and is not decided yet. `expiry_s`: what the client asks for; None on 3.1.1."""

    request: ConnectRequest
    keep_alive_s: int
    will: Will | None
    expiry_s: int | None
    packet_max: int
    receive_maximum: int


class RefusedError(Exception):
    """A CONNECT that is answered with a return code before it is authenticated; `reason_code` is that of 5.0."""

    def __init__(self, code: int, reason: str, reason_code: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason_code = reason_code


def read(body: bytes, connection: Connection) -> Arrival:
    """Return what a CONNECT says; sets the connection's version. Raises MalformedError or RefusedError."""
    end = len(body)
    if not body.startswith(_NAME) or end == len(_NAME):  # [MQTT-3.1.2-1]
        if read_field(body, 0, end)[0] == b"MQIsdp":
            raise RefusedError(BAD_PROTOCOL, "MQTT 3.1 is not spoken here")
        raise MalformedError("not MQTT")
    level, position = body[len(_NAME)], len(_NAME)
    if level not in (PROTOCOL_LEVEL, FIVE):  # [MQTT-3.1.2-2]
        raise RefusedError(BAD_PROTOCOL, f"protocol level {level}")
    if position + 4 > end:
        raise MalformedError("CONNECT ends early")
    connection.version = level
    flags = body[position + 1]
    keep_alive_s = body[position + 2] << 8 | body[position + 3]
    if flags not in _USUAL_FLAGS:
        _check_flags(flags, level)
    position += 4
    found = NO_PROPERTIES
    if level == FIVE:
        found, position = properties.read(body, position, end, properties.IN_CONNECT)
    client_id, position = read_text(body, position, end)
    will, position = _will(body, position, end, flags, level) if flags & 0x04 else (None, position)
    username, password, position = _credentials(body, position, end, flags)
    if position != end:
        raise MalformedError("CONNECT with trailing bytes")
    if level == FIVE:
        password = _five(connection, found, password)
    clean = bool(flags & 0x02)
    _refuse_early(connection, client_id, password, clean=clean)
    request = ConnectRequest(
        client_id=client_id,
        username=username,
        password=password,
        clean_start=clean,
        version=level,
        remote_address=connection.remote_address,
        listener=connection.listener,
        certificate_user=connection.certificate_user,
    )
    if level == PROTOCOL_LEVEL:
        return Arrival(request, keep_alive_s, will, None, 0, 0xFFFF)
    return Arrival(
        request,
        keep_alive_s,
        will,
        found.number(properties.SESSION_EXPIRY, 0),
        found.number(properties.MAXIMUM_PACKET_SIZE, 0),
        found.number(properties.RECEIVE_MAXIMUM, 0xFFFF),
    )


def _refuse_early(connection: Connection, client_id: str, password: bytes | None, *, clean: bool) -> None:
    """Raise RefusedError for what needs no look at who it is."""
    if connection.version == PROTOCOL_LEVEL and not client_id and not clean:  # [MQTT-3.1.3-8]
        raise RefusedError(BAD_CLIENT_ID, "empty client id with clean session 0")
    if len(password or b"") > connection.engine.limits.password_max:
        raise RefusedError(BAD_CREDENTIALS, "password too long")
    if connection.engine.draining:
        raise RefusedError(UNAVAILABLE, "the server is stopping")


def _five(connection: Connection, found: Properties, password: bytes | None) -> bytes | None:
    """Take what a CONNECT of 5.0 says of the connection; return what is to be verified."""
    method = found.text(properties.AUTH_METHOD)
    data = found.data(properties.AUTH_DATA)
    if data is not None and method is None:
        raise MalformedError("Authentication Data without a method", codes.PROTOCOL_ERROR)
    if method is not None and method != auth.METHOD:  # [MQTT-4.12.0-1]
        raise RefusedError(BAD_CREDENTIALS, "unknown authentication method", codes.BAD_AUTHENTICATION_METHOD)
    connection.five = Five(
        alias_maximum=min(
            found.number(properties.TOPIC_ALIAS_MAXIMUM, 0), connection.engine.mqtt.topic_aliases_out_max
        ),
        wants_reasons=found.number(properties.REQUEST_PROBLEM_INFO, 1) == 1,
        wants_response_info=found.number(properties.REQUEST_RESPONSE_INFO, 0) == 1,
        auth_method=method or "",
    )
    connection.five.packet_max = found.number(properties.MAXIMUM_PACKET_SIZE, 0)
    return data if method is not None else password


def _will(body: bytes, position: int, end: int, flags: int, level: int) -> tuple[Will, int]:
    found = NO_PROPERTIES
    if level == FIVE:
        found, position = properties.read(body, position, end, properties.IN_WILL)
        check_response_topic(found)
    raw_topic, position = read_field(body, position, end)
    payload, position = read_field(body, position, end)
    delay_s = found.number(properties.WILL_DELAY, 0)
    qos, retain = flags >> 3 & 3, bool(flags & 0x20)
    return Will(check_topic(raw_topic), raw_topic, payload, qos, retain, found, delay_s), position


def _credentials(body: bytes, position: int, end: int, flags: int) -> tuple[str | None, bytes | None, int]:
    username: str | None = None
    password: bytes | None = None
    if flags & 0x80:
        username, position = read_text(body, position, end)
    if flags & 0x40:
        password, position = read_field(body, position, end)
    return username, password, position


def _check_flags(flags: int, level: int) -> None:
    if flags & 0x01:  # [MQTT-3.1.2-3]
        raise MalformedError("reserved CONNECT flag")
    if flags & 0x18 == 0x18:  # [MQTT-3.1.2-14]
        raise MalformedError("will QoS 3")
    if not flags & 0x04 and flags & 0x38:  # [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]
        raise MalformedError("will QoS or will retain without a will")
    if level == PROTOCOL_LEVEL and flags & 0xC0 == 0x40:  # [MQTT-3.1.2-22]; 5.0 allows it
        raise MalformedError("password without user name")


def check_response_topic(found: Properties) -> None:
    """Raise MalformedError where a Response Topic is no topic name [MQTT-3.3.2-14]."""
    topic = found.text(properties.RESPONSE_TOPIC)
    if topic is not None:
        try:
            check_topic(topic.encode())
        except MalformedError as error:
            raise MalformedError(f"Response Topic: {error}", codes.PROTOCOL_ERROR) from None
