"""Fuzz targets on topics: the contract's own, parameters, filters, access rules, addresses."""

from __future__ import annotations

import json

from mesimqtt.domain.access_rules import Asker, covers, overlaps, parse_rules
from mesimqtt.domain.access_rules import is_filter as is_rule_filter
from mesimqtt.domain.addresses import check_address, decode_address, encode_address
from mesimqtt.domain.errors import AddressError, MesimqttError
from mesimqtt.engine.packets import is_filter
from mesimqtt.engine.session import Session
from mesimqtt.engine.topic_tree import TopicTree
from mesimqtt.proof.fuzz import oracles
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that, fields_of, text_of, unicode_of
from mesimqtt.topics import (
    ParamsError,
    TopicError,
    find_cid,
    format_params,
    params_in,
    parse_in_filter,
    parse_out,
    parse_params,
    same_params,
    split_params,
)

_FILTERS_MAX = 12
_TAKEN_MAX = 300

# ---- topics of the contract -----------------------------------------------------------------------------------------


def check_out(data: bytes) -> None:
    """A topic under `out/` has one meaning and one spelling; its cid is the one that a refusal names."""
    rest = unicode_of(data)
    try:
        found = parse_out(rest)
    except TopicError as error:
        told = find_cid(f"m/me/out/{rest}", "m")
        check_that(error.cid in (None, told), f"a refusal names the cid {error.cid!r}, the topic {told!r}")
        raise
    check_equal(
        found.name if found.kind == "rpc" else encode_address(found.name),
        rest.split("/")[1 + ("/" in found.kind)],
        "name",
    )
    if found.params.raw:
        again = parse_params(found.params.raw)
        check_equal(found.params, again, "parameters")
        check_equal(found.params.raw, rest.rpartition("/")[2], "the sender's spelling")


def check_params(data: bytes) -> None:
    """Parameters are read, written and read alike, in every order; expiry alone changes on the way."""
    level = unicode_of(data)
    params = parse_params(level)
    values = split_params(level)
    texts = {key: value.decode() for key, value in values.items() if key != "correlation-data"}
    written = format_params(dict(texts))
    if written:
        check_equal({key: value.encode() for key, value in texts.items()}, split_params(written), "written and read")
    turned = "&".join(reversed(level.split("&")))
    check_equal(same_params(level), same_params(turned), "one spelling for all orders")
    onward = params_in(level, 7).decode()
    expected = {**values, "expiry": b"7"} if params.expiry is not None else values
    check_equal(expected, split_params(onward), "on the way in")


def check_in_filter(data: bytes) -> None:
    """What is accepted under `in/` is a filter by the rules of MQTT, and of the classes that there are."""
    rest = unicode_of(data)
    found = parse_in_filter(rest)
    if found is not None:
        check_that(oracles.is_filter(f"m/me/in/{rest}"), f"{rest!r} is no filter")
        check_equal(rest.split("/")[0], found.cls, "class")


# ---- filters --------------------------------------------------------------------------------------------------------


def check_filters(data: bytes) -> None:
    """The tree of subscriptions finds exactly those whose filter matches, and keeps nothing of what has left."""
    topic, *names = [unicode_of(part) for part in data.split(b"\0")[: _FILTERS_MAX + 1]]
    for name in [topic, *names]:
        check_equal(oracles.is_filter(name), is_filter(name), f"{name!r} is a filter")
        check_equal(oracles.is_filter(name), is_rule_filter(name.split("/")), f"{name!r} is a filter of a rule")
    names = [name for name in names if is_filter(name)]
    if not topic or set(topic) & set("+#"):
        return
    tree = TopicTree()
    subscribers = [Session("user", name, clean=True) for name in names]
    for subscriber in subscribers:
        tree.add(subscriber.client_id, subscriber, 0)
    expected = [name for name in names if oracles.matches(name.split("/"), topic.split("/"))]
    found = tree.match(topic)
    check_equal(expected, [each.client_id for each in subscribers if each in found], f"{topic!r} in {names!r}")
    for subscriber in subscribers:
        tree.remove(subscriber.client_id, subscriber)
    check_equal(0, len(tree.match(topic)), "after all have left")


