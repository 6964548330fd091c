"""What can be asked: the status of a message, an inbox, counters. One JSON for rpc, CLI and HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import GROUP
from mesimqtt.domain.status import TITLES
from mesimqtt.store import messages as rows
from mesimqtt.store.database import size_of
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

    def status(self, mid: str, *, asker: str | None) -> dict[str, Any]:
        """Return one message's statuses. `asker` None is an operator; anybody else must be its sender.

        Raises:
            OperationError: no such message, or not the asker's own.

        """
        if not MID_PATTERN.fullmatch(mid):
            raise OperationError("bad-mid", "a mid is 16 hex digits, lower case")
        message = rows.by_mid(self._hub.store.read, int(mid, 16))
        sender = self._hub.directory.party(message.sender_id) if message is not None else None
        if message is None or sender is None or asker not in (None, sender.address):
            raise OperationError("no-such-message", f"no message {mid} of yours")
        return self._status(message, sender)

    def _status(self, message: Message, sender: User) -> dict[str, Any]:
        directory = self._hub.directory
        conversation = message.conversation
        answer: dict[str, Any] = {"mid": format_mid(message.mid), "cid": message.cid, "from": sender.address}
        if conversation.kind == GROUP:
            group = directory.room(conversation.a)
            answer["group"] = group.address if group else None
        else:
            peer = directory.party(conversation.b if conversation.a == sender.id else conversation.a)
            answer["to"] = peer.address if peer else None
        answer |= {"seq": message.seq, "ts": message.ts, "expires_at": message.expires_at, "size": len(message.payload)}
        answer["status"] = [self._row(row) for row in rows.statuses_of(self._hub.store.read, message)]
        return answer

    def _row(self, row: rows.StatusRow) -> dict[str, Any]:
        peer = self._hub.directory.party(row.recipient_id) if row.recipient_id else None
        found: dict[str, Any] = {"peer": peer.address} if peer else {}
        found |= {"status": row.status, "name": TITLES[row.status], "ts": row.ts}
        if row.device:
            found["device"] = row.device
        if row.reason:
            found["reason"] = row.reason
        return found

    def inbox(self, address: str) -> dict[str, Any]:
        """Return what waits for a user: one entry per conversation, the newest first.

        Raises:
            OperationError: no such user.

        """
        directory = self._hub.directory
        user = directory.user(address)
        if user is None:
            raise OperationError("no-such-user", f"no user {address!r}")
        messages, size = rows.inbox_size(self._hub.store.read, user.id)
        waiting = []
        for kind, a, b, count, seq, ts in rows.waiting(self._hub.store.read, user.id):
            entry: dict[str, Any] = {"messages": count, "last_seq": seq, "ts": ts}
            if kind == GROUP:
                group = directory.room(a)
                entry = {"group": group.address if group else None} | entry
            else:
                peer = directory.party(b if a == user.id else a)
                entry = {"peer": peer.address if peer else None} | entry
            waiting.append(entry)
        return {"user": user.address, "messages": messages, "bytes": size, "conversations": waiting}

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
            "database_bytes": size_of(self._hub.store.folder),
            "counters": counts,
        }
