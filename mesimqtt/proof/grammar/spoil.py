"""Packets that are not quite right: one field, one bit or one length of a good packet changed, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mesimqtt.proof.grammar.drafts import Draft
from mesimqtt.testing import wire, wire5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

TEXTS = ("topic", "client_id", "user_name", "will_topic", "filter_0", "filter_1")
BAD_TEXTS = {
    "U+0000": b"\0",
    "a surrogate": b"\xed\xa0\x80",
    "an overlong form": b"\xc0\x80",
    "no UTF-8": b"\xff",
    "cut UTF-8": b"\xe2\x82",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "a control character": b"\x01",
    "a C1 control": b"\xc2\x85",
    "a non-character": b"\xef\xbf\xbf",
}
BAD_FILTERS = ("a#", "a+", "#/a", "a/#/b", "a/+b", "++", "+#")
BAD_SHARES = ("$share", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a")
STRANGERS = {  # packets that a client never sends
    "type 0": b"\0\0",
    "CONNACK": b"\x20\2\0\0",
    "SUBACK": b"\x90\3\0\1\0",
    "UNSUBACK": b"\xb0\2\0\1",
    "PINGRESP": b"\xd0\0",
    "type 15": b"\xf0\0",
    "a second CONNECT": wire.connect("other"),
}
# On 5.0: property block contents, and which packets they are wrong in (all, if none is named).
BAD_PROPERTIES = {
    "an unknown property": (b"\x7f\0", ()),
    "property 0": (b"\0\0", ()),
    "a property identifier of two bytes": (b"\x81\x01\0", ()),
    "a property of servers": (wire5.one("server_keep_alive", 5), ()),
    "a property of others": (wire5.one("will_delay_interval", 5), ()),
    "a user property cut short": (b"\x26\0\1k\0", ()),
    "a user property with U+0000": (b"\x26\0\1\0\0\1v", ()),
    "a user property that is no UTF-8": (b"\x26\0\1\xff\0\1v", ()),
    "payload format 2": (b"\x01\x02", ("PUBLISH",)),
    "payload format twice": (b"\x01\x00\x01\x00", ("PUBLISH",)),
    "content type twice": (wire5.one("content_type", "a") * 2, ("PUBLISH",)),
    "a wildcard in the response topic": (wire5.one("response_topic", "a/#"), ("PUBLISH",)),
    "topic alias 0": (b"\x23\0\0", ("PUBLISH",)),
    "a topic alias too high": (b"\x23\xff\xff", ("PUBLISH",)),
    "a topic alias twice": (b"\x23\0\1\x23\0\1", ("PUBLISH",)),
    "a subscription identifier from a client": (b"\x0b\1", ("PUBLISH",)),
    "subscription identifier 0": (b"\x0b\0", ("SUBSCRIBE",)),
    "a subscription identifier twice": (b"\x0b\1\x0b\2", ("SUBSCRIBE",)),
    "a subscription identifier of five bytes": (b"\x0b\xff\xff\xff\xff\x01", ("SUBSCRIBE",)),
    "receive maximum 0": (b"\x21\0\0", ("CONNECT",)),
    "receive maximum twice": (b"\x21\0\1\x21\0\1", ("CONNECT",)),
    "packet size 0": (b"\x27\0\0\0\0", ("CONNECT",)),
    "problem information 2": (b"\x17\x02", ("CONNECT",)),
    "response information 2": (b"\x19\x02", ("CONNECT",)),
    "session expiry twice": (b"\x11\0\0\0\1" * 2, ("CONNECT", "DISCONNECT")),
    "authentication data alone": (wire5.one("authentication_data", b"x"), ("CONNECT",)),
    "an unknown authentication method": (wire5.one("authentication_method", "nobody's"), ("CONNECT",)),
    "a reason string twice": (
        wire5.one("reason_string", "a") * 2,
        ("DISCONNECT", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"),
    ),
}
Spoiled = "Iterator[Draft]"


def spoil(draft: Draft, chance: Random, version: int) -> Draft:
    """Return a packet with one thing about it changed; what was changed is its label."""
    makers: list[Callable[[Draft, int], Iterator[Draft]]] = [_framed, _texts, _of_kind]
    if version == 5:
        makers += [_blocks, _blocks]
    for _ in range(20):
        found = list(chance.choice(makers)(draft, version))
        if found:
            return chance.choice(found)
    return replace(draft, label="with other flags", first=draft.first_byte ^ 1)


def stranger(chance: Random) -> Draft:
    """Return a packet that no client sends."""
    label = chance.choice(list(STRANGERS))
    raw = STRANGERS[label]
    return Draft("STRANGER", {"body": raw[2:]}, raw[0], label)


def _framed(draft: Draft, version: int) -> Iterator[Draft]:
    """Yield what is wrong about the frame, whatever is in it."""
    del version
    for bit in (1, 2, 4, 8):
        if draft.kind != "PUBLISH":
            yield replace(draft, label="with other flags", first=draft.first_byte ^ bit)
    yield replace(draft, label="a byte longer than it says", length=-1)
    yield replace(draft, label="a byte shorter than it says", length=1)
    yield replace(draft, label="with a longer spelling of its length", spelling=1)
    size = len(wire.length(len(b"".join(draft.fields.values()))))
    yield replace(draft, label="with a length of five bytes", spelling=5 - size)
    yield draft.having("with more bytes", more=b"\0")
    if draft.fields:
        last = list(draft.fields)[-1]
        yield draft.lacking(f"without its {last.rstrip('_0123456789')}", last)
        yield replace(draft.lacking("empty", last), fields={})
        if draft.fields[last] and last != "payload":
            yield draft.having("cut short", **{last: draft.fields[last][:-1]})


def _texts(draft: Draft, version: int) -> Iterator[Draft]:
    """Yield texts that are none."""
    del version
    for name in TEXTS:
        raw = draft.fields.get(name)
        if raw is None:
            continue
        said = name.rstrip("_01").replace("_", " ")
        for label, bad in BAD_TEXTS.items():
            yield draft.having(f"with {label} in its {said}", **{name: wire.text(raw[2:] + bad)})
        yield draft.having(f"with a {said} that ends beyond the packet", **{name: b"\xff\xff" + raw[2:]})


def _of_kind(draft: Draft, version: int) -> Iterator[Draft]:
    """Yield what only this kind of packet can have wrong."""
    if "packet_id" in draft.fields and draft.kind in (
        "PUBLISH",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
    ):
        yield draft.having("with packet id 0", packet_id=b"\0\0")
    if draft.kind == "PUBLISH":
        yield from _publishes(draft)
    elif draft.kind in ("SUBSCRIBE", "UNSUBSCRIBE"):
        yield from _filters(draft, version)
    elif draft.kind == "CONNECT":
        yield from _connects(draft, version)
    elif draft.kind == "DISCONNECT" and version == 5:
        for code in (0x01, 0x7F, 0x87, 0x8B, 0x8E, 0xA3, 0xFF):
            yield draft.having(f"with code {code:#04x}", code=bytes((code,)))
        prolonged = wire5.properties(session_expiry_interval=60)
        yield draft.having("that prolongs its session", code=b"\0", properties=prolonged)
    elif draft.kind.startswith("PUB") and version == 5:
        for code in (0x01, 0x10, 0x7F, 0x80, 0x92, 0xFF):
            yield draft.having(f"with code {code:#04x}", code=bytes((code,)))


def _publishes(draft: Draft) -> Iterator[Draft]:
    raw = draft.fields["topic"][2:]
    without_id = draft.lacking("", "packet_id")
    yield replace(draft, label="with QoS 3", first=draft.first_byte | 6)
    if not draft.qos:
        yield replace(draft, label="with DUP and QoS 0", first=draft.first_byte | 8)
        yield replace(draft, label="with QoS 1 and no packet id", first=draft.first_byte | 2)
    else:
        yield replace(without_id, label="without its packet id")
    yield draft.having("with an empty topic", topic=b"\0\0")
    for wildcard in (b"+", b"#", b"/+/x"):
        yield draft.having("with a wildcard in its topic", topic=wire.text(raw + wildcard))
    yield draft.having("with $SYS as its topic", topic=wire.text("$SYS/x"))
    yield draft.having("with $share as its topic", topic=wire.text("$share/g/x"))
    yield draft.having("with a topic of 600 bytes", topic=wire.text(raw + b"/" + b"x" * 600))
    yield draft.having("with a topic of 40 levels", topic=wire.text(raw + b"/x" * 40))
    yield draft.having("with a payload that is no UTF-8", payload=draft.fields["payload"] + b"\xff")


def _filters(draft: Draft, version: int) -> Iterator[Draft]:
    prefix = draft.fields["filter_0"][2:].removeprefix(b"$share/g/").split(b"/")[0].decode()
    yield draft.having("with an empty filter", filter_0=b"\0\0")
    for bad in BAD_FILTERS:
        yield draft.having("with a wildcard where none may be", filter_0=wire.text(f"{prefix}/{bad}"))
    for bad in BAD_SHARES:
        yield draft.having("with a share that is none", filter_0=wire.text(bad))
    yield draft.having("with a filter of 600 bytes", filter_0=wire.text(f"{prefix}/{'x' * 600}"))
    yield draft.having("with a filter of 40 levels", filter_0=wire.text(prefix + "/x" * 40))
    if draft.kind == "SUBSCRIBE":
        yield draft.having("with QoS 3", options_0=b"\3")
        yield draft.having("with reserved bits", options_0=b"\x40")
        if version == 5:
            yield draft.having("with retain handling 3", options_0=b"\x30")
            shared = wire.text(f"$share/g/{prefix}/a")
            yield draft.having("with no local on a share", filter_0=shared, options_0=b"\x04")
        else:
            yield draft.having("with options of 5.0", options_0=b"\x04")


def _connects(draft: Draft, version: int) -> Iterator[Draft]:
    flags = draft.fields["flags"][0]
    for name in (b"MQTt", b"mqtt", b"MQTT5", b"", b"HTTP"):
        yield draft.having("with another protocol name", protocol=wire.text(name))
    yield draft.having("with the protocol name of 3.1", protocol=wire.text("MQIsdp"), level=b"\3")
    for level in (0, 3, 6, 9, 0x84, 0x85):
        yield draft.having(f"with level {level:#04x}", level=bytes((level,)))
    yield draft.having("with its reserved flag", flags=bytes((flags | 1,)))
    if flags & 4:
        yield draft.having("with will QoS 3", flags=bytes((flags | 0x18,)))
        for bad in (b"", b"a/#", b"+"):
            yield draft.having("with a will topic that is none", will_topic=wire.text(bad))
        yield draft.having("with a will on $SYS", will_topic=wire.text("$SYS/x"))
    else:
        yield draft.having("with will flags and no will", flags=bytes((flags | 0x20,)))
        yield draft.having("with will QoS and no will", flags=bytes((flags | 0x08,)))
    if not flags & 0x80:
        yield draft.having("with a password and no user", flags=bytes((flags | 0x40,)), password=wire.text("p"))
    yield draft.having("with an empty client id", client_id=b"\0\0")
    yield draft.having("with an empty client id and clean", client_id=b"\0\0", flags=bytes((flags | 2,)))
    yield draft.having("with keep alive 0", keep_alive=b"\0\0")
    yield draft.having("with the longest keep alive", keep_alive=b"\xff\xff")
    if version == 5 and flags & 4:
        delay = wire5.properties(will_delay_interval=0)
        yield draft.having("with will delay 0", will_properties=delay)


def _blocks(draft: Draft, version: int) -> Iterator[Draft]:
    """Yield property blocks that are wrong."""
    del version
    for name in ("properties", "will_properties"):
        raw = draft.fields.get(name)
        if raw is None:
            continue
        kind = "PUBLISH" if name == "will_properties" else draft.kind
        content = raw[1:] if raw[0] < 128 else raw[2:]
        for label, (bad, kinds) in BAD_PROPERTIES.items():
            if (kinds and kind not in kinds) or (label == "a property of others" and name == "will_properties"):
                continue
            where = f"{label}{' in its will' if name == 'will_properties' else ''}"
            yield draft.having(f"with {where}", **{name: wire5.variable(len(content + bad)) + content + bad})
        yield draft.having(
            "with a property block a byte too long", **{name: wire5.variable(len(content) + 1) + content}
        )
        if content:
            yield draft.having(
                "with a property block a byte too short", **{name: wire5.variable(len(content) - 1) + content}
            )
        if len(content) < 128:
            yield draft.having(
                "with a longer spelling of its block", **{name: bytes((len(content) | 128, 0)) + content}
            )
