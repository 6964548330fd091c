"""What a status looks like, and the laws that every status of the run must obey (contract section 4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.conform.table import check, law
from mesimqtt.proof.conform.topics import MID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.conform.heard import Heard, Told
    from mesimqtt.proof.conform.stage import Stage

KEYS = (
    "cid",
    "mid",
    "peer",
    "group",
    "status",
    "name",
    "ts",
    "device",
    "reason",
    "limit",
    "rule",
    "retry_after",
    "counts",
)
NAMES = {
    1: "sent", 2: "delivered", 3: "read", 0x21: "deleted", 0x22: "wiped", 0x80: "failed", 0x81: "user-offline",
    0x82: "inbox-full", 0x83: "invalid-destination", 0x84: "expired", 0x85: "bad-request", 0x88: "blocked",
    0x8C: "rate-limited", 0x8D: "denied", 0x90: "group-paused", 0x91: "not-member",
}  # fmt: skip
SENT, DELIVERED, READ, FAILED = 1, 2, 3, 0x80
GONE = (0x21, 0x22)
DAY_MS = 86_400_000


def _said(heard: Heard) -> Iterator[tuple[Told, dict[str, Any]]]:
    for each in heard.at("status"):
        try:
            told = json.loads(each.packet.payload)
        except ValueError:
            told = {}
        yield each, told if isinstance(told, dict) else {}


@law("C4.1")
def form(heard: Heard) -> str:
    """Every status of the run is such JSON byte for byte, with cid, mid, status, name and ts, under its cid."""
    for each, told in _said(heard):
        text = each.packet.payload.decode("utf-8", "replace")
        keys = list(told)
        if (
            json.dumps(told, ensure_ascii=False, separators=(",", ":")) != text
            or keys != [key for key in KEYS if key in told]
            or not {"cid", "mid", "status", "name", "ts"} <= told.keys()
            or None in told.values()
            or each.place != f"status/{told['cid']}"
            or not MID.fullmatch(str(told["mid"]))
        ):
            return str(each)
    return ""


@check("C4.2")
async def time(stage: Stage) -> None:
    """`ts` is an integer within a day of the kit's clock, and that of `delivered` is not before that of SENT."""
    alice, bob = await stage.people(2)
    sender, _ = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    before = 0
    for code in (SENT, DELIVERED):
        ts = (await sender.status(cid, code)).get("ts")
        is_now = isinstance(ts, int) and abs(ts - stage.venue.now_ms()) < DAY_MS
        stage.that(is_now, "milliseconds since 1970", ts)
        stage.that(before <= int(ts or 0), "a time that grows", ts)
        before = int(ts or 0)


@law("C4.3")
def numbers(heard: Heard) -> str:
    """Every `status` of the run is a whole number of the table, with the name that stands there."""
    bad = [each for each, told in _said(heard) if NAMES.get(told.get("status", 0)) != told.get("name")]
    return str(bad[0]) if bad else ""


def may_follow(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell whether the contract knows the step, for a client that may have missed some between."""
    old, new = before["status"], after["status"]
    if old == new:
        return True
    if old == FAILED:
        return before.get("reason") == "unconfirmed" and new == READ
    if new in GONE:
        return old in (SENT, DELIVERED, READ)
    return (old == SENT and new > SENT) or (old, new) == (DELIVERED, READ)


@law("C4.28")
def steps(heard: Heard) -> str:
    """On each connection of the run the statuses of a (mid, recipient) only move along these steps."""
    last: dict[tuple[object, ...], dict[str, Any]] = {}
    for each, told in _said(heard):
        key = (each.connection, told.get("mid"), told.get("peer"))
        if told.get("status") not in NAMES or "counts" in told:
            continue
        if key in last and not may_follow(last[key], told):
            return f"{last[key]} and then {each}"
        last[key] = told
    return ""


@law("C4.30")
def to_the_sender(heard: Heard) -> str:
    """Nobody in the run receives a status under a cid that is neither his own nor a mid."""
    for each in heard.at("status", "s"):
        cid = each.place.partition("/")[2]
        if cid not in heard.cids.get(each.user, set()) and not MID.fullmatch(cid):
            return str(each)
    return ""


@law("C4.32")
def repeats(heard: Heard) -> str:
    """Where the same step of a (mid, recipient) is told twice in the run, both are equal byte for byte."""
    first: dict[tuple[object, ...], bytes] = {}
    for each, told in _said(heard):
        if told.get("status") not in (SENT, DELIVERED, READ, *GONE) or "counts" in told:
            continue
        key = (each.user, told.get("mid"), told.get("peer"), told.get("status"))
        if first.setdefault(key, each.packet.payload) != each.packet.payload:
            return f"{first[key]!r} and {each}"
    return ""
