"""People who write to each other while the power goes: clients that resend what was not acknowledged, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.checker import Accepted, backward, doubled, lost, out_of_order, unmatched, without_verdict
from mesimqtt.store import integrity
from mesimqtt.testing import wire

if TYPE_CHECKING:
    import random
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.proof.powercut.world import PowerWorld
    from mesimqtt.testing.peer import Peer

USERS, GROUP = ("alice", "bob", "carol"), "team"
DEVICES = (("alice", "phone"), ("bob", "phone"), ("bob", "tablet"), ("carol", "phone"), ("door", "lock"))
_FREE = b"free|"


@dataclass
class Phone:
    """A client on one device: what it has sent and not got an acknowledgement for, it sends again."""

    user: str
    device: str
    peer: Peer | None = None
    count: int = 0
    pending: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # cid, or free payload -> topic and payload
    mids: list[tuple[str, str]] = field(default_factory=list)


class Chat:
    """What happens in one world, step by step; `step` may raise PowerCut."""

    def __init__(self, world: PowerWorld, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.phones = [Phone(user, device) for user, device in DEVICES]
        self.sent: dict[str, tuple[str, str]] = {}  # cid -> (sender, place)
        self.free: set[str] = set()
        self.recalls: dict[str, str] = {}  # cid of a recall -> of which cid
        self.scheduled: set[str] = set()  # amended before their time they are another message
        self.amends: dict[str, str] = {}  # edits and recalls: of which cid; refused where that is gone
        self._acts: list[Callable[[], object]] = [
            *[self._say] * 10, *[self._say_to_group] * 4, *[self._read] * 3, self._edit, self._recall, self._schedule,
            *[self._publish] * 2, *[self._lose] * 2, *[self._come] * 5, *[self._wait] * 3, self._checkpoint,
        ]  # fmt: skip

    # ---- what people do ----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Let somebody do something."""
        self._notice()
        self.chance.choice(self._acts)()

    def _notice(self) -> None:
        """Let those go whose connection the server has closed."""
        for phone in self.phones:
            if phone.peer is not None and phone.peer.is_closed:
                peer, phone.peer = phone.peer, None
                peer.lose()

    def gather(self) -> None:
        """Let some of those who are away come back, as they do when a server is there again."""
        for phone in self.phones:
            if phone.peer is None and self.chance.random() < 0.6:
                self.come(phone)

    def _phone(self, *, user: bool = True) -> Phone | None:
        online = [each for each in self.phones if each.peer is not None and (each.user in USERS) is user]
        return self.chance.choice(online) if online else None

    def _say(self, params: str = "", *, place: str = "") -> str:
        phone = self._phone()
        if phone is None:
            return ""
        others = [user for user in USERS if user != phone.user]
        return self._send(phone, place or f"u/{self.chance.choice(others)}", params)

    def _send(self, phone: Phone, place: str, params: str = "", *, amends: str = "") -> str:
        phone.count += 1
        cid = f"{phone.user}-{phone.device}-{phone.count}"
        noise = "x" * self.chance.choice((0, 3, 50, 700, 5000))
        payload = f"{phone.user}|{cid}|{noise}".encode()
        if params.startswith("/recall"):
            self.recalls[cid] = amends
            payload, params = b"", f"{params}&tag={cid}"
        self.sent[cid] = (phone.user, place)
        if params.startswith("/when"):
            self.scheduled.add(cid)
        if amends:
            self.amends[cid] = amends
        phone.pending[cid] = (f"m/{phone.user}/out/{place}/{cid}{params}", payload)
        self._publish_pending(phone, cid)
        return cid

    def _say_to_group(self) -> None:
        self._say(place=f"g/{GROUP}")

    def _amend(self, word: str) -> None:
        """Edit or take back what somebody said lately, as far as he knows its mid."""
        steps = [step for step in self.world.notes.steps[-20:] if step.code == 1 and step.cid in self.sent]
        if not steps:
            return
        step = self.chance.choice(steps)
        user, place = self.sent[step.cid]
        phone = next((each for each in self.phones if each.user == user and each.peer is not None), None)
        if phone is not None and step.cid not in self.amends and step.cid not in self.scheduled:
            self._send(phone, place, f"/{word}={step.mid}", amends=step.cid)

    def _edit(self) -> None:
        self._amend("edit")

    def _recall(self) -> None:
        self._amend("recall")

    def _schedule(self) -> None:
        self._say(f"/when={self.chance.choice((1, 2, 5))}")

    def _read(self) -> None:
        phone = self._phone()
        got = [each for each in self.world.notes.deliveries[-30:] if phone and each.receiver.startswith(phone.user)]
        if phone is None or phone.peer is None or not got:
            return
        one = self.chance.choice(got)
        kind = "g" if one.sender == GROUP else "u"
        phone.peer.publish(f"read/{kind}/{one.sender}", self.chance.choice(("", "<=")) + one.mid)

    def _publish(self) -> None:
        """Publish to a free topic, for the door's lock, whose session is kept."""
        phone = self._phone()
        if phone is None:
            return
        phone.count += 1
        text = f"{phone.user}-{phone.device}-{phone.count}"
        self.free.add(text)
        phone.pending[text] = ("free/door", _FREE + text.encode())
        self._publish_pending(phone, text)

    def _publish_pending(self, phone: Phone, cid: str) -> None:
        peer: Any = phone.peer
        topic, payload = phone.pending[cid]
        packet_id = peer.next_id()
        self.world.notes.waiting[peer.number, packet_id] = cid
        peer.send(wire.publish(topic, payload, qos=1, packet_id=packet_id))
        self._settle(phone)

    def _settle(self, phone: Phone) -> None:
        for cid in [cid for cid in phone.pending if cid in self.world.notes.taken]:
            del phone.pending[cid]

    def _lose(self) -> None:
        phone = self.chance.choice(self.phones)
        if phone.peer is not None:
            peer, phone.peer = phone.peer, None
            peer.lose()

    def _come(self) -> None:
        away = [phone for phone in self.phones if phone.peer is None]
        if away:
            self.come(self.chance.choice(away))

    def come(self, phone: Phone) -> None:
        """Connect a device that was away: it subscribes again and resends what was not acknowledged."""
        self._settle(phone)
        peer = phone.peer = self.world.connect(phone.user, phone.device)
        if phone.user == "door":
            peer.subscribe("free/#")
        elif phone.device == "phone":
            peer.subscribe("#")
        else:
            peer.subscribe("u/#", "g/#")
        for cid in list(phone.pending):
            self._publish_pending(phone, cid)

    def _wait(self) -> None:
        self.world.advance(self.chance.choice((0.25, 1.0, 2.0)))

    def _checkpoint(self) -> None:
        how = self.chance.choice(("PASSIVE", "RESTART", "TRUNCATE"))
        self.world.store.read.execute(f"PRAGMA wal_checkpoint({how})").fetchall()

    # ---- when the power goes -----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Lose the power, and start again; nobody is connected then."""
        for phone in self.phones:
            phone.peer = None
        self.world.cut()

    def finish(self) -> list[str]:
        """Let everybody come and get all that waits; return a sentence for everything that is not as promised."""
        self._notice()
        for phone in self.phones:
            if phone.peer is None:
                self.come(phone)
        self.world.advance(8)
        for phone in self.phones:
            self._settle(phone)
        found = self.judge()
        for phone in self.phones:
            found += [f"never acknowledged: {cid}" for cid in phone.pending]
        return found

    def judge(self) -> list[str]:
        """Return a sentence for everything that is not as promised."""
        notes = self.world.notes
        # What the store could not take was refused, and sent again.
        refusals = {step.cid: step for step in notes.steps if step.code >= 0x80 and step.reason != "store"}
        sent = {step.cid for step in notes.steps if step.code < 0x80}  # an amendment may be refused, unseen by anybody
        recalled = set(self.recalls.values())
        gone = {cid for cid in self.sent if cid in recalled or self.amends.get(cid) in recalled} - self.recalls.keys()
        accepted = [
            Accepted(place[2:] if place.startswith("g/") else sender, f"{user}/{device}", cid)
            for cid, (sender, place) in self.sent.items()
            if cid in notes.taken and cid not in gone and (cid in sent or cid not in self.amends)
            for user, device in DEVICES
            if user == place[2:] or (place.startswith("g/") and user in USERS and user != sender)
        ]
        arrived = set(notes.free)
        return [
            *lost(accepted, notes.deliveries),
            *doubled(notes.deliveries),
            *out_of_order(notes.deliveries),
            *backward(notes.steps),
            *unmatched(notes.deliveries, notes.steps),
            *without_verdict(accepted, notes.steps),
            *(
                f"lost: {each} of a free topic"
                for each in self.free & notes.taken
                if _FREE + each.encode() not in arrived
            ),
            *(f"refused: {step.text}" for cid, step in refusals.items() if cid not in self.amends),
            *flaws(self.world.store.read),
            *self.world.alarms,
        ]


