"""Servers that know nothing of who was away, or too much."""

from __future__ import annotations

import re

from conform.broken.between import SUBACK, SUBSCRIBE, Broken, Publish, body_of, kind_of, number
from mesimqtt.testing import wire


class Forgetful(Broken):
    """What was sent while a device was away is lost."""

    def down(self, link, packets):
        kinds = [kind_of(raw) for raw in packets]
        begin = kinds.index(SUBACK) if SUBACK in kinds else len(packets)
        rest = [raw for raw in packets[begin:] if not self._is_message(link, raw)]
        return super().down(link, packets[:begin] + rest)

    @staticmethod
    def _is_message(link, raw):
        return kind_of(raw) == 3 and Publish.read(raw, five=link.five).place.startswith(("u/", "g/"))


class Replays(Broken):
    """Whoever subscribes is told once more all that his user was ever told."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.before: dict[str, dict[bytes, None]] = {}

    def told(self, link, publish, raw):
        if not link.five and publish.topic.startswith("m/"):
            self.before.setdefault(link.user, {})[wire.publish(publish.topic, publish.payload)] = None
        return [raw]

    def answered(self, link, raw):
        return [raw, *self.before.get(link.user, {})] if kind_of(raw) == SUBACK and not link.five else [raw]


class OneDevice(Broken):
    """Only the device that came first receives messages."""

    def told(self, link, publish, raw):
        is_first = link.five or self.links_of(link.user)[:1] in ([link], [])
        return [raw] if is_first or not publish.place.startswith("u/") else []


class SharedIds(Broken):
    """A client id is one session, whoever's it is."""

    def greeted(self, link, raw):
        for other in self.links:
            if other is not link and other.client_id == link.client_id != "" and other.is_open:
                other.link.close()
        return raw


class NamelessCursor(Broken):
    """A device without a client id is one device, and keeps its place."""

    def greeted(self, link, raw):
        body = body_of(raw)
        if link.client_id or link.five or body[10:12] != b"\0\0":
            return raw
        flags = bytes([body[7] & ~2])
        return wire.packet(raw[0], body[:7] + flags + body[8:10] + wire.text("nameless") + body[12:])


class NoCleanCursor(Broken):
    """A device with a clean session keeps no place."""

    def greeted(self, link, raw):
        body = body_of(raw)
        if not link.client_id or link.five or not body[7] & 2:
            return raw
        return wire.packet(raw[0], body[:10] + wire.text("") + body[12 + len(link.client_id) :])


class AllConversations(Broken):
    """Who selects one conversation gets all."""

    def up(self, link, raw):
        if kind_of(raw) == SUBSCRIBE and not link.five:
            body = body_of(raw)
            size = number(body, 2)
            name = body[4 : 4 + size].decode()
            wide = re.sub(r"(/in/u/)[^#+/%]+/#$", r"\1#", name)
            return [wire.packet(raw[0], body[:2] + wire.text(wide) + body[4 + size :])]
        return super().up(link, raw)


class AtMostOnce(Broken):
    """Everything under `in/` comes at QoS 0."""

    def told(self, link, publish, raw):
        if publish.place and publish.qos:
            publish.first &= ~14
        return [publish.write()]


class FrozenExpiry(Broken):
    """The time to live is not counted down."""

    def told(self, link, publish, raw):
        publish.topic = re.sub(r"expiry=9\d(?=&|$)", "expiry=100", publish.topic)
        return [publish.write()]


class NoMaximum(Broken):
    """What a client says of the largest packet it takes is not heeded."""

    def greeted(self, link, raw):
        body = body_of(raw)
        if not link.five or b"\x27\x00\x00\x01\x2c" not in body[10:25]:
            return raw
        size, rest = body[10] - 5, body[11:].replace(b"\x27\x00\x00\x01\x2c", b"", 1)
        return wire.packet(raw[0], body[:10] + bytes([size]) + rest)


ALL = {
    Forgetful: "C3.2 C3.5 C3.6 C3.8 C3.16 C4.7 C5.24",
    Replays: "C3.19 C4.33 C4.36 C4.38",
    OneDevice: "C2.34 C3.1 C3.18",
    SharedIds: "C1.8 C2.18 C2.21",
    NamelessCursor: "C1.10 C4.34",
    NoCleanCursor: "C1.9",
    AllConversations: "C2.30 C2.32",
    AtMostOnce: "C2.34 C2.35 C3.10",
    FrozenExpiry: "C2.58",
    NoMaximum: "C3.24 C3.25",
}
