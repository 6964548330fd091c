"""Operations on messages: send, to one or many, what is scheduled, delete, status."""

from __future__ import annotations

import base64

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.status import Status
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_limit,
    known_user,
    operation,
)
from mesimqtt.messaging.paging import number_of, pack, unpack
from mesimqtt.messaging.sending import CID_BASE_MAX, Letter
from mesimqtt.topics import CID_PATTERN, EXPIRY_MAX_S, MID_PATTERN, PRIORITY_MAX, TYPE_MAX, WHEN_MAX_S


@operation(Scope.USER, actor="sender", example={"sender": "alice", "to": "bob", "text": "see you at eight"})
async def send(
    desk: Desk,
    *,
    sender: str,
    to: str | None = None,
    group: str | None = None,
    text: str | None = None,
    payload: str | None = None,
    type: int = 0,  # noqa: A002 - the parameter's name in the contract
    expiry: int | None = None,
    flags: int | None = None,
    ref: str | None = None,
    edit: str | None = None,
    recall: str | None = None,
    when: int = 0,
    age: int = 0,
    priority: int | None = None,
    keys: dict[str, str] | None = None,
    cid: str | None = None,
) -> Answer:
    """Send a message in a user's name, to a user or to a group; answers once it is committed.

    The payload is `text` (UTF-8) or `payload` (base64), none for a recall. `keys` are parameters of your own.
    """
    known_user(desk.read, sender)
    if (to is None) == (group is None):
        raise ArgumentError("name one destination: to (a user) or group")
    letter = Letter(
        payload=_payload(text, payload, is_recall=recall is not None),
        params=_params(
            type=type, expiry=expiry, flags=flags, ref=ref, edit=edit, recall=recall, when=when, age=age,
            priority=priority, keys=keys,
        ),
        cid=_cid(cid),
    )  # fmt: skip
    kind, name = ("u", to) if to is not None else ("g", group)
    is_operator = desk.caller.power is not Scope.USER
    return await desk.messaging.send(sender, kind, checked_address(name or ""), letter, is_operator=is_operator)


@operation(
    Scope.USER,
    actor="sender",
    example={"sender": "alice", "to": ["bob", "carol"], "groups": ["team"], "text": "lunch?"},
)
async def message_send(
    desk: Desk,
    *,
    sender: str,
    to: list[str] = [],  # noqa: B006 - never changed
    groups: list[str] = [],  # noqa: B006 - never changed
    text: str | None = None,
    payload: str | None = None,
    type: int = 0,  # noqa: A002 - the parameter's name in the contract
    expiry: int | None = None,
    flags: int | None = None,
    ref: str | None = None,
    when: int = 0,
    age: int = 0,
    priority: int | None = None,
    keys: dict[str, str] | None = None,
    cid: str | None = None,
) -> Answer:
    """Send one message to several users and groups; each has a status of its own, in `results`.

    A `cid` (at most 55 characters) makes the whole request safe to repeat: each recipient's begins with it. A refusal
    for one is told in its place and does not keep the message from the others.
    """
    known_user(desk.read, sender)
    places = [("u", name) for name in dict.fromkeys(to)] + [("g", name) for name in dict.fromkeys(groups)]
    most = desk.messaging.settings.messaging.send_recipients_max
    if not 1 <= len(places) <= most:
        raise ArgumentError(f"name from 1 to {most} recipients in to and groups together; these are {len(places)}")
    if cid is not None and len(cid) > CID_BASE_MAX:
        raise ArgumentError(f"cid: at most {CID_BASE_MAX} characters where several are written to")
    letter = Letter(
        payload=_payload(text, payload),
        params=_params(
            type=type, expiry=expiry, flags=flags, ref=ref, when=when, age=age, priority=priority, keys=keys
        ),
        cid=_cid(cid),
    )
    return await desk.messaging.send_all(sender, places, letter)


@operation(Scope.USER, actor="address", example={"address": "alice"}, is_lookup=True)
async def message_scheduled(desk: Desk, *, address: str, limit: int = 100, cursor: str | None = None) -> Answer:
    """List what a user has scheduled, the next due first; `next` is the `cursor` of the next page, null at the end."""
    known_user(desk.read, address)
    place = unpack(cursor) if cursor is not None else None
    after = (number_of(place, "t"), number_of(place, "m")) if place is not None else (0, 0)
    messages = desk.messaging.scheduled(address, after=after, limit=checked_limit(limit))
    last = messages[-1] if len(messages) == limit else None
    following = pack({"t": last["due"], "m": int(last["mid"], 16)}) if last is not None else None
    return {"messages": messages, "next": following}


