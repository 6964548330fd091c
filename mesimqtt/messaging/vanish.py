"""Disappearing messages: wiped so many seconds after they were read, delivered or sent (contract section 2: `age`)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mesimqtt.domain.status import Status
from mesimqtt.store import amend, messages
from mesimqtt.topics import AGE_FROM, FLAG_READ_RECEIPT, has_param, split_params

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.withdrawal import Withdrawals

log = logging.getLogger(__name__)
_PAGE = 500  # wipings in one transaction


class Vanishing:
    """Notes when a message begins to age for a recipient, and wipes it when its time is over."""

    def __init__(self, hub: Hub, receipts: Receipts, withdrawals: Withdrawals) -> None:
        self._hub = hub
        self._withdrawals = withdrawals
        self._is_busy = False
        receipts.aged = self._began
        receipts.skipped = self._skipped

    def tick(self) -> None:
        """Wipe what is due, a page at a time; the next one follows when this one is committed."""
        self._withdrawals.tick()
        if self._is_busy:
            return
        now_ms = self._hub.now_ms()
        due = amend.vanishing(self._hub.store.read, now_ms, _PAGE)
        if not due:
            return
        self._is_busy = True

        quiet = {(mid, user) for mid, users in due.items() for user in users if self._is_quiet(mid, user)}

        def wipe(connection: sqlite3.Connection) -> list[tuple[int, amend.Withdrawn]]:
            done: list[tuple[int, amend.Withdrawn]] = []
            for mid, users in due.items():
                if 0 in users:
                    done.append((0, amend.withdraw(connection, mid, Status.WIPED, now_ms, traceless=True)))
                    amend.forget_vanishing(connection, mid)
                else:
                    done += [(user, amend.withdraw_from(connection, mid, user, now_ms)) for user in users]
            for user, found in done:
                found.steps[:] = [step for step in found.steps if (found.messages[0].mid, user) not in quiet]
            amend.number(connection, [step for _, found in done for step in found.steps])
            return done

        self._hub.committer.call(wipe, self._wiped)

    def _wiped(self, result: list[tuple[int, amend.Withdrawn]] | BaseException) -> None:
        self._is_busy = False
        if isinstance(result, BaseException):
            log.error("messages that are to disappear: %s; tried again", result)
            return
        for user, found in result:
            if user:
                self._withdrawals.from_user(user, found.messages, found.steps)
            else:
                self._withdrawals.everywhere(found.messages, found.steps)
        self._hub.count("wiped", len(result))
        if len(result) >= _PAGE:
            self.tick()

    def _is_quiet(self, mid: int, user_id: int) -> bool:
        """Tell whether `wiped` would tell a sender what his recipient keeps to himself: that he has read it."""
        user = self._hub.directory.user_by_id(user_id) if user_id else None
        if user is None or not user.is_discreet:
            return False
        message = messages.by_mid(self._hub.store.read, mid)
        return message is not None and self._hub.hides(user, message, FLAG_READ_RECEIPT)

    def _began(self, user: User, message: Message, what: str) -> None:
        """Take note that a message with parameters was delivered or read."""
        if not has_param(message.params, "age"):
            return
        values = split_params(message.params)
        wanted = values.get("age-from", b"").decode() or AGE_FROM[0]
        age = int(values["age"])
        if age and (what == wanted or (what == "read" and wanted == "delivered")):  # READ implies DELIVERED
            due = self._hub.now_ms() + age * 1000
            self._hub.committer.row(amend.VANISH, message.mid, user.id, due)
            self._hub.committer.wake()

    def _skipped(self, user: User, thread: Thread, after: int, upto: int) -> None:
        """Take note of what is read without being looked at, because `<=mid` read so much in one go."""
        now_ms = self._hub.now_ms()
        self._hub.committer.row(amend.VANISH_READ, user.id, now_ms, thread.id, after, upto, user.id)
