"""A server in virtual time on a disk that loses power, and clients that write down what they were told."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any, ClassVar

from mesimqtt.proof.checker import Accepted, Delivery, StatusStep
from mesimqtt.proof.powercut.disk import PowerCut
from mesimqtt.store import damage
from mesimqtt.testing import wire
from mesimqtt.testing.peer import Peer, mid_of, seq_of
from mesimqtt.testing.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from mesimqtt.proof.powercut.vfs import PowerCutDisk
    from mesimqtt.store.database import Database

_FAILURES_MAX = 100  # callbacks of one turn that fail
_BOOT_MS = 500  # for so long there is no server
STARTS_MAX = 50  # attempts to start while the power goes again and again


class NotedPeer(Peer):
    """A client's end of a connection that notes all it is told in its world's notes."""

    world: PowerWorld
    number = 0  # of the connection, in the order of their beginning

    def send(self, *packets: bytes) -> None:
        """Send packets; where the server cannot read its database it loses this connection, as the broker does."""
        try:
            super().send(*packets)
        except sqlite3.Error:
            self.connection.close("a connection failed")

    def exchange(self) -> bool:
        """Read and acknowledge, likewise."""
        try:
            return super().exchange()
        except sqlite3.Error:
            self.connection.close("a connection failed")
            return True

    def read_out(self) -> list[Any]:
        """Take what the server has written, and note it."""
        packets = super().read_out()
        if not self.number:
            self.number = self.world.notes.connections = self.world.notes.connections + 1
        for packet in packets:
            if isinstance(packet, wire.Message):
                self.world.notes.message(self, packet)
            elif packet[0] in ("PUBACK", "PUBREC"):
                self.world.notes.acknowledged(self, packet[1])
        return packets


def tag_of(params: str) -> str:
    """Return the parameter `tag`: what has no payload says there which message it is."""
    return next((part[4:] for part in params.split("&") if part.startswith("tag=")), "")


class Notes:
    """What clients saw, as the checker takes it.

    A conversation is named by its other end: a user, or a group. Devices are receivers of their own: `bob/phone`.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.accepted: list[Accepted] = []
        self.deliveries: list[Delivery] = []
        self.steps: list[StatusStep] = []
        self.taken: set[str] = set()  # cids and free payloads whose PUBLISH was acknowledged
        self.free: list[bytes] = []  # payloads of free topics, as they arrived
        self.waiting: dict[tuple[int, int], str] = {}  # (connection, packet id) -> cid, or free payload

    def acknowledged(self, peer: NotedPeer, packet_id: int) -> None:
        """Note a PUBACK or PUBREC."""
        cid = self.waiting.pop((peer.number, packet_id), None)
        if cid is not None:
            self.taken.add(cid)

    def message(self, peer: NotedPeer, message: Any) -> None:  # noqa: ANN401 - a wire.Message, of either version
        """Note what a client was sent."""
        levels = message.topic.split("/")
        if levels[0] != "m":
            self.free.append(message.payload)
        elif levels[3] in ("u", "g"):
            cid = tag_of(levels[-1]) if not message.payload else message.payload.decode().split("|")[1]
            place = levels[4]
            self.deliveries.append(Delivery(
                f"{peer.user}/{peer.device}", peer.number, place, cid, mid_of(message), seq_of(message), message.dup
            ))  # fmt: skip
        elif levels[3] == "status":
            told = json.loads(message.payload)
            self.steps.append(StatusStep(
                told.get("group") or peer.user, peer.number, told["cid"], told["mid"], told.get("peer", ""),
                told["status"], message.payload.decode(), told.get("reason", ""),
            ))  # fmt: skip


class PowerWorld(World):
    """One server whose database is on a disk that loses power; PowerCut comes out of whatever is being done.

    `synchronous` is the shipped store's: a subclass that says less shows that this proof would notice.
    """

    peer_type: ClassVar[type[Peer]] = NotedPeer
    synchronous: ClassVar[str] = "FULL"

    def __init__(self, folder: Path, power: PowerCutDisk, **sections: Any) -> None:  # noqa: ANN401 - the world's
        self.power = power
        self.notes = Notes()
        self.starts = 0
        self.alarms: list[str] = []  # what a start would have refused
        self._opened: Database | None = None
        super().__init__(folder, **sections)

    def make_database(self) -> Database:
        """Return the database on the disk that loses power."""
        self._opened = self.power.database(self.folder)
        return self._opened

    def open(self) -> None:
        """Start the server, as often as the power goes while it starts."""
        for _ in range(STARTS_MAX):
            self.starts += 1
            self._look_at_log()
            try:
                super().open()
            except PowerCut:
                self.power.cut()
                self._let_go()
            else:
                return
        raise RuntimeError(f"the server did not start in {STARTS_MAX} attempts")

    def _look_at_log(self) -> None:
        """Look at the log as the server does: what a power cut leaves is never damage."""
        for name, file in self.power.disk.files.items():
            if name.endswith("-wal") and (found := damage.in_log(bytes(file.data))) is not None:
                self.alarms.append(f"false alarm: {found}")

    def turn(self) -> None:
        """Run everything that can run; a callback that fails is logged by a real loop, which goes on."""
        for _ in range(_FAILURES_MAX):
            try:
                return super().turn()
            except sqlite3.Error:
                continue
        return None

    def cut(self) -> None:
        """Lose the power, whatever is being done; then there is power again, and the server is started."""
        with contextlib.suppress(PowerCut):
            for peer in self.peers:
                peer.read_out()  # what was written before has left the machine
        self.power.cut()
        self.peers.clear()
        self._cancel()
        self.loop.queue.clear()
        self._let_go()
        self.ms += _BOOT_MS
        self.open()

    def _let_go(self) -> None:
        """Let go of what a dead process held."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
