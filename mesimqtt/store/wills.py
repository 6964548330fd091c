"""Wills that outlive the process, from CONNECT until each is published or called off [MQTT 5.0, section 4.1]."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mesimqtt.engine import properties as known
from mesimqtt.engine.packets import MalformedError, check_topic
from mesimqtt.engine.will import Will
from mesimqtt.hooks import Identity
from mesimqtt.store import seals
from mesimqtt.store.integrity import of_will, will_holds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

COLUMNS = "id, user, client_id, jti, identity, topic, payload, qos, properties, delay_s, checksum"
INSERT = f"INSERT INTO will ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
LEFT = "UPDATE will SET due = ? WHERE id = ?"
ALL_LEFT = "UPDATE will SET due = ? + 1000 * delay_s WHERE due = 0"
DROP = "DELETE FROM will WHERE id = ?"
DROP_OF_USER = "DELETE FROM will WHERE user = ?"
SELECT = f"SELECT {COLUMNS}, due FROM will ORDER BY id"
_USER = f"SELECT {seals.columns('user')} FROM user WHERE address = ?"
_TOKEN = f"SELECT {seals.columns('token')} FROM token WHERE jti = ?"
_ACTIVE, _REVOKED_AT = 1 + seals.SEALED["user"].index("active"), 1 + seals.SEALED["token"].index("revoked_at")
_RETAIN = 4  # in the column `qos`: it is retained
_SUMMED = 10  # columns before the checksum


def row_of(key: int, client_id: str, identity: Identity, will: Will) -> tuple[Any, ...]:
    """Return the COLUMNS of a will."""
    expiry_s = will.properties.values.get(known.MESSAGE_EXPIRY)
    own = known.write([(known.MESSAGE_EXPIRY, expiry_s)]) if expiry_s is not None else b""
    who = json.dumps([identity.scope, identity.device, identity.expires_at, identity.acl, identity.packet_max])
    qos = will.qos | (_RETAIN if will.retain else 0)
    row = (
        key, identity.user, client_id, identity.jti, who, will.raw, will.payload, qos,
        own + will.properties.forward, will.delay_s,
    )  # fmt: skip
    return (*row, of_will(row))


def of_row(row: Sequence[Any]) -> tuple[Identity, str, Will] | None:
    """Return who left a will, his client id and the will itself; None if it is not what was stored."""
    if not will_holds(row[_SUMMED], row[:_SUMMED]):
        return None
    key, user, client_id, jti, who, topic, payload, qos, wire, delay_s = row[:_SUMMED]
    try:
        scope, device, expires_at, acl, packet_max = json.loads(who)
        block = known.block(wire)
        properties, _ = known.read(block, 0, len(block), known.IN_WILL)
        name = check_topic(topic)
    except (ValueError, TypeError, MalformedError):
        return None
    identity = Identity(user, jti, scope, device, expires_at, tuple((a, b) for a, b in acl), packet_max)
    will = Will(name, topic, payload, qos & ~_RETAIN, bool(qos & _RETAIN), properties, delay_s, key)
    return identity, client_id, will


def may_speak(connection: sqlite3.Connection, identity: Identity) -> bool:
    """Tell whether who left a will is neither disabled nor let in by a token that was revoked since.

    Of users and tokens that are none of ours, whoever let them in knows.
    """
    user = connection.execute(_USER, (identity.user,)).fetchone()
    if user is not None and not (user[_ACTIVE] and seals.is_whole(connection, "user", user)):
        return False
    token = connection.execute(_TOKEN, (identity.jti,)).fetchone()
    return token is None or (token[_REVOKED_AT] is None and seals.is_whole(connection, "token", token))


def damaged(connection: sqlite3.Connection) -> int:
    """Return how many wills are not what was stored."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM will").fetchall()
    return sum(not will_holds(row[_SUMMED], row[:_SUMMED]) for row in rows)
