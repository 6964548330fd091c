"""Conversations, messages, lanes and steps as the store and messaging both see them."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.seqset import SeqSet

if TYPE_CHECKING:
    from collections.abc import Callable

PAIR, GROUP = 0, 1
RUNS_MAX = 10_000  # of what was not read, or not confirmed, between what was: about 100 KB of text in the lane's row
NO_SEQ = -1  # the watermark of a set of exceptions: only its runs are kept, from seq 1 on


class MessageKind(IntEnum):
    """What a row of a conversation is. WORK is a message for one member of a group, whoever takes it."""

    MESSAGE = 0
    EVENT = 1
    WORK = 2


class Outcome(StrEnum):
    """What the store did with an accepted message."""

    STORED = "stored"
    REPEATED = "repeated"
    REUSED = "cid-reused"
    REFUSED = "refused"


_STORED = Outcome.STORED  # a member's look-up in its class is slow
_MESSAGE = int(MessageKind.MESSAGE)  # … and so is the store with a number that is a member


class Conversation:
    """A pair of users or a group; `id` is 0 until its first message is committed."""

    __slots__ = ("a", "b", "id", "kind", "last_seq")

    def __init__(self, identifier: int, kind: int, a: int, b: int, last_seq: int = 0) -> None:
        self.id = identifier
        self.kind = kind
        self.a = a
        self.b = b
        self.last_seq = last_seq


class Message:
    """One message or event. Slots, not a frozen dataclass: 20 000 a second are made.

    The committer fills `seq`, `change` and `outcome`; `expires_at` and `ts` are milliseconds since 1970,
    `deadline` is set where a sweep must look before the default expiry of a year. `state` 0x21 or 0x22: it was taken
    back or wiped, 0x80: damaged in the store, or (1) its reader hides it: nobody is to get it.
    """

    __slots__ = (
        "change",
        "cid",
        "conversation",
        "deadline",
        "device",
        "digest",
        "expires_at",
        "flags",
        "kind",
        "mid",
        "outcome",
        "params",
        "payload",
        "sender_id",
        "seq",
        "shed",
        "state",
        "ts",
    )

    def __init__(  # noqa: PLR0917 - a row, in the order of its columns
        self,
        mid: int,
        conversation: Conversation,
        sender_id: int,
        device: str,
        cid: str,
        ts: int,
        expires_at: int,
        deadline: int | None,
        flags: int,
        params: str,
        payload: bytes,
        digest: bytes | None,
        kind: int = _MESSAGE,
        seq: int = 0,
    ) -> None:
        self.mid = mid
        self.conversation = conversation
        self.sender_id = sender_id
        self.device = device
        self.cid = cid
        self.ts = ts
        self.expires_at = expires_at
        self.deadline = deadline
        self.flags = flags
        self.params = params
        self.payload = payload
        self.digest = digest
        self.kind = kind
        self.seq = seq
        self.change = 0
        self.outcome = _STORED
        self.state = 0
        self.shed = 0

    @property
    def size(self) -> int:
        """How many bytes its payload has, or had."""
        return len(self.payload) + self.shed

    def shed_payload(self) -> None:
        """Let go of the payload of a message that was handed over: until its acknowledgement only its size counts."""
        self.shed, self.payload = self.size, b""


class Change(Message):
    """An event together with the change that it tells of: both are committed, in the order of seq, or neither.

    `work(connection, seq)` writes the change; an OperationError of its own drops the event, and `error` keeps it.
    `settled(health)` is called on the loop, once: '' after the commit, else what the store lacks.
    """

    __slots__ = ("error", "settled", "work")

    work: Callable[[Any, int], object]
    settled: Callable[[str], None] | None
    error: Exception | None


class Step:
    """One status for a run of one sender's messages `first_seq` … `last_seq`; `change` is the committer's."""

    __slots__ = (
        "change",
        "conversation",
        "device",
        "first_seq",
        "last_seq",
        "messages",
        "reason",
        "recipient_id",
        "sender_id",
        "status",
        "ts",
    )

    def __init__(
        self,
        sender_id: int,
        conversation: Conversation,
        recipient_id: int,
        seq: int,
        status: int,
        ts: int,
        device: str = "",
        reason: str = "",
    ) -> None:
        self.sender_id = sender_id
        self.conversation = conversation
        self.recipient_id = recipient_id
        self.first_seq = seq
        self.last_seq = seq
        self.status = status
        self.ts = ts
        self.device = device
        self.reason = reason
        self.change = 0
        self.messages: list[Message] = []


class Lane:
    """What one user has of one conversation. `floor` < seq <= `until` (None: no end) is his time in it.

    `gaps` are what came in that time while he had no right to receive, None if there is nothing.
    """

    __slots__ = (
        "acked",
        "conversation",
        "delivered",
        "failed",
        "floor",
        "gaps",
        "narrow_at",
        "read",
        "read_change",
        "read_payload",
        "until",
        "user_id",
    )

    def __init__(self, conversation: Conversation, user_id: int, floor: int = 0, until: int | None = None) -> None:
        self.conversation = conversation
        self.user_id = user_id
        self.floor = floor
        self.until = until
        self.acked = SeqSet(floor)
        self.delivered = SeqSet(floor)
        self.read = SeqSet(floor)
        self.failed = SeqSet(NO_SEQ)
        self.read_payload = ""
        self.read_change = 0
        self.gaps: SeqSet | None = None
        self.narrow_at = RUNS_MAX

    def covers(self, seq: int) -> bool:
        """Tell whether `seq` falls into the user's time in the conversation, and he might receive it then."""
        if self.gaps is not None and seq in self.gaps:
            return False
        return seq > self.floor and (self.until is None or seq <= self.until)

    def gives(self, seq: int) -> bool:
        """Tell whether `seq` may still be handed over: of a lane that ended, only the event that tells so."""
        if self.until is None:
            return seq > self.floor and (self.gaps is None or seq not in self.gaps)
        return seq == self.until > self.floor

    def end(self, seq: int) -> None:
        """End it at `seq`, the event that tells so."""
        self._pass_over_upto(seq)
        self.until = seq

    def reopen(self, seq: int) -> None:
        """Go on at `seq`; what came since its end was never the user's."""
        self._pass_over_upto(seq)
        self.until = None

    def pass_gaps(self) -> None:
        """Count what he was not to get as acknowledged."""
        for first, last in self.gaps.runs if self.gaps is not None else ():
            for seqs in (self.acked, self.delivered, self.read):
                seqs.include(first, last)

    def _pass_over_upto(self, seq: int) -> None:
        if self.until is not None and self.until < seq - 1:
            self.gaps = self.gaps or SeqSet()
            self.gaps.include(self.until + 1, seq - 1)
            self.pass_gaps()

    def narrow(self) -> list[tuple[int, int]]:
        """Forget of the oldest that they were never read, or never confirmed, where there are too many pieces.

        Who writes in a conversation and marks nothing as read makes one more with each change of speaker. What still
        waits, and what has its verdict, is left as it is; what had none, and can get none any more, is returned.
        """
        unconfirmed: list[tuple[int, int]] = []
        for seqs in (self.read, self.delivered):
            most = seqs.run_count - RUNS_MAX + RUNS_MAX // 10
            if seqs.run_count > RUNS_MAX:
                for first, last in seqs.missing(self.acked.upto)[:most]:
                    for start, end in self.failed.missing(last, after=first - 1):
                        unconfirmed += self.delivered.missing(end, after=start - 1)
                        seqs.include(start, end)
                        self.delivered.include(start, end)
        self.narrow_at = max(RUNS_MAX, self.runs_most + RUNS_MAX // 10)
        return unconfirmed

    @property
    def runs_most(self) -> int:
        """In how many pieces it is, at most: what was read, or what was delivered."""
        return max(self.read.run_count, self.delivered.run_count)

    def row(self) -> tuple[object, ...]:
        """Return the lane as the store's row."""
        return (
            self.conversation.id,
            self.user_id,
            self.floor,
            self.until,
            self.acked.upto,
            self.acked.above,
            self.delivered.upto,
            self.delivered.above,
            self.read.upto,
            self.read.above,
            self.failed.above,
            self.read_payload,
            self.read_change,
        )
