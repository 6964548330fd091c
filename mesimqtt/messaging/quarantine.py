"""What was damaged in the store is given to nobody: its sender gets a verdict, the conversation goes on without it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mesimqtt.domain.messages import Lane, MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.store import quarantine
from mesimqtt.store.integrity import CORRUPT_REASON

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.receipts import Receipts

log = logging.getLogger(__name__)
_KNOWN_MAX = 100_000


class Quarantine:
    """Looks into what reads have found to be other than what was stored (store/integrity.py)."""

    def __init__(self, hub: Hub, receipts: Receipts, lanes: Callable[[Message], list[tuple[User, Lane]]]) -> None:
        self._hub = hub
        self._receipts = receipts
        self._lanes = lanes
        self._known: set[int] = set()

    def tick(self) -> None:
        """Set apart what was found since the last call; to be called about once a second."""
        suspects = self._hub.store.suspects
        while suspects:
            mid = suspects.popleft()
            if mid not in self._known:
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known.add(mid)
                self._isolate(mid)

    def _isolate(self, mid: int) -> None:
        def done(result: Message | BaseException | None) -> None:
            if isinstance(result, BaseException):
                self._known.discard(mid)  # the next read finds it again
                self._hub.store.suspects.append(mid)
            elif result is not None:
                self._isolated(result)

        self._hub.committer.call(lambda connection: quarantine.isolate(connection, mid), done)

    def _isolated(self, message: Message) -> None:
        self._hub.count("corrupt")
        log.error(
            "store: message %016x is damaged: what stands in the database is not what was stored. Nobody gets it; "
            "look at the disk, and at your backups",
            message.mid,
        )
        message.state = 0  # from here on a message like any other whose time is over
        if message.kind != MessageKind.EVENT and not quarantine.is_told(self._hub.store.read, message):
            return  # its row does not say whose it is
        if message.kind == MessageKind.WORK:
            self._receipts.step(Lane(message.conversation, 0), message, Status.FAILED, "", CORRUPT_REASON)
            return
        for user, lane in self._lanes(message):
            if message.kind == MessageKind.EVENT:
                self._receipts.passed(lane, message.seq)
            else:
                self._receipts.fail(user, lane, message, Status.FAILED, CORRUPT_REASON)
