"""What users may rely on, checked against everything that the clients of a world saw."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from mesimqtt.domain.status import Status, may_step
from unit.messaging.world import mid_of, seq_of

KEPT_AFTER_MS = 1500  # an acknowledgement younger than this may be lost in a crash


@dataclass
class Send:
    """One logical send, however often it was tried."""

    sender: str
    topic: str
    cid: str
    payload: str
    recipients: frozenset[str]
    devices: frozenset[tuple[str, str]]  # who had a cursor when it was first tried
    expires: bool = False
    is_accepted: bool = False


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
        self.left: set[str] = set()  # payloads that a change of members may have withdrawn

    def connected(self, key) -> None:
        """Begin a connection of a device."""
        self.devices.setdefault(key, Device()).last_seq.clear()

    def saw(self, peer) -> list:
        """Take what a connection received since the last look; return what is to be acknowledged."""
        messages, peer.inbox = peer.inbox, []
        device = self.devices[peer.user, peer.device]
        for message in messages:
            kind = message.topic.split("/")[3]
            if kind == "status":
                self._status(device, peer.user, message)
            elif kind in ("u", "g", "sent", "event"):
                self._message(device, peer, message, kind)
        return messages

    def acknowledged(self, peer, messages) -> None:
        """Take note of what a client acknowledged."""
        device = self.devices[peer.user, peer.device]
        for message in messages:
            if message.topic.split("/")[3] in ("u", "g", "sent", "event"):
                device.acked[mid_of(message)] = self.world.ms

    def killed(self) -> None:
        """A crash may forget the newest acknowledgements, and nothing else."""
        for device in self.devices.values():
            device.acked = {mid: at for mid, at in device.acked.items() if at < self.world.ms - KEPT_AFTER_MS}

    def _message(self, device, peer, message, kind) -> None:
        levels = message.topic.split("/")
        conversation = "/".join(levels[4:6] if kind in ("sent", "event") else levels[3:5])
        seq, mid, payload = seq_of(message), mid_of(message), message.payload.decode()
        assert seq > device.last_seq.get(conversation, 0), f"out of order: {message}"
        device.last_seq[conversation] = seq
        assert mid not in device.acked, f"again after its acknowledgement: {message}"
        if kind != "event":
            assert device.payloads.setdefault(payload, mid) == mid, f"two messages of one send: {message}"
            send = self.sends[payload]
            own = send.sender == peer.user
            assert own == (kind == "sent"), f"a copy is for its sender: {message}"
            assert own or peer.user in send.recipients, f"not for {peer.user}: {message}"

    def _status(self, device, user, message) -> None:
        status = json.loads(message.payload)
        sends = [each for each in self.sends.values() if each.sender == user and each.cid == status["cid"]]
        after = status["status"]
        if not sends:  # a read mark in a group that its reader has left
            assert after == Status.INVALID_DESTINATION, f"of no send: {status}"
            return
        send = sends[0]
        if after == Status.SENT:
            rows = self.world.rows("SELECT 1 FROM message WHERE id = ?", int(status["mid"], 16))
            assert [(1,)] == rows, f"SENT, but not stored: {status}"
        if after in (Status.SENT, Status.DELIVERED, Status.READ):
            send.is_accepted = True
        if after == Status.INVALID_DESTINATION:
            return  # refused, and judged afresh when it is sent again
        key = (status["mid"], status.get("peer", ""))
        before = device.statuses.get(key)
        device.statuses[key] = message.payload
        if before is not None and before != message.payload:
            step = json.loads(before)
            assert _is_reachable(step["status"], after, step.get("reason") == "unconfirmed"), f"{before!r} -> {status}"
            assert step["status"] != after, f"a repeat that differs: {before!r} -> {status}"

    def finish(self) -> None:
        """Check, after everybody was online long enough, that nothing accepted is missing and all has its verdict."""
        for payload, send in self.sends.items():
            if not send.is_accepted:
                continue
            for key in send.devices:
                user = key[0]
                if send.expires or payload in self.left or (user != send.sender and user not in send.recipients):
                    continue
                if user != send.sender:
                    assert payload in self.devices[key].payloads, f"lost: {send} for {key}"
            self._verdicts(send)

    def _verdicts(self, send) -> None:
        rows = self.world.rows(
            "SELECT printf('%016x', message_id) FROM cid JOIN user u ON u.id = sender_id WHERE cid = ? AND address = ?",
            send.cid, send.sender,
        )  # fmt: skip
        assert 1 == len(rows), f"accepted, but not in the store: {send}"
        answer = self.world.do("status", mid=rows[0][0])
        final = {row["peer"]: row["status"] for row in answer["status"] if row["status"] != Status.SENT}
        for recipient in send.recipients:
            assert recipient in final, f"no verdict for {recipient}: {send} {answer}"


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
