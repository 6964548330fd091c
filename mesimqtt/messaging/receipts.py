"""A device's PUBACK becomes DELIVERED, `out/read/…` becomes READ, a deadline a verdict (contract section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import Lane, Message, MessageKind, Step
from mesimqtt.domain.status import Status
from mesimqtt.messaging.devices import Left
from mesimqtt.store import devices as device_rows
from mesimqtt.store import messages as message_rows
from mesimqtt.store import statuses as status_rows
from mesimqtt.store.amend import HIDDEN, is_wiped
from mesimqtt.store.integrity import CORRUPT
from mesimqtt.topics import FLAG_DELIVERY_RECEIPT, FLAG_READ_RECEIPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.feed import Feed
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.store.batch import Batch

UNCONFIRMED = "unconfirmed"
_LEFT_MAX = 10_000
_RUNS_MAX = 32  # runs of unread seqs, each asked for by itself: 6 us each, and 4 us for each message in it
_MESSAGE, _DELIVERED = MessageKind.MESSAGE, Status.DELIVERED  # a member's look-up in its class is slow
TOO_LARGE = "too-large-for-device"


class Receipts:
    """Moves lanes and cursors along, and turns what changed since the last commit into few rows.

    Every step is checked against the lane first: nothing moves but along the steps that the contract allows.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._steps: list[tuple[Lane, Message, int, str, str]] = []
        self._reads: list[tuple[Lane, Message, int, str, str]] = []  # READ comes after all else of its message
        self._lanes: dict[int, Lane] = {}
        self._cursors: dict[int, tuple[Device, Feed]] = {}
        self._devices: dict[int, Device] = {}
        self.aged: Callable[[User, Message, str], None] = _ageless  # what has parameters was delivered or read
        self.skipped: Callable[[User, Thread, int, int], None] = _ageless  # after which seq, up to which one: read
        self.read_work: Callable[..., bool] = _not_his
        self.left: dict[int, Left] = {}  # who went away: its row may come later

    # ---- acknowledgements ------------------------------------------------------------------------------------

    def acknowledged(self, device: Device, feed: Feed, message: Message, *, confirmed: bool) -> None:
        """Take a device's acknowledgement; at QoS 0 (`confirmed` false) it raises no DELIVERED."""
        seq = message.seq
        feed.acked.add(seq)
        lane = feed.lane
        user = device.user
        hub = self._hub
        if device.row_id:
            self._cursors[id(feed)] = (device, feed)
        if lane.acked.add(seq):
            self._left_inbox(user, message)
            self._lanes[id(lane)] = lane
        if (
            confirmed
            and (message.sender_id != lane.user_id or feed.thread.a == feed.thread.b)  # notes to oneself count
            and message.kind == _MESSAGE
            and seq not in lane.failed
            and lane.delivered.add(seq)
        ):
            self._lanes[id(lane)] = lane
            if message.params:
                self.aged(user, message, "delivered")
            if message.flags & FLAG_DELIVERY_RECEIPT and not (
                user.is_discreet and hub.hides(user, message, FLAG_DELIVERY_RECEIPT)
            ):
                self._steps.append((lane, message, _DELIVERED, device.client_id, ""))
                hub.committer.wake()
                return
        elif message.kind:  # an event is nothing to be delivered or read: the watermarks pass it
            lane.delivered.add(seq)
            lane.read.add(seq)
        hub.committer.lazily(hub.now())

    def own(self, sender: User, thread: Thread, seq: int) -> None:
        """Count what a user sent himself as acknowledged for him: the watermarks of his lane pass it."""
        lane = sender.lanes.get(thread.id) or self._hub.directory.lane(thread, sender)
        if lane is not None:
            lane.acked.add(seq)
            lane.delivered.add(seq)
            lane.read.add(seq)
            self._lanes[id(lane)] = lane
            self._hub.committer.lazily(self._hub.now())

    def passed(self, lane: Lane, seq: int) -> None:
        """Count as acknowledged what is for somebody else: the watermarks of a lane pass it."""
        for seqs in (lane.acked, lane.delivered, lane.read):
            seqs.add(seq)
        self.keep(lane)

    def keep(self, lane: Lane) -> None:
        """Keep a lane's state at the next commit, whenever that is."""
        self._lanes[id(lane)] = lane
        self._hub.committer.lazily(self._hub.now())

    def status_acknowledged(self, device: Device, change: int) -> None:
        """Move a device's status number."""
        if device.settle_status(change) and device.row_id:
            self.touch(device)

    def mark_acknowledged(self, device: Device, change: int) -> None:
        """Move the number of the last read mark that a device has."""
        if change > device.read_change:
            device.read_change = change
            self.touch(device)

    def touch(self, device: Device) -> None:
        """Keep a device's row at the next commit, whenever that is."""
        if device.row_id:
            self._devices[device.row_id] = device
            self._hub.committer.lazily(self._hub.now())

    def _left_inbox(self, user: User, message: Message) -> None:
        if user.inbox_messages > 0 and message.sender_id != user.id and not message.kind:
            user.inbox_messages -= 1
            user.inbox_bytes -= message.size

    # ---- reading ---------------------------------------------------------------------------------------------

    def read(self, user: User, thread: Thread, mid: int, *, upto: bool) -> bool:
        """Mark one message (`upto`: all up to it) read by `user`; False if that mid was never addressed to him."""
        lane = self._hub.directory.lane(thread, user)
        connection = self._hub.store.read
        message = message_rows.by_mid(connection, mid)
        if lane is None or message is None or message.conversation.id != thread.id or not lane.covers(message.seq):
            return False
        if message.state == CORRUPT:  # its seq may be another's
            return False
        if message.kind == MessageKind.WORK:
            return self.read_work(user, thread, message, upto=upto)
        if upto:
            limit = self._hub.settings.messaging.read_upto_max
            found = message_rows.unread_among(connection, thread, user.id, _unread(lane, message.seq), limit)
        else:
            if message.sender_id == user.id or message.kind or message.state:
                return False
            found = [message]
        for one in found:
            if one.state != CORRUPT:  # it is set apart: whose it was is not sure
                self._read_one(user, lane, one)
        if upto:
            # Older ones than the newest 1 000 are read all the same; they raise no status of their own.
            if len(found) == self._hub.settings.messaging.read_upto_max:
                self.skipped(user, thread, lane.read.upto, found[0].seq - 1)
            for seqs in (lane.read, lane.delivered):
                if found and found[0].seq - 1 > seqs.upto and len(found) == self._hub.settings.messaging.read_upto_max:
                    seqs.fill(found[0].seq - 1)
        self._lanes[id(lane)] = lane
        return True

    def _read_one(self, user: User, lane: Lane, message: Message) -> None:
        seq = message.seq
        if not lane.covers(seq) or seq in lane.read:
            return
        if seq in lane.failed and not self._may_follow(message, user):
            return
        if self._is_wiped(user, lane, message):
            return
        lane.read.add(seq)
        if message.params:
            self.aged(user, message, "read")
        shown = message.flags
        if user.is_discreet:
            for flag in (FLAG_DELIVERY_RECEIPT, FLAG_READ_RECEIPT):
                shown &= ~flag if self._hub.hides(user, message, flag) else ~0
        if lane.delivered.add(seq) and shown & FLAG_DELIVERY_RECEIPT and seq not in lane.failed:
            self._steps.append((lane, message, Status.DELIVERED, "", ""))
        if shown & FLAG_READ_RECEIPT:
            self._reads.append((lane, message, Status.READ, "", ""))
        self._hub.committer.wake()

    def _is_wiped(self, user: User, lane: Lane, message: Message) -> bool:
        """Tell whether a message was wiped for a user whose lane did not know: a crash came between, or he was away.

        Only what has parameters can be: an `age` of its own, or the edit of a message that has one.
        """
        if not message.params or not is_wiped(self._hub.store.read, user.id, message.mid):
            return False
        self.settle(user, lane, message)
        return True

    def _may_follow(self, message: Message, user: User) -> bool:
        """Tell whether READ may follow a failure: after `unconfirmed` alone."""
        statuses = status_rows.statuses_of(self._hub.store.read, message)
        return any(
            row.recipient_id == user.id and row.status == Status.FAILED and row.reason == UNCONFIRMED
            for row in statuses
        )

    def mark(self, user: User, thread: Thread, payload: str) -> int:
        """Keep the newest read mark of a conversation for the reader's other devices; return its number."""
        lane = self._hub.directory.lane(thread, user)
        if lane is None:
            return 0
        self._hub.directory.counters(user)
        user.read_change += 1
        lane.read_payload, lane.read_change = payload, user.read_change
        self._lanes[id(lane)] = lane
        self._hub.committer.wake()
        return user.read_change

    # ---- verdicts --------------------------------------------------------------------------------------------

    def fail(self, user: User, lane: Lane, message: Message, code: Status, reason: str = "") -> bool:
        """Give a message its failure verdict for one recipient; False if it has one or was delivered.

        What was held before is judged like what waits for somebody who is away.
        """
        seq = message.seq
        if seq in lane.delivered or message.state > HIDDEN or self._is_wiped(user, lane, message):
            return False
        if seq in lane.failed and seq in lane.read:
            lane.delivered.add(seq)
        elif seq in lane.failed or seq in lane.read:
            return False
        lane.failed.add(seq)
        if lane.acked.add(seq):
            self._left_inbox(user, message)
        self._lanes[id(lane)] = lane
        self._steps.append((lane, message, code, "", reason))
        self._hub.committer.wake()
        return True

    def hold(self, user: User, lane: Lane, message: Message) -> None:
        """Keep a message from a user who blocks its sender: it is never delivered, and its sender is not told.

        Failed and read, yet not delivered: no other way leads there, and `fail` knows it by that.
        """
        seq = message.seq
        if seq in lane.failed or seq in lane.delivered:
            return
        lane.failed.add(seq)
        lane.read.add(seq)
        if lane.acked.add(seq):
            self._left_inbox(user, message)
        self._lanes[id(lane)] = lane
        self._hub.count("held")
        self._hub.committer.wake()

    def settle(self, user: User, lane: Lane, message: Message) -> None:
        """Take note that nobody is to get a message any more, or that `user` is not: nothing more can come of it."""
        seq = message.seq
        if not lane.covers(seq):
            return
        if lane.acked.add(seq):
            self._left_inbox(user, message)
        if message.state != HIDDEN:  # what a user hides from himself is judged at its deadline like any other
            lane.delivered.add(seq)
            lane.read.add(seq)
        self._lanes[id(lane)] = lane
        self._hub.committer.lazily(self._hub.now())

    def drop(self, mids: set[int], user: int = 0) -> None:
        """Forget the steps of messages (to one user) that are not in a batch yet: they were overtaken."""
        for steps in (self._steps, self._reads):
            steps[:] = [each for each in steps if each[1].mid not in mids or (user and each[0].user_id != user)]

    def expire(self, user: User, lane: Lane, message: Message) -> bool:
        """Judge a message whose deadline has passed: `unconfirmed` if it was written at QoS 0, else expired."""
        if message.seq in lane.acked and message.seq not in lane.failed:
            return self.fail(user, lane, message, Status.FAILED, UNCONFIRMED)
        return self.fail(user, lane, message, Status.EXPIRED)

    def step(self, lane: Lane, message: Message, code: Status, device: str = "", reason: str = "") -> None:
        """Tell a step of work, whose state is no lane's; `lane` says for whom."""
        (self._reads if code == Status.READ else self._steps).append((lane, message, code, device, reason))
        self._hub.committer.wake()

    def passed_over(self, device: Device, feed: Feed, message: Message, reason: str) -> None:
        """Pass a message over for a device that cannot take it; a verdict once no device with a cursor does."""
        if not device.row_id or message.kind or message.sender_id == device.user.id:
            return  # no cursor, an event, a copy: a gap, and nobody's verdict
        self._cursors[id(feed)] = (device, feed)
        self._hub.committer.lazily(self._hub.now())
        seq, read = message.seq, self._hub.store.read
        if seq in feed.lane.acked:
            return
        online = {each.row_id: each.feeds.get(feed.thread.id) for each in device.user.devices}
        for row in device_rows.of_user(read, device.user.id):
            other = online.get(row.id)
            acked = other.acked if other is not None else device_rows.cursor(read, row.id, feed.thread.id)
            if row.id != device.row_id and seq not in acked:
                return
        self.fail(device.user, feed.lane, message, Status.FAILED, reason)

    # ---- into the batch --------------------------------------------------------------------------------------

    def close(self, device: Device) -> None:
        """Keep all cursors of a device that goes away."""
        if device.row_id:
            for feed in device.feeds.values():
                self._cursors[id(feed)] = (device, feed)
            self.touch(device)
            if len(self.left) >= _LEFT_MAX:
                del self.left[next(iter(self.left))]
            sent_before = device.sent_before_mid if device.is_behind else 0
            self.left[device.row_id] = Left(
                device.status_acked, device.read_change, device.left_in_flight, sent_before_mid=sent_before
            )

    def seal(self, batch: Batch) -> None:
        """Put what changed since the last commit into the batch: runs of steps, and each state once."""
        for lane in self._lanes.values():
            user = self._hub.directory.known_user(lane.user_id)
            # One that a new membership has replaced must not overwrite it.
            if user is None or user.lanes.get(lane.conversation.id, lane) is lane:
                if lane.runs_most > lane.narrow_at:
                    self._narrow(lane)
                batch.lanes[lane.conversation.id, lane.user_id] = lane.row()
        self._lanes.clear()
        if self._steps or self._reads:
            self._seal_steps(batch, self._hub.now_ms())
        for device, feed in self._cursors.values():
            batch.cursors[device.row_id, feed.thread.id] = (
                device.row_id, feed.thread.id, feed.acked.upto, feed.acked.above,
            )  # fmt: skip
        self._cursors.clear()
        for device in self._devices.values():
            batch.rows.append((device_rows.UPDATE, self._row(device)))
        self._devices.clear()

    def _narrow(self, lane: Lane) -> None:
        """Forget the oldest of a lane in too many pieces; what nobody has confirmed has its verdict by that."""
        runs, read = lane.narrow(), self._hub.store.read
        count = sum(last + 1 - first for first, last in runs)
        for message in message_rows.unread_among(read, lane.conversation, lane.user_id, runs, count):
            is_his = message.state != CORRUPT and lane.covers(message.seq)
            if is_his and not (message.params and is_wiped(read, lane.user_id, message.mid)):
                self._steps.append((lane, message, Status.FAILED, "", UNCONFIRMED))

    def _row(self, device: Device) -> tuple[object, ...]:
        # 2: it went away with something unacknowledged, which comes again with DUP after a restart too.
        is_online = 1 if device in device.user.devices else 2 if device.left_in_flight else 0
        return (
            device.ceiling,
            device.status_acked,
            device.read_change,
            int(device.wants_status),
            device.packet_max,
            device.kept_filters,
            is_online,
            self._hub.now_ms(),
            device.row_id,
        )

    def _seal_steps(self, batch: Batch, ts: int) -> None:
        runs: dict[tuple[int, int, int, str, str], Step] = {}
        for lane, message, status, device, reason in (*self._steps, *self._reads):
            key = (id(lane), message.sender_id, status, device, reason)
            run = runs.get(key)
            seq = message.seq
            if run is not None and seq == run.last_seq + 1 and seq - run.first_seq < message_rows.RUN_MAX:
                run.last_seq = seq
            else:
                run = Step(message.sender_id, lane.conversation, lane.user_id, seq, status, ts, device, reason)
                runs[key] = run
                batch.steps.append(run)
            run.messages.append(message)
        self._steps.clear()
        self._reads.clear()


def _unread(lane: Lane, seq: int) -> list[tuple[int, int]]:
    """Return the runs of seqs up to `seq` that are not read: a hole that stays must not have all above it looked at."""
    runs = [(max(first, lane.floor + 1), last) for first, last in lane.read.missing(seq) if last > lane.floor]
    return runs if len(runs) <= _RUNS_MAX else [(runs[0][0], seq)]


def _ageless(*_: object) -> None:
    """Let nothing vanish: receipts before messaging is wired."""


def _not_his(*_: object, **_upto: bool) -> bool:
    """Know of no work: the receipts before messaging is wired."""
    return False
