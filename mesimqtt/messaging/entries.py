"""A message as history, inbox and search show it to one user: what he may see of it, and as which JSON."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.groups import is_event_for
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import GROUP, NO_SEQ, MessageKind
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.domain.status import TITLES, Status
from mesimqtt.messaging.receipts import UNCONFIRMED
from mesimqtt.store import history, members
from mesimqtt.store import statuses as status_rows
from mesimqtt.store.integrity import CORRUPT
from mesimqtt.topics import split_params

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from mesimqtt.domain.messages import Conversation, Message
    from mesimqtt.messaging.directory import Directory

_PREVIEW_MAX = 256  # characters, or bytes, of the last message in an inbox
_GONE = {Status.DELETED: "recalled", CORRUPT: "corrupt"}
_NOT_PARAMS = ("type", "expiry", "edit")  # they stand in an entry by themselves


class Seen(NamedTuple):
    """What a user has of a conversation, as the store has it."""

    user_id: int
    acked: SeqSet
    read: SeqSet
    failed: SeqSet
    gaps: SeqSet

    @classmethod
    def of(cls, user_id: int, lane: history.LaneRow) -> Seen:
        """Return it for a lane."""
        return cls(
            user_id,
            SeqSet(lane.acked, lane.acked_above),
            SeqSet(lane.read, lane.read_above),
            SeqSet(NO_SEQ, lane.failed),
            SeqSet(NO_SEQ, lane.gaps),
        )


class Item(NamedTuple):
    """A message for one user: whether he has read it, or (his own) the newest status for each recipient."""

    row: history.Row
    is_read: bool
    statuses: list[history.Told]

    @property
    def message(self) -> Message:
        """Return the message alone."""
        return self.row.message


def shown(connection: sqlite3.Connection, rows: Iterable[history.Row], seen: Seen, now_ms: int) -> list[history.Row]:
    """Return those messages that a user may see.

    What failed for him, or expired before it reached him, is not his: its sender was told so. What was written to a
    device of his that never confirms is. Nor is his what somebody wrote whom he blocked, what came while he had no
    right to receive, work that another member took, or an event about members whom he may not list.
    """
    found = []
    for row in rows:
        message = row.message
        seq = message.seq
        if seq in seen.gaps:
            continue
        if message.kind:
            if _is_for(connection, message, seen.user_id):
                found.append(row)
        elif message.sender_id == seen.user_id or (seq in seen.read and seq not in seen.failed):
            found.append(row)
        elif seq in seen.failed:  # held back, too: he blocked its sender, and it counts as read
            statuses = status_rows.statuses_of(connection, message)
            if any(each.recipient_id == seen.user_id and each.reason == UNCONFIRMED for each in statuses):
                found.append(row)
        elif message.expires_at > now_ms or seq in seen.acked:
            found.append(row)
    return found


def _is_for(connection: sqlite3.Connection, message: Message, user: int) -> bool:
    """Tell whether a user may see an event, or a piece of work: if he sent it or took it."""
    if message.kind == MessageKind.WORK:
        statuses = status_rows.statuses_of(connection, message) if message.sender_id != user else []
        return message.sender_id == user or any(row.recipient_id == user for row in statuses)
    if message.conversation.kind != GROUP:
        return True
    address, may_list = members.view_of(connection, message.conversation.a, user)
    return is_event_for(message.payload, address, may_list=may_list)


def items(
    connection: sqlite3.Connection, conversation: int, rows: list[history.Row], seen: Seen, members_max: int
) -> list[Item]:
    """Return messages of one conversation with their state; in a group of more than `members_max` his own have none."""
    own = [row.message.seq for row in rows if row.message.sender_id == seen.user_id]
    told: dict[int, list[history.Told]] = {}
    if own and not history.has_more_lanes(connection, conversation, members_max + 1):
        told = history.told(connection, conversation, seen.user_id, min(own), max(own))
    return [Item(row, row.message.seq in seen.read, told.get(row.message.seq, [])) for row in rows]


class Entries:
    """Writes items as JSON types."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def place(self, conversation: Conversation, user_id: int) -> dict[str, Any]:
        """Return whose conversation it is, seen from one of its users: `peer` or `group`."""
        if conversation.kind == GROUP:
            group = self._directory.room(conversation.a)
            return {"group": group.address if group else None}
        peer = self._directory.party(conversation.b if conversation.a == user_id else conversation.a)
        return {"peer": peer.address if peer else None}

    def entry(self, item: Item, user_id: int, *, is_preview: bool = False) -> dict[str, Any]:
        """Return a message as one user sees it; a preview holds the beginning of the payload."""
        message = item.message
        sender = self._directory.party(message.sender_id) if message.sender_id else None
        found: dict[str, Any] = {"mid": format_mid(message.mid), "seq": message.seq}
        if message.kind == MessageKind.EVENT and message.state != CORRUPT:
            return found | {"kind": "event", "ts": message.ts, "event": _event(message.payload)}
        is_own = message.sender_id == user_id
        if is_own:
            found["cid"] = message.cid
        found |= {"from": sender.address if sender else None, "ts": message.ts, "expires_at": message.expires_at}
        state = self._status(message, item.statuses) if is_own else {"read": item.is_read}
        if message.state:
            return found | {_GONE.get(message.state, "wiped"): True} | state
        params = split_params(message.params) if message.params else {}
        found["type"] = int(params.get("type", b"0"))
        others = {key: value.decode("utf-8", "replace") for key, value in params.items() if key not in _NOT_PARAMS}
        if others:
            found["params"] = others
        found |= _body(message.payload, is_preview=is_preview)
        if item.row.edited_by:
            found["edited"] = {"mid": format_mid(item.row.edited_by), "ts": item.row.edited_at}
        return found | state

    @staticmethod
    def _status(message: Message, statuses: list[history.Told]) -> dict[str, Any]:
        """Return the state of an own message: the status in a pair, counts in a group."""
        if message.conversation.kind == GROUP:
            codes = [told.status for told in statuses if told.recipient_id]
            counts = {
                "delivered": sum(code in (Status.DELIVERED, Status.READ) for code in codes),
                "read": codes.count(Status.READ),
                "failed": sum(code >= Status.FAILED for code in codes),
            }
            return {"status": int(Status.SENT), "name": TITLES[Status.SENT]} | ({"counts": counts} if statuses else {})
        newest = statuses[-1] if statuses else None
        status = newest.status if newest else int(Status.SENT)
        found: dict[str, Any] = {"status": status, "name": TITLES[status]}
        if newest is not None and newest.reason:
            found["reason"] = newest.reason
        return found


def _event(payload: bytes) -> Any:  # noqa: ANN401 - whatever JSON the event holds
    return json.loads(payload)


def _body(payload: bytes, *, is_preview: bool) -> dict[str, Any]:
    """Return a payload as `text` where it is UTF-8, else as `payload` in base64."""
    part = payload[: 4 * _PREVIEW_MAX] if is_preview else payload
    try:
        text = part.decode("utf-8")
    except UnicodeDecodeError as error:
        if not is_preview or error.start < len(part) - 3 or len(part) == len(payload):
            part = part[:_PREVIEW_MAX] if is_preview else part
            return {"payload": base64.b64encode(part).decode()} | _cut(payload, part)
        text = part[: error.start].decode("utf-8")  # cut in the middle of a character
    if is_preview and len(text) > _PREVIEW_MAX:
        text = text[:_PREVIEW_MAX]
    return {"text": text} | _cut(payload, text.encode())


def _cut(payload: bytes, part: bytes) -> dict[str, Any]:
    return {} if len(part) == len(payload) else {"size": len(payload)}
