"""A session: what the server remembers of one (user, client id) [MQTT-3.1.2-4]."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine.letter import Letter

if TYPE_CHECKING:
    from collections.abc import Collection

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.kept import KeptQueue
    from mesimqtt.engine.window import Window

_FILLED = 512  # messages of a kept session in memory
NO_IDS: frozenset[int] = frozenset()


class Queued(NamedTuple):
    """One QoS 1 or 2 message that a kept session waits for. `released`: PUBREC came, only PUBREL is due."""

    n: int
    letter: Letter
    released: bool = False


RELEASED = Letter(b"", b"", 2)  # what is left of a letter whose PUBREC came


class Session:
    """Subscriptions and delivery state. Containers are made when first needed: idle sessions are many.

    `clean` sessions live in memory and end with their connection; their deliveries are in `window`.
    The others are given to the keeper, which sets `key`; their deliveries are in `kept`.
    """

    __slots__ = (
        "clean",
        "client_id",
        "connection",
        "disconnected_at",
        "due",
        "expiry_s",
        "held",
        "incoming",
        "kept",
        "key",
        "next_n",
        "packet_counter",
        "subscriptions",
        "user",
        "window",
    )

    def __init__(self, user: str, client_id: str, *, clean: bool) -> None:
        self.user = user
        self.client_id = client_id
        self.clean = clean
        self.expiry_s = 0.0  # how long a kept session outlives its connection
        self.key = 0
        self.connection: Connection | None = None
        self.subscriptions: dict[str, int] = {}
        self.next_n = 1
        self.incoming: set[int] | None = None
        self.packet_counter = 0
        self.disconnected_at = 0.0
        self.due = 0  # set by the wheel
        self.window: Window | None = None
        self.kept: KeptQueue | None = None
        self.held: Held | None = None

    @property
    def ends_at(self) -> float:
        """Return when a session whose client is away ends, in engine time."""
        return self.disconnected_at + self.expiry_s

    @property
    def has_room(self) -> bool:
        """Tell whether a message would be sent at once, as far as that is known without looking closely."""
        connection = self.connection
        if connection is None or connection.congested:
            return False
        if self.window is not None:
            return not self.window.queue and self.window.in_flight < connection.inflight_max
        return self.kept is None or len(self.kept.inflight) < connection.inflight_max

    @property
    def is_filled(self) -> bool:
        """Tell whether enough waits in memory already: what can wait elsewhere should."""
        connection = self.connection
        if connection is None or connection.congested:
            return True
        if self.kept is not None and len(self.kept.queue) >= _FILLED:
            return True
        return self.held_bytes > connection.engine.limits.unwritten_max

    @property
    def held_bytes(self) -> int:
        """How much waits in memory because the client does not read."""
        return (self.held.size if self.held is not None else 0) + (self.window.size if self.window is not None else 0)

    @property
    def queue(self) -> Collection[object]:
        """What waits in memory for its turn."""
        if self.window is not None:
            return self.window.queue
        return self.kept.queue if self.kept is not None else ()

    @property
    def inflight(self) -> Collection[int]:
        """The packet ids of QoS 1 and 2 deliveries that the client has not acknowledged."""
        if self.window is not None:
            return self.window.ids | self.window.unreceived | self.window.released
        return self.kept.inflight if self.kept is not None else NO_IDS

    def __repr__(self) -> str:
        state = "online" if self.connection is not None else "offline"
        return f"<Session {self.user!r} {self.client_id!r} {'clean' if self.clean else f'key={self.key}'} {state}>"


class Held:
    """QoS 0 packets that wait until a slow reader reads, bounded. A letter is made a packet when it leaves."""

    __slots__ = ("chunks", "messages", "size")

    def __init__(self) -> None:
        self.chunks: list[bytes | Letter] = []
        self.messages = 0
        self.size = 0