def check_covering(data: bytes) -> None:
    """A filter that covers another matches whatever that one matches; two that share no topic do not overlap."""
    rule, wanted, topic = [unicode_of(part).split("/") for part in fields_of(data, 3)]
    if not (is_rule_filter(rule) and is_rule_filter(wanted)) or set("/".join(topic)) & set("+#") or not any(topic):
        return
    both = oracles.matches(rule, topic), oracles.matches(wanted, topic)
    check_equal(both[0], covers(rule, topic), f"{rule!r} matches {topic!r}")
    if covers(rule, wanted):
        check_that(both[0] or not both[1], f"{rule!r} covers {wanted!r}, and does not match {topic!r}")
    if all(both) and "%" not in "".join(rule):
        check_that(overlaps(rule, wanted), f"{rule!r} and {wanted!r} both match {topic!r}")


def check_rules(data: bytes) -> None:
    """A rule says no more than its filter, its action and its users do, and names itself in what is wrong with it."""
    raw, topic = fields_of(data, 2)
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return
    try:
        rules = parse_rules(values, "rules")
    except MesimqttError as error:
        check_that(str(error).startswith("rules"), f"it does not say where: {error}")
        raise
    wanted = unicode_of(topic).split("/")
    if not is_rule_filter(wanted):
        return
    for rule in rules:
        for action in ("publish", "subscribe"):
            why = rule.miss(Asker("alice", "user", "phone"), action, wanted, lambda _user, group: group == "team")
            if not why and not rule.has_places and rule.group_level < 0 and not set(topic) & set(b"+#") and any(wanted):
                check_that(oracles.matches(rule.levels, wanted), f"{rule.text} matches {wanted!r}")
            check_that(bool(why) or action in rule.actions, f"{rule.text} on {action}")


# ---- addresses ------------------------------------------------------------------------------------------------------


def check_spelling(data: bytes) -> None:
    """An address has one spelling, which holds nothing that means something in a topic."""
    address = text_of(data)
    check_address(address)
    level = encode_address(address)
    check_equal(address, decode_address(level), "spelled and read")
    check_that(not set(level) & set("/+#$\0") and level.isascii(), f"{level!r} in a topic")
    for other in (level.lower(), level.upper(), f"%{ord(level[0]):02X}{level[1:]}", f"{level}/"):
        try:
            read = decode_address(other)
        except AddressError:
            continue
        check_equal(other, encode_address(read), "a second spelling")


def check_level(data: bytes) -> None:
    """Whatever a level spells, it is the one spelling of it."""
    level = unicode_of(data)
    check_equal(level, encode_address(decode_address(level)), "read and spelled")


_TOPIC_WORDS = (
    b"u/",
    b"g/",
    b"read/u/",
    b"presence/g/",
    b"rpc/",
    b"/",
    b"+",
    b"#",
    b"%2F",
    b"%2f",
    b"%",
    b"%00",
    b"@",
    b"=",
    b"&",
    b"type=1",
    b"expiry=0",
    b"flags=7",
    b"ref=0123456789abcdef",
    b"edit=",
    b"recall=",
    b"when=5",
    b"age=3",
    b"seq=1",
    b"age-from=sent",
    b"priority=3",
    b"correlation-data=%FF",
    b"response-topic=a",
    b"payload-format=1",
    b"content-type=t",
    b"%20",
    "é".encode(),
    "e\u0301".encode(),
    "\u200d".encode(),
    "\ufe0f".encode(),
    b"\xed\xa0\x80",
    b"..",
    b"$",
    b"\0",
    "\u0663".encode(),
    b"31536000",
    b"31536001",
    b"4294967295",
    b"4294967296",
    b"000",
    b"sent/",
    b"session",
    b"status/",
)
_RULE_WORDS = (
    b'{"',
    b'"}',
    b'":',
    b"[",
    b"]",
    b"{}",
    b",",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"-0",
    b"0.1",
    b"1E5",
    b"9007199254740991",
    b"9007199254740992",
    b"-9007199254740993",
    b"\\ud800",
    b"\\u0000",
    b"\xef\xbb\xbf",
    b'"a":1',
    b"12345678901234567890",
    b'"allow"',
    b'"deny"',
    b'"publish"',
    b'"all"',
    b'"topic"',
    b'"users"',
    b'"groups"',
    b'"scope"',
    b"%u",
    b"%c",
    b"%g",
    b"%2F",
    b"alice",
    b"team",
    b"admin",
    b"/",
    b"#",
    b"+",
)
_RULES = (
    b'[{"allow":"publish","topic":"home/%u/#"}]\0home/alice/x',
    b'[{"deny":"all","topic":"a/+/c","users":["bob"]},{"allow":"subscribe","topic":"g/%g/#","groups":["team"]}]\0g/team/x',
    b'[{"allow":"all","topic":"c-%c/x","scope":"admin"}]\0c-phone/x',
)

