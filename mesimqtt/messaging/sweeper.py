"""What happens because time passes: deadlines, token expiry, forgotten devices, lazy commits."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from mesimqtt.domain.ids import first_mid_at
from mesimqtt.domain.messages import MessageKind
from mesimqtt.engine import codes
from mesimqtt.messaging.departures import verdict
from mesimqtt.messaging.devices import is_in_flight
from mesimqtt.messaging.quarantine import Quarantine
from mesimqtt.store import conversations, history, scheduled
from mesimqtt.store import devices as device_rows
from mesimqtt.store import messages as message_rows
from mesimqtt.store.committer import Health, health_of
from mesimqtt.store.integrity import CORRUPT
from mesimqtt.store.transaction import transaction
from mesimqtt.topics import has_param

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.domain.messages import Lane, Message
    from mesimqtt.messaging.enrolment import Enrolment
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.round_robin import RoundRobin
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.transient import Transients

log = logging.getLogger(__name__)
_DUE_MAX = 500
_HOUR_S = 3600.0
_WEEK_MS = 7 * 86_400_000


class Sweeper:
    """Called about four times a second by the broker's ticker; does little each time."""

    def __init__(
        self,
        hub: Hub,
        statuses: Statuses,
        receipts: Receipts,
        transients: Transients,
        enrolment: Enrolment,
        round_robin: RoundRobin,
        *,
        started_mid: int,
    ) -> None:
        self._hub = hub
        self._statuses = statuses
        self._receipts = receipts
        self._enrolment = enrolment
        self._transients = transients
        self._round_robin = round_robin
        self.tasks = [
            hub.store.retry_reads, self._recover_own, self._judge_due, self._judge_old, statuses.summarise,
            self._expire_tokens, Quarantine(hub, receipts, self.lanes).tick,
        ]  # once a second  # fmt: skip
        self._unkept_mid: int | None = started_mid - history.UNKEPT_MIDS  # None: nothing to recover any more
        self._recover_own()
        self._next_second = 0.0
        self._next_hour = 0.0
        self._judged = 0  # every mid below was looked at when it had lived for the default expiry
        self._waiting: dict[int, float] = {}  # mid in flight at its deadline -> when it is judged all the same

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._hub.committer.tick(now, self._hub.settings.messaging.ack_delay_s)
        self._transients.tick(now)
        if now < self._next_second:
            return
        self._next_second = now + 1.0
        self._hub.store.tick()
        for task in self.tasks:
            _guarded(task)
        if self._hub.committer.is_idle:
            self._hub.directory.trim()
        if now >= self._next_hour:
            self._next_hour = now + _HOUR_S
            _guarded(self._hourly)

    def _recover_own(self) -> None:
        """Have inboxes count right what was sent just before a crash; on a full disk once there is room.

        A lane in memory has it already.
        """
        if self._unkept_mid is None:
            return
        try:
            with transaction(self._hub.store.read):
                history.recover_own(self._hub.store.read, self._unkept_mid)
        except sqlite3.Error as error:
            if health_of(error) is Health.FAULT:
                raise
            log.warning("store: what was sent just before a crash counts as unread until it can be written: %s", error)
        else:
            self._unkept_mid = None

    def _judge_due(self) -> None:
        """Give every message whose deadline has passed its verdict."""
        now = self._hub.now()
        now_ms = self._hub.now_ms()
        for mid in message_rows.due(self._hub.store.read, now_ms, _DUE_MAX):
            message = message_rows.by_mid(self._hub.store.read, mid)
            if message is not None and message.state != CORRUPT and self._judge(message, now):
                self._waiting.pop(mid, None)
                if message.expires_at > now_ms and has_param(
                    message.params, "expiry"
                ):  # it was due to a member who left
                    self._hub.committer.row(message_rows.SET_DEADLINE, message.expires_at, mid)
                else:
                    self._hub.committer.row(message_rows.CLEAR_DEADLINE, mid)
                self._hub.committer.wake()

    def _judge(self, message: Message, now: float) -> bool:
        """Judge one message for all its recipients; False while it is in flight to one of them."""
        thread = self._hub.directory.thread_of(message.conversation)
        if thread is None:
            return True
        if message.kind == MessageKind.WORK:
            return self._round_robin.judge(message)
        settled = True
        for user, lane in self.lanes(message):
            if is_in_flight(user, message):
                until = self._waiting.setdefault(message.mid, now + self._hub.settings.messaging.verdict_grace_s)
                if now < until:
                    settled = False
                    continue
            if lane.until is not None:
                code, reason = verdict(self._hub, thread, user)
                self._receipts.fail(user, lane, message, code, reason)
            elif message.expires_at <= self._hub.now_ms():
                self._receipts.expire(user, lane, message)
        return settled

    def lanes(self, message: Message) -> list[tuple[User, Lane]]:
        """Return those whom a message is for, each with his lane."""
        directory = self._hub.directory
        thread = directory.thread_of(message.conversation)
        if thread is None:
            return []
        if thread.group is None:
            users = list(dict.fromkeys(thread.users))
        else:
            former = conversations.former(self._hub.store.read, thread.id, message.seq)
            parties = map(directory.user_by_id, (*thread.group.members, *former))
            users = [user for user in dict.fromkeys(parties) if user is not None]
        found = []
        for user in users:
            lane = directory.lane(thread, user) if user.id != message.sender_id or thread.a == thread.b else None
            if lane is not None and lane.covers(message.seq):
                found.append((user, lane))
        return found

    def _expire_tokens(self) -> None:
        """Close connections whose token has expired; warn a minute before (contract section 5)."""
        now_s = self._hub.now_ms() / 1000
        warning_s = self._hub.settings.tokens.warning_s
        for user in self._hub.directory.online():
            for device in list(user.devices):
                identity = device.connection.identity
                if identity is None or not identity.expires_at:
                    continue
                left = identity.expires_at - now_s
                if left <= 0:
                    device.connection.close("token expired", codes.NOT_AUTHORIZED)
                elif left <= warning_s and not device.token_warned:
                    device.token_warned = True
                    self._enrolment.tell(device, {"event": "token-expiring", "seconds": max(1, int(left))})

    def _judge_old(self) -> None:
        """Judge some of what has come to the end of the default expiry, which no index of deadlines holds."""
        now_ms = self._hub.now_ms()
        last_ms = now_ms - self._hub.settings.messaging.expiry_default_s * 1000
        first, last = max(first_mid_at(last_ms - _WEEK_MS), self._judged), first_mid_at(last_ms + 1)
        found = message_rows.expired_between(self._hub.store.read, first, last, now_ms, _DUE_MAX)
        for mid in found:
            message = message_rows.by_mid(self._hub.store.read, mid)
            if message is not None and message.state != CORRUPT:
                self._judge(message, float("inf"))
        self._judged = found[-1] + 1 if len(found) == _DUE_MAX else last

    def _hourly(self) -> None:
        hub, settings = self._hub, self._hub.settings.messaging
        now_ms = hub.now_ms()
        online = {device.row_id for user in hub.directory.online() for device in user.devices}
        for number in device_rows.unseen_since(hub.store.read, now_ms - settings.device_unseen_s * 1000):
            if number in online:
                continue
            hub.committer.row(device_rows.DELETE_CURSORS, number)
            hub.committer.row(device_rows.DELETE, number)
        kept_since = now_ms - settings.status_kept_s * 1000
        hub.committer.row(scheduled.FORGET, first_mid_at(kept_since), kept_since)
        hub.committer.wake()


def _guarded(task: Callable[[], None]) -> None:
    try:
        task()
    except Exception:  # one message that cannot be judged must not keep tokens from expiring
        log.exception("messaging: a periodic task failed; it is tried again")
