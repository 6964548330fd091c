"""DISCONNECT from a client [MQTT 5.0, section 3.14]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import codes, properties, wills
from mesimqtt.engine.packets import FIVE, MalformedError

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection


def take(connection: Connection, body: bytes) -> None:
    """Take the body of a DISCONNECT: the will is forgotten, unless the client wants it published."""
    code = 0
    if connection.version == FIVE:
        code = _read(connection, body)
    elif body:
        raise MalformedError("DISCONNECT with a body")
    if not code:  # [MQTT-3.1.2-10], [MQTT-3.14.4-3]
        wills.forget(connection.engine, connection)
    connection.is_done = True
    connection.close("DISCONNECT", 0)


def _read(connection: Connection, body: bytes) -> int:
    """Return the reason code, and take the Session Expiry Interval that the client wants from now on."""
    if not body:
        return 0
    code = body[0]
    if code not in codes.OF_DISCONNECT:
        raise MalformedError(f"reason code {code:#04x} is not one of DISCONNECT", codes.PROTOCOL_ERROR)
    if len(body) == 1:
        return code
    found, stop = properties.read(body, 1, len(body), properties.IN_DISCONNECT)
    if stop != len(body):
        raise MalformedError("DISCONNECT with trailing bytes")
    expiry_s = found.values.get(properties.SESSION_EXPIRY)
    session = connection.session
    if isinstance(expiry_s, int) and session is not None:
        if expiry_s and not session.expiry_s:  # [MQTT-3.14.2-2]
            raise MalformedError("a session that ends with its connection cannot be prolonged", codes.PROTOCOL_ERROR)
        session.expiry_s = min(expiry_s, connection.engine.limits.session_expiry_s)
    return code
