"""Operations on messages: send and status."""

from __future__ import annotations

import base64
import binascii

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
from mesimqtt.topics import CID_PATTERN, EXPIRY_MAX_S, MID_PATTERN, TYPE_MAX


@operation(Scope.USER, actor="sender")
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
    cid: str | None = None,
) -> Answer:
    """Send a message in a user's name, to a user or to a group; answers once it is committed.

    The payload is `text` (UTF-8) or `payload` (base64).
    """
    known_user(desk.read, sender)
    if (to is None) == (group is None):
        raise ArgumentError("name one destination: to (a user) or group")
    checked_address(to or group or "")
    if not 0 <= type <= TYPE_MAX:
        raise ArgumentError(f"type is a number from 0 to {TYPE_MAX}")
    if expiry is not None and not 0 <= expiry <= EXPIRY_MAX_S:
        raise ArgumentError(f"expiry is a number of seconds from 0 to {EXPIRY_MAX_S}")
    if cid is not None and not CID_PATTERN.fullmatch(cid):
        raise ArgumentError("cid is 1 to 64 of A-Z a-z 0-9 _ -")
    return await desk.messaging.send(
        sender, to=to, group=group, type=type, expiry=expiry, payload=_payload(text, payload), cid=cid
    )


def _payload(text: str | None, payload: str | None) -> bytes:
    if (text is None) == (payload is None):
        raise ArgumentError("give text, or payload in base64")
    try:
        return text.encode() if text is not None else base64.b64decode(payload or "", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ArgumentError("text must be valid Unicode, payload valid base64") from None


@operation(Scope.USER, example={"mid": "{gmid}"})
async def status(desk: Desk, *, mid: str, limit: int = 1_000, cursor: str | None = None) -> Answer:
    """Tell the status of a message for each recipient, with the times at which it was delivered and read.

    A group's message also has `counts` over all members; `next` is the `cursor` of the next page, null at the end.
    """
    if not MID_PATTERN.fullmatch(mid):
        raise ArgumentError(f"{mid[:40]!r} is no mid: a mid is 16 hex digits, as in the topic of a message")
    asker = desk.caller.user if desk.caller.power is Scope.USER else None
    return await desk.messaging.status(mid, asker=asker, limit=checked_limit(limit), cursor=cursor)
