"""From a PUBLISH under `out/` to the store and on: check, accept, what follows COMMIT (contract sections 2 to 4)."""

from __future__ import annotations

import logging
import re
from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import Outcome
from mesimqtt.domain.status import TITLES, Status
from mesimqtt.messaging.model import Accepted, Names, Target, Thread, User
from mesimqtt.messaging.modules import unjudged
from mesimqtt.messaging.properties5 import ACCEPTED
from mesimqtt.store import messages
from mesimqtt.store.committer import Health
from mesimqtt.topics import NO_PARAMS, Kind, OutTopic, Params, same_params

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.modules import Entry, Modules
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.transient import Transients
    from mesimqtt.store.batch import Batch

log = logging.getLogger(__name__)
PLAIN = re.compile(rb"((?:u|g)/[^/=]+)/([A-Za-z0-9_-]{1,64})\Z")
_FULL_TOLD_S = 60.0
_STORED = Outcome.STORED  # to look a member up in its class takes as long as a call
_LATER = ("edit", "recall", "when", "age")


class Bound(NamedTuple):
    """Why a message is refused, as its status says it."""

    code: Status
    rule: str | None = None
    retry_after: int | None = None
    reason: str | None = None
    limit: int | None = None


class Acceptor:
    """Accepts messages. A refusal is a status at once; an acceptance answers after COMMIT."""

    def __init__(
        self,
        hub: Hub,
        statuses: Statuses,
        delivery: Delivery,
        receipts: Receipts,
        transients: Transients,
        modules: Modules,
    ) -> None:
        self._hub = hub
        self._statuses = statuses
        self._delivery = delivery
        self._receipts = receipts
        self._transients = transients
        self._unanswered = 0
        self._modules = modules
        modules.accept, modules.admit = self._judged, self._known

    def plain(
        self, sender: User, rest: bytes, payload: bytes, connection: Connection, qos: int, packet_id: int
    ) -> bool | Refused | None:
        """Take `u/{peer}/{cid}` or `g/{group}/{cid}` without parameters; None if it is anything else.

        The way of nearly every message: one regular expression and one dict look-up before the batch.
        """
        match = PLAIN.match(rest)
        if match is None or sender.epoch != self._hub.directory.epoch or self._modules:
            return None
        target = sender.targets.get(match[1])
        if target is None:
            return None
        cid = match[2].decode()
        return self._accept(sender, target, cid, NO_PARAMS, payload, connection, qos, packet_id)

    def message(
        self,
        sender: User,
        out: OutTopic,
        payload: bytes,
        connection: Connection | None,
        qos: int,
        packet_id: int,
        *,
        judged: Entry | None = None,
    ) -> bool | Refused:
        """Take a parsed message topic. True: acknowledge now (it is known, or nothing is kept of it).

        `judged`: the modules have passed it.
        """
        kind = "u" if out.kind is Kind.USER else "g"
        names = Names(peer=out.name) if kind == "u" else Names(group=out.name)
        key = f"{kind}/{encode_address(out.name)}".encode()
        target = self._hub.directory.target(sender, key, kind, out.name)
        if target is None:
            prefix = f"{kind}\0{encode_address(out.name)}\0".encode()
            bound = self._bound(sender, len(payload)) or Bound(Status.INVALID_DESTINATION)
            found = self._was_accepted(sender, out.cid, names, _digest(prefix, out.params, payload))
            return found or self._refuse(sender, out.cid, bound, names)
        if self._modules and judged is None and not unjudged.get():
            return self._ask_modules(sender, target, out, payload, connection, qos, packet_id)
        later = [word for word in _LATER if getattr(out.params, word)]
        if later:
            reason = f"{later[0]}: not served yet"
            return self._statuses.refuse(sender, out.cid, Status.BAD_REQUEST, names, reason=reason)
        return self._accept(sender, target, out.cid, out.params, payload, connection, qos, packet_id, judged=judged)

    def _accept(
        self,
        sender: User,
        target: Target,
        cid: str | None,
        params: Params,
        payload: bytes,
        connection: Connection | None,
        qos: int,
        packet_id: int,
        *,
        judged: Entry | None = None,
    ) -> bool | Refused:
        hub = self._hub
        if judged is None:
            digest = _digest(target.digest_prefix, params, payload) if cid else None
            refusal = self._refusal(sender, target, cid, digest, len(payload))
            if refusal is not None:
                return refusal
        else:
            digest = judged.digest  # of what the sender sent: his resend is the same, whatever modules made of it
        now_ms = hub.now_ms()
        mid = hub.mids.draw_at(now_ms)
        name = cid or format_mid(mid)
        expiry = hub.settings.messaging.expiry_default_s if params.expiry is None else params.expiry
        expires_at = now_ms + expiry * 1000
        device = connection.client_id if connection is not None else ""
        message = Accepted(
            mid, target.thread, sender.id, device, name, now_ms, expires_at,
            None if params.expiry is None else expires_at, params.flags, params.raw, payload, digest,
        )  # fmt: skip
        message.sender = sender
        message.target = target
        message.connection = connection
        message.packet_id = packet_id
        message.qos = qos
        if params.is_transient:
            return self._transients.send(message)
        peer = target.peer
        if peer is not None and peer.inbox_messages >= 0:
            peer.inbox_messages += 1
            peer.inbox_bytes += len(payload)
        self._unanswered += 1
        hub.committer.batch.accepts.append(message)
        hub.committer.wake()
        return False

    # ---- modules -----------------------------------------------------------------------------------------------

    def _ask_modules(
        self,
        sender: User,
        target: Target,
        out: OutTopic,
        payload: bytes,
        connection: Connection | None,
        qos: int,
        packet_id: int,
    ) -> bool | Refused:
        """Have the modules judge what could enter the store."""
        digest = _digest(target.digest_prefix, out.params, payload) if out.cid else None
        refusal = self._refusal(sender, target, out.cid, digest, len(payload))
        if refusal is not None:
            return refusal
        return self._modules.take(sender, out, payload, digest, connection, qos, packet_id)

    def _known(self, entry: Entry) -> bool | Refused | None:
        """Answer a resend before a module sees it; None: it is none."""
        sender, cid, digest = entry.sender, entry.out.cid, entry.digest
        if cid is None or digest is None:
            return None
        consumed = self._modules.was_consumed(sender, cid, digest)
        if consumed is False:
            return self._statuses.refuse(sender, cid, Status.BAD_REQUEST, entry.names, reason="cid-reused")
        return consumed or self._was_accepted(sender, cid, entry.names, digest) or None

    def _judged(self, entry: Entry) -> bool | Refused:
        """Take what the modules passed. What it may do is looked at again if that may have changed meanwhile."""
        is_fresh = entry.epoch == self._hub.directory.epoch
        if not is_fresh:
            key = f"{entry.out.kind}/{encode_address(entry.out.name)}".encode()
            target = self._hub.directory.target(entry.sender, key, entry.out.kind, entry.out.name)
            if target is not None:
                refusal = self._refusal(entry.sender, target, entry.out.cid, entry.digest, len(entry.payload))
                if refusal is not None:
                    return refusal
        return self.message(
            entry.sender, entry.out, entry.payload, entry.connection, entry.qos, entry.packet_id, judged=entry
        )

    def _was_accepted(self, sender: User, cid: str | None, names: Names, digest: bytes) -> bool | Refused:
        """Answer a resend of what was accepted, which nothing that came since can refuse; False if it is none."""
        found = messages.claimed(self._hub.store.read, sender.id, cid) if cid else None
        if found is None:
            return False
        if found[1] == digest:
            self._statuses.repeat(sender, found[0])
            return True
        return self._statuses.refuse(sender, cid, Status.BAD_REQUEST, names, reason="cid-reused")

    def _refusal(
        self, sender: User, target: Target, cid: str | None, digest: bytes | None, size: int
    ) -> bool | Refused | None:
        """Refuse what must not enter the store; True: it was accepted before. None: it may enter."""
        hub, settings = self._hub, self._hub.settings.messaging
        peer, group = target.peer, target.group
        bound = self._bound(sender, size) if sender.is_bounded else None
        if bound is not None:
            pass
        elif target.verdict is not None and not target.verdict.is_silent:
            bound = Bound(target.verdict.status, rule=target.verdict.rule)
        elif group is not None and not group.active:
            bound = Bound(Status.GROUP_PAUSED)
        elif group is not None and not group.members.get(sender.id, (False, False))[0]:
            bound = Bound(Status.DENIED, rule="group.send")
        elif peer is not None and peer is not sender:
            waiting, size_now = hub.directory.inbox(peer)
            if waiting >= settings.inbox_messages_max or size_now + size > settings.inbox_bytes_max:
                bound = Bound(Status.INBOX_FULL)
                self._tell_full(peer)
        if bound is not None:
            found = digest is not None and self._was_accepted(sender, cid, target.names, digest)
            return found or self._refuse(sender, cid, bound, target.names)
        if not hub.store.has_room() or self._unanswered >= hub.settings.store.pending_max:
            return self._statuses.refuse(sender, cid, Status.FAILED, target.names, reason="store")
        return None

    def _bound(self, sender: User, size: int) -> Bound | None:
        """Return which bound of a sender's own a message breaks; it is counted. None: none."""
        policy = sender.policy
        if sender.rate is not None and (wait := sender.rate.take(sender.address, self._hub.now())):
            return Bound(Status.RATE_LIMITED, retry_after=ceil(wait))
        if not policy.outgoing:
            return Bound(Status.DENIED, rule="policy.outgoing")
        if policy.payload_max and size > policy.payload_max:
            return Bound(Status.BAD_REQUEST, reason="limit", limit=policy.payload_max)
        return None

    def _refuse(self, sender: User, cid: str | None, bound: Bound, names: Names) -> Refused:
        code, rule, retry_after, reason, limit = bound
        return self._statuses.refuse(
            sender, cid, code, names, rule=rule, retry_after=retry_after, reason=reason, limit=limit
        )

    def _tell_full(self, peer: User) -> None:
        """Tell somebody on `in/session`, at most once a minute, that his inbox refuses messages."""
        now = self._hub.now()
        if now - peer.full_told_at >= _FULL_TOLD_S:
            peer.full_told_at = now
            self._hub.news(peer, {"event": "inbox-full", "messages": peer.inbox_messages, "bytes": peer.inbox_bytes})
            if self._hub.on_full is not None:
                self._hub.on_full(peer)

    # ---- after the commit ------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """Answer and hand over the messages of a committed batch, in their order."""
        if batch.accepts:
            self._hub.count("accepted", len(batch.accepts))
        for message in batch.accepts:
            if isinstance(message, Accepted):
                self._unanswered -= 1
            try:
                if isinstance(message, Accepted):
                    self._answer(message)
                else:
                    self._event(message)
            except Exception:  # the others of this commit must have their answers
                log.exception("accept: message %016x is kept, but cannot be handed over now", message.mid)
        for step in batch.steps:
            self._hub.count(f"status.{TITLES[step.status]}", len(step.messages))
            self._statuses.emit(step)

    def _answer(self, message: Accepted) -> None:
        sender, target = message.sender, message.target
        connection = message.connection
        if message.outcome is _STORED:
            if connection is not None and message.qos:
                connection.acknowledge(message.packet_id, message.qos)
            thread = target.thread
            if thread.last_seq == 0:
                self._hub.directory.began(thread)
            self._statuses.sent(sender, target.json, message, message.change)
            if target.peer is not sender:
                self._receipts.own(sender, thread, message.seq)
            self._hand_over(message, sender, target, thread)
            return
        self._uncount(message)
        told = ACCEPTED
        if message.outcome is Outcome.REUSED:
            told = self._statuses.refuse(sender, message.cid, Status.BAD_REQUEST, target.names, reason="cid-reused")
        if connection is not None and message.qos:
            connection.acknowledge(message.packet_id, message.qos, *told)
        if told is ACCEPTED:
            self._statuses.repeat(sender, message.mid)

    def _hand_over(self, message: Accepted, sender: User, target: Target, thread: Thread) -> None:
        message.connection = None
        group = target.group
        if group is None:
            peer = target.peer
            recipients = [peer] if peer is not None and peer is not sender else []
            if target.verdict is not None:
                recipients = self._delivery.hold(thread, message, recipients)
            self._delivery.committed(thread, message, recipients, sender)
            return
        settings = self._hub.settings.messaging
        recipients = []
        for number, (_send, receive) in group.members.items():
            if number == sender.id or not receive:
                continue
            member = self._hub.directory.known_user(number) or self._hub.directory.user_by_id(number)
            if member is None:
                continue
            if member.inbox_messages >= 0:  # if not, counting it now includes this message
                member.inbox_messages += 1
                member.inbox_bytes += len(message.payload)
            waiting, size = self._hub.directory.inbox(member)
            if waiting > settings.inbox_messages_max or size > settings.inbox_bytes_max:
                self._tell_full(member)
                lane = self._hub.directory.lane(thread, member)
                if lane is not None:
                    self._receipts.fail(member, lane, message, Status.INBOX_FULL)
                continue
            recipients.append(member)
        if target.held:
            held = [member for member in recipients if member.id in target.held]
            self._delivery.hold(thread, message, held)
            recipients = [member for member in recipients if member not in held]
        self._delivery.committed(thread, message, recipients, sender)

    def _event(self, message: Message) -> None:
        """Hand a group's event to its members; it has no sender and raises no status."""
        thread = message.conversation
        if isinstance(thread, Thread) and thread.group is not None:
            if self._hub.observers.group:
                self._hub.observers.changed(thread.group.address, message.payload)
            members = [self._hub.directory.known_user(number) for number in thread.group.members]
            self._delivery.committed(thread, message, [user for user in members if user and user.devices], None)

    def failed(self, batch: Batch, health: Health) -> None:
        """Tell that nothing of a batch was kept: status 0x80 `store`, 0x97, and no acknowledgement on 3.1.1."""
        hub = self._hub
        for message in batch.accepts:
            if not isinstance(message, Accepted):
                if health != Health.FAULT:  # an event has no sender who would send it again
                    hub.committer.batch.accepts.append(message)
                    hub.committer.lazily(hub.now())
                continue
            self._unanswered -= 1
            self._uncount(message)
            told = self._statuses.refuse(
                message.sender, message.cid, Status.FAILED, message.target.names, mid=message.mid, reason="store"
            )
            connection = message.connection
            if connection is not None and message.qos:
                if connection.five is None:
                    connection.close(f"store: {health}")
                else:
                    connection.acknowledge(message.packet_id, message.qos, *told)

    def _uncount(self, message: Accepted) -> None:
        peer = message.target.peer
        if peer is not None and peer.inbox_messages > 0:
            peer.inbox_messages -= 1
            peer.inbox_bytes -= len(message.payload)


def _digest(prefix: bytes, params: Params, payload: bytes) -> bytes:
    """Return what a resend must have in common with the first send: destination, parameters, payload."""
    same = same_params(params.raw).encode() if params.raw else b""
    return blake2b(b"%b%b\0%b" % (prefix, same, payload), digest_size=16).digest()