@operation(Scope.USER, actor="address", example={"address": "alice", "mid": "{later}"})
async def message_cancel(desk: Desk, *, address: str, mid: str) -> Answer:
    """Cancel a message that waits for its time; its recipient never hears of it."""
    known_user(desk.read, address)
    if not await desk.messaging.cancel(address, _mid(mid)):
        raise OperationError(
            "no-such-message", f"no message {mid} of {address!r} waits; if it was sent, take it back: send with recall"
        )
    return {"mid": mid, "status": int(Status.DELETED), "name": Status.DELETED.title}


@operation(Scope.USER, actor="address", example={"address": "bob", "mids": ["{mid}"]})
async def message_delete(desk: Desk, *, address: str, mids: list[str]) -> Answer:
    """Delete messages for one user alone: on all his devices and in his history. Nobody else notices."""
    known_user(desk.read, address)
    wanted = list(dict.fromkeys(map(_mid, mids)))
    hidden = await desk.messaging.hide(address, wanted)
    if not hidden:
        raise OperationError("no-such-message", f"none of these is a message in a conversation of {address!r}")
    return {"deleted": [format_mid(mid) for mid in hidden]}


def _params(
    *,
    type: int,  # noqa: A002 - the parameter's name in the contract
    expiry: int | None,
    flags: int | None,
    ref: str | None,
    when: int,
    age: int,
    priority: int | None,
    keys: dict[str, str] | None,
    edit: str | None = None,
    recall: str | None = None,
) -> dict[str, str | int]:
    """Return the parameters that were given, in the contract's order, checked for their range."""
    for name, number, largest in (
        ("type", type, TYPE_MAX), ("expiry", expiry, EXPIRY_MAX_S), ("flags", flags, 0xFFFF),
        ("when", when, WHEN_MAX_S), ("age", age, EXPIRY_MAX_S), ("priority", priority, PRIORITY_MAX),
    ):  # fmt: skip
        if number is not None and not 0 <= number <= largest:
            raise ArgumentError(f"{name} is a number from 0 to {largest}")
    given: dict[str, str | int | None] = {
        "type": type or None, "expiry": expiry, "flags": flags, "ref": _mid_text(ref), "edit": _mid_text(edit),
        "recall": _mid_text(recall), "when": when or None, "age": age or None, "priority": priority,
    }  # fmt: skip
    own = keys or {}
    if known := sorted(own.keys() & given.keys()):
        raise ArgumentError(f"keys: {known[0]} is an argument of its own")
    return {key: value for key, value in given.items() if value is not None} | own


def _mid(mid: str) -> int:
    if not MID_PATTERN.fullmatch(mid):
        raise ArgumentError(f"{mid[:40]!r} is no mid: a mid is 16 hex digits, as in the topic of a message")
    return int(mid, 16)


def _mid_text(mid: str | None) -> str | None:
    return None if mid is None else format_mid(_mid(mid))


def _cid(cid: str | None) -> str | None:
    if cid is not None and not CID_PATTERN.fullmatch(cid):
        raise ArgumentError("cid is 1 to 64 of A-Z a-z 0-9 _ -")
    return cid


def _payload(text: str | None, payload: str | None, *, is_recall: bool = False) -> bytes:
    if is_recall and text is None and payload is None:
        return b""
    if (text is None) == (payload is None):
        raise ArgumentError("give text, or payload in base64")
    try:
        return text.encode() if text is not None else base64.b64decode(payload or "", validate=True)
    except ValueError:  # binascii's, and what is not even ASCII
        raise ArgumentError("text must be valid Unicode, payload valid base64") from None


@operation(Scope.USER, example={"mid": "{gmid}"}, is_lookup=True)
async def status(desk: Desk, *, mid: str, limit: int = 1_000, cursor: str | None = None) -> Answer:
    """Tell the status of a message for each recipient, with the times at which it was delivered and read.

    A group's message also has `counts` over all members; `next` is the `cursor` of the next page, null at the end.
    """
    _mid(mid)
    asker = desk.caller.user if desk.caller.power is Scope.USER else None
    return await desk.messaging.status(mid, asker=asker, limit=checked_limit(limit), cursor=cursor)
