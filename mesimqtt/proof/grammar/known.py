"""In what mosquitto and we may differ: where it is known to be lenient, and what the specifications leave open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mesimqtt.proof.grammar.differences import Known, Moment, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.proof.grammar.lines import Event


def explain(moment: Moment) -> Known | None:
    """Return the known difference that this is, None if it is none."""
    return next((known for known in DIFFERENCES if known.shows(moment)), None)


def _we_close(pattern: str, version: int = 0) -> Callable[[Moment], bool]:
    """Tell where we close, they go on, and the step is named so."""

    def shows(moment: Moment) -> bool:
        return moment.is_stricter and moment.is_named(pattern) and version in (0, moment.version)

    return shows


def _they_close(pattern: str, version: int = 0) -> Callable[[Moment], bool]:
    """Tell where they close, we go on, and the step is named so."""

    def shows(moment: Moment) -> bool:
        is_here = moment.theirs.is_closed and not moment.ours.is_closed
        return is_here and moment.is_named(pattern) and version in (0, moment.version)

    return shows


def _not_found(moment: Moment) -> bool:
    """Tell where the one difference is that we say which packet id we do not know."""
    said = tuple((kind, number, "ok" if code == "0x92" else code) for kind, number, code in _acks(moment.ours))
    return bool(said) and said == _acks(moment.theirs) and _without_acks(moment.ours) == _without_acks(moment.theirs)


def _acks(seen: Seen) -> tuple[Event, ...]:
    return tuple(event for event in seen.a if event[0] in ("PUBREL", "PUBCOMP"))


def _without_acks(seen: Seen) -> Seen:
    return Seen(tuple(event for event in seen.a if event[0] not in ("PUBREL", "PUBCOMP")), seen.b)


def _told_late(moment: Moment) -> bool:
    """Tell where a connection was closed before an acknowledgement of ours was committed."""
    if not moment.ours.is_closed or not moment.theirs.is_closed:
        return False
    ours = {event for event in moment.ours.a if event[0] != "DISCONNECT"}
    more = {event[0] for event in set(moment.theirs.a) - ours} - {"DISCONNECT"}
    return ours < set(moment.theirs.a) and more <= {"PUBACK", "PUBREC", "message"} and moment.ours.b == moment.theirs.b


def _drops_session(moment: Moment) -> bool:
    """Tell where they have no session any more after a second CONNECT."""
    was_second = any(step.name == "STRANGER a second CONNECT" for step in moment.before)
    return was_second and ("CONNACK", "ok", True) in moment.ours.a and ("CONNACK", "ok", False) in moment.theirs.a


def _retained_for_share(moment: Moment) -> bool:
    more = set(moment.theirs.a) - set(moment.ours.a)
    is_kept = all(event[0] == "message" and event[4] for event in more)
    return b"$share/" in moment.step.data and set(moment.ours.a) < set(moment.theirs.a) and is_kept


def _half_done(moment: Moment) -> bool:
    """Tell where A gets what it asked for in a packet for which it was closed."""
    was_closed = any(re.fullmatch(f"{_SUBSCRIBING}.+", step.name) for step in moment.before)
    return was_closed and set(moment.ours.a) < set(moment.theirs.a)


def _is_will_of_theirs_missing(moment: Moment) -> bool:
    return moment.ours.is_closed and moment.theirs.is_closed and len(moment.ours.b) > len(moment.theirs.b)


def _overlaps(moment: Moment) -> bool:
    """Tell where the one difference is the QoS at which A got what several of its filters select."""
    pairs = list(zip(moment.ours.a, moment.theirs.a, strict=False))
    unlike = [(ours, theirs) for ours, theirs in pairs if ours != theirs]
    are_messages = all(ours[0] == theirs[0] == "message" and ours[1:3] == theirs[1:3] for ours, theirs in unlike)
    is_rest_alike = len(moment.ours.a) == len(moment.theirs.a) and moment.ours.b == moment.theirs.b
    has_more = all(ours[3] >= theirs[3] and set(theirs[5]) <= set(ours[5]) for ours, theirs in unlike if are_messages)
    return bool(unlike) and is_rest_alike and are_messages and has_more


def _keeps_no_local(moment: Moment) -> bool:
    """Tell whether A, who changed No Local of a filter by subscribing again, got own messages of one server only."""
    told: dict[bytes, set[int]] = {}
    for step in moment.before:
        if moment.version == 5 and step.who == "a" and step.name == "SUBSCRIBE":
            body = step.data[2:]
            at = 3 + body[2]  # behind the packet id and the properties, whose length is one byte in these sequences
            while at + 2 < len(body):
                size = int.from_bytes(body[at : at + 2])
                told.setdefault(body[at + 2 : at + 2 + size], set()).add(body[at + 2 + size] & 4)
                at += 3 + size
    ours, theirs = set(moment.ours.a), set(moment.theirs.a)
    are_messages = all(event[0] == "message" for event in ours ^ theirs)
    return moment.ours.b == moment.theirs.b and are_messages and any(len(bits) > 1 for bits in told.values())


def _is_share(moment: Moment) -> bool:
    return moment.is_named(f"{_SUBSCRIBING}with a share that is none") and not moment.ours.is_closed


_ACK = "PUB(ACK|REC|REL|COMP) "
_SUBSCRIBING = "(UN)?SUBSCRIBE "
_ODD_LENGTH = f"({_ACK}|PINGREQ )(with more bytes|a byte (shorter|longer) than it says)"
_LONG = "(600 bytes|40 levels)"

DIFFERENCES: tuple[Known, ...] = (
    # ---- where mosquitto (2.0) takes what it must not, and we close
    Known("flags", "MQTT-2.2.2-2", _we_close(".* with other flags"), "it takes those of acknowledgements and PINGREQ"),
    Known("servers' packets", "MQTT-4.8.0-1", _we_close("STRANGER (SUBACK|UNSUBACK|PINGRESP)"), "it may be a bridge's"),
    Known(
        "lengths",
        "MQTT-4.8.0-1",
        lambda moment: moment.ours.is_closed and moment.is_named(_ODD_LENGTH),
        "it reads the id of an acknowledgement and passes over the rest",
    ),
    Known(
        "what follows",
        "MQTT-4.8.0-1",
        _we_close("[A-Z]+ a byte (shorter|longer) than it says"),
        "the next packet begins in the middle: its first byte is enough for us, it reads on",
    ),
    Known(
        "long spelling",
        "MQTT-1.5.5-1",
        _we_close(".* with a longer spelling of its (length|block)", 5),
        "it takes any spelling",
    ),
    Known("reason codes", "MQTT-3.4.2-1", _we_close(f"{_ACK}with code .*", 5), "it takes any in an acknowledgement"),
    Known("DUP", "MQTT-3.3.1-2", _we_close("PUBLISH with DUP and QoS 0"), "it takes DUP at QoS 0"),
    Known(
        "subscription identifier",
        "MQTT-3.3.4-6",
        _we_close("PUBLISH with a subscription identifier from a client"),
        "it passes over one in a PUBLISH",
    ),
    Known(
        "payload format",
        "MQTT 5.0, 3.3.2.3.2",
        _we_close(".* with payload format 2.*"),
        "it forwards what is neither 0 nor 1",
    ),
    Known(
        "response topic",
        "MQTT-3.3.2-14",
        _we_close(".* with a wildcard in the response topic.*"),
        "it forwards a filter",
    ),
    Known(
        "authentication data",
        "MQTT 5.0, 3.1.2.11.10",
        _we_close("CONNECT with authentication data alone"),
        "it needs no method",
    ),
    Known(
        "no local",
        "MQTT-3.8.3-4",
        _we_close("SUBSCRIBE with no local on a share"),
        "it takes it on a shared subscription",
    ),
    Known(
        "3.1",
        "MQTT-3.1.2-1",
        _we_close("CONNECT with (the protocol name of 3.1|level 0x8[45])"),
        "it speaks 3.1, and with bridges",
    ),
    # ---- where both may
    Known(
        "shares",
        "MQTT-4.8.2-1",
        _is_share,
        "we refuse a shared filter that is none; it closes, or takes an empty name",
    ),
    Known(
        "wildcards",
        "MQTT-4.7.1-1",
        _they_close(f"{_SUBSCRIBING}with a wildcard where none may be"),
        "we refuse that filter alone, it closes",
    ),
    Known(
        "$ topics",
        "MQTT 5.0, 4.7.2",
        _they_close(r"PUBLISH with \$(SYS|share) as its topic"),
        "we refuse that publish (3.1.1: silently, 5.0: 0x87), it closes",
    ),
    Known(
        "long topics",
        "MQTT 5.0, 4.13.2",
        lambda moment: moment.is_named(f".*{_LONG}") and not moment.ours.is_closed,
        "we have limits: 512 bytes, 32 levels (docs/mqtt5.md)",
    ),
    Known("unknown packet id", "MQTT 5.0, 3.6.2.1", _not_found, "we say 0x92, it says success", goes_on=True),
    Known(
        "unacknowledged",
        "MQTT-4.8.0-1",
        _told_late,
        "who breaks the protocol before a commit is closed without that answer",
    ),
    Known("overlapping", "MQTT-3.3.5-1", _overlaps, "we deliver at the highest QoS, it at that of one of the filters"),
    Known(
        "no local, changed",
        "MQTT-3.8.4-3",
        _keeps_no_local,
        "it keeps No Local of the first of two SUBSCRIBEs to a filter",
    ),
    Known(
        "retained for a share",
        "MQTT 5.0, 4.8.2",
        _retained_for_share,
        "it sends retained messages to shared subscriptions",
    ),
    Known(
        "will on $SYS",
        "MQTT 5.0, 4.7.2",
        _we_close("CONNECT with a will on .SYS"),
        "we refuse the CONNECT, it the will alone",
    ),
    # ---- wills and sessions of who breaks the protocol
    Known("half done", "MQTT-4.8.0-1", _half_done, "it does what a malformed SUBSCRIBE asks for before its fault"),
    Known("session", "MQTT-4.1.0-1", _drops_session, "it drops the session of who sends a second CONNECT"),
    Known(
        "will at a second CONNECT",
        "MQTT-3.1.2-8",
        lambda moment: moment.is_named("STRANGER a second CONNECT") and _is_will_of_theirs_missing(moment),
        "it keeps it back",
    ),
    Known(
        "will at an error",
        "MQTT-3.1.2-10",
        lambda moment: moment.version == 5 and moment.is_named("DISCONNECT.*") and _is_will_of_theirs_missing(moment),
        "a DISCONNECT with another code than 0 leaves the will in force",
    ),
)
