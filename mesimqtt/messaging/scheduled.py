"""Messages for later: kept until they are due, then sent like any other (contract section 2: `when`)."""

from __future__ import annotations

import base64
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.groups import GroupFlag
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import GROUP, PAIR, Outcome
from mesimqtt.domain.status import TITLES, Status
from mesimqtt.messaging.model import Due, Target
from mesimqtt.messaging.particulars import Sent, Traits
from mesimqtt.messaging.wills import Testator
from mesimqtt.store import scheduled
from mesimqtt.store.batch import Rider
from mesimqtt.store.integrity import CORRUPT_REASON
from mesimqtt.topics import MID_PATTERN, parse_params

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Step
    from mesimqtt.messaging.accept import Acceptor
    from mesimqtt.messaging.admission import Admission
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.store.scheduled import Row
    from mesimqtt.store.statuses import StatusRow

log = logging.getLogger(__name__)
_PAGE = 100  # sent in one go: each may be as large as a message can be
_NEVER = float("inf")


class Leaving(Rider):
    """Takes a message that was due out of the schedule, in the transaction that puts it into its conversation."""

    __slots__ = ("_schedule", "_traits")

    def __init__(self, schedule: Schedule, message: Due, traits: Traits) -> None:
        super().__init__()
        self.message = message
        self._schedule = schedule
        self._traits = traits
        traits.message = message

    def write(self, connection: sqlite3.Connection) -> list[Step]:
        """Write it."""
        scheduled.sent(connection, self.message)
        return self._traits.write(connection)

    def done(self, ok: bool) -> None:
        """Go on with the next ones; after a failure with these again."""
        self._schedule.left(self.message.mid, ok=ok)

    def refused(self) -> None:
        """End it: tried again for ever it would be written as little."""
        self._schedule.give_up(self.message.mid)


