"""A bot's end of the server: what messaging asks of a connection, without packets and without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mesimqtt.domain.addresses import encode_address
from mesimqtt.engine.session import Session
from mesimqtt.hooks import Identity
from mesimqtt.messaging.devices import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.ports import Claim

CLASSES = ("u", "g", "status")


class _NoEngine:
    """Stands where a connection has its engine: a bot's session is nobody's but its own."""

    now = 0.0
    sessions: dict[tuple[str, str], Session] = {}  # noqa: RUF012 - nobody adds to it


class BotLink:
    """One connected device of a bot. `arrived` takes (number, topic, payload) of all that is handed over.

    It acknowledges by number, like a client by packet id; `ended` is told why the server closed it.
    """

    five = None
    arrival = None
    packet_max = 0
    inflight_max = WINDOW
    counts_all = False
    congested = False
    client_id_assigned = False
    session_present = False
    remote_address = "in-process"
    listener = "bot"
    engine = _NoEngine()

    def __init__(
        self,
        claim: Claim,
        root: str,
        user: str,
        device: str,
        *,
        arrived: Callable[[int, bytes, bytes], None],
        answered: Callable[[int, str], None],
        ended: Callable[[str], None],
    ) -> None:
        self._claim = claim
        self._filters = [f"{root}/{encode_address(user)}/in/{name}/#" for name in CLASSES]
        self.user = user
        self.client_id = device
        self.identity = Identity(user, scope="user", device=device)
        self.session = Session(user, device, clean=True)
        self.claim_state: Any = None
        self.claimed: dict[int, object] = {}
        self.closing = False
        self.is_open = False  # it receives: what is sent before would have no status
        self._arrived = arrived
        self._answered = answered
        self._ended = ended
        self._number = 0
        self._packet_id = 0

    @property
    def as_connection(self) -> Connection:
        """Return itself as what messaging calls a connection: it has all of one that messaging uses."""
        return cast("Connection", self)

    def connect(self) -> bool:
        """Become a device of the user and select what bots get; False if there is no such user.

        `begin` is to be called once the commit that keeps the device has come.
        """
        claim, connection = self._claim, self.as_connection
        claim.connected(connection)
        if self.claim_state is not None:
            for topic_filter in self._filters:
                claim.subscribe(connection, topic_filter, 1)
        return self.claim_state is not None

    def begin(self) -> None:
        """Begin to receive."""
        if not self.closing:
            self.is_open = True
            self._claim.subscribed(self.as_connection, self._filters)

    # ---- from messaging ------------------------------------------------------------------------------------------

    def deliver(
        self,
        topic: bytes,
        payload: bytes,
        qos: int,
        token: object,
        *,
        dup: bool = False,  # noqa: ARG002 - the port's
        properties: bytes = b"",  # noqa: ARG002 - the port's
        expires_at: float = 0.0,  # noqa: ARG002 - the port's
    ) -> None:
        """Take one PUBLISH."""
        self._number += 1
        if qos:
            self.claimed[self._number] = token
        self._arrived(self._number, topic, payload)

    def acknowledge(self, packet_id: int, qos: int, code: int = 0, reason: str = "") -> None:  # noqa: ARG002 - the port's
        """Take the answer to a PUBLISH."""
        self._answered(packet_id, reason if code >= 0x80 else "")

    def close(self, reason: str, code: int = 0) -> None:  # noqa: ARG002 - the port's
        """End: what is not acknowledged comes again."""
        if self.closing:
            return
        self.closing = True
        self._claim.disconnected(self.as_connection)
        self.claimed.clear()
        self._ended(reason)

    # ---- from the bot --------------------------------------------------------------------------------------------

    def ack(self, number: int) -> None:
        """Acknowledge what was handed over under that number."""
        if number in self.claimed:
            self._claim.acked(self.as_connection, [self.claimed.pop(number)])

    def drop(self, number: int) -> object:
        """Return what was handed over under that number and answer it no more; there is room for the next."""
        token = self.claimed.pop(number, None)
        self._claim.acked(self.as_connection, [])
        return token

    def publish(self, topic: bytes, payload: bytes) -> int:
        """Publish at QoS 1; return the packet id that is answered later, 0 where it is answered already."""
        self._packet_id = self._packet_id % 0xFFFF + 1
        done = self._claim.publish(self.as_connection, topic, payload, 1, self._packet_id, dup=False)
        return 0 if done else self._packet_id