TARGETS = (
    Target(
        "out-topic",
        "a topic under out/ has one meaning and one spelling",
        check_out,
        (
            b"u/bob/c1",
            b"g/team/c1/expiry=60&type=3",
            b"u/%2B1415/c-1/flags=4",
            b"u/bob",
            b"read/u/bob",
            b"presence/g/team",
            b"rpc/history/r1",
            b"u/bob/c1/edit=0123456789abcdef",
            b"u/a@b.c/c1/x=%20&y=%26",
        ),
        _TOPIC_WORDS,
        (TopicError, ParamsError),
    ),
    Target(
        "params",
        "parameters are read, written and read alike",
        check_params,
        (
            b"type=1&expiry=60",
            b"x=%20&y=%C3%A9",
            b"recall=0123456789abcdef&stub=0",
            b"correlation-data=%FF%00&content-type=t",
            b"when=5&age=9&age-from=sent&priority=3&flags=131",
        ),
        _TOPIC_WORDS,
        (ParamsError,),
    ),
    Target(
        "in-filter",
        "a filter under in/ is one of MQTT's, too",
        check_in_filter,
        (b"#", b"session", b"u/#", b"u/bob/#", b"g/a%2Fb/#", b"status/#", b"read/#"),
        _TOPIC_WORDS,
    ),
    Target(
        "filters",
        "the topic tree finds what a naive matcher finds",
        check_filters,
        (b"a/b/c\0a/+/c\0a/#\0#\0+/b/c\0a/b", b"$SYS/x\0#\0$SYS/#\0+/x", b"a\0a/#\0+/#\0/+\0a", b"/\0+/+\0/#\0/\0#"),
        _TOPIC_WORDS,
    ),
    Target(
        "covering",
        "a filter covers what all that it matches says",
        check_covering,
        (b"a/#\0a/+/c\0a/b/c", b"+/+\0/#\0/x", b"#\0$SYS/#\0$SYS/a", b"a/+\0+/b\0a/b", b"a/#\0a\0a", b"/#\0+/#\0a"),
        _TOPIC_WORDS,
    ),
    Target(
        "rules",
        "access rules match what their filters match",
        check_rules,
        _RULES,
        _RULE_WORDS,
        (MesimqttError,),
        has_json=True,
    ),
    Target(
        "address",
        "an address has one spelling",
        check_spelling,
        (
            b"alice",
            b"+14155550100",
            b"alice@example.org",
            b"door/7",
            "é".encode(),
            "👨‍👩‍👧".encode(),
            b"a b",
            b"x" * 63,
            b"..",
        ),
        _TOPIC_WORDS,
        (AddressError,),
    ),
    Target(
        "level",
        "a level is the one spelling of its address",
        check_level,
        (b"alice", b"%2B1415", b"a%2Fb", b"%C3%A9", b"%41", b"%2b", b"a%20b"),
        _TOPIC_WORDS,
        (AddressError,),
    ),
)
