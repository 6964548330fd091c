"""Clients of a simulation: what every device does, whatever it is made of: connect, live, lose the link, come again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.history import Acked, Ended, Entered, Got, Online, Told
from mesimqtt.proof.sim.wires import Wire3, Wire5
from mesimqtt_client._backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.proof.sim.link import Link
    from mesimqtt.proof.sim.wires import Publish
    from mesimqtt.proof.sim.world import SimWorld

CONNECT_S = 10.0  # how long a client waits for SUBACK
SUBSCRIBE_ID = 65_000  # packet ids of PUBLISH go on below


@dataclass(frozen=True, slots=True)
class Habits:
    """What kind of device it is. `ack_ms`: how long it takes to acknowledge; `filters` stand behind `in/`."""

    version: int = 4
    qos: int = 1
    is_clean: bool = False
    filters: tuple[str, ...] = ("#",)
    ack_ms: tuple[int, int] = (0, 20)
    keep_alive_s: int = 60
    receive_maximum: int = 0
    is_short: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that is to be sent, as the sender writes it."""

    to: str
    cid: str
    body: str
    params: str = ""
    qos: int = 1

    @property
    def is_transient(self) -> bool:
        """Tell whether it is for who is online now."""
        return "expiry=0" in self.params.split("&")


class Phone:
    """One device. A subclass says how it sends, and what it does with what it gets."""

    def __init__(self, world: SimWorld, user: str, device: str, habits: Habits) -> None:
        self.world = world
        self.user = user
        self.device = device
        self.habits = habits
        self.token = ""
        self.link: Link | None = None
        self.connection = 0
        self.is_online = False
        self.is_awake = False  # it connects again when it loses its link
        self.is_gone = False
        self.seen: list[str] = []  # mids that it may mark as read
        self.seen_in: dict[str, str] = {}  # mid -> place
        self._random = world.random
        self._wire: Wire3 | Wire5 = Wire3()
        self._backoff = Backoff(base_s=1.0, max_s=20.0, draw=world.random.random)
        self._online_ms = 0
        self._heard_ms = 0
        self._inbox = f"m/{user}/in/"

    # ---- its life ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Connect, and connect again whenever the link is lost."""
        if not self.is_gone and not self.is_awake:
            self.is_awake = True
            self._connect()

    def sleep(self, *, is_polite: bool = True) -> None:
        """Go offline, with DISCONNECT or without a word."""
        self.is_awake = False
        link = self.link
        if link is not None:
            if is_polite:
                link.send(self._wire.disconnect())
            link.close()
            self._end()

    def cut(self, told: str) -> None:
        """Lose the link."""
        if self.link is not None:
            self.link.cut(told=told)

    def _connect(self) -> None:
        if not self.is_awake or self.link is not None or self.is_gone:
            return
        self.connection = self.world.next_connection()
        self._wire = Wire5() if self.habits.version == 5 else Wire3()
        link = self.link = self.world.connect(self)
        self._heard_ms = self.world.loop.ms
        if link is not None:
            self._opened(link)
            self._later(CONNECT_S * 1000, self._look_if_online)

    def _opened(self, link: Link) -> None:
        habits = self.habits
        link.send(
            self._wire.connect(
                self.device, clean=habits.is_clean, user=self.user, password=self.token.encode(),
                keep_alive=habits.keep_alive_s, receive_maximum=habits.receive_maximum,
            )
        )  # fmt: skip

    def _look_if_online(self) -> None:
        if not self.is_online:
            self.hang_up()

    def _ping(self) -> None:
        """Keep the connection alive, or notice that it is not."""
        idle_ms = self.world.loop.ms - self._heard_ms
        keep_ms = self.habits.keep_alive_s * 1000
        if idle_ms > 2 * keep_ms:
            self.hang_up()
        elif self.link is not None:
            self.link.send(self._wire.pingreq())
            self._later(keep_ms * 0.9, self._ping)

    def hang_up(self) -> None:
        """Close the link because nothing comes, and connect again."""
        if self.link is not None:
            self.link.close()
            self.ended(self.link)

    def received(self, data: bytes, written_ms: int) -> None:
        """Take bytes of the server."""
        self._heard_ms = self.world.loop.ms
        self.world.trace("<", self.connection, data)
        for kind, value in self._wire.feed(data):
            if kind == "PUBLISH":
                self._publish(value, written_ms)
            elif kind == "PUBACK":
                self.acknowledged(*value)
            elif kind == "CONNACK":
                self._connack(*value)
            elif kind == "SUBACK":
                self._suback(value, written_ms)
            if self.link is None:
                return

    def ended(self, link: Link) -> None:
        """Take note that the connection is gone, and try again after a while."""
        if link is not self.link:
            return
        self._end()
        if self.is_awake:
            online_s = (self.world.loop.ms - self._online_ms) / 1000 if self._online_ms else 0.0
            self.world.loop.post(self._backoff.next_delay(online_s) * 1000 + 1, self._connect)

    def _end(self) -> None:
        self.world.history.ended.append(Ended(self.world.loop.ms, self.user, self.device, self.connection))
        self.link = None
        self.is_online = False
        self.lost()

    def _later(self, delay_ms: float, call: Callable[[], None]) -> None:
        """Do something on this connection after a while, if it is still there."""
        connection = self.connection
        self.world.loop.post(delay_ms, lambda: call() if self.connection == connection and self.link else None)

    # ---- packets -----------------------------------------------------------------------------------------------------

    def _connack(self, code: int, present: bool) -> None:
        if code:
            self.refused(code)
            return
        self._online_ms = 0
        self.world.history.entered.append(Entered(self.world.loop.ms, self.user, self.device, self.connection, present))
        self.accepted(present=present)
        if self.habits.keep_alive_s:
            self._later(self.habits.keep_alive_s * 900, self._ping)

    def accepted(self, *, present: bool) -> None:  # noqa: ARG002 - a subclass needs it
        """Take CONNACK 0: subscribe."""
        self._subscribe([self._inbox + rest for rest in self.habits.filters])

    def _subscribe(self, filters: list[str]) -> None:
        assert self.link is not None  # noqa: S101 - it was just heard
        self.link.send(self._wire.subscribe(filters, self.habits.qos, SUBSCRIBE_ID))

    def refused(self, code: int) -> None:
        """Take a CONNACK that is none: try again later, as the token may be good then."""
        self.world.refused(self, code)
        self.hang_up()

    def _suback(self, codes: list[int], written_ms: int) -> None:
        if self.is_online:
            return
        if any(code > 2 for code in codes):
            self.hang_up()
            return
        self.is_online = True
        self._online_ms = self.world.loop.ms
        habits = self.habits
        self.world.history.online.append(
            Online(
                self.world.loop.ms,
                written_ms,
                self.user,
                self.device,
                self.connection,
                habits.qos,
                filters=habits.filters,
                is_prompt=not habits.receive_maximum,
            )
        )
        self.subscribed()

    def _publish(self, packet: Publish, written_ms: int) -> None:
        """Write down what it is, and let the subclass have it."""
        topic, payload = packet.topic, packet.payload
        levels = topic[len(self._inbox) :].split("/")
        cls = levels[0]
        mid = ""
        if cls in ("u", "g", "sent", "event"):
            mid = self._message(cls, levels, packet, written_ms)
        elif cls == "status":
            self._status(json.loads(payload), payload.decode())
        self.took(packet, mid)

    def _message(self, cls: str, levels: list[str], packet: Publish, written_ms: int) -> str:
        params = levels.pop() if "=" in levels[-1] else ""
        mid = levels[-1]
        seq = int(params.partition("&")[0].removeprefix("seq=")) if params.startswith("seq=") else 0
        is_copy, is_event = cls == "sent", cls == "event"
        place = "/".join(levels[1:3] if is_copy or is_event else levels[:2])
        sender = self.user if is_copy else levels[2] if cls == "g" else "" if is_event else levels[1]
        self.world.history.got.append(
            Got(
                self.world.loop.ms, written_ms, self.user, self.device, self.connection, place, sender, mid, seq,
                packet.payload.decode(), packet.dup, is_copy, is_event, packet.qos,
            )
        )  # fmt: skip
        if cls in ("u", "g") and seq:
            self.seen.append(mid)
            self.seen_in[mid] = place
        return mid

    def _status(self, data: dict[str, Any], text: str) -> None:
        self.world.history.told.append(
            Told(
                self.world.loop.ms, self.user, self.device, self.connection, data["cid"], data["mid"],
                data.get("peer", ""), data.get("group", ""), data["status"], data.get("reason", ""), data["ts"], text,
            )
        )  # fmt: skip

    def acknowledge(self, packet_id: int, mid: str) -> None:
        """Send the PUBACK of what was received."""
        if self.link is not None:
            self.link.send(self._wire.puback(packet_id))
            if mid:
                self.world.history.acked.append(Acked(self.world.loop.ms, self.user, self.device, self.connection, mid))

    # ---- what a subclass is asked ------------------------------------------------------------------------------------

    def send(self, letter: Letter) -> None:
        """Send a message, now or when there is a connection again."""
        raise NotImplementedError

    def mark(self, place: str, mid: str, *, is_upto: bool) -> None:
        """Mark a message, or all up to it, as read."""
        raise NotImplementedError

    def ask(self, op: str, arguments: dict[str, Any]) -> None:
        """Ask the server something by rpc."""
        raise NotImplementedError

    def signal(self, place: str, payload: bytes) -> None:
        """Publish presence."""
        raise NotImplementedError

    def subscribed(self) -> None:
        """Take SUBACK."""

    def acknowledged(self, packet_id: int, code: int) -> None:
        """Take PUBACK."""

    def took(self, packet: Publish, mid: str) -> None:
        """Take what was received."""

    def lost(self) -> None:
        """Take note that the connection is gone."""

    @property
    def unsettled(self) -> int:
        """How many messages it has not got rid of yet."""
        return 0