class Schedule:
    """Keeps messages until they are due. What only shows then (blocked, inbox full, …) becomes their status then."""

    def __init__(self, hub: Hub, statuses: Statuses, admission: Admission) -> None:
        self._hub = hub
        self._admission = admission
        self._statuses = statuses
        self.acceptor: Acceptor  # set when messaging is wired: what is due is accepted like any other message
        self._pending = 0  # given to the store, and not answered yet
        self._is_reading = False
        self._leaving: dict[int, Due] = {}
        self._amending: Counter[int] = Counter()  # mid -> how often, of what is being changed or ended
        self._next_due: float = scheduled.next_due(hub.store.read) or _NEVER

    # ---- taking in ---------------------------------------------------------------------------------------------------

    def keep(self, sent: Sent) -> bool | Refused:
        """Keep a message until its time; False: it is answered after the commit."""
        now_ms = self._hub.now_ms()
        return self._give(sent, now_ms, now_ms + sent.out.params.when * 1000, None)

    def find(self, sender: User, target: Target, mid: int) -> Row | None:
        """Return a message of this sender to this target that still waits."""
        row = scheduled.find(self._hub.store.read, mid)
        if row is None or row.due is None or row.sender_id != sender.id or mid in self._leaving:
            return None
        return row if (row.kind, row.target_id) == _place(target) else None

    def is_over(self, sender: User, mid: int) -> bool:
        """Tell whether this was a sender's scheduled message (or changed one), and can be amended no more."""
        row = scheduled.find(self._hub.store.read, mid)
        return row is not None and row.sender_id == sender.id and row.due is None

    def leaving(self, mid: int) -> Due | None:
        """Return a message that was due, and is on its way into its conversation."""
        return self._leaving.get(mid)

    def amend(self, sent: Sent, row: Row) -> bool | Refused:
        """Change or cancel a message that waits: its recipient will never know."""
        return self._give(sent, self._hub.now_ms(), None, row)

    def _give(self, sent: Sent, now_ms: int, due: int | None, amends: Row | None) -> bool | Refused:
        hub, sender, params = self._hub, sent.sender, sent.out.params
        names, cid = sent.target.names, sent.out.cid
        bound = None
        if sender.is_bounded:
            bound = self._admission.bound(sender, len(sent.payload), is_counted=sent.is_counted)
        if bound is not None:
            return self._admission.refuse(sender, cid, bound, names)
        if not hub.store.has_room() or self._pending >= hub.settings.store.pending_max:
            return self._statuses.refuse(sender, cid, Status.FAILED, names, reason="store")
        mid = hub.mids.draw_at(now_ms)
        kind, target_id = _place(sent.target)
        row = scheduled.Row(
            mid, sender.id, kind, target_id, sent.connection.client_id if sent.connection else "",
            sent.out.cid or format_mid(mid), now_ms, due, 0 if due else int(Status.SENT), 0, params.flags, params.raw,
            sent.payload, amends.mid if amends else None,
        )  # fmt: skip
        most = hub.settings.messaging.scheduled_max
        sent_by: object = sent.connection

        def work(connection: sqlite3.Connection) -> scheduled.Accepted:
            accepted = scheduled.accept(connection, row, sent.digest, most=most)
            if accepted.outcome is Outcome.STORED and amends is not None:
                if params.recall:
                    scheduled.end(connection, amends, Status.DELETED, "", now_ms)
                else:
                    scheduled.replace(connection, amends.mid, sent.payload)
            if accepted.outcome is Outcome.STORED and isinstance(sent_by, Testator):
                sent_by.scheduled(connection)
            return accepted

        def done(result: scheduled.Accepted | BaseException) -> None:
            self._pending -= 1
            if amends is not None:
                self._amended(amends.mid)
            self._answer(sent, row, result)
            if amends is not None and params.recall:
                self._tell(amends)

        if amends is not None:
            self._amending[amends.mid] += 1
        self._pending += 1
        hub.committer.call(work, done)
        return False

    def _answer(self, sent: Sent, row: Row, result: scheduled.Accepted | BaseException) -> None:
        sender, names, acceptor = sent.sender, sent.target.names, self.acceptor
        if isinstance(result, BaseException):
            log.error("a scheduled message was not kept: %s", result)
            told = self._statuses.refuse(sender, row.cid, Status.FAILED, names, mid=row.mid, reason="store")
            acceptor.not_kept(sent.connection, sent.qos, sent.packet_id, told)
            return
        refused: Refused | None = None
        if result.outcome is Outcome.REUSED:
            refused = self._statuses.refuse(sender, row.cid, Status.BAD_REQUEST, names, reason="cid-reused")
        elif result.outcome is None:
            refused = self._statuses.refuse(sender, row.cid, Status.DENIED, names, rule="when.limit")
        if sent.connection is not None and sent.qos:
            sent.connection.acknowledge(sent.packet_id, sent.qos, *(refused or ()))
        if result.outcome is Outcome.REPEATED:
            self._statuses.repeat(sender, result.mid)
        elif result.outcome is Outcome.STORED:
            self._hub.count("scheduled" if row.due else "scheduled.amended")
            self._next_due = min(self._next_due, row.due or _NEVER)
            self._statuses.sent(sender, sent.target.json, row, result.change)

    def _tell(self, row: Row) -> None:
        """Tell the newest status of a message that waited."""
        for found in scheduled.statuses_of(self._hub.store.read, row):
            self._statuses.told(row.sender_id, found)

    # ---- questions -----------------------------------------------------------------------------------------------

    def status(self, mid: str, asker: str | None) -> dict[str, Any] | None:
        """Return the status of a message that waits, or of what changed one; None for any other mid."""
        row, sender = self._asked(mid)
        if row is None or sender is None or asker not in (None, sender.address):
            return None
        told = [_step(each) for each in scheduled.statuses_of(self._hub.store.read, row)]
        return self._about(row, sender) | {"status": told, "next": None}

    def trace(self, mid: str) -> dict[str, Any] | None:
        """Return the whole story, so far, of what `status` knows: before its time no device is concerned."""
        row, sender = self._asked(mid)
        if row is None or sender is None:
            return None
        about = self._about(row, sender)
        peer = {"peer": about["to"]} if about.get("to") else {}
        steps = [_step(each) | peer for each in scheduled.steps_of(self._hub.store.read, row)]
        about |= {"device": row.device, "params": row.params, "flags": row.flags}
        return about | {"steps": steps, "devices": [], "next": None}

    def _asked(self, mid: str) -> tuple[Row | None, User | None]:
        row = scheduled.find(self._hub.store.read, int(mid, 16)) if MID_PATTERN.fullmatch(mid) else None
        return row, self._hub.directory.party(row.sender_id) if row is not None else None

    def _about(self, row: Row, sender: User) -> dict[str, Any]:
        answer = {"mid": format_mid(row.mid), "cid": row.cid, "from": sender.address} | self._place_json(row)
        return answer | {"ts": row.ts, "due": row.due, "size": len(row.payload)}

    def waiting(self, user: User, *, after: tuple[int, int], limit: int) -> list[dict[str, Any]]:
        """Return a page of what a user has scheduled, the next due first."""
        return [
            {"mid": format_mid(row.mid), "cid": row.cid}
            | self._place_json(row)
            | {"due": row.due, "ts": row.ts, "params": row.params}
            | _shown(row.payload)
            for row in scheduled.waiting(self._hub.store.read, user.id, after, limit)
        ]

    async def cancel(self, user: User, mid: int) -> bool:
        """Cancel a message that waits; False if it is none of this user's."""
        row = scheduled.find(self._hub.store.read, mid)
        if row is None or row.due is None or row.sender_id != user.id or mid in self._leaving or mid in self._amending:
            return False
        now_ms = self._hub.now_ms()
        self._amending[mid] += 1
        try:
            await self._hub.committer.run(lambda connection: scheduled.end(connection, row, Status.DELETED, "", now_ms))
        finally:
            self._amended(mid)
        self._tell(row)
        return True

    def _place_json(self, row: Row) -> dict[str, Any]:
        if row.kind == GROUP:
            group = self._hub.directory.room(row.target_id)
            return {"group": group.address if group else None}
        peer = self._hub.directory.party(row.target_id)
        return {"to": peer.address if peer else None}

    # ---- when the time has come ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Send what is due, a page at a time; the next page follows when this one is committed."""
        now_ms = self._hub.now_ms()
        if self._is_reading or self._leaving or now_ms < self._next_due:
            return
        self._is_reading = True

        def read(connection: sqlite3.Connection) -> tuple[list[Row], int | None]:
            return scheduled.due(connection, now_ms, _PAGE), scheduled.next_due(connection, now_ms)

        def done(found: tuple[list[Row], int | None]) -> None:
            self._is_reading = False
            rows, later = found
            ready = [row for row in rows if row.mid not in self._amending]
            is_more = len(rows) == _PAGE or len(ready) < len(rows)
            self._next_due = min(self._next_due, now_ms if is_more else later or _NEVER)
            for row in ready:
                try:
                    self._release(row)
                except Exception:  # one that cannot be sent must not keep the others from it
                    log.exception("scheduled message %016x cannot be sent", row.mid)
                    self._end(row, Status.FAILED, "server")

        self._next_due = _NEVER  # what is accepted meanwhile makes it sooner
        self._hub.store.read_later(read, done)

    def _release(self, row: Row) -> None:
        if not row.is_whole:
            log.error("store: the scheduled message %016x is damaged: it is not sent", row.mid)
            self._hub.count("corrupt")
            return self._end(row, Status.FAILED, CORRUPT_REASON)
        sender = self._hub.directory.user_by_id(row.sender_id)
        params = parse_params(row.params)
        due, now_ms = row.due or 0, self._hub.now_ms()
        target = self._target(sender, row) if sender is not None else None
        if sender is None or target is None:
            return self._end(row, Status.FAILED, "group-deleted" if row.kind == GROUP else "user-deleted")
        expiry = self._hub.settings.messaging.expiry_default_s if params.expiry is None else params.expiry
        expires_at = due + expiry * 1000
        if not sender.active:
            return self._end(row, Status.DENIED, "user-disabled")
        if target.group is not None and not (sender.id in target.group.members or target.group.is_open):
            return self._end(row, Status.NOT_MEMBER)
        if target.group is not None and target.group.flags & GroupFlag.NO_STORAGE:
            return self._end(row, Status.FAILED, "group-keeps-nothing")
        if expires_at <= now_ms:
            return self._end(row, Status.EXPIRED)
        if forbidden := self._admission.forbidden(sender, target, len(row.payload)):
            return self._end(row, forbidden.code, forbidden.rule or "")
        message = Due(
            row.mid, target.thread, sender.id, row.device, row.cid, now_ms, expires_at,
            expires_at,  # always: the sweep of the default expiry goes by mids, and this one is older than its message
            row.flags, row.params, row.payload, None,
        )  # fmt: skip
        message.sender, message.target, message.change = sender, target, row.change
        message.connection, message.packet_id, message.qos = None, 0, 0
        if target.group is not None:
            message.kind = target.group.message_kind
        self._leaving[row.mid] = message
        if target.peer is not None and target.peer.inbox_messages >= 0:
            target.peer.inbox_messages += 1
            target.peer.inbox_bytes += len(row.payload)
        batch = self._hub.committer.batch
        batch.riders.append(Leaving(self, message, Traits(params)))
        batch.accepts.append(message)
        return self._hub.committer.wake()

    def _target(self, sender: User, row: Row) -> Target | None:
        """Return where a message is to go; None if there is no such user or group any more."""
        directory = self._hub.directory
        if row.kind == PAIR:
            peer = directory.user_by_id(row.target_id)
            if peer is None or peer.is_leaving:
                return None
            return directory.target(sender, f"u/{peer.level}".encode(), "u", peer.address)
        group = directory.group_by_id(row.target_id)
        if group is None:
            return None
        found = directory.target(sender, f"g/{group.level}".encode(), "g", group.address)
        return found or Target(group.thread, None, group)  # he may not know of it any more; the verdict says so

    def _end(self, row: Row, code: Status, reason: str = "") -> None:
        """Give a message that cannot be sent its verdict."""
        now_ms = self._hub.now_ms()

        def done(result: object) -> None:
            self._amended(row.mid)
            if isinstance(result, BaseException):
                self._next_due = now_ms  # tried again
            else:
                self._tell(row)

        self._amending[row.mid] += 1
        self._hub.committer.call(lambda connection: scheduled.end(connection, row, code, reason, now_ms), done)

    def _amended(self, mid: int) -> None:
        """Take note that one change of a message is over; it may be sent again after the last one."""
        self._amending[mid] -= 1
        if not self._amending[mid]:
            del self._amending[mid]

    def give_up(self, mid: int) -> None:
        """Give a message that can never be written its verdict."""
        self._leaving.pop(mid, None)
        if (row := scheduled.find(self._hub.store.read, mid)) is not None:
            self._end(row, Status.FAILED, "unwritable")

    def left(self, mid: int, *, ok: bool) -> None:
        """Take note that a message is in its conversation now (or is not); with the last one go on."""
        self._leaving.pop(mid, None)
        if not ok:
            self._next_due = self._hub.now_ms()
        elif not self._leaving:
            self.tick()


def _place(target: Target) -> tuple[int, int]:
    """Return kind and number of a destination, as the store keeps them."""
    if target.group is not None:
        return GROUP, target.group.id
    assert target.peer is not None  # noqa: S101 - one of the two is given
    return PAIR, target.peer.id


def _step(row: StatusRow) -> dict[str, Any]:
    """Return one status for JSON."""
    told = {"status": row.status, "name": TITLES[row.status], "ts": row.ts}
    return told | ({"reason": row.reason} if row.reason else {})


def _shown(payload: bytes) -> dict[str, str]:
    """Return a payload for JSON: as text where it is UTF-8, else in base64."""
    try:
        return {"text": payload.decode()}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode()}
