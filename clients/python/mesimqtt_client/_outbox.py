"""The outbox: what was sent and is not settled yet, and what became of every message that the caller still holds."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from mesimqtt_client._errors import ConnectionLost, MessageFailed, OutboxFull
from mesimqtt_client._events import StatusUpdate
from mesimqtt_client._status import Status, may_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUTBOX_MAX: Final = 1_000
OUTBOX_BYTES_MAX: Final = 64 * 1024 * 1024


def _nobody() -> None:
    """Stand in for a watcher."""


class Entry:
    """Something to publish: QoS 1, and again after a reconnect until it is settled; at QoS 0 once and never again."""

    __slots__ = ("__weakref__", "is_transmitted", "key", "payload", "qos", "topic", "watch")

    def __init__(self, key: str, topic: str, payload: bytes, *, qos: int = 1) -> None:
        self.key = key
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.is_transmitted = False
        self.watch: Callable[[], None] = _nobody  # called, under the shell's lock, whenever the entry changes


class Progress:
    """How far one recipient's copy has come. Statuses only grow; `reached` is the furthest success."""

    __slots__ = ("failure", "reached", "status")

    def __init__(self) -> None:
        self.status: Status | None = None
        self.reached: Status | None = None
        self.failure: StatusUpdate | None = None

    def apply(self, update: StatusUpdate) -> bool:
        """Take a step; return whether it was news."""
        if not may_step(self.status, update.status):
            return False
        self.status = update.status
        if update.status.is_success:
            self.reached = update.status
            self.failure = None
        else:
            self.failure = update
        return True

    def outcome(self, step: Status, recipient: str) -> Status | None:
        """Return the step reached if it is `step` or beyond, None while it may still come; raise MessageFailed."""
        if self.reached is not None and self.reached >= step:
            return self.reached
        if self.failure is None:
            return None
        failure = self.failure
        raise MessageFailed(
            failure.status,
            failure.reason,
            recipient=recipient,
            limit=failure.limit,
            rule=failure.rule,
            retry_after=failure.retry_after,
        )


class OutMessage(Entry):
    """A message on its way. For a group, `progress` is the message's own and `members` each member's."""

    __slots__ = ("address", "counts", "expires_at", "is_group", "is_transient", "members", "mid", "progress")

    def __init__(
        self,
        cid: str,
        topic: str,
        payload: bytes,
        *,
        address: str,
        is_group: bool,
        is_transient: bool,
        expires_at: float | None,
    ) -> None:
        super().__init__(cid, topic, payload)
        self.address = address
        self.is_group = is_group
        self.is_transient = is_transient
        self.expires_at = expires_at
        self.mid: str | None = None
        self.progress = Progress()
        self.members: dict[str, Progress] = {}
        self.counts: dict[str, int] = {}

    def apply(self, update: StatusUpdate) -> None:
        """Take a status of this message, whoever of its recipients it is about."""
        self.mid = update.mid or self.mid
        self.counts.update(update.counts or {})
        if not self.is_group or update.peer is None:
            self.progress.apply(update)
        else:
            self.members.setdefault(update.peer, Progress()).apply(update)
            if self.progress.status is None:  # a member's step implies SENT, which a reconnect may have hidden
                self.progress.apply(StatusUpdate(cid=self.key, status=Status.SENT, code=int(Status.SENT)))
        self.watch()

    def outcome(self, step: Status, member: str | None) -> Status | None:
        """Return what `Progress.outcome` says of the one recipient, or of a group's `member`."""
        if not self.is_group:
            if member not in (None, self.address):
                raise ValueError(f"this message went to {self.address!r} alone: leave member= out")
            return self.progress.outcome(step, self.address)
        if member is None:
            if step is not Status.SENT:
                raise ValueError(f"a group has no one {step.title!r}: say whose, wait({step.title!r}, member='bob')")
            return self.progress.outcome(step, self.address)
        own = self.progress.outcome(Status.SENT, self.address)
        progress = self.members.get(member)
        return progress.outcome(step, member) if progress is not None else own if step is Status.SENT else None

    @property
    def recipients(self) -> dict[str, Status]:
        """The status of each recipient of whom one is known."""
        # A copy: the network thread may add a member while the caller's thread looks.
        pairs = list(self.members.items()) if self.is_group else [(self.address, self.progress)]
        return {address: progress.status for address, progress in pairs if progress.status is not None}


