"""What was damaged in the store is given to nobody: its sender gets a verdict, the conversation goes on without it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from mesimqtt.domain.messages import Lane, MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.store import conversations, ends, mending, parties, quarantine
from mesimqtt.store.integrity import CORRUPT_REASON
from mesimqtt.store.sifting import is_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.store.quarantine import Suspect

log = logging.getLogger(__name__)
_KNOWN_MAX = 100_000


class Quarantine:
    """Looks into what reads have found to be other than what was stored (store/integrity.py)."""

    def __init__(self, hub: Hub, receipts: Receipts, lanes: Callable[[Message], list[tuple[User, Lane]]]) -> None:
        self._hub = hub
        self._receipts = receipts
        self._lanes = lanes
        self._known: set[int] = set()  # looked into
        self._failed: set[int] = set()  # said to be unreadable, and tried again

    def tick(self) -> None:
        """Set apart, or put right, what was found since the last call; to be called about once a second."""
        odd = self._hub.store.odd
        if odd.strays:
            numbers = [odd.strays.popleft() for _ in range(len(odd.strays))]
            self._hub.committer.call(
                lambda connection: parties.put_right(connection, numbers), partial(self._put_right, numbers)
            )
        if odd.rows:
            rows = [odd.rows.popleft() for _ in range(len(odd.rows))]
            self._hub.committer.call(lambda connection: mending.put_right(connection, rows), self._mended)
        if odd.ends:
            found = [odd.ends.popleft() for _ in range(len(odd.ends))]
            self._hub.committer.call(lambda connection: ends.put_right(connection, found), self._brought_back)
        suspects = self._hub.store.suspects
        for _ in range(len(suspects)):
            mid = suspects.popleft()
            if mid not in self._known:
                self._look(mid)

    def _put_right(self, numbers: list[int], result: BaseException | None) -> None:
        if result is not None:
            log.error("store: a damaged conversation could not be put right: %s", result)
            return
        for number in numbers:
            found = conversations.by_id(self._hub.store.read, number)
            thread = self._hub.directory.thread_of(found) if found is not None else None
            if found is not None and thread is not None:
                thread.last_seq = max(thread.last_seq, found.last_seq)

    @staticmethod
    def _brought_back(result: object) -> None:
        if isinstance(result, BaseException):
            log.error("store: numbers at their end could not be put right: %s", result)

    def _mended(self, result: list[mending.Found] | BaseException) -> None:
        """Let go of what was read while rows were damaged that are whole again."""
        if isinstance(result, BaseException):
            log.error("store: damaged rows could not be put right: %s", result)
        elif result:
            self._hub.directory.renew(group[0] for table, group in result if table == "member")
            for name, take in self._hub.mended.items():
                if rows := [row for table, row in result if table == name]:
                    take(rows)

    def _look(self, mid: int) -> None:
        try:
            found = quarantine.look(self._hub.store.read, mid)
        except Exception as error:  # in a damaged file any read may fail; the others must be looked at
            is_to_retry = is_environment(error)
            if mid not in self._failed or not is_to_retry:
                _note(self._failed, mid)
                what = "it is tried again" if is_to_retry else "it stays where it is"
                log.exception("store: message %016x may be damaged and cannot be looked into; %s", mid, what)
            if is_to_retry:
                self._hub.store.suspects.append(mid)
            else:
                _note(self._known, mid)
            return
        _note(self._known, mid)
        self._failed.discard(mid)
        if found is not None:
            self._isolate(found)

    def _isolate(self, found: Suspect) -> None:
        """Set a message apart in the commit that has its verdicts: no crash can come between."""
        message = found.message
        self._hub.count("corrupt")
        log.error(
            "store: message %016x is damaged: what stands in the database is not what was stored. Nobody gets it; "
            "look at the disk, and at your backups",
            message.mid,
        )
        for sql, values in found.rows:
            self._hub.committer.row(sql, *values)
        self._judge(message, is_told=found.is_told)
        self._hub.committer.wake()

    def _judge(self, message: Message, *, is_told: bool) -> None:
        message.state = 0  # from here on a message like any other whose time is over
        if message.kind != MessageKind.EVENT and not is_told:
            return  # its row does not say whose it is
        if message.kind == MessageKind.WORK:
            self._receipts.step(Lane(message.conversation, 0), message, Status.FAILED, "", CORRUPT_REASON)
            return
        for user, lane in self._lanes(message):
            if message.kind == MessageKind.EVENT:
                self._receipts.passed(lane, message.seq)
            else:
                self._receipts.fail(user, lane, message, Status.FAILED, CORRUPT_REASON)


def _note(mids: set[int], mid: int) -> None:
    if len(mids) >= _KNOWN_MAX:
        mids.clear()
    mids.add(mid)
