"""What users may rely on, checked against everything that the clients of a world saw."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from mesimqtt.domain.ids import made_at_ms
from mesimqtt.domain.status import Status, may_step
from unit.messaging.world import mid_of, seq_of

AHEAD_MS = 50  # each start in the same millisecond draws its mids one millisecond further on
KEPT_AFTER_MS = 1500  # an acknowledgement younger than this may be lost in a crash
CONTENT = ("u", "g", "sent", "event")


@dataclass
class Send:
    """One logical send, however often it was tried. `payload` names it: its text, or the mid that it recalls."""

    sender: str
    topic: str
    cid: str
    payload: str
    recipients: frozenset[str]
    devices: frozenset[tuple[str, str]]  # who had a cursor when it was first tried
    is_accepted: bool = False
    mid: str = ""
    amends: str = ""  # the payload of what it edits or recalls
    tried_at: set[int] = field(default_factory=set)
    accepted_at: int = 0  # which of these it was, as the server says

    @property
    def is_group(self) -> bool:
        """Tell whether it is for the group."""
        return self.topic.startswith("g/")

    @property
    def is_recall(self) -> bool:
        """Tell whether it takes another back."""
        return self.payload.startswith("recall ")

    @property
    def body(self) -> str:
        """What is published."""
        return "" if self.is_recall else self.payload

    def _number(self, key: str) -> int | None:
        level = self.topic.rpartition("/")[2]
        values = dict(pair.split("=") for pair in level.split("&")) if "=" in level else {}
        return int(values[key]) if key in values else None

    @property
    def when_s(self) -> int:
        """For how long it waits before it is sent."""
        return self._number("when") or 0

    @property
    def due_ms(self) -> int:
        """When it is sent; known once it is accepted."""
        return self.accepted_at + self.when_s * 1000

    @property
    def expires(self) -> bool:
        """Tell whether it has a short life."""
        return self._number("expiry") is not None

    @property
    def deadline_ms(self) -> int | None:
        """From when on nobody must get it any more."""
        seconds = self._number("expiry")
        return None if seconds is None or not self.mid else self.due_ms + seconds * 1000


@dataclass
class Device:
    """What one device has seen over all its connections."""

    acked: dict[str, int] = field(default_factory=dict)  # mid -> when
    payloads: dict[str, str] = field(default_factory=dict)  # payload -> mid
    statuses: dict[tuple[str, str], bytes] = field(default_factory=dict)  # (mid, peer) -> newest JSON
    last_seq: dict[str, int] = field(default_factory=dict)  # conversation -> seq, on this connection


class Checker:
    """Takes note of what happens, and raises AssertionError at the first broken promise."""

    def __init__(self, world) -> None:
        self.world = world
        self.devices: dict[tuple[str, str], Device] = {}
        self.sends: dict[str, Send] = {}
        self.left: set[str] = set()  # payloads that a change of members or of users may have withdrawn
        self.recalled: set[str] = set()  # payloads of what was taken back: nobody gets them any more
        self.softly: set[tuple[str, str]] = set()  # (user, payload) that came at QoS 0, which confirms nothing

    def connected(self, key) -> None:
        """Begin a connection of a device."""
        self.devices.setdefault(key, Device()).last_seq.clear()

    def heard(self, peer) -> list:
        """Take what a connection received since the last look, and check its messages; return all of it."""
        messages, peer.inbox = peer.inbox, []
        device = self.devices[peer.user, peer.device]
        for message in messages:
            kind = message.topic.split("/")[3]
            if kind in CONTENT:
                self._message(device, peer, message, kind)
        return messages

    def told(self, peer, messages) -> None:
        """Check the statuses among what a connection received."""
        device = self.devices[peer.user, peer.device]
        for message in messages:
            if message.topic.split("/")[3] == "status":
                self._status(device, peer.user, message)

    def acknowledged(self, peer, messages) -> None:
        """Take note of what a client acknowledged."""
        device = self.devices[peer.user, peer.device]
        for message in messages:
            if message.topic.split("/")[3] in CONTENT:
                device.acked[mid_of(message)] = self.world.ms

    def killed(self) -> None:
        """A crash may forget the newest acknowledgements, and nothing else."""
        for device in self.devices.values():
            device.acked = {mid: at for mid, at in device.acked.items() if at < self.world.ms - KEPT_AFTER_MS}

    def _message(self, device, peer, message, kind) -> None:
        levels = message.topic.split("/")
        conversation = "/".join(levels[4:6] if kind in ("sent", "event") else levels[3:5])
        seq, mid = seq_of(message), mid_of(message)
        assert seq > device.last_seq.get(conversation, 0), f"out of order: {message}"
        device.last_seq[conversation] = seq
        assert mid not in device.acked, f"again after its acknowledgement: {message}"
        if not message.qos:
            device.acked[mid] = self.world.ms  # writing is the acknowledgement (contract section 3)
        if kind == "event":
            return
        payload = _name_of(message)
        send = self.sends[payload]
        assert device.payloads.setdefault(payload, mid) == mid, f"two messages of one send: {message}"
        own = send.sender == peer.user
        assert own == (kind == "sent"), f"a copy is for its sender: {message}"
        assert own or peer.user in send.recipients or send.when_s, f"not for {peer.user}: {message}"
        assert payload not in self.recalled, f"after it was taken back: {message}"
        self._identified(send, mid)
        assert self.world.ms < (send.deadline_ms or self.world.ms + 1), f"after its deadline: {message}"
        assert self.world.ms >= send.due_ms, f"before its time: {self.world.ms} {message} {send}"
        if not message.qos:
            self.softly.add((peer.user, payload))

    def _identified(self, send, mid) -> None:
        """Note which mid a send has, and when it was accepted: at one of its tries, as the mid says (section 2)."""
        assert mid == (send.mid or mid), f"a second mid of one send: {mid} {send}"
        if send.mid:
            return
        number = int(mid, 16)
        send.mid, made_ms = mid, made_at_ms(number)
        send.accepted_at = max((at for at in send.tried_at if at <= made_ms), default=0)
        assert made_ms - send.accepted_at <= AHEAD_MS, f"accepted when nobody sent it: {send}"
        rows = self.world.rows(
            "SELECT ts FROM scheduled WHERE id = ?1 UNION SELECT ts FROM message WHERE id = ?1", number
        )
        assert 1 == len(rows), f"not stored: {send}"
        is_due = send.when_s and rows[0][0] >= send.due_ms  # a message's time is that of its seq
        assert is_due or rows[0][0] == send.accepted_at, f"stored with another time: {rows} {send}"

    def _status(self, device, user, message) -> None:
        status = json.loads(message.payload)
        sends = [each for each in self.sends.values() if each.sender == user and each.cid == status["cid"]]
        after = status["status"]
        if not sends:  # a read mark in a group that its reader has left
            assert after == Status.INVALID_DESTINATION, f"of no send: {status}"
            return
        send = sends[0]
        if after == Status.SENT:
            rows = self.world.rows(
                "SELECT id FROM message WHERE id = ?1 UNION SELECT id FROM scheduled WHERE id = ?1",
                int(status["mid"], 16),
            )
            assert [(int(status["mid"], 16),)] == rows, f"SENT, but not stored: {status}"
        if after in (Status.SENT, Status.DELIVERED, Status.READ):
            send.is_accepted = True
            self._identified(send, status["mid"])
            if send.is_recall:
                self._taken_back(send.amends)
        if after == Status.INVALID_DESTINATION or (after >= Status.FAILED and not send.is_accepted):
            return  # refused, and judged afresh when it is sent again
        key = (status["mid"], status.get("peer", ""))
        before = device.statuses.get(key)
        device.statuses[key] = message.payload
        if before is not None and before != message.payload:
            step = json.loads(before)
            assert _is_reachable(step["status"], after, step.get("reason") == "unconfirmed"), f"{before!r} -> {status}"
            assert step["status"] != after, f"a repeat that differs: {before!r} -> {status}"

    def _taken_back(self, payload) -> None:
        """Note that a message and its edits are gone: committed, so nobody gets them from now on."""
        self.recalled |= {payload} | {
            each.payload for each in self.sends.values() if each.amends == payload and not each.is_recall
        }

    def finish(self) -> None:
        """Check, after everybody was online long enough, that nothing accepted is missing and all has its verdict."""
        for payload, send in self.sends.items():
            if not send.is_accepted:
                continue
            for key in send.devices:
                user = key[0]
                is_due = not send.expires and payload not in self.left | self.recalled
                if is_due and user != send.sender and user in send.recipients:
                    assert payload in self.devices[key].payloads, f"lost: {send} for {key}"
            self._verdicts(send)

    def _verdicts(self, send) -> None:
        rows = self.world.rows(
            "SELECT printf('%016x', message_id) FROM cid JOIN user u ON u.id = sender_id WHERE cid = ? AND address = ?",
            send.cid, send.sender,
        )  # fmt: skip
        assert [(send.mid,)] == rows, f"accepted, but not in the store: {send}"
        answer = self.world.do("status", mid=rows[0][0])
        final = {row.get("peer", ""): row["status"] for row in answer["status"] if row["status"] != Status.SENT}
        if send.payload in self.recalled:
            # In a group whose other members have all gone there is nobody whose status it could be.
            assert final or not send.recipients, f"taken back, and nobody is told: {send} {answer}"
            assert all(code == Status.DELETED or code >= Status.FAILED for code in final.values()), f"{send} {answer}"
            return
        for recipient in send.recipients if send.payload not in self.left else ():
            is_soft = (recipient, send.payload) in self.softly
            is_unsent = send.when_s and "" in final  # what cannot be sent at its time never had a recipient
            assert recipient in final or is_unsent or is_soft, f"no verdict for {recipient}: {send} {answer}"


def _name_of(message) -> str:
    """Return what names the send of a message: its text, or of a recall the mid that it takes back."""
    text = message.payload.decode()
    if text:
        return text
    last = message.topic.rpartition("/")[2]
    pairs = [pair.split("=") for pair in last.split("&")] if "=" in last else message.user_property
    return f"recall {dict(pairs)['recall']}"


def _is_reachable(before: int, after: int, unconfirmed: bool) -> bool:
    seen, edge = {before}, {before}
    while edge:
        edge = {
            code.value
            for step in edge
            for code in Status
            if code.value not in seen and may_step(step, code.value, unconfirmed=unconfirmed and step == before)
        }
        seen |= edge
    return after in seen
