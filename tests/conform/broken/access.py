"""Servers that let in, let through or tell what they must not."""

from __future__ import annotations

from urllib.parse import quote, unquote

from conform.broken.between import SUBACK, SUBSCRIBE, Broken, body_of, kind_of, number, with_password
from mesimqtt.testing import wire


class ForgedSender(Broken):
    """A message from another's folder goes out in the other's name."""

    def said(self, link, publish, raw):
        owner = unquote(publish.topic.split("/")[1]) if publish.topic.startswith("m/") else link.user
        known = [each for each in self.links if each.user == owner and each.password.startswith("ey")]
        if owner == link.user or "/out/" not in publish.topic or not known:
            return [raw]
        shadow = self.hall.open_link()
        shadow.write(wire.connect("shadow", user=owner, password=known[0].password))
        shadow.write(wire.publish(publish.topic, publish.payload))
        publish.topic = "free/forged"  # so that it is acknowledged
        return [publish.write()]


class Granting(Broken):
    """Grants filters that it must refuse, or more than it must."""

    def granted(self, topic_filter: str, asked: int, code: int, link) -> int:
        """Return what the SUBACK says."""
        raise NotImplementedError

    def up(self, link, raw):
        if kind_of(raw) == SUBSCRIBE:
            body = body_of(raw)
            at = 3 + body[2] if link.five else 2
            filters = []
            while at < len(body):
                size = number(body, at)
                filters.append((body[at + 2 : at + 2 + size].decode(), body[at + 2 + size] & 3))
                at += 3 + size
            link.kept = {**(link.kept or {}), number(body): filters}
        return super().up(link, raw)

    def answered(self, link, raw):
        if kind_of(raw) != SUBACK or link.five:
            return [raw]
        body = body_of(raw)
        asked = link.kept.pop(number(body))
        codes = [self.granted(*pair, code, link) for pair, code in zip(asked, body[2:], strict=True)]
        return [wire.packet(0x90, body[:2] + bytes(codes))]


class AnyFilter(Granting):
    """Every filter is granted, whatever it selects."""

    def granted(self, topic_filter, asked, code, link):
        return min(asked, 1) if code >= 0x80 else code


class ForeignFolder(Granting):
    """Another's folder can be subscribed to."""

    def granted(self, topic_filter, asked, code, link):
        levels = topic_filter.split("/")
        is_foreign = levels[0] == "m" and len(levels) > 3 and levels[2] == "in" and levels[1] not in (link.user, "+")
        return min(asked, 1) if is_foreign and "%" not in levels[1] else code


class QosTwo(Granting):
    """QoS 2 is granted under `in/`."""

    def granted(self, topic_filter, asked, code, link):
        return asked if code < 0x80 else code


class OpenTopics(Granting):
    """Free topics are open until a rule closes them."""

    def granted(self, topic_filter, asked, code, link):
        return asked if topic_filter.startswith("closed") else code


class SecondSpelling(Broken):
    """Any spelling of an address will do."""

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if len(levels) > 4 and levels[2:4] == ["out", "u"]:
            levels[4] = quote(unquote(levels[4]), safe="@")
            publish.topic = "/".join(levels)
        return [publish.write()]


class FoldedCase(Broken):
    """Addresses are the same in capitals."""

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if len(levels) > 4 and levels[2:4] == ["out", "u"] and levels[4].isupper() and "%" not in levels[4]:
            levels[4] = levels[4].lower()
            publish.topic = "/".join(levels)
        return [publish.write()]


class AnyPassword(Broken):
    """A token's signature is not looked at."""

    def greeted(self, link, raw):
        is_jwt = link.password.count(".") == 2
        real = self.hall.issued.get(link.user, link.password)
        return with_password(raw, link.password, real) if is_jwt else raw


class Anybody(Broken):
    """A token is good for any user name."""

    def greeted(self, link, raw):
        is_named = link.user and not link.five
        return with_password(raw, link.password, link.password, user=link.user) if is_named else raw


ALL = {
    ForgedSender: "C2.4 C4.24 C4.30",
    AnyFilter: "C1.7 C2.2 C2.31 C6.2",
    ForeignFolder: "C2.2",
    QosTwo: "C2.33",
    OpenTopics: "C6.2",
    SecondSpelling: "C1.2 C1.6 C4.52",
    FoldedCase: "C1.3",
    AnyPassword: "C5.2 C5.4 C5.6 C5.11 C5.20",
    Anybody: "C5.2",
}
