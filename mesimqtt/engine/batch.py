"""What waits for one commit: acknowledgements that must not leave before it, and deliveries after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import codes, kept, packets5
from mesimqtt.engine.letter import Letter, encode
from mesimqtt.engine.packets import FIVE, PUBACK, PUBREC

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.session import Session


class Batch:
    """All of one read (or one other event). Registered once with `keeper.after_commit`.

    An acknowledgement means committed: if the commit failed, clients of 5.0 are told (0x97), and the connections
    of others are closed unacknowledged, so that their clients send again (contract section 4).
    """

    __slots__ = ("_engine", "_granted", "_incoming", "_replies", "_stored")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._replies: list[tuple[Connection, bytes | bytearray | Letter]] = []
        self._granted: list[tuple[Connection, list[str]]] = []
        self._incoming: list[tuple[Session, int]] = []
        self._stored: dict[Session, int] = {}

    def reply(self, connection: Connection, data: bytes | bytearray | Letter) -> None:
        """Send `data` after the commit."""
        self._replies.append((connection, data))

    def granted(self, connection: Connection, filters: list[str]) -> None:
        """Tell the claim after the SUBACK that these filters of its own are granted."""
        self._granted.append((connection, filters))

    def incoming(self, session: Session, packet_id: int) -> None:
        """Forget this QoS 2 packet id if the commit fails: the resend is a new message then."""
        self._incoming.append((session, packet_id))

    def stored(self, session: Session, n: int) -> None:
        """Deliver up to queue number `n` of a kept session after the commit."""
        self._stored[session] = n

    def done(self, ok: bool) -> None:
        """Take the outcome of the commit."""
        engine = self._engine
        if not ok:
            for session, packet_id in self._incoming:
                if session.incoming is not None:
                    session.incoming.discard(packet_id)
            for connection, data in self._replies:
                if not isinstance(data, Letter) and connection.version == FIVE and data[0] in (PUBACK, PUBREC):
                    _refuse(connection, data)
                else:
                    connection.close("store failed", codes.IMPLEMENTATION_ERROR)
            for session, n in self._stored.items():
                kept.committed(engine, session, n, ok=False)
            engine.settle()
            return
        for connection, data in self._replies:
            packet = encode(connection, data, 0) if isinstance(data, Letter) else data
            if packet:
                connection.send(packet)
        claim = engine.claim
        for connection, filters in self._granted:
            if claim is not None and connection.is_open:
                claim.subscribed(connection, filters)
        for session, n in self._stored.items():
            kept.committed(engine, session, n, ok=True)
        engine.settle()


def _refuse(connection: Connection, data: bytes | bytearray) -> None:
    """Send acknowledgements of one kind and length with 0x97 instead: what they are for was not committed."""
    session, size = connection.session, data[1] + 2
    incoming = session.incoming if session is not None else None
    for at in range(0, len(data), size):
        packet_id = data[at + 2] << 8 | data[at + 3]
        if data[0] == PUBREC and session is not None and incoming and packet_id in incoming:
            if session.key:  # committed before: this is the answer to a repeated PUBLISH
                connection.send(data[at : at + size])
                continue
            incoming.discard(packet_id)  # [MQTT-4.3.3-9]
        connection.send(packets5.ack(data[0], packet_id, codes.QUOTA_EXCEEDED))
