"""Operations on what was said: history, inbox, sync, search, and how long it is kept (contract section 3)."""

from __future__ import annotations

from mesimqtt.messaging.history import Wanted
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_limit,
    operation,
)

_ORDERS = ("newest", "oldest")


@operation(Scope.USER, actor="address", example={"address": "bob", "peer": "alice", "limit": 20})
async def history(
    desk: Desk,
    *,
    address: str,
    peer: str | None = None,
    group: str | None = None,
    before: int | str | None = None,
    after: int | str | None = None,
    order: str = "newest",
    limit: int = 50,
    cursor: str | None = None,
) -> Answer:
    """Show a page of a user's conversation with `peer` or in `group`, as far as he may see it.

    `before` and `after` are seqs or mids, `order` is newest or oldest first; `next` is the `cursor` of the next page,
    null at the end. `complete` is false where retention has removed something that stood on this page.
    """
    user = desk.messaging.party(checked_address(address))
    if (peer is None) == (group is None):
        raise ArgumentError("name one conversation: peer (a user) or group")
    if order not in _ORDERS:
        raise ArgumentError("order is newest or oldest")
    checked_address(peer if peer is not None else group or "")
    texts = [None if value is None else str(value) for value in (after, before)]
    wanted = Wanted(texts[0], texts[1], checked_limit(limit), order == "newest", cursor)
    return await desk.messaging.history.page(user, peer, group, wanted)


@operation(Scope.USER, actor="address", example={"address": "bob"})
async def inbox(desk: Desk, *, address: str, limit: int = 100, cursor: str | None = None) -> Answer:
    """Show a user's conversations, the last active first: last message, how many are unread, how many wait.

    A message waits until a device of his has acknowledged it, and is unread until he says that he has read it.
    `next` is the `cursor` of the next page, null at the end.
    """
    user = desk.messaging.party(checked_address(address))
    return await desk.messaging.inbox.page(user, checked_limit(limit), cursor)


@operation(Scope.USER, actor="address", example={"address": "bob", "device": "phone"})
async def sync(
    desk: Desk, *, address: str, device: str | None = None, limit: int = 100, cursor: str | None = None
) -> Answer:
    """Tell a device that was away where each conversation stands: first and last seq, watermarks, what is missing.

    `missing` are the seqs that `device` (left out: any device of the user) has not acknowledged, `lost` those that
    retention has removed before it had them. `complete` is false where something is lost, or the device is not known.
    """
    user = desk.messaging.party(checked_address(address))
    return await desk.messaging.history.sync(user, device, checked_limit(limit), cursor)
