"""What can be asked: the statuses of a message, and counters. One JSON for rpc, CLI and HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import GROUP
from mesimqtt.domain.status import TITLES
from mesimqtt.messaging.paging import number_of, pack, unpack
from mesimqtt.messaging.trace import Tracer
from mesimqtt.store import messages as rows
from mesimqtt.store import receipts
from mesimqtt.topics import MID_PATTERN

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User


class Queries:
    """Reads for people and programs. Everything is a dict of JSON types."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._started_at = hub.now()
        self._tracer = Tracer(hub)

    async def status(self, mid: str, *, asker: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return one message's statuses, a page of recipients. `asker` None is an operator, else it must be its sender.

        Raises:
            OperationError: no such message, or not the asker's own; or the cursor is none.

        """
        hub = self._hub
        after = number_of(unpack(cursor), "u") if cursor is not None else 0
        message, sender = self._find(mid, asker)
        user = hub.directory.user(asker) if asker is not None else None
        if asker is not None and (user is None or user.id != sender.id):
            raise _missing(mid, asker)
        matrix = await hub.store.ask(lambda connection: receipts.matrix(connection, message, after, limit))
        answer = self._about(message, sender)
        if message.conversation.kind == GROUP:
            answer["counts"] = matrix.counts
        own = [] if after or message.conversation.kind != GROUP else [_row(receipts.of_all(message))]
        answer["status"] = own + [_row(each) for each in matrix.rows]
        answer["next"] = pack({"u": matrix.next}) if matrix.next else None
        return answer

    def trace(self, mid: str, *, after: str) -> dict[str, Any]:
        """Return all that is known of one message, for an operator; of a group, the members after `after`.

        Raises:
            OperationError: no such message.

        """
        message, sender = self._find(mid, None)
        return self._about(message, sender) | self._tracer.trace(message, sender, after=after)

    def _find(self, mid: str, asker: str | None) -> tuple[Message, User]:
        if not MID_PATTERN.fullmatch(mid):
            raise OperationError("bad-mid", "a mid is 16 hex digits, lower case")
        message = rows.by_mid(self._hub.store.read, int(mid, 16))
        sender = self._hub.directory.party(message.sender_id) if message is not None else None
        if message is None or sender is None:
            raise _missing(mid, asker)
        return message, sender

    def _about(self, message: Message, sender: User) -> dict[str, Any]:
        directory = self._hub.directory
        conversation = message.conversation
        answer: dict[str, Any] = {"mid": format_mid(message.mid), "cid": message.cid, "from": sender.address}
        if conversation.kind == GROUP:
            group = directory.room(conversation.a)
            answer["group"] = group.address if group else None
        else:
            peer = directory.party(conversation.b if conversation.a == sender.id else conversation.a)
            answer["to"] = peer.address if peer else None
        return answer | {
            "seq": message.seq, "ts": message.ts, "expires_at": message.expires_at, "size": len(message.payload),
        }  # fmt: skip

    def stats(self) -> dict[str, Any]:
        """Return counters since the start, what there is now, and the store's health."""
        committer = self._hub.committer
        counts = dict(sorted(self._hub.counters.items()))
        users, messages = rows.totals(self._hub.store.read)
        return {
            "health": str(self._hub.store.health),
            "uptime_s": int(self._hub.now() - self._started_at),
            "connections": sum(len(user.devices) for user in self._hub.directory.online()),
            "commits": committer.commits,
            "users": users,
            "messages": messages,
            "database_bytes": self._hub.store.size(),
            "damaged": counts.get("corrupt", 0) + self._hub.store.damaged,
            "counters": counts,
        }


def _missing(mid: str, asker: str | None) -> OperationError:
    """Return the refusal: a user hears the same of another's message as of none."""
    told = f"there is no message {mid}" if asker is None else f"no message {mid} of yours"
    return OperationError("no-such-message", told)


def _row(receipt: receipts.Receipt) -> dict[str, Any]:
    found: dict[str, Any] = {"peer": receipt.address} if receipt.address else {}
    found |= {"status": receipt.status, "name": TITLES[receipt.status], "ts": receipt.ts}
    if receipt.device:
        found["device"] = receipt.device
    if receipt.reason:
        found["reason"] = receipt.reason
    if receipt.delivered_at:
        found["delivered_at"] = receipt.delivered_at
    if receipt.read_at:
        found["read_at"] = receipt.read_at
    return found
