"""What may be sent now, and to whom: own bounds, verdicts, groups' rights, full inboxes (contract section 4)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.status import Status

if TYPE_CHECKING:
    from mesimqtt.messaging.fan_out import FanOut
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Names, Target, User
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.statuses import Statuses


class Bound(NamedTuple):
    """Why a message is refused, as its status says it."""

    code: Status
    rule: str | None = None
    retry_after: int | None = None
    reason: str | None = None
    limit: int | None = None


class Admission:
    """Judges messages as things are: at their acceptance, and again when one that was scheduled is due."""

    def __init__(self, hub: Hub, statuses: Statuses, fan_out: FanOut) -> None:
        self._hub = hub
        self._statuses = statuses
        self.fan_out = fan_out

    def forbidden(self, sender: User, target: Target, size: int) -> Bound | None:
        """Return why nothing of this size may go from a sender to a target now."""
        peer, group = target.peer, target.group
        if target.verdict is not None and not target.verdict.is_silent:
            return Bound(target.verdict.status, rule=target.verdict.rule)
        if group is not None:
            found = self.fan_out.refusal(sender, group)
            if found is not None:
                return Bound(found[0], rule=found[1])
        elif peer is not None and peer is not sender:
            settings = self._hub.settings.messaging
            waiting, size_now = self._hub.directory.inbox(peer)
            if waiting >= settings.inbox_messages_max or size_now + size > settings.inbox_bytes_max:
                self.fan_out.tell_full(peer)
                return Bound(Status.INBOX_FULL)
        return None

    def bound(self, sender: User, size: int, *, is_counted: bool = False) -> Bound | None:
        """Return which bound of a sender's own a message breaks; it is counted, unless it was. None: none."""
        policy = sender.policy
        if sender.rate is not None and not is_counted and (wait := sender.rate.take(sender.address, self._hub.now())):
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
