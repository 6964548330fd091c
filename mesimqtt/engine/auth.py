"""AUTH of MQTT 5.0: a client renews its token without a new connection [MQTT 5.0, section 4.12].

The one method is OAUTH2-JWT: Authentication Data is the token itself, in CONNECT instead of a password and in an
AUTH with reason 0x19. One message each way, so the server never answers with 0x18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesimqtt.engine import codes, connect, packets5, properties
from mesimqtt.engine.packets import MalformedError
from mesimqtt.hooks import ConnectRequest, Refusal

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import Identity

METHOD: Final = "OAUTH2-JWT"


def take(connection: Connection, body: bytes) -> bool:
    """Take the body of an AUTH; False if the gate does not know yet and reading is to pause."""
    five = connection.five
    if five is None or five.auth_method != METHOD:
        raise MalformedError("AUTH without an authentication method at CONNECT", codes.PROTOCOL_ERROR)
    code = body[0] if body else 0
    if code != codes.REAUTHENTICATE:  # [MQTT-4.12.1-1]; nothing of ours is to be continued
        raise MalformedError("AUTH that renews nothing", codes.PROTOCOL_ERROR)
    found, stop = properties.read(body, 1, len(body), properties.IN_AUTH)
    if stop != len(body):
        raise MalformedError("AUTH with trailing bytes")
    if found.text(properties.AUTH_METHOD) != METHOD:  # [MQTT-4.12.0-5]
        raise MalformedError("AUTH with another method than CONNECT", codes.PROTOCOL_ERROR)
    token = found.data(properties.AUTH_DATA)
    if token is None or len(token) > connection.engine.limits.password_max:
        connection.close("re-authentication without a usable token", codes.NOT_AUTHORIZED)
        return True
    request = ConnectRequest(
        client_id=connection.client_id,
        username=None,
        password=token,
        clean_start=connection.clean_start,
        version=connection.version,
        remote_address=connection.remote_address,
        listener=connection.listener,
    )
    five.renewal = request._replace(certificate_user=connection.certificate_user)
    verdict = connection.engine.gate.authenticate(connection, five.renewal)
    if verdict is None:
        return False
    renewed(connection, verdict)
    return True


def renewed(connection: Connection, verdict: Identity | Refusal) -> None:
    """Go on with the gate's verdict on a renewal: it must be the same user [MQTT-4.12.1-2]."""
    five, before = connection.five, connection.identity
    if five is None or before is None or five.renewal is None:
        return
    five.renewal = None
    if isinstance(verdict, Refusal) or verdict.user != before.user:
        connection.close("re-authentication failed", codes.NOT_AUTHORIZED)
        return
    connection.identity = verdict
    connect.bound(connection, five.packet_max, five.receive_maximum)
    engine = connection.engine
    engine.identity_changed(connection)
    connection.send(packets5.auth(codes.SUCCESS, METHOD))
