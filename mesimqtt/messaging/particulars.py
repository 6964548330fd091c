"""What a message asks for beside delivery: edit, recall, a time, an age, a priority, a forward (contract section 2)."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.groups import GroupFlag
from mesimqtt.domain.messages import MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.store import amend, messages
from mesimqtt.store.batch import Rider
from mesimqtt.topics import FLAG_FORWARDED, same_params

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message, Step
    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Target, User
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.scheduled import Schedule
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.withdrawal import Withdrawals
    from mesimqtt.topics import OutTopic, Params


class Sent(NamedTuple):
    """A PUBLISH of a message as it came, for who answers it later. `is_counted`: its sender's rate was taken."""

    sender: User
    target: Target
    out: OutTopic
    payload: bytes
    digest: bytes | None
    connection: Connection | None
    qos: int
    packet_id: int
    is_counted: bool = False


class Traits(Rider):
    """Writes what a message has beside its row, and what it does to the message it amends (`original`)."""

    __slots__ = ("_owner", "original", "params", "withdrawn")

    def __init__(self, params: Params, owner: Particulars | None = None, original: Message | None = None) -> None:
        super().__init__()
        self.params = params
        self.original = original
        self.withdrawn = amend.Withdrawn([], [])
        self._owner = owner

    def write(self, connection: sqlite3.Connection) -> list[Step]:
        """Write it, in the transaction of the message."""
        mid, ts, params = self.message.mid, self.message.ts, self.params
        if params.age:
            connection.execute(amend.SET_AGE, (params.age, mid))
            if params.age_from == "sent":
                connection.execute(amend.VANISH, (mid, 0, ts + params.age * 1000))
        if params.priority is not None:
            connection.execute(amend.SET_PRIORITY, (params.priority, mid))
        if self.original is None:
            return []
        original = self.original.mid
        if params.edit:
            amend.mark_edit(connection, mid, original)
            return []
        amend.mark_recall(connection, mid, original, traceless=not params.has_stub)
        self.withdrawn = amend.withdraw(connection, original, Status.DELETED, ts, traceless=not params.has_stub)
        return self.withdrawn.steps

    def done(self, ok: bool) -> None:
        """Do in memory what was committed."""
        if self._owner is not None and self.original is not None:
            self._owner.amended(self, ok=ok)


class Particulars:
    """Looks at the parameters of the few messages that have some. `schedule` keeps what is for later."""

    def __init__(self, hub: Hub, statuses: Statuses, withdrawals: Withdrawals, schedule: Schedule) -> None:
        self._hub = hub
        self._statuses = statuses
        self._withdrawals = withdrawals
        self._schedule = schedule
        self._recalling: dict[int, str] = {}  # mid -> the cid of its recall, which is on its way into the store

    def take(self, sent: Sent) -> bool | Refused | Traits:
        """Refuse or keep a message, or return what is to be written with it."""
        params, sender = sent.out.params, sent.sender
        if reason := _contradiction(params, sent.payload) or _unkept(sent.target, params):
            return self._refuse(sent, Status.BAD_REQUEST, reason=reason)
        if params.flags & FLAG_FORWARDED and not self._may_forward(sender, params.ref):
            return self._refuse(sent, Status.DENIED, rule="forward.ref")
        amended = params.edit or params.recall
        if not amended:
            return self._schedule.keep(sent) if params.when else Traits(params)
        word = "edit" if params.edit else "recall"
        waiting = self._schedule.find(sender, sent.target, int(amended, 16))
        if waiting is not None:
            return self._schedule.amend(sent, waiting)
        original = self._original(sent, int(amended, 16), word)
        if isinstance(original, str):
            return self._refuse(sent, Status.DENIED, rule=original)
        if params.recall:
            self._recalling[original.mid] = sent.out.cid or ""
        return Traits(params, self, original)

    def amended(self, traits: Traits, *, ok: bool) -> None:
        """Take note that an edit or recall was committed, or was not."""
        original, is_recall = traits.original, bool(traits.params.recall)
        if original is not None and is_recall:
            self._recalling.pop(original.mid, None)
            if ok:
                self._withdrawals.everywhere(traits.withdrawn.messages, traits.steps)
                self._hub.count("recalled")
        elif ok:
            self._hub.count("edited")

    def dropped(self, traits: Traits) -> None:
        """Take note that the message these belong to was refused, or is nothing that is kept."""
        if traits.original is not None:
            self._recalling.pop(traits.original.mid, None)

    def _refuse(self, sent: Sent, code: Status, *, reason: str | None = None, rule: str | None = None) -> Refused:
        return self._statuses.refuse(sent.sender, sent.out.cid, code, sent.target.names, reason=reason, rule=rule)

    def _original(self, sent: Sent, mid: int, word: str) -> Message | str:
        """Return the message that an edit or recall is about, or the rule that forbids it.

        An edit stands for the message that it replaces: all edits of a message name that one.
        """
        read, sender = self._hub.store.read, sent.sender
        message: Message | None = self._schedule.leaving(mid)
        if message is None:
            message = messages.by_mid(read, amend.edited(read, mid) or mid)
        if message is None and self._schedule.is_over(sender, mid):
            return f"{word}.deleted"
        if message is None or message.kind == MessageKind.EVENT or message.sender_id != sender.id:
            return f"{word}.not-own"
        if message.kind == MessageKind.WORK:
            return f"{word}.work"  # somebody may be doing it already
        if self._hub.directory.thread_of(message.conversation) is not sent.target.thread:
            return f"{word}.not-own"
        if amend.recalled(read, mid):
            return f"{word}.recall"
        recalling = self._recalling.get(message.mid)
        if message.state or (recalling is not None and (recalling != sent.out.cid or word == "edit")):
            return f"{word}.deleted"
        if self._hub.now_ms() - message.ts > self._hub.settings.messaging.amend_window_s * 1000:
            return f"{word}.window"
        return message

    def _may_forward(self, sender: User, ref: str | None) -> bool:
        """Tell whether `ref` is a message that the sender sent or was addressed, and that is still there for him."""
        read, directory = self._hub.store.read, self._hub.directory
        message = messages.by_mid(read, int(ref, 16)) if ref else None
        if (
            message is None
            or message.kind == MessageKind.EVENT
            or message.state
            or amend.is_hidden(read, sender.id, message.mid)
        ):
            return False
        if message.sender_id == sender.id:
            return True
        thread = directory.thread_of(message.conversation)
        lane = directory.lane(thread, sender) if thread is not None else None
        return lane is not None and lane.covers(message.seq) and message.seq not in lane.failed


def _contradiction(params: Params, payload: bytes) -> str | None:
    """Return what is wrong with a combination of parameters."""
    if params.edit and params.recall:
        return "edit and recall exclude each other"
    word = "edit" if params.edit else "recall" if params.recall else "when" if params.when else ""
    if params.recall and payload:
        return "recall: the payload is empty"
    if word and params.is_transient:
        return f"{word}: is stored, so not with expiry 0 or flag 4"
    if word in ("edit", "recall") and params.when:
        return f"{word}: is for now, so not with when"
    return None


def _unkept(target: Target, params: Params) -> str | None:
    """Return what cannot be asked of a group that keeps nothing."""
    if params.when and target.group is not None and target.group.flags & GroupFlag.NO_STORAGE:
        return "when: this group keeps nothing"
    return None


def digest_of(prefix: bytes, params: Params, payload: bytes) -> bytes:
    """Return what a resend must have in common with the first send: destination, parameters, payload."""
    same = same_params(params.raw).encode() if params.raw else b""
    return blake2b(b"%b%b\0%b" % (prefix, same, payload), digest_size=16).digest()