class RpcCall(Entry):
    """A question to the server. It is transmitted once: an operation must not happen twice because a link was cut."""

    __slots__ = ("answer", "error", "is_done")

    def __init__(self, key: str, topic: str, payload: bytes) -> None:
        super().__init__(key, topic, payload)
        self.answer: Any = None
        self.error: Exception | None = None
        self.is_done = False

    def finish(self, answer: Any, error: Exception | None) -> None:  # noqa: ANN401 - JSON
        """Take the answer, or the reason why there is none."""
        self.answer, self.error, self.is_done = answer, error, True
        self.watch()


class Outbox:
    """Entries in the order of their sending, bounded in number and bytes.

    A message stays until SENT or a refusal arrived for its cid, not merely its PUBACK: on MQTT 3.1.1 a refused
    publish is acknowledged too (contract section 4). What is settled is forgotten, unless the caller holds it.
    """

    def __init__(self, *, entries_max: int = OUTBOX_MAX, bytes_max: int = OUTBOX_BYTES_MAX) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._due: deque[Entry] = deque()
        self._known: WeakValueDictionary[str, OutMessage] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Queue an entry. Raises OutboxFull."""
        if len(self._entries) >= self._entries_max:
            raise OutboxFull(f"{len(self._entries)} are unacknowledged (outbox_max): flush() before sending more")
        if self._bytes + len(entry.payload) > self._bytes_max:
            raise OutboxFull(f"{self._bytes} bytes are unacknowledged (outbox_bytes_max): flush() before sending more")
        self._entries[entry.key] = entry
        self._bytes += len(entry.payload)
        if isinstance(entry, OutMessage):
            self._known[entry.key] = entry
        self._due.append(entry)

    def add_unqueued(self, entry: Entry) -> None:
        """Publish an entry at the next chance, without keeping it."""
        self._due.append(entry)

    def next_due(self) -> Entry | None:
        """Take the next entry to publish on this connection."""
        while self._due:
            entry = self._due.popleft()
            if entry.qos == 0 or entry.key in self._entries:
                entry.is_transmitted = True
                return entry
        return None

    def restart(self) -> None:
        """Make everything that is not settled due again, in the order of sending: a new connection has begun."""
        self._due = deque(self._entries.values())

    def settle(self, key: str) -> None:
        """Forget an entry: nothing about it needs to be published again."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry.payload)
            entry.watch()

    def acknowledge(self, entry: Entry) -> None:
        """Take a PUBACK. It settles what has no verdict to wait for.

        A transient message was handed over before its PUBACK (section 4) and is worth nothing later.
        """
        if not isinstance(entry, OutMessage | RpcCall) or (isinstance(entry, OutMessage) and entry.is_transient):
            self.settle(entry.key)

    def take_status(self, update: StatusUpdate) -> None:
        """Take a status: it settles its cid and moves the message, if the caller still holds it.

        `store` is no verdict: the server closes an MQTT 3.1.1 connection over it, so that the client sends again.
        """
        if update.status is Status.FAILED and update.reason == "store" and update.cid in self._entries:
            return
        message = self._known.get(update.cid)
        if message is not None:
            message.apply(update)
        self.settle(update.cid)

    def find_expired(self, now: float, *, is_online: bool) -> list[OutMessage]:
        """Return the messages that outlived their expiry in here.

        One that has left already may have arrived, so only the server can judge it; but a transient one must not be
        sent again: the server remembers its cid for a minute only, and it is worth nothing by then.
        """
        return [
            entry
            for entry in self._entries.values()
            if isinstance(entry, OutMessage)
            and (entry.expires_at is not None and entry.expires_at <= now)
            and (not entry.is_transmitted or (entry.is_transient and not is_online))
        ]

    def take_answer(self, key: str, answer: Any, error: Exception | None) -> None:  # noqa: ANN401 - JSON
        """Take the answer to a question, if somebody still waits for it."""
        entry = self._entries.get(key)
        if isinstance(entry, RpcCall):
            entry.finish(answer, error)
            self.settle(key)

    def fail_calls(self) -> None:
        """Give up the questions whose answer went down with the connection."""
        lost = [entry for entry in self._entries.values() if isinstance(entry, RpcCall) and entry.is_transmitted]
        for call in lost:
            call.finish(None, ConnectionLost("the connection was lost before the answer: it may have been done"))
            self.settle(call.key)
        self._due.clear()

    def watched(self) -> Iterator[Entry]:
        """Return everything that somebody may be waiting for."""
        yield from list(self._entries.values())
        yield from [message for key, message in list(self._known.items()) if key not in self._entries]
