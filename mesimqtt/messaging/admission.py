"""What may be sent now, and to whom: own bounds, verdicts, groups' rights, full inboxes (contract section 4)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.status import Status

if TYPE_CHECKING:
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Names, Target, User
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.statuses import Statuses

_FULL_TOLD_S = 60.0


class Bound(NamedTuple):
    """Why a message is refused, as its status says it."""

    code: Status
    rule: str | None = None
    retry_after: int | None = None
    reason: str | None = None
    limit: int | None = None


class Admission:
    """Judges messages as things are: at their acceptance, and again when one that was scheduled is due."""

    def __init__(self, hub: Hub, statuses: Statuses) -> None:
        self._hub = hub
        self._statuses = statuses

    def forbidden(self, sender: User, target: Target, size: int) -> Bound | None:
        """Return why nothing of this size may go from a sender to a target now."""
        peer, group = target.peer, target.group
        if target.verdict is not None and not target.verdict.is_silent:
            return Bound(target.verdict.status, rule=target.verdict.rule)
        if group is not None:
            if not group.active:
                return Bound(Status.GROUP_PAUSED)
            if not group.members.get(sender.id, (False, False))[0]:
                return Bound(Status.DENIED, rule="group.send")
        elif peer is not None and peer is not sender:
            settings = self._hub.settings.messaging
            waiting, size_now = self._hub.directory.inbox(peer)
            if waiting >= settings.inbox_messages_max or size_now + size > settings.inbox_bytes_max:
                self.tell_full(peer)
                return Bound(Status.INBOX_FULL)
        return None

    def bound(self, sender: User, size: int) -> Bound | None:
        """Return which bound of a sender's own a message breaks; it is counted. None: none."""
        policy = sender.policy
        if sender.rate is not None and (wait := sender.rate.take(sender.address, self._hub.now())):
            return Bound(Status.RATE_LIMITED, retry_after=ceil(wait))
        if not policy.outgoing:
            return Bound(Status.DENIED, rule="policy.outgoing")
        if policy.payload_max and size > policy.payload_max:
            return Bound(Status.BAD_REQUEST, reason="limit", limit=policy.payload_max)
        return None

    def refuse(self, sender: User, cid: str | None, bound: Bound, names: Names) -> Refused:
        """Tell a sender why his message is refused."""
        code, rule, retry_after, reason, limit = bound
        return self._statuses.refuse(
            sender, cid, code, names, rule=rule, retry_after=retry_after, reason=reason, limit=limit
        )

    def tell_full(self, peer: User) -> None:
        """Tell somebody on `in/session`, at most once a minute, that his inbox refuses messages."""
        now = self._hub.now()
        if now - peer.full_told_at >= _FULL_TOLD_S:
            peer.full_told_at = now
            self._hub.news(peer, {"event": "inbox-full", "messages": peer.inbox_messages, "bytes": peer.inbox_bytes})
            if self._hub.on_full is not None:
                self._hub.on_full(peer)
