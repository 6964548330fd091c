"""Servers that lie about a message: statuses that are missing, too early, in another form, or told to the wrong one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from conform.broken.between import PUBACK, PUBLISH, Broken, Publish, body_of, kind_of, number
from mesimqtt.testing import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

SENT, DELIVERED, READ, FAILED = 1, 2, 3, 0x80


def code_of(publish) -> int:
    """Return the code of a status in either form, 0 of anything else."""
    if publish.place.startswith("s/"):
        return int(publish.payload)
    return publish.status.get("status", 0)


class NoSent(Broken):
    """PUBACK without SENT."""

    def told(self, link, publish, raw):
        return [] if code_of(publish) == SENT else [raw]


class GuessedDelivered(Broken):
    """DELIVERED when a message is written, not when it is acknowledged."""

    def told(self, link, publish, raw):
        if publish.qos and publish.place.startswith(("u/", "g/")):
            link.kept = {*(link.kept or ()), publish.packet_id}
            link.link.write(wire.ack("PUBACK", publish.packet_id))
        return [raw]

    def up(self, link, raw):
        if kind_of(raw) == PUBACK and link.kept and number(body_of(raw)) in link.kept:
            link.kept.discard(number(body_of(raw)))
            return []
        return super().up(link, raw)


class Without(Broken):
    """Never tells one step: `code`."""

    code = 0

    def told(self, link, publish, raw):
        return [] if code_of(publish) == self.code else [raw]


class NoDelivered(Without):
    """Nobody is told that a message was delivered."""

    code = DELIVERED


class NoRead(Without):
    """Nobody is told that a message was read."""

    code = READ


class NoPeers(Broken):
    """Statuses do not say whose they are."""

    def told(self, link, publish, raw):
        if publish.status:
            publish.payload = re.sub(rb'"peer":"[^"]*",', b"", publish.payload)
        return [publish.write()]


class CopyCounts(Broken):
    """That a sender's own device has its copy counts as delivered."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.sent: dict[str, bytes] = {}

    def told(self, link, publish, raw):
        told = publish.status
        if told.get("status") == SENT:
            self.sent[told["mid"]] = publish.payload.replace(
                b'"status":1,"name":"sent"', b'"status":2,"name":"delivered"'
            )
        if publish.place.startswith("sent/u/"):
            payload = self.sent.get(publish.topic.split("/")[6], b"")
            for other in self.links_of(link.user) if payload else []:
                other.slip(f"m/{link.user}/in/status/{json.loads(payload)['cid']}", payload)
        return [raw]


class ReadAlone(Broken):
    """READ without DELIVERED, where both come of one read mark."""

    def down(self, link, packets):
        read = [self._step(link, raw)[0] for raw in packets if self._step(link, raw)[1] == READ]
        return super().down(
            link,
            [raw for raw in packets if self._step(link, raw)[1] != DELIVERED or self._step(link, raw)[0] not in read],
        )

    @staticmethod
    def _step(link, raw):
        if kind_of(raw) != PUBLISH:
            return "", 0
        status = Publish.read(raw, five=link.five).status
        return (status.get("mid"), status.get("peer")), status.get("status", 0)


class OtherBytes(Broken):
    """A status that is told again has another time."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.before: set[bytes] = set()

    def told(self, link, publish, raw):
        if not publish.status:
            return [raw]
        if publish.payload in self.before:
            return [publish.tell(ts=publish.status["ts"] + 1)]
        self.before.add(publish.payload)
        return [raw]


class SilentRefusal(Broken):
    """A publish that is refused is acknowledged, and nothing is said of it."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.sent: set[str] = set()

    def told(self, link, publish, raw):
        if code_of(publish) < FAILED:
            self.sent.add(publish.status.get("mid", ""))
            return [raw]
        return [raw] if publish.status.get("mid") in self.sent else []


class BothStatuses(Broken):
    """A device that subscribed to the numbers gets the JSON, too."""

    def told(self, link, publish, raw):
        if not publish.place.startswith("s/"):
            return [raw]
        copy = wire.publish(publish.topic.replace("/in/s/", "/in/status/"), b'{"status":%b}' % publish.payload)
        return [raw, copy]


class SpacedJson(Broken):
    """Statuses with spaces between the tokens."""

    def told(self, link, publish, raw):
        if publish.status:
            publish.payload = publish.payload.replace(b'","', b'", "')
        return [publish.write()]


class OddNames(Broken):
    """Statuses have other names: `Sent`."""

    def told(self, link, publish, raw):
        return [publish.tell(name=publish.status["name"].title())] if publish.status else [raw]


class ToldToAll(Broken):
    """What becomes of a message is told to its recipient, too."""

    def told(self, link, publish, raw):
        told = publish.status
        if told.get("status") == DELIVERED and told.get("peer", link.user) != link.user:
            for other in self.links:
                if other.user == told["peer"]:
                    other.slip(f"m/{other.user}/in/status/{told['cid']}", publish.payload)
        return [raw]


class LeakyGroup(Broken):
    """Who is no member learns that the group is there: 0x91 instead of 0x83."""

    def told(self, link, publish, raw) -> Iterable[bytes]:
        told = publish.status
        if told.get("status") == 0x83 and str(told.get("group", "")).startswith("team-"):
            return [publish.tell(status=0x91, name="not-member")]
        return [raw]


ALL = {
    NoSent: "C2.11 C2.37 C2.42 C2.44 C2.48 C2.80 C3.20 C4.42 C5.23",
    GuessedDelivered: "C3.6 C3.13 C3.14 C3.16 C3.17",
    NoDelivered: "C2.40 C4.2 C4.9 C4.33",
    NoRead: "C2.13 C2.14 C4.10 C4.31",
    NoPeers: "C3.26 C3.27 C3.28 C4.6 C4.8 C4.43",
    CopyCounts: "C2.10 C4.37",
    ReadAlone: "C4.11",
    OtherBytes: "C4.32 C4.35",
    SilentRefusal: "C1.1 C1.4 C1.5 C2.57 C2.74 C2.76 C4.21 C4.25 C4.55",
    BothStatuses: "C2.12 C4.1 C4.3 C4.28 C4.37",
    SpacedJson: "C4.1",
    OddNames: "C4.3 C4.12 C4.13 C4.18",
    ToldToAll: "C4.30",
    LeakyGroup: "C4.19 C4.26",
}
