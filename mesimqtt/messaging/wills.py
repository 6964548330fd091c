"""A will under `out/` becomes a message of its own; the store forgets it in the transaction that keeps the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mesimqtt.engine import codes
from mesimqtt.messaging.model import Accepted
from mesimqtt.messaging.properties5 import STORE, Refused, with_properties
from mesimqtt.store.batch import Rider
from mesimqtt.store.wills import DROP
from mesimqtt.topics import OutTopic, TopicError, parse_out

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.domain.messages import Message, Step
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.will import Will
    from mesimqtt.hooks import Identity
    from mesimqtt.messaging.accept import Acceptor
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.store.batch import Batch

_QOS, _PACKET_ID = 1, 1  # it is answered, as a PUBLISH at QoS 1 is


class Wills:
    """Fires wills as messages, and gives their keys back to the store."""

    def __init__(self, hub: Hub, acceptor: Acceptor) -> None:
        self._hub = hub
        self._acceptor = acceptor

    def fire(self, identity: Identity, will: Will, again: Callable[[], None]) -> None:
        """Send a will: a message of its own each time, so its cid is ignored. `again`: the store cannot take it now."""
        user = self._hub.directory.user(identity.user)
        told = self._send(user, will, again) if user is not None and user.active else True
        if told is STORE:
            again()
        elif told is not False:
            self.over(will.key)

    def _send(self, user: User, will: Will, again: Callable[[], None]) -> bool | Refused:
        """Return what the acceptor says; True: there is no message to be made of it."""
        if not will.raw.startswith(user.out_prefix):
            return True
        try:
            out = with_properties(parse_out(will.raw[len(user.out_prefix) :].decode()), will.properties)
        except TopicError:
            return True
        testator = Testator(self, will.key, again)
        out = OutTopic(out.kind, out.name, None, out.params)
        told = self._acceptor.message(user, out, will.payload, cast("Connection", testator), _QOS, _PACKET_ID)
        testator.accepted(self._hub.committer.batch)
        return told

    def over(self, key: int) -> None:
        """Have the store forget a will; 0 is none of the store's."""
        if key:
            self._hub.committer.row(DROP, key)
            self._hub.committer.wake()


class Testator:
    """Stands where a message has its connection, and is answered like one."""

    client_id = ""
    five = True  # it is told why

    def __init__(self, wills: Wills, key: int, again: Callable[[], None]) -> None:
        self._wills = wills
        self._key = key
        self._again = again
        self._is_executed = not key

    def accepted(self, batch: Batch) -> None:
        """Have the store forget the will in the commit that keeps its message, if that is the last of the batch."""
        last = batch.accepts[-1] if batch.accepts else None
        if not self._is_executed and isinstance(last, Accepted) and last.connection is cast("Connection", self):
            self._is_executed = True
            batch.riders.append(_Executed(last, self._key))

    def scheduled(self, connection: sqlite3.Connection) -> None:
        """Have the store forget the will in the transaction that keeps its message for later."""
        connection.execute(DROP, (self._key,))
        self._is_executed = True

    def acknowledge(self, packet_id: int, qos: int, code: int = 0, reason: str = "") -> None:  # noqa: ARG002 - a connection's
        """Take note that the message is kept, or why not."""
        if (code, reason) == STORE:
            self._again()
        elif code >= codes.UNSPECIFIED_ERROR or not self._is_executed:  # else the commit of its message has done it
            self._wills.over(self._key)


class _Executed(Rider):
    """Takes a will out of the store, in the transaction that keeps its message."""

    __slots__ = ("_key",)

    def __init__(self, message: Message, key: int) -> None:
        super().__init__()
        self.message = message
        self._key = key

    def write(self, connection: sqlite3.Connection) -> list[Step]:
        """Write it."""
        connection.execute(DROP, (self._key,))
        return []

    def done(self, ok: bool) -> None:
        """Nothing is left to do: the message itself is answered."""
