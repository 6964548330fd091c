"""What holds for everything that any client of any transcript receives, whether a line speaks of it or not."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from scenarios.language import STATUS_CODES
from spoken import channels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scenarios.actors import Received

# Contract section 4: the keys of a status, in their order.
STATUS_KEYS = (
    "cid", "mid", "peer", "group", "status", "name", "ts", "device", "reason", "limit", "rule", "retry_after", "counts",
)  # fmt: skip
_STATUS_TOPIC = re.compile(r"[^/]+/[^/]+/in/status/([^/]+)")
_MESSAGE_TOPIC = re.compile(
    r"[^/]+/[^/]+/in/(u/[^/]+|g/[^/]+|sent/[ug]/[^/]+|event/g/[^/]+)(?:/([^/=]+))?/([^/=]+)(?:/([^/]*=.*))?"
)
_MID = re.compile(r"[0-9a-f]{16}")
_SEQ = re.compile(r"seq=(\d+)(?:&|$)")


def breaches(received: Iterable[Received], user: str, root: str = "m") -> list[str]:
    """Return a sentence for each law that what one client received has broken."""
    mine = [one for one in received if one.topic.startswith(f"{root}/")]
    return [
        *(f"a topic of somebody else: {one}" for one in mine if not one.topic.startswith(f"{root}/{user}/in/")),
        *(f"retained under {root}/: {one}" for one in mine if one.retain),
        *_status_breaches(mine),
        *_message_breaches(mine),
        *(f"in no channel of the AsyncAPI document: {one}" for one in mine if len(channels_of(one.topic, root)) != 1),
    ]


def may_follow(before: dict[str, object], after: dict[str, object]) -> bool:
    """Tell whether contract section 4 allows a sender to see `after` next to `before` for one (mid, recipient).

    A step may be left out for who was away: 1 may be followed by 3, and anything by its own repeat.
    """
    first, second = before["status"], after["status"]
    if not isinstance(first, int) or not isinstance(second, int):
        return False
    if first == second:
        return before == after
    if second in (0x21, 0x22):
        return first in (1, 2, 3)
    if first == 0x80 and before.get("reason") == "unconfirmed":
        return second == 3
    return (first == 1 and (second in (2, 3) or second >= 0x80)) or (first, second) == (2, 3)


def is_same(one: Received, other: Received) -> bool:
    """Tell whether two deliveries are the same message or status (parameters may age: `expiry`)."""
    return _without_parameters(one.topic) == _without_parameters(other.topic) and one.payload == other.payload


def _without_parameters(topic: str) -> str:
    head, _, last = topic.rpartition("/")
    return head if "=" in last else topic


def _status_breaches(received: list[Received]) -> Iterator[str]:
    newest: dict[tuple[object, object], dict[str, object]] = {}
    for one in received:
        topic = _STATUS_TOPIC.fullmatch(one.topic)
        if topic is None:
            continue
        status = _status(one.payload)
        if status is None:
            yield f"not a JSON object: {one}"
            continue
        if complaint := _form_breach(status, one.payload, topic[1]):
            yield f"{complaint}: {one}"
        key = (status.get("mid"), status.get("peer"))
        before = newest.get(key)
        if before is not None and not may_follow(before, status):
            yield f"status {status.get('name')} may not follow {before.get('name')}: {one}"
        newest[key] = status


def _status(payload: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _form_breach(status: dict[str, object], payload: bytes, cid: str) -> str:
    """Say what is wrong with the form of one status; '' if nothing is."""
    ordered = {key: status[key] for key in STATUS_KEYS if key in status}
    if json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode() != payload:
        return "keys, their order or the spaces are not the contract's"
    if status.get("cid") != cid:
        return "the cid is not that of the topic"
    if not _MID.fullmatch(str(status.get("mid", ""))):
        return "a status has a mid"
    if STATUS_CODES.get(str(status.get("name"))) != status.get("status"):
        return "code and name do not belong together"
    return "" if isinstance(status.get("ts"), int) else "a status has a ts"


def _message_breaches(received: list[Received]) -> Iterator[str]:
    highest: dict[str, int] = {}
    first: dict[str, Received] = {}
    on_connection: set[tuple[int, str]] = set()
    for one in received:
        topic = _MESSAGE_TOPIC.fullmatch(one.topic)
        if topic is None:
            continue
        mid = topic[3]
        if not _MID.fullmatch(mid):
            yield f"no mid where one belongs: {one}"
            continue
        if (one.connection, mid) in on_connection:
            yield f"twice on one connection: {one}"
        on_connection.add((one.connection, mid))
        if mid in first:
            if not is_same(first[mid], one):
                yield f"{one} differs from what came before under its mid: {first[mid]}"
            continue
        first[mid] = one
        conversation = re.sub(r"^(sent|event)/", "", re.sub(r"^sent/", "", topic[1]))
        if found := _SEQ.match(topic[4] or ""):
            if int(found[1]) <= highest.get(conversation, 0):
                yield f"seq {found[1]} after {highest[conversation]}: {one}"
            highest[conversation] = int(found[1])
        elif "expiry=0" not in (topic[4] or "") and "flags=" not in (topic[4] or ""):
            yield f"no seq: {one}"
