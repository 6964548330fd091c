"""Fuzz targets on values: JSON, cursors, sets of seqs, rate limits, retention."""

from __future__ import annotations

import json
from typing import Any

from mesimqtt.domain.errors import OperationError, RateError
from mesimqtt.domain.keeping import Rules, parse_keep_types
from mesimqtt.domain.rates import MOST_MAX, SECONDS_MAX, WINDOWS_MAX, RateLimit, parse_windows
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.domain.strict_json import INTEGER_MAX, read_json
from mesimqtt.messaging.paging import pack, unpack
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that, text_of

_FILTERS_MAX = 12
_TAKEN_MAX = 300

# ---- JSON -----------------------------------------------------------------------------------------------------------


def check_json(data: bytes) -> None:
    """What is accepted the standard library reads alike; what only that one accepts has one of the named faults."""
    try:
        expected = json.loads(data.decode("utf-8"), object_pairs_hook=_pairs)
        faults = _faults(expected)
    except (ValueError, RecursionError):
        expected, faults = None, ["no JSON"]
    try:
        found = read_json(data)
    except ValueError:
        check_that(bool(faults), f"refused without a fault: {data[:200]!r}")
        return
    check_equal([], faults, "accepted with a fault")
    check_equal(_plain(expected), found, "value")


class _Object(list[tuple[str, Any]]):
    """An object with all its keys, those that stand twice included."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    return _Object(pairs)


def _faults(value: object) -> list[str]:
    if isinstance(value, _Object):
        twice = ["twice"] if len({key for key, _ in value}) != len(value) else []
        return twice + [fault for _, inner in value for fault in _faults(inner)]
    if isinstance(value, list):
        return [fault for inner in value for fault in _faults(inner)]
    if isinstance(value, float):
        return [] if abs(value) <= 1.8e308 and value not in (float("inf"), float("-inf")) else ["no number"]
    return ["too large"] if type(value) is int and abs(value) > INTEGER_MAX else []


def _plain(value: object) -> object:
    if isinstance(value, _Object):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def check_cursor(data: bytes) -> None:
    """A place to go on from is read back as it was given out; any other text is refused."""
    values = unpack(text_of(data))
    text = pack(values)
    if len(text) <= 400:
        check_equal(json.dumps(values), json.dumps(unpack(text)), "packed and unpacked")


# ---- numbers --------------------------------------------------------------------------------------------------------


def check_seqset(data: bytes) -> None:
    """A set of seqs holds what a plain set holds, whatever was done to it, and its text makes it again."""
    seqs, plain = SeqSet(), set[int]()
    for at in range(0, min(len(data), 400) - 2, 3):
        first, last = data[at + 1], data[at + 1] + data[at + 2] % 9
        what = data[at] % 4
        if what == 0:
            check_equal(first > 0 and first not in plain, first > 0 and seqs.add(first), f"{first} is new")
            plain |= {first} - {0}
        elif what == 1:
            seqs.fill(first)
            plain |= set(range(1, first + 1))
        elif what == 2:
            seqs.include(max(first, 1), last)
            plain |= set(range(max(first, 1), last + 1))
        else:
            seqs = SeqSet(seqs.upto, seqs.above)
    check_equal(plain, {seq for seq in range(1, 300) if seq in seqs}, "members")
    gap = next(seq for seq in range(1, 400) if seq not in plain)
    check_equal((gap - 1, max(plain, default=0)), (seqs.upto, seqs.highest), "watermark and highest")
    check_equal(len(plain) - gap + 1, seqs.above_count, "how many are above")
    missing = {seq for first, last in seqs.missing(290) for seq in range(first, last + 1)}
    check_equal(set(range(1, 291)) - plain, missing, "missing")


def check_windows(data: bytes) -> None:
    """A rate limit is within its bounds; it lets through what its smallest window has room for, and then no more."""
    windows = parse_windows(text_of(data))
    check_that(len(windows) <= WINDOWS_MAX, "too many windows")
    for window in windows:
        check_that(0 < window.seconds <= SECONDS_MAX and 0 < window.most <= MOST_MAX, f"{window}")
    most = min((window.most for window in windows), default=_TAKEN_MAX)
    limit = RateLimit(windows)
    taken = sum(not limit.take("key", 1e6) for _ in range(min(most, _TAKEN_MAX) + 1))
    check_equal(
        min(most, _TAKEN_MAX) + (most >= _TAKEN_MAX if not windows or most > _TAKEN_MAX else 0),
        taken,
        f"at once: {windows}",
    )


def check_keeping(data: bytes) -> None:
    """Rules of how long messages are kept say what was written, and the most specific one counts."""
    text = text_of(data)
    try:
        found = parse_keep_types(text)
    except ValueError as error:
        check_that("write TYPE:SECONDS" in str(error) or "a type is at most" in str(error), f"it says {error}")
        raise
    rules = Rules(found)
    for rule in {rule.type: rule for rule in found}.values():
        check_equal(rule.keep_s, rules.keep_s(5, rule.type), f"type {rule.type}")


_JSON_WORDS = (
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
_NUMBER_WORDS = (
    b":",
    b",",
    b"60:30",
    b"0",
    b"inf",
    b"nan",
    b"1e9",
    b"1_0",
    b"-1",
    b"0x1",
    b" ",
    "\u0663".encode(),
    b"9" * 20,
)
TARGETS = (
    Target(
        "json",
        "JSON is read as the standard library does, or has a named fault",
        check_json,
        (
            b'{"a":[1,2.5,null,true,"x"]}',
            b'{"a":1,"a":2}',
            b'"\\ud800"',
            b"[[[[[]]]]]",
            b"9007199254740993",
            b"-0.0",
            b'{"to":"bob","text":"hi","expiry":60}',
        ),
        _JSON_WORDS,
        has_json=True,
    ),
    Target(
        "cursor",
        "a place to go on from comes back as it was given",
        check_cursor,
        (b"eyJzIjoxMiwibSI6M30", b"e30", b"W10", b"bnVsbA", b"eyJhIjp7fX0"),
        (b"=", b"-", b"_", b"eyJ"),
        (OperationError,),
    ),
    Target(
        "seqset",
        "a set of seqs is a set",
        check_seqset,
        (bytes((0, 5, 0, 0, 3, 0, 0, 4, 0, 1, 2, 0)), bytes((2, 9, 4, 3, 0, 0, 2, 4, 5, 0, 1, 0)), bytes(range(60))),
        (b"\0\1\0", b"\2\5\5", b"\1\7\0", b"\3\0\0"),
    ),
    Target(
        "windows",
        "a rate limit lets through what it says",
        check_windows,
        (b"60:30,600:60", b"1:1", b"0", b"", b"0.5:2", b"2678400:1000000000"),
        _NUMBER_WORDS,
        (RateError,),
    ),
    Target(
        "keeping",
        "rules of retention say what is written",
        check_keeping,
        (b"5:86400,6:0", b"4294967295:1", b"1:1,1:2"),
        _NUMBER_WORDS,
        (ValueError,),
    ),
)
