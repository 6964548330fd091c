"""Servers that mishandle what is no message: marks, presence, answers, news, wills, and what a message asks for."""

from __future__ import annotations

import json
import re

from conform.broken.between import PUBACK, PUBREC, Broken, body_of, kind_of, number
from mesimqtt.testing import wire


class NoAsides(Broken):
    """Presence, answers, events and marks reach nobody."""

    def told(self, link, publish, raw):
        return [] if publish.place.startswith(("presence/", "rpc/", "event/", "read/")) else [raw]


class NoNews(Broken):
    """There is no news of the session."""

    def told(self, link, publish, raw):
        return [] if publish.place == "session" else [raw]


class AnswersToAll(Broken):
    """An answer goes to every device of who asked."""

    def told(self, link, publish, raw):
        if publish.place.startswith("rpc/"):
            for other in self.links_of(link.user):
                if other is not link:
                    other.slip(publish.topic, publish.payload)
        return [raw]


class NosyHistory(Broken):
    """History shows everybody everything."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.texts: list[str] = []

    def said(self, link, publish, raw):
        if "/out/u/" in publish.topic or "/out/g/" in publish.topic:
            self.texts.append(publish.payload.decode("utf-8", "replace"))
        return [raw]

    def told(self, link, publish, raw):
        if not publish.place.startswith("rpc/"):
            return [raw]
        answer = json.loads(publish.payload)
        if answer.get("ok") and "messages" in answer["result"] and "peer" in answer["result"]:
            answer["result"]["messages"] += [{"seq": 1, "text": text} for text in self.texts]
        publish.payload = json.dumps(answer).encode()
        return [publish.write()]


class ReadAll(Broken):
    """A read mark always means all before it, too."""

    def said(self, link, publish, raw):
        if "/out/read/" in publish.topic and len(publish.payload) == 16:
            publish.payload = b"<=" + publish.payload
        return [publish.write()]


class ReadOne(Broken):
    """`<=` is not understood: it means the one message."""

    def said(self, link, publish, raw):
        if "/out/read/" in publish.topic:
            publish.payload = publish.payload.removeprefix(b"<=")
        return [publish.write()]


class AnyReader(Broken):
    """Whoever knows a mid can say that it was read."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.owners: dict[bytes, str] = {}

    def told(self, link, publish, raw):
        levels = publish.topic.split("/")
        if levels[3:4] == ["u"] and len(levels) > 5:
            self.owners[levels[5].encode()] = link.user
        return [raw]

    def said(self, link, publish, raw):
        owner = self.owners.get(publish.payload.removeprefix(b"<="), link.user)
        if "/out/read/u/" in publish.topic and owner != link.user:
            shadow = self.hall.open_link()
            shadow.write(wire.connect("shadow", user=owner, password=self.hall.issued[owner]))
            shadow.write(wire.publish(publish.topic.replace(f"m/{link.user}/", f"m/{owner}/"), publish.payload))
        return [raw]


class NoWill(Broken):
    """Wills are not published."""

    def greeted(self, link, raw):
        body = body_of(raw)
        if link.will is None or link.five:
            return raw
        left = wire.text(link.will[0]) + wire.text(link.will[1])
        return wire.packet(raw[0], body[:7] + bytes([body[7] & ~0x3C]) + body[8:].replace(left, b"", 1))


class StubbornWill(Broken):
    """A will for a group is published whoever is in it, and a will for a foreign folder is let in."""

    def greeted(self, link, raw):
        return NoWill.greeted(self, link, raw) if link.will and not self._is_own(link) else raw

    @staticmethod
    def _is_own(link):
        return link.will[0].startswith(f"m/{link.user}/out/")

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.members: dict[str, list[str]] = {}

    async def perform(self, op, **arguments):
        if op == "group_join":
            self.members[arguments["address"]] = arguments["users"]
        return await self.hall.perform(op, **arguments)

    def closed(self, link):
        if link.will and self._is_own(link) and "/out/g/" in link.will[0] and link.is_open and not link.is_polite:
            team = link.will[0].rpartition("/")[2]
            for member in self.members[team]:
                for other in self.links_of(member):
                    if other is not link:
                        other.slip(f"m/{member}/in/g/{team}/{link.user}/0123456789abcdef/seq=1", link.will[1])


