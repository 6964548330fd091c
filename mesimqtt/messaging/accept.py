"""From a PUBLISH under `out/` to the store and on: check, accept, what follows COMMIT (contract sections 2 to 4)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import Outcome
from mesimqtt.domain.status import TITLES, Status
from mesimqtt.messaging.admission import Bound
from mesimqtt.messaging.missed import catch_up
from mesimqtt.messaging.model import Accepted, Due, Names, Target, Thread, User
from mesimqtt.messaging.modules import unjudged
from mesimqtt.messaging.particulars import Sent, Traits, digest_of
from mesimqtt.messaging.properties5 import ACCEPTED
from mesimqtt.messaging.wills import Testator
from mesimqtt.store import messages
from mesimqtt.store.committer import Health
from mesimqtt.topics import NO_PARAMS, Kind, OutTopic, Params

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.admission import Admission
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.modules import Entry, Modules
    from mesimqtt.messaging.particulars import Particulars
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.transient import Transients
    from mesimqtt.store.batch import Batch, Rider

log = logging.getLogger(__name__)
PLAIN = re.compile(rb"((?:u|g)/[^/=]+)/([A-Za-z0-9_-]{1,64})\Z")
_STORED = Outcome.STORED  # to look a member up in its class takes as long as a call


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
        particulars: Particulars,
        admission: Admission,
    ) -> None:
        self._hub = hub
        self._admission = admission
        self._statuses = statuses
        self._delivery = delivery
        self._receipts = receipts
        self._transients = transients
        self._particulars = particulars
        self._fan_out = admission.fan_out
        self._unanswered = 0
        self._again: list[tuple[User, int]] = []  # sent again: told again after the steps of this commit
        self._modules, self._chain = modules, modules.chain
        modules.accept, modules.admit = self._judged, self._known

    def plain(
        self, sender: User, rest: bytes, payload: bytes, connection: Connection, qos: int, packet_id: int
    ) -> bool | Refused | None:
        """Take `u/{peer}/{cid}` or `g/{group}/{cid}` without parameters; None if it is anything else.

        The way of nearly every message: one regular expression and one dict look-up before the batch.
        """
        match = PLAIN.match(rest)
        if match is None or sender.epoch != self._hub.directory.epoch or self._chain:
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
            is_counted = judged is not None and judged.is_admitted
            bound = self._admission.bound(sender, len(payload), is_counted=is_counted)
            digest = judged.digest if judged is not None else digest_of(prefix, out.params, payload)
            found = digest is not None and self._was_accepted(sender, out.cid, names, digest)
            bound = bound or Bound(Status.INVALID_DESTINATION)
            return found or self._admission.refuse(sender, out.cid, bound, names)
        if self._chain and judged is None and not unjudged.get():
            return self._ask_modules(sender, target, out, payload, connection, qos, packet_id)
        if out.params.is_rare:
            digest = judged.digest if judged is not None else None
            if digest is None and out.cid:
                digest = digest_of(target.digest_prefix, out.params, payload)
            is_counted = judged is not None and judged.is_admitted
            return self._rare(
                Sent(sender, target, out, payload, digest, connection, qos, packet_id, is_counted), judged
            )
        return self._accept(sender, target, out.cid, out.params, payload, connection, qos, packet_id, judged=judged)

    def _rare(self, sent: Sent, judged: Entry | None) -> bool | Refused:
        """Take a message that asks for more than delivery; a resend is known before what it asks for is judged."""
        sender, target, out, payload, digest, connection, qos, packet_id, _ = sent
        if digest is not None and (found := self._was_accepted(sender, out.cid, target.names, digest)):
            return found
        taken = self._particulars.take(sent)
        if not isinstance(taken, Traits):
            return taken
        accepted = self._accept(
            sender, target, out.cid, out.params, payload, connection, qos, packet_id, judged=judged, rider=taken
        )
        if accepted is not False:
            self._particulars.dropped(taken)
        return accepted

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
        rider: Rider | None = None,
    ) -> bool | Refused:
        hub = self._hub
        if judged is None:
            digest = digest_of(target.digest_prefix, params, payload) if cid else None
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
        if params.is_transient or (target.group is not None and self._fan_out.is_transient(message, target.group)):
            return self._transients.send(message)
        peer = target.peer
        if peer is not None and peer.inbox_messages >= 0:
            peer.inbox_messages += 1
            peer.inbox_bytes += len(payload)
        self._unanswered += 1
        if rider is not None:
            rider.message = message
            hub.committer.batch.riders.append(rider)
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
        digest = digest_of(target.digest_prefix, out.params, payload) if out.cid else None
        if not out.params.when:  # then it is judged at its time
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
        is_fresh = entry.is_admitted and entry.epoch == self._hub.directory.epoch
        if not is_fresh and not entry.out.params.when:
            key = f"{entry.out.kind}/{encode_address(entry.out.name)}".encode()
            target = self._hub.directory.target(entry.sender, key, entry.out.kind, entry.out.name)
            if target is not None:
                refusal = self._refusal(
                    entry.sender, target, entry.out.cid, entry.digest, len(entry.payload), is_counted=entry.is_admitted
                )
                if refusal is not None:
                    return refusal
        told = self.message(
            entry.sender, entry.out, entry.payload, entry.connection, entry.qos, entry.packet_id, judged=entry
        )
        sent_by: object = entry.connection
        if isinstance(sent_by, Testator):
            sent_by.accepted(self._hub.committer.batch)
        return told

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
        self,
        sender: User,
        target: Target,
        cid: str | None,
        digest: bytes | None,
        size: int,
        *,
        is_counted: bool = False,
    ) -> bool | Refused | None:
        """Refuse what must not enter the store; True: it was accepted before. None: it may enter."""
        hub = self._hub
        bound = self._admission.bound(sender, size, is_counted=is_counted) if sender.is_bounded else None
        bound = bound or self._admission.forbidden(sender, target, size)
        if bound is not None:
            found = digest is not None and self._was_accepted(sender, cid, target.names, digest)
            return found or self._admission.refuse(sender, cid, bound, target.names)
        if not hub.store.has_room() or self._unanswered >= hub.settings.store.pending_max:
            return self._statuses.refuse(sender, cid, Status.FAILED, target.names, reason="store")
        return None

    # ---- after the commit ------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """Answer and hand over the messages of a committed batch, in their order."""
        if batch.accepts:
            self._hub.count("accepted", len(batch.accepts))
        for message in batch.accepts:
            kind = type(message)
            if kind is Accepted:
                self._unanswered -= 1
            try:
                if isinstance(message, Accepted):
                    self._answer(message, is_due=kind is Due)
                else:
                    self._fan_out.event(message)
            except Exception:  # the others of this commit must have their answers
                log.exception("accept: message %016x is kept, but cannot be handed over now", message.mid)
                catch_up(self._hub, self._delivery, message)
        for step in batch.steps:
            self._hub.count(f"status.{TITLES[step.status]}", len(step.messages))
            self._statuses.emit(step)
        if self._again:
            self._repeat()
        _tell(batch.riders, ok=True)

    def _repeat(self) -> None:
        """Tell again what was sent again: after the steps of the same commit, which are in what is read here."""
        again, self._again = self._again, []
        for sender, mid in again:
            self._statuses.repeat(sender, mid)

    def _answer(self, message: Accepted, *, is_due: bool) -> None:
        sender, target = message.sender, message.target
        connection = message.connection
        if message.outcome is _STORED:
            if connection is not None and message.qos:
                connection.acknowledge(message.packet_id, message.qos)
            thread = target.thread
            if thread.last_seq == 0:
                self._hub.directory.began(thread)
            if not is_due:
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
            self._again.append((sender, message.mid))

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
        self._fan_out.committed(message, sender, group, thread)

    def failed(self, batch: Batch, health: Health) -> None:
        """Tell that nothing of a batch was kept: status 0x80 `store`, 0x97, and no acknowledgement on 3.1.1."""
        for message in batch.accepts:
            if not isinstance(message, Accepted):
                self._fan_out.failed(message, health)
                continue
            self._uncount(message)
            if type(message) is Due:
                continue  # it waits in the schedule, and is tried again
            self._unanswered -= 1
            told = self._statuses.refuse(
                message.sender, message.cid, Status.FAILED, message.target.names, mid=message.mid, reason="store"
            )
            self.not_kept(message.connection, message.qos, message.packet_id, told)
        _tell(batch.riders, ok=False)

    def refused(self, part: Batch) -> None:
        """Answer a message that can never be written as any refusal, with status 0x80 `unwritable`."""
        for message in part.accepts:
            if not isinstance(message, Accepted):
                self._fan_out.failed(message, Health.FAULT)
                continue
            self._uncount(message)
            if type(message) is Due:
                continue  # the schedule ends it
            self._unanswered -= 1
            told = self._statuses.refuse(
                message.sender, message.cid, Status.FAILED, message.target.names, mid=message.mid, reason="unwritable"
            )
            if message.connection is not None and message.qos:
                message.connection.acknowledge(message.packet_id, message.qos, *told)
        for rider in part.riders:
            rider.refused()

    def not_kept(self, connection: Connection | None, qos: int, packet_id: int, told: Refused) -> None:
        """Answer a PUBLISH that the store could not take; 3.1.1 has no other way to say so than to close."""
        if connection is not None and qos:
            if connection.five is None:
                connection.close(f"store: {self._hub.committer.health}")
            else:
                connection.acknowledge(packet_id, qos, *told)

    def _uncount(self, message: Accepted) -> None:
        peer = message.target.peer
        if peer is not None and peer.inbox_messages > 0:
            peer.inbox_messages -= 1
            peer.inbox_bytes -= len(message.payload)


def _tell(riders: list[Rider], *, ok: bool) -> None:
    for rider in riders:
        try:
            rider.done(ok)
        except Exception:  # the others wait for theirs
            log.exception("accept: message %016x: what goes with it is kept, but cannot be told now", rider.message.mid)