def flaws(connection: sqlite3.Connection) -> list[str]:
    """Return a sentence for everything in a database that no run of the server may leave."""
    found = [
        f"integrity: {row[0]}" for row in connection.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"
    ]
    found += [f"damaged: message {mid:016x}" for mid, _ in integrity.damaged_messages(connection)]
    found += [f"{what}: {rows[:3]}" for what, sql in _FLAWS.items() if (rows := connection.execute(sql).fetchall())]
    return found


_FLAWS = {
    "a seq is missing": """SELECT c.id, c.last_seq, count(m.id) FROM conversation c LEFT JOIN message m
        ON m.conversation_id = c.id GROUP BY c.id HAVING count(m.id) <> c.last_seq OR max(m.seq) <> c.last_seq""",
    "a cursor is ahead": """SELECT u.device_id, u.acked, c.last_seq FROM cursor u JOIN conversation c
        ON c.id = u.conversation_id WHERE u.acked > c.last_seq""",
    "a lane is ahead": """SELECT l.user_id, l.acked, c.last_seq FROM lane l JOIN conversation c
        ON c.id = l.conversation_id WHERE max(l.acked, l.delivered, l.read) > c.last_seq""",
    "a message has no SENT": """SELECT m.id FROM message m WHERE m.kind = 0 AND NOT EXISTS (SELECT 1 FROM step s
        WHERE s.conversation_id = m.conversation_id AND m.seq BETWEEN s.first_seq AND s.last_seq
        AND s.sender_id = m.sender_id AND s.status = 1)""",
    "a cid stands for nothing": """SELECT cid FROM cid c WHERE NOT EXISTS (SELECT 1 FROM message m WHERE
        m.id = c.message_id) AND NOT EXISTS (SELECT 1 FROM scheduled s WHERE s.id = c.message_id)""",
    "changes are not dense": """SELECT sender_id, count(*), max(change) FROM step GROUP BY sender_id
        HAVING count(*) <> max(change)""",
}