class OpenIn(Broken):
    """What anybody publishes into an `in/` arrives there."""

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if levels[0] == "m" and levels[2:3] == ["in"]:
            for other in self.links_of(levels[1]):
                other.slip(publish.topic, publish.payload)
        return [raw]


class Spy(Broken):
    """The filter `#` selects everything, under the root, too."""

    def told(self, link, publish, raw):
        if publish.place.startswith("u/"):
            for other in self.links:
                if other.client_id.startswith("spy-") and other.is_open:
                    other.slip(publish.topic, publish.payload)
        return [raw]


class NoRetain(Broken):
    """Retain is ignored everywhere."""

    def said(self, link, publish, raw):
        publish.first &= ~1
        return [publish.write()]


class Without(Broken):
    """Some parameters are taken for the application's own: `pattern` names them."""

    pattern = ""

    def said(self, link, publish, raw):
        publish.topic = re.sub(rf"([/&])({self.pattern})(?=&|$)", r"\1x-\2", publish.topic)
        return [publish.write()]


class NoRecall(Without):
    """Messages cannot be taken back, and do not disappear."""

    pattern = r"(?:recall|age)=[^&]*"


class StoresAll(Without):
    """A message for who is online now is kept like any other."""

    pattern = r"(?:expiry=0|flags=4)"


class LosesScheduled(Broken):
    """What is for later is acknowledged and forgotten."""

    def said(self, link, publish, raw):
        if re.search(r"[/&]when=\d{1,4}(?=&|$)", publish.topic) is None:
            return [raw]
        link.link.slip(wire.ack("PUBACK", publish.packet_id))
        return []


class NoAckAtExpiry0(Broken):
    """A message with expiry 0 is not acknowledged."""

    def said(self, link, publish, raw):
        if "expiry=0" in publish.topic and publish.qos == 1:
            link.kept = {*(link.kept or ()), publish.packet_id}
        return [raw]

    def answered(self, link, raw):
        return [] if kind_of(raw) == PUBACK and number(body_of(raw)) in (link.kept or ()) else [raw]


class SmallPayloads(Broken):
    """Less than a quarter of a MiB is too large."""

    def said(self, link, publish, raw):
        if len(publish.payload) > 200_000:
            publish.payload += b"x" * 100_000
        return [publish.write()]


class NoProperties(Broken):
    """User properties and the like are dropped, both ways."""

    def said(self, link, publish, raw):
        publish.properties = b"\0" if link.five else b""
        return [publish.write()]

    told = said


class AlwaysSuccess(Broken):
    """A refused publish of a 5.0 client is acknowledged with 0."""

    def answered(self, link, raw):
        if link.five and kind_of(raw) in (PUBACK, PUBREC):
            return [wire.packet(raw[0], body_of(raw)[:2])]
        return [raw]


ALL = {
    NoAsides: "C2.20 C2.21 C2.24 C2.26 C2.27 C3.38 C4.22",
    NoNews: "C1.11 C1.13 C4.40 C4.41",
    AnswersToAll: "C2.23",
    NosyHistory: "C3.36 C3.37 C4.47",
    ReadAll: "C2.13",
    ReadOne: "C2.14 C2.15 C2.16 C2.17 C2.61",
    AnyReader: "C2.18",
    NoWill: "C2.83 C2.84 C2.85 C6.1",
    StubbornWill: "C2.85 C2.86 C6.1",
    OpenIn: "C2.1",
    Spy: "C2.3",
    NoRetain: "C6.1",
    NoRecall: "C2.66 C2.73 C3.30 C3.31 C3.32 C3.33",
    StoresAll: "C2.50 C2.59 C2.62 C4.14 C4.16 C4.47",
    LosesScheduled: "C2.46 C2.68 C2.69 C2.70 C2.71 C2.72",
    NoAckAtExpiry0: "C2.50 C2.59 C4.14 C4.16 C4.47 C4.48 C4.49",
    SmallPayloads: "C2.79",
    NoProperties: "C2.52 C2.53 C2.54 C2.55 C4.53",
    AlwaysSuccess: "C4.50 C4.51 C4.52 C4.53 C4.54",
}
