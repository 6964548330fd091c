"""Round-robin groups: a queue of work, of which each piece is one member's, whoever acknowledges it first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesimqtt.domain.groups import MemberFlag
from mesimqtt.domain.messages import Lane
from mesimqtt.domain.status import Status
from mesimqtt.messaging.departures import GROUP_DELETED
from mesimqtt.messaging.work_queue import WAITING_BYTES, WAITING_MAX, Job, Queue
from mesimqtt.store import messages as message_rows
from mesimqtt.store import statuses as status_rows
from mesimqtt.store import work
from mesimqtt.topics import FLAG_DELIVERY_RECEIPT, FLAG_READ_RECEIPT

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, Thread, User
    from mesimqtt.messaging.receipts import Receipts

IDLE_MAX = 256  # groups of which nothing is in memory, but whose turn it is
READ_UPTO_MAX = 10_000  # members, of whom it is remembered up to where they have read
_RECV = int(MemberFlag.RECV)


class RoundRobin:
    """Gives each piece of work to one member who is online, and to another if he does not acknowledge it in time."""

    def __init__(self, hub: Hub, delivery: Delivery, receipts: Receipts, *, started_mid: int) -> None:
        self._hub = hub
        self._delivery = delivery
        self._receipts = receipts
        self._given_mid = started_mid  # what is older, and read from the store, may have been given to somebody before
        self._queues: dict[int, Queue] = {}  # whose last message is the longest ago first
        self._is_store_asked = work.is_any(hub.store.read)  # there may be work of groups that have no queue here
        self._settling: dict[int, int] = {}  # taken, but not committed yet: mid -> by whom
        self._read_upto: dict[tuple[int, int], int] = {}  # (conversation, user) -> seq up to which he has read
        receipts.read_work = self._read

    # ---- what happens --------------------------------------------------------------------------------------------

    def is_full(self, group: Group) -> bool:
        """Tell whether as much work waits in a group as an inbox holds messages."""
        return self._queue(group).open >= self._hub.settings.messaging.inbox_messages_max

    def committed(self, group: Group, message: Message) -> None:
        """Take a piece of work that was just committed."""
        queue = self._queues.get(group.id)
        if queue is None:
            queue = self._queue(group)  # it counts this one too, and finds it in the store
        else:
            queue.group = group
            self._queues[group.id] = self._queues.pop(group.id)
            queue.open += 1
            if queue.is_behind or not queue.has_room() or not self._ready(queue):
                queue.is_behind = True
            elif message.seq > queue.after:  # else a page of the store that was read just after the commit had it
                queue.after = message.seq
                queue.waiting.append(Job(queue, message, is_repeat=False))
        self._give(queue)

    def came(self, device: Device) -> None:
        """Take note of a device that has subscribed."""
        self._is_store_asked = self._is_store_asked and work.is_any(self._hub.store.read)
        if self._is_store_asked:
            for number in work.groups_of(self._hub.store.read, device.user.id):
                group = self._hub.directory.group_by_id(number) if number not in self._queues else None
                if group is not None:
                    self._queue(group)
        for queue in self._queues.values():
            if device.user.id in queue.group.members:
                queue.ready = None
                self._give(queue)

    def gone(self, device: Device) -> None:
        """Give what a device had and did not acknowledge to somebody else: its connection ended."""
        for queue in self._queues.values():
            if device.user.id in queue.group.members or queue.held:
                queue.ready = None
                for job in [job for job in queue.held.values() if device in job.devices]:
                    job.devices.remove(device)
                    if not job.devices:
                        self._put_back(job)
                self._give(queue)

    def refresh(self, group: Group) -> None:
        """Take note that members may do other things than before."""
        queue = self._queues.get(group.id)
        if queue is not None:
            queue.group, queue.ready = group, None
            queue.last = {user: turn for user, turn in queue.last.items() if user in group.members}
            for job in list(queue.held.values()):
                if job.holder is not None and not group.may(job.holder.id, MemberFlag.RECV):
                    self._put_back(job)
            self._give(queue)

    def lost(self, group: Group, user: User) -> None:
        """Take from a former member what he did not acknowledge."""
        if user.id not in group.members:
            self.refresh(group)

    def acknowledged(self, device: Device, job: Job) -> None:
        """Take a PUBACK: the first one says whose the work was."""
        message = job.message
        if message.mid in self._settling or not self._is_open(job):
            self._hub.count("work.late")
            return
        self._settle(job, device.user.id, Status.DELIVERED, device.client_id)
        self._give(job.queue)

    def tick(self, now: float) -> None:
        """Take work over from who did not acknowledge it in time, if there is somebody else."""
        late = now - self._hub.settings.groups.work_answer_s
        for queue in self._queues.values():
            for job in [job for job in queue.held.values() if job.since <= late]:
                if any(user is not job.holder for user in self._ready(queue)):
                    self._put_back(job)
            if queue.waiting:
                self._give(queue)
        if len(self._queues) > IDLE_MAX:
            self._forget()

    def _forget(self) -> None:
        """Forget the queues at rest that were used the longest ago; their work is in the store."""
        idle = [
            queue
            for queue in self._queues.values()
            if not (queue.waiting or queue.held or queue.is_loading or queue.settling)
            and not (queue.is_behind and self._ready(queue))
        ]
        for queue in idle[: max(0, len(idle) - IDLE_MAX)]:
            del self._queues[queue.group.id]
            self._is_store_asked = self._is_store_asked or queue.is_behind

    def judge(self, message: Message) -> bool:
        """Give work whose deadline has passed its verdict; False while somebody may still acknowledge it."""
        group = self._hub.directory.room(message.conversation.a)
        if group is None or message.mid in self._settling:
            return True
        queue = self._queue(group)
        if not work.is_open(self._hub.store.read, message.conversation.id, message.seq):
            return True
        is_over = message.expires_at <= self._hub.now_ms()
        if not is_over and self._hub.directory.group_by_id(group.id) is not None:
            return True
        job = queue.held.get(message.mid)
        if job is not None:
            now = self._hub.now()
            job.grace_until = job.grace_until or now + self._hub.settings.messaging.verdict_grace_s
            if now < job.grace_until:
                return False
        job = job or Job(queue, message, is_repeat=True)
        self._settle(job, 0, *((Status.EXPIRED, "", "") if is_over else (Status.FAILED, "", GROUP_DELETED)))
        return True

    async def end(self, group: Group) -> None:
        """Judge what waits in a group that was deleted; what is in flight is judged by its answer."""
        queue = self._queues.get(group.id) or self._queue(group)
        after = 0
        while found := work.page(self._hub.store.read, group.thread.id, after, WAITING_MAX, WAITING_BYTES)[0]:
            after = found[-1].seq
            for message in found:
                if message.mid in queue.held:
                    self._hub.committer.row(message_rows.SET_DEADLINE, self._hub.now_ms(), message.mid)
                elif message.mid not in self._settling:
                    self._settle(Job(queue, message, is_repeat=True), 0, Status.FAILED, "", GROUP_DELETED)
            self._hub.committer.wake()
            await asyncio.sleep(0)
        if not queue.held:
            self._queues.pop(group.id, None)

    # ---- who gets it ---------------------------------------------------------------------------------------------

    def _queue(self, group: Group) -> Queue:
        queue = self._queues.get(group.id)
        if queue is None:
            count = work.count(self._hub.store.read, group.thread.id)
            queue = self._queues[group.id] = Queue(group, count)
        queue.group = group
        return queue

    def _ready(self, queue: Queue) -> list[User]:
        if queue.ready is None:
            group, known = queue.group, self._hub.directory.known_user
            online = [known(number) for number, rights in group.members.items() if rights & _RECV]
            queue.ready = [user for user in online if user is not None and self._devices(user, group)]
        return queue.ready

    @staticmethod
    def _devices(user: User, group: Group) -> list[Device]:
        """Return a user's devices that could acknowledge: those that take the group's messages at QoS 1."""
        return [device for device in user.devices if device.qos_of("g", group.address) > 0]

    def _pick(self, queue: Queue, job: Job) -> User | None:
        """Return who is to get it: of those who have room, who holds least and waited longest, the untried first.

        Of those of whom nothing is known, the seq decides: it goes round also where memory has forgotten the group.
        """
        most = self._hub.settings.groups.work_held_max
        group = queue.group
        able = [
            user
            for user in self._ready(queue)
            if queue.load.get(user.id, 0) < most
            and (user.id != job.message.sender_id or group.thread.loops_back)
            and any(device.has_room for device in self._devices(user, group))
            and not any(job in device.connection.claimed.values() for device in user.devices)
        ]
        if not able:
            return None
        places = {user.id: (place - job.message.seq) % len(able) for place, user in enumerate(able)}
        load, last = queue.load, queue.last
        return min(
            able,
            key=lambda user: (user.id in job.tried, load.get(user.id, 0), last.get(user.id, 0), places[user.id]),
        )

    def _give(self, queue: Queue) -> None:
        if not (queue.waiting or queue.is_behind):
            return
        if not self._ready(queue):
            self._leave(queue)
            return
        for job in [queue.waiting.popleft() for _ in range(len(queue.waiting))]:
            is_over = job.message.expires_at <= self._hub.now_ms()
            user = None if is_over else self._pick(queue, job)
            if user is not None:
                self._hand_over(queue, job, user)
            elif not is_over:  # else the sweep judges it
                queue.waiting.append(job)
        if queue.is_behind and queue.has_room(share=2):
            self._load(queue)

    def _leave(self, queue: Queue) -> None:
        """Leave to the store what nobody can take now; not while somebody may still acknowledge some of it."""
        if not queue.waiting or queue.held or queue.settling or any(map(self._is_in_flight, queue.waiting)):
            return
        self._given_mid = max(self._given_mid, *(job.message.mid for job in queue.waiting if job.is_repeat), 0)
        queue.waiting.clear()
        queue.after, queue.is_behind = 0, True

    def _is_in_flight(self, job: Job) -> bool:
        """Tell whether somebody who had it before has not answered yet, and is still there."""
        users = map(self._hub.directory.known_user, job.tried)
        return any(job in device.connection.claimed.values() for user in users if user for device in user.devices)

    def _hand_over(self, queue: Queue, job: Job, user: User) -> None:
        group = queue.group
        queue.turn += 1
        queue.last[user.id] = queue.turn
        queue.load[user.id] = queue.load.get(user.id, 0) + 1
        queue.held[job.message.mid] = job
        job.holder, job.since = user, self._hub.now()
        job.tried.add(user.id)
        for device in self._devices(user, group):
            if device.has_room:
                topic, extra = self._delivery.write(device, group.thread, job.message, "g", group.address)
                if device.fits(topic, job.message.payload, extra):
                    extra = extra._replace(dup=job.is_repeat)
                    self._hub.hand_over(device, topic, job.message.payload, 1, job, extra)
                    job.devices.append(device)
        job.is_repeat = True
        if not job.devices:
            self._put_back(job)

    def _put_back(self, job: Job) -> None:
        """Let go of who holds it; it is the first to be given again."""
        queue, holder = job.queue, job.holder
        queue.held.pop(job.message.mid, None)
        if holder is not None:
            queue.let_go(holder.id)
        job.holder, job.devices = None, []
        queue.waiting.appendleft(job)

    def _is_open(self, job: Job) -> bool:
        return job.queue.held.get(job.message.mid) is job or job in job.queue.waiting

    def _settle(self, job: Job, recipient: int, code: Status, device: str, reason: str = "") -> None:
        """End it: with who took it, or (recipient 0) with why nobody did."""
        queue, message = job.queue, job.message
        if queue.held.pop(message.mid, None) is not None and job.holder is not None:
            queue.let_go(job.holder.id)
        elif job in queue.waiting:
            queue.waiting.remove(job)
        queue.open = max(0, queue.open - 1)
        committer, number = self._hub.committer, message.conversation.id
        self._settling[message.mid] = recipient
        if self._read_upto.get((number, recipient), 0) >= message.seq:  # he took it after he had read what is behind it
            self._read_upto[number, recipient] = message.seq - 1
        queue.settling += 1

        def committed(ok: bool) -> None:
            if ok:
                self._settling.pop(message.mid, None)
                queue.settling -= 1
            else:  # step and row stay in the batch
                committer.batch.after.append(committed)

        committer.batch.after.append(committed)
        committer.row(work.DELETE, number, message.seq)
        if code != Status.DELIVERED or message.flags & FLAG_DELIVERY_RECEIPT:
            self._receipts.step(Lane(message.conversation, recipient), message, code, device, reason)
        committer.wake()

    # ---- from the store ------------------------------------------------------------------------------------------

    def _load(self, queue: Queue) -> None:
        """Read the next page of what waits."""
        if queue.is_loading:
            return
        queue.is_loading = True
        thread: Thread = queue.group.thread
        after, known = queue.after, thread.last_seq

        def read(connection: sqlite3.Connection) -> tuple[list[Message], bool]:
            return work.page(connection, thread.id, after, WAITING_MAX, WAITING_BYTES)

        def done(page: tuple[list[Message], bool]) -> None:
            found, is_more = page
            queue.is_loading = False
            if queue.after == after:  # else all was left to the store meanwhile: from the beginning
                for message in found:
                    message.conversation = thread
                    if message.mid not in self._settling and message.mid not in queue.held:
                        queue.waiting.append(Job(queue, message, is_repeat=message.mid <= self._given_mid))
                queue.after = found[-1].seq if is_more else max(known, found[-1].seq if found else 0)
                queue.is_behind = queue.after < thread.last_seq
            self._give(queue)

        self._hub.store.read_later(read, done)

    # ---- READ ----------------------------------------------------------------------------------------------------

    def _read(self, user: User, thread: Thread, message: Message, *, upto: bool) -> bool:
        """Take a READ of work; False if somebody else took it, or nobody yet."""
        found = [message] if not upto else []
        if upto:
            place, limit = (thread.id, user.id), self._hub.settings.messaging.read_upto_max
            after = self._read_upto.get(place, 0)
            found = work.taken_unread(self._hub.store.read, thread.id, user.id, message.seq, limit, after=after)
            if len(found) < limit and user.id not in self._settling.values():
                self._note_read(place, max(after, message.seq))
        is_his = upto
        self._read_unacknowledged(user, thread, message)
        for one in found:
            rows = status_rows.statuses_of(self._hub.store.read, one)
            codes = [row.status for row in rows if row.recipient_id == user.id]
            is_taken = Status.DELIVERED in codes or self._settling.get(one.mid) == user.id
            is_his = is_his or is_taken or Status.READ in codes
            if is_taken and one.flags & FLAG_READ_RECEIPT:
                self._receipts.step(Lane(thread, user.id), one, Status.READ)
        return is_his

    def _note_read(self, place: tuple[int, int], seq: int) -> None:
        """Remember up to where somebody has read all that he took, so that he is not asked for it again."""
        if len(self._read_upto) >= READ_UPTO_MAX:
            del self._read_upto[next(iter(self._read_upto))]
        self._read_upto[place] = seq

    def _read_unacknowledged(self, user: User, thread: Thread, message: Message) -> None:
        """Take a READ for the acknowledgement that it implies: it may come before it."""
        queue = self._queues.get(thread.a)
        for job in (*queue.held.values(), *queue.waiting) if queue is not None else ():
            if job.message.mid == message.mid and user.id in job.tried and message.mid not in self._settling:
                self._settle(job, user.id, Status.DELIVERED, "")
                return
