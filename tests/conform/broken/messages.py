"""Servers that lose, double, change or misorder messages."""

from __future__ import annotations

import json
import re
from itertools import count

from conform.broken.between import PUBLISH, SUBACK, Broken, Publish, kind_of
from mesimqtt.testing import wire


class GappedSeq(Broken):
    """Every second seq is left out."""

    def told(self, link, publish, raw):
        publish.topic = re.sub(r"/seq=(\d+)", lambda found: f"/seq={2 * int(found[1])}", publish.topic)
        return [publish.write()]


class LiveFirst(Broken):
    """The newest of what waits comes first."""

    def down(self, link, packets):
        places = [at for at, raw in enumerate(packets) if self._is_message(link, raw)]
        if len(places) > 1:
            last = packets.pop(places[-1])
            packets.insert(places[0], last)
        return super().down(link, packets)

    @staticmethod
    def _is_message(link, raw):
        return kind_of(raw) == PUBLISH and Publish.read(raw, five=link.five).place.startswith("u/")


class Renaming(Broken):
    """Gives cids of its own to some messages, and takes them back in statuses."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.seen: dict[tuple[str, str], set[tuple[str, bytes]]] = {}
        self.names: dict[str, str] = {}
        self.count = count(1)

    def is_renamed(self, before, now) -> bool:
        """Tell whether a message with a cid that was used for others is to be taken for a new one."""
        raise NotImplementedError

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if len(levels) < 6 or levels[2] != "out" or levels[3] not in ("u", "g"):
            return [raw]
        before = self.seen.setdefault((link.user, levels[5]), set())
        now = (publish.topic, publish.payload)
        if self.is_renamed(before, now):
            name = f"again-{next(self.count)}"
            self.names[name], levels[5] = levels[5], name
            publish.topic = "/".join(levels)
        before.add(now)
        return [publish.write()]

    def told(self, link, publish, raw):
        level = publish.topic.rpartition("/")[2]
        if level in self.names:
            publish.topic = publish.topic.replace(level, self.names[level])
            publish.payload = publish.payload.replace(
                json.dumps(level).encode(), json.dumps(self.names[level]).encode()
            )
        return [publish.write()]


class ResendIsNew(Renaming):
    """The same message with the same cid is a second message."""

    def is_renamed(self, before, now):
        return now in before


class ReusedCid(Renaming):
    """Another message with a cid that was used is taken."""

    def is_renamed(self, before, now):
        return bool(before) and now not in before


class NeverExpires(Broken):
    """What is expired is delivered all the same: a short time to live is not heeded."""

    def said(self, link, publish, raw):
        publish.topic = re.sub(r"([/&])expiry=1(?=&|$)", r"\1x=1", publish.topic)
        return [publish.write()]


class Echo(Broken):
    """A group's message comes back to its sender's other devices as one of the group."""

    def told(self, link, publish, raw):
        found = re.fullmatch(r"(m/([^/]+)/in/)sent/(g/[^/]+)(/.*)", publish.topic)
        if found is None:
            return [raw]
        return [raw, wire.publish(f"{found[1]}{found[3]}/{found[2]}{found[4]}", publish.payload)]


class Retained(Broken):
    """Retain is obeyed under the root."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.kept: dict[str, list[bytes]] = {}

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if raw[0] & 1 and levels[2:4] == ["out", "u"]:
            topic = f"m/{levels[4]}/in/u/{link.user}/0123456789abcdef/seq=1"
            self.kept.setdefault(levels[4], []).append(wire.publish(topic, publish.payload, retain=True))
        return [raw]

    def answered(self, link, raw):
        return [raw, *self.kept.get(link.user, [])] if kind_of(raw) == SUBACK else [raw]


class NoCopy(Broken):
    """What one device sends is not shown to the others of the same user."""

    def told(self, link, publish, raw):
        return [] if publish.place.startswith("sent/") else [raw]


class SortedKeys(Broken):
    """The sender's parameters arrive in the order of the alphabet."""

    def told(self, link, publish, raw):
        head, _, last = publish.topic.rpartition("/")
        if publish.place and "=" in last:
            seq, *others = last.split("&")
            publish.topic = f"{head}/{'&'.join([seq, *sorted(others)])}"
        return [publish.write()]


class LoudMids(Broken):
    """mids in capital letters; what a client says of one is understood."""

    def told(self, link, publish, raw):
        publish.topic = re.sub(
            r"(?<=/)([0-9a-f]{16})(?=/|$)", lambda found: found[1].replace("a", "A").replace("b", "B"), publish.topic
        )
        if publish.status:
            publish.payload = re.sub(
                rb'(?<="mid":")[0-9a-f]{16}',
                lambda found: found[0].replace(b"a", b"A").replace(b"b", b"B"),
                publish.payload,
            )
        return [publish.write()]

    def said(self, link, publish, raw):
        if "/out/read/" in publish.topic:
            publish.payload = publish.payload.lower()
        publish.topic = re.sub(r"(?<==)[0-9a-fA-F]{16}(?=&|$)", lambda found: found[0].lower(), publish.topic)
        return [publish.write()]


class NoDup(Broken):
    """What comes again does not say so."""

    def told(self, link, publish, raw):
        publish.first &= ~8
        return [publish.write()]


class OnlyText(Broken):
    """Payloads are repaired, as if they were texts."""

    def told(self, link, publish, raw):
        if publish.place.startswith(("u/", "g/")):
            publish.payload = publish.payload.decode("utf-8", "replace").encode()
        return [publish.write()]


ALL = {
    GappedSeq: "C2.45 C2.46 C2.50 C3.4 C3.29",
    LiveFirst: "C3.3 C3.9 C3.10 C3.11",
    ResendIsNew: "C2.39 C2.40 C4.49",
    ReusedCid: "C2.41 C4.54",
    NeverExpires: "C3.4 C3.21 C3.22 C4.13 C4.20 C4.29 C4.46",
    Echo: "C2.7",
    Retained: "C2.82",
    NoCopy: "C2.8 C2.9 C2.49 C2.70 C3.7",
    SortedKeys: "C2.47 C2.51 C2.52 C2.75 C2.77",
    LoudMids: "C2.19 C2.38 C2.43 C2.63 C2.64 C2.65 C4.39",
    NoDup: "C3.15",
    OnlyText: "C2.6 C2.7 C2.78",
}
