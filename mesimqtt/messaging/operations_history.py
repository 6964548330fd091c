"""Operations on what was said: history, inbox, sync, search, and how long it is kept (contract section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.keeping import EVERY_GROUP, EVERY_TYPE, Rule, parse_keep_types
from mesimqtt.messaging.history import Wanted
from mesimqtt.messaging.operations_base import (
    Answer,
    ArgumentError,
    Desk,
    Scope,
    checked_address,
    checked_limit,
    known_group,
    operation,
)
from mesimqtt.messaging.search import Query
from mesimqtt.store import groups
from mesimqtt.store import retention as rows
from mesimqtt.topics import TYPE_MAX

if TYPE_CHECKING:
    import sqlite3

_ORDERS = ("newest", "oldest")


@operation(Scope.USER, actor="address", example={"address": "bob", "peer": "alice", "limit": 20}, is_lookup=True)
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


@operation(Scope.USER, actor="address", example={"address": "bob"}, is_lookup=True)
async def inbox(desk: Desk, *, address: str, limit: int = 100, cursor: str | None = None) -> Answer:
    """Show a user's conversations, the last active first: last message, how many are unread, how many wait.

    A message waits until a device of his has acknowledged it, and is unread until he says that he has read it.
    `next` is the `cursor` of the next page, null at the end.
    """
    user = desk.messaging.party(checked_address(address))
    return await desk.messaging.inbox.page(user, checked_limit(limit), cursor)


@operation(Scope.USER, actor="address", example={"address": "bob", "device": "phone"}, is_lookup=True)
async def sync(
    desk: Desk, *, address: str, device: str | None = None, limit: int = 100, cursor: str | None = None
) -> Answer:
    """Tell a device that was away where each conversation stands: first and last seq, watermarks, what is missing.

    `missing` are the seqs that `device` (left out: any device of the user) has not acknowledged, `lost` those that
    retention has removed before it had them. `complete` is false where something is lost, or the device is not known.
    """
    user = desk.messaging.party(checked_address(address))
    return await desk.messaging.history.sync(user, device, checked_limit(limit), cursor)


@operation(Scope.USER, actor="address", example={"address": "bob", "text": "hello"}, is_lookup=True)
async def search(
    desk: Desk,
    *,
    address: str,
    text: str,
    peer: str | None = None,
    group: str | None = None,
    sender: str | None = None,
    type: int | None = None,  # noqa: A002 - the parameter's name in the contract
    limit: int = 50,
    cursor: str | None = None,
) -> Answer:
    """Search the texts of a user's conversations for words, the newest message first.

    Where nothing has the last word as a whole, it is taken for the beginning of one.

    Nothing in `text` is an operator. `peer` or `group` names one conversation, `sender` who wrote it, `type` its type.
    `complete` is false while the newest messages are not searched yet; `next` is the `cursor` of the next page.
    """
    messaging = desk.messaging
    user = messaging.party(checked_address(address))
    if peer is not None and group is not None:
        raise ArgumentError("name at most one conversation: peer (a user) or group")
    _check_type(type)
    for each in (peer, group, sender):
        if each is not None:
            checked_address(each)
    conversation = messaging.history.conversation(user, peer, group) if peer is not None or group is not None else None
    is_nobody = (peer is not None or group is not None) and conversation is None
    writer = messaging.history.party(sender) if sender is not None else None
    if is_nobody or (sender is not None and writer is None):
        return {"messages": [], "complete": True, "next": None}
    number = writer.id if writer is not None else None
    return await messaging.search.page(user, Query(text, conversation, type, number, checked_limit(limit), cursor))


def _check_type(number: int | None) -> None:
    if number is not None and not 0 <= number <= TYPE_MAX:
        raise ArgumentError(f"type is a number from 0 to {TYPE_MAX}")


@operation(Scope.ADMIN, example={"dry_run": True})
async def purge(desk: Desk, *, dry_run: bool = False) -> Answer:
    """Remove what is older than it is to be kept, or (`dry_run`) only count it; this also happens every night.

    `waiting` are messages that are old enough, and stay because they still wait for somebody.
    """
    return await desk.messaging.retention.purge(dry_run=dry_run)


@operation(Scope.BACKEND, example={"type": 5, "keep_s": 86_400})
async def retention_set(
    desk: Desk,
    *,
    group: str | None = None,
    type: int | None = None,  # noqa: A002 - the parameter's name in the contract
    keep_s: int | None = None,
) -> Answer:
    """Set for how many seconds messages are kept: of a group, of a type, of both, or (neither) of all.

    0 is for ever; null removes the rule, so that the next less specific one counts.
    """
    _check_type(type)
    if keep_s is not None and keep_s < 0:
        raise ArgumentError("keep_s is a number of seconds, 0 for ever, or null to remove the rule")
    number = known_group(desk.read, group).id if group is not None else EVERY_GROUP
    kind = EVERY_TYPE if type is None else type

    def work(connection: sqlite3.Connection) -> None:
        if keep_s is None:
            rows.drop_rule(connection, number, kind)
        else:
            rows.set_rule(connection, Rule(number, kind, keep_s))

    await desk.messaging.store.committer.run(work)
    return await retention_list(desk)


@operation(Scope.BACKEND, is_lookup=True)
async def retention_list(desk: Desk) -> Answer:
    """Show for how long messages are kept: what the configuration says, and the rules that are set here."""
    settings = desk.messaging.settings.history
    listed = []
    for rule in rows.rules(desk.read):
        group = groups.by_id(desk.read, rule.group_id) if rule.group_id else None
        if group is not None or not rule.group_id:  # else it was deleted
            kind = None if rule.type == EVERY_TYPE else rule.type
            listed.append({"group": group.address if group else None, "type": kind, "keep_s": rule.keep_s})
    types = [
        {"group": None, "type": rule.type, "keep_s": rule.keep_s} for rule in parse_keep_types(settings.keep_types)
    ]
    return {"keep_s": settings.keep_s, "configured": types, "rules": listed}
