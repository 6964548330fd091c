"""Hand-over of committed messages to devices: live, and by pages from the store for who is behind."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from mesimqtt.domain.messages import Conversation, Message, MessageKind
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.messaging.devices import PLAIN, Device, Extra
from mesimqtt.messaging.feed import ABOVE_MAX, Feed
from mesimqtt.messaging.properties5 import for_receiver, seq_property
from mesimqtt.messaging.receipts import TOO_LARGE
from mesimqtt.messaging.waiting import Room, next_page_bytes
from mesimqtt.store import amend as amend_rows
from mesimqtt.store import devices as device_rows
from mesimqtt.store import messages as message_rows
from mesimqtt.topics import PRIORITY_DEFAULT, has_param, params_in

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.store.devices import Pending

SENT_MAX = 10_000  # devices that went away, of which memory knows what they were sent; of others, when they left


class Delivery:
    """Gives each device the messages of its conversations in seq order, backlog before live."""

    def __init__(self, hub: Hub, receipts: Receipts) -> None:
        self._hub = hub
        self._receipts = receipts
        self.withdrawn: dict[tuple[int, int], float] = {}  # (mid, user or 0 for all) lately: what a read may not know
        self.sent: dict[int, dict[int, int]] = {}  # device row -> conversation -> last seq sent, for DUP
        self.room = Room(self.page, hub.now)

    def committed(self, thread: Thread, message: Message, recipients: list[User], sender: User | None) -> None:
        """Hand a message that was just committed to who is online."""
        seq = thread.last_seq = message.seq
        for user in recipients:
            for device in user.devices:
                self._live(device, thread, message)
        for device in sender.devices if sender is not None else ():
            if device.client_id != message.device or (thread.group is not None and thread.loops_back):
                self._live(device, thread, message)
                continue
            feed = device.feeds.get(thread.id)  # it sent this itself: a legal gap
            if feed is None and device.row_id and not device.is_loading and self._follows(device, thread):
                feed = self._open(device, thread, seq - 1)  # or it would read all that again at its return
            if feed is not None and feed.sent == seq - 1 and not feed.behind:
                self._pass_over(feed, seq)

    def hold(self, thread: Thread, message: Message, users: list[User]) -> list[User]:
        """Keep a committed message from users who block its sender; for their devices it is a gap. Return nobody."""
        for user in users:
            lane = self._hub.directory.lane(thread, user)
            if lane is not None:
                self._receipts.hold(user, lane, message)
            for device in user.devices:
                feed = device.feeds.get(thread.id)
                if feed is not None and not feed.behind:
                    self._pass_over(feed, message.seq)
        return []

    def _live(self, device: Device, thread: Thread, message: Message) -> None:
        if not device.filters:
            return  # it publishes only
        feed = device.feeds.get(thread.id)
        if feed is None:
            if not self._follows(device, thread):
                self._live_only(device, thread, message)
                return
            if device.is_loading:
                # The store is being read for it: the message is in there, unless it was committed after the look.
                device.late.setdefault(thread.id, (thread, message.seq))
                return
            feed = self._open(device, thread, message.seq - 1)
            if feed is None:
                return
        elif feed.behind or message.seq <= feed.sent:
            return
        if not (self._give_live(device, feed, message) or self._give(device, feed, message)):
            self._fall_behind(device, feed)
            self.page(device)

    def _give_live(self, device: Device, feed: Feed, message: Message) -> bool:
        """Hand over a peer's message that was committed just now: the way of nearly every message, without its checks.

        False: any of what `_give` looks at is not as usual.
        """
        seq = message.seq
        live = feed.live
        if live is None:
            thread, user = feed.thread, device.user
            if thread.group is not None or len(set(thread.users)) == 1:
                return False
            peer = thread.peer(user)
            prefix, peer_name = user.in_prefix + f"u/{peer.level}/".encode(), peer.address
            live = feed.live = (prefix, device.qos_of("u", peer_name), device.marks_of("u", peer_name))
        prefix, qos, marks = live
        if (
            seq != feed.sent + 1
            or qos < 0
            or message.sender_id == device.user.id
            or device.packet_max
            or message.params
            or feed.acked.upto + ABOVE_MAX <= seq
        ):
            return False
        if device.is_five:
            topic, extra = b"%b%016x" % (prefix, message.mid), Extra(marks + seq_property(seq))
        else:
            topic, extra = b"%b%016x/seq=%d" % (prefix, message.mid, seq), PLAIN
        if not self._hub.hand_over(device, topic, message.payload, qos, (feed, message), extra):
            return False
        feed.sent = seq
        return True

    def _live_only(self, device: Device, thread: Thread, message: Message) -> None:
        """Give a `sent` copy or event to a device that selects those but not the conversation: live, no cursor."""
        is_own = message.sender_id == device.user.id
        is_live = message.expires_at > self._hub.now_ms()  # its commit may have taken longer than it lives
        if is_live and (message.kind == MessageKind.EVENT or (is_own and message.device != device.client_id)):
            cls = "sent" if is_own else "event"
            if (qos := device.qos_of(cls)) >= 0:
                topic, extra = self.write(device, thread, message, cls, None)
                if device.fits(topic, message.payload, extra):
                    self._hub.hand_over(device, topic, message.payload, qos, None, extra)

    def _open(self, device: Device, thread: Thread, upto: int) -> Feed | None:
        lane = self._hub.directory.lane(thread, device.user)
        if lane is None or not lane.gives(upto + 1):
            return None
        feed = device.feeds[thread.id] = Feed(thread, lane, SeqSet(upto))
        return feed

    def _give(self, device: Device, feed: Feed, message: Message) -> bool:
        """Hand over, or pass over what this device is not to get; False: no room now."""
        seq, user, lane = message.seq, device.user, feed.lane
        taken = self.withdrawn
        if message.state or (taken and ((message.mid, 0) in taken or (message.mid, user.id) in taken)):
            self._receipts.settle(user, lane, message)
            return self._pass_over(feed, seq)
        if seq in feed.acked or seq in lane.failed or not lane.gives(seq) or message.expires_at <= self._hub.now_ms():
            return self._pass_over(feed, seq)
        thread = feed.thread
        if message.kind == MessageKind.WORK:  # for one member alone, by another way (round_robin.py)
            self._receipts.passed(lane, seq)
            return self._pass_over(feed, seq)
        is_own = message.sender_id == user.id and message.device == device.client_id and not thread.loops_back
        if is_own or (message.kind and not thread.shows(user, message.payload)):
            return self._pass_over(feed, seq)
        cls, name = self._class(user, thread, message)
        qos = device.qos_of(cls, name)
        if qos < 0:
            return self._pass_over(feed, seq)
        if feed.is_far(seq):
            return False
        topic, extra = self.write(device, thread, message, cls, name)
        if device.packet_max and not device.fits(topic, message.payload, extra):
            self._receipts.passed_over(device, feed, message, TOO_LARGE)
            return self._pass_over(feed, seq)
        if qos and seq <= feed.resent_upto:  # [MQTT-3.3.1-2]
            extra = extra._replace(dup=True)
        if not self._hub.hand_over(device, topic, message.payload, qos, (feed, message), extra):
            return False
        feed.sent = seq
        return True

    def _pass_over(self, feed: Feed, seq: int) -> bool:
        feed.acked.add(seq)
        feed.sent = max(feed.sent, seq)
        return True

    @staticmethod
    def _class(user: User, thread: Thread, message: Message) -> tuple[str, str | None]:
        """Return under which class, and of whom, a message comes to a user."""
        if message.kind == MessageKind.EVENT:
            return "event", None
        if message.sender_id == user.id and len(set(thread.users)) != 1 and not thread.loops_back:
            return "sent", None
        if thread.group is not None:
            return "g", thread.group.address
        return "u", thread.peer(user).address

    def write(
        self, device: Device, thread: Thread, message: Message, cls: str, name: str | None
    ) -> tuple[bytes, Extra]:
        """Return topic and properties of a message as this device gets it."""
        user, group = device.user, thread.group
        place = f"g/{group.level}" if group is not None else f"u/{thread.peer(user).level}"
        if cls == "g":
            sender = self._hub.directory.party(message.sender_id)
            place += f"/{sender.level if sender else '%00'}"
        elif cls != "u":
            place = f"{cls}/{place}"
        topic = b"%b%b/%016x" % (user.in_prefix, place.encode(), message.mid)
        seq, level = message.seq, message.params
        if not level:
            if device.is_five:
                return topic, Extra(device.marks_of(cls, name) + seq_property(seq))
            return b"%b/seq=%d" % (topic, seq), PLAIN
        left_ms = message.expires_at - self._hub.now_ms()
        left_s = -(-left_ms // 1000)
        if not device.is_five:
            return b"%b/seq=%d&%b" % (topic, seq, params_in(level, left_s)), PLAIN
        properties = device.marks_of(cls, name) + for_receiver(level, seq, left_s)
        # Counted from the engine's clock, which may be a moment behind, and a little less than whole seconds, which
        # are rounded up.
        has_expiry = has_param(level, "expiry")
        expires_at = device.connection.engine.now + max(left_ms - 0.5, 1) / 1000 if has_expiry else 0.0
        return topic, Extra(properties, expires_at)

    # ---- who is behind ---------------------------------------------------------------------------------------

    def begin(self, device: Device) -> None:
        """Find what waits for a device after it subscribed, then hand it over by pages."""
        user, row_id, selected = device.user, device.row_id, device.selected
        if device.is_asking:  # however often it subscribes, the store is asked once more when it has answered
            device.asks_again = True
            return
        device.is_asking = True

        def read(connection: sqlite3.Connection) -> tuple[list[Pending], dict[int, int]]:
            pending = device_rows.pending(connection, user.id, row_id)
            return pending, amend_rows.priorities(connection, {each.conversation_id: each.acked for each in pending})

        def done(answer: tuple[list[Pending], dict[int, int]]) -> None:
            found, priorities = answer
            again, device.is_asking, device.asks_again = device.asks_again, False, False
            if device not in user.devices:
                return
            for feed in device.feeds.values():  # parked by an UNSUBSCRIBE, and selected again
                if feed.behind and self._follows(device, feed.thread):
                    device.behind.setdefault(feed.thread.id, feed)
            for pending in found:
                self._pend(device, pending, priorities.get(pending.conversation_id, PRIORITY_DEFAULT))
            if device.selected == selected:  # no filter was added since: what comes now is live
                device.is_loading = False
                self._take_late(device)
            self.page(device)
            if again:
                self.begin(device)

        self._hub.store.read_later(read, done)

    def _take_late(self, device: Device) -> None:
        late, device.late = device.late, {}
        for number, (thread, seq) in late.items():
            if number not in device.feeds and self._follows(device, thread):
                feed = self._open(device, thread, seq - 1)
                if feed is not None:
                    self._fall_behind(device, feed)

    def park(self, device: Device) -> None:
        """Let conversations wait that no filter selects any more; nothing of them is passed over."""
        for feed in device.feeds.values():
            if not self._follows(device, feed.thread):
                feed.behind = True
                device.behind.pop(feed.thread.id, None)

    def put_back(self, device: Device) -> None:
        """Leave what waits for a device's window to the store: it is to be measured anew."""
        for entry in device.outbox:
            if type(entry.token) is tuple and device.feeds.get(entry.token[0].thread.id) == entry.token[0]:
                self._take_back(device, entry.token[0], entry.token[1].seq)
        device.outbox.clear()

    def _take_back(self, device: Device, feed: Feed, seq: int) -> None:
        """Let the store be read again from `seq` on, once the device has room."""
        feed.sent = min(feed.sent, seq - 1)
        feed.behind = True
        if self._follows(device, feed.thread):
            device.behind.setdefault(feed.thread.id, feed)

    def is_due(self, device: Device, feed: Feed, message: Message) -> bool:
        """Tell whether what waited for the window is still to be sent; if not, take it back or pass it over."""
        seq, lane = message.seq, feed.lane
        if device.feeds.get(feed.thread.id) is not feed:  # withdrawn
            return False
        if feed.is_far(seq) or not self._follows(device, feed.thread):
            self._take_back(device, feed, seq)
            device.leave(feed)  # all that follows, too: read again from the store, it would come behind that
            return False
        if message.expires_at <= self._hub.now_ms() or seq in lane.failed or not lane.gives(seq):
            feed.acked.add(seq)
            return False
        return True

    def _pend(self, device: Device, pending: Pending, priority: int) -> None:
        if pending.conversation_id in device.feeds:
            return
        thread = self._hub.directory.thread_of(
            Conversation(pending.conversation_id, pending.kind, pending.a, pending.b, pending.last_seq)
        )
        if thread is None or not self._follows(device, thread):
            return
        lane = self._hub.directory.lane(thread, device.user)
        if lane is None:
            return
        feed = Feed(thread, lane, SeqSet(pending.acked, pending.acked_above))
        feed.priority = priority
        device.is_ranked |= priority != PRIORITY_DEFAULT
        sent_before = self.sent.get(device.row_id, {}).get(thread.id, 0) if device.connection.session_present else 0
        feed.resent_upto = sent_before
        device.feeds[thread.id] = feed
        self._fall_behind(device, feed)

    def _follows(self, device: Device, thread: Thread) -> bool:
        if thread.group is not None:
            return device.qos_of("g", thread.group.address) >= 0
        return device.qos_of("u", thread.peer(device.user).address) >= 0

    def _fall_behind(self, device: Device, feed: Feed) -> None:
        feed.behind = True
        device.behind[feed.thread.id] = feed

    def page(self, device: Device) -> None:
        """Read the next page for a device that has room, one conversation after the other."""
        if device.is_paging or not device.behind or not self.room.has(device):
            return
        ready = (feed for feed in device.behind.values() if not feed.is_far(feed.sent + 1))
        feed = min(ready, key=attrgetter("priority"), default=None) if device.is_ranked else next(ready, None)
        if feed is None:
            return
        device.is_paging = True
        thread, after, known = feed.thread, feed.sent, feed.thread.last_seq
        limit, reader, most = self._hub.settings.store.page_messages, device.user.id, next_page_bytes(device)

        def read(connection: sqlite3.Connection) -> list[Message]:
            found = message_rows.page(connection, thread, after, limit, bytes_max=most)
            amend_rows.mark_hidden(connection, reader, found)
            return found

        def done(found: list[Message]) -> None:
            device.is_paging = False
            if device not in device.user.devices:
                return
            if device.behind.get(thread.id) is not feed or feed.sent < after:
                self.page(device)  # it was let go meanwhile: the others; or some of it was taken back: from there on
            else:
                self._paged(device, feed, found, known)

        self._hub.store.read_later(read, done)

    def _paged(self, device: Device, feed: Feed, found: list[Message], known: int) -> None:
        for message in found:
            if message.seq > feed.sent + 1:  # retention has removed what stood between: a legal gap
                feed.acked.include(feed.sent + 1, message.seq - 1)
            if message.mid <= device.sent_before_mid and self._hub.may_be_repeated(device, message):
                feed.resent_upto = max(feed.resent_upto, message.seq)
            if device.user.is_discreet and self._hub.is_held(device.user, feed.thread, message):
                self._receipts.hold(device.user, feed.lane, message)  # the server died before it could
            if not self._give(device, feed, message):
                # Behind another conversation next time: one that is stuck must not hold up the rest.
                device.behind[feed.thread.id] = device.behind.pop(feed.thread.id)
                if feed.is_far(message.seq):
                    self.page(device)
                return
            message.shed_payload()
        if not found:
            feed.acked.include(feed.sent + 1, known)  # seqs that are no longer in the store are a legal gap
            feed.sent = max(feed.sent, known)
        until = feed.lane.until
        if feed.sent >= feed.thread.last_seq or (until is not None and feed.sent >= until):
            feed.behind = False
            device.behind.pop(feed.thread.id, None)
        self.page(device)

    def remember(self, device: Device) -> None:
        """Keep, for DUP, what was sent to a device that went away without acknowledging it."""
        if device.row_id and device.feeds:
            if len(self.sent) >= SENT_MAX:
                self.sent.pop(next(iter(self.sent)))
            kept = self.sent.setdefault(device.row_id, {})
            waiting: dict[int, int] = {}  # conversation -> first seq that was handed over but never written
            for entry in device.outbox:
                if type(entry[3]) is tuple:
                    waiting.setdefault(entry[3][0].thread.id, entry[3][1].seq)
            for number, feed in device.feeds.items():
                written = min(feed.sent, waiting.get(number, feed.sent + 1) - 1)
                kept[number] = max(kept.get(number, 0), written, feed.resent_upto)

    def forget(self, thread: Thread, user: User) -> None:
        """Forget what a user's devices had of a conversation: it begins anew for him, or goes on after a gap."""
        for device in user.devices:
            device.feeds.pop(thread.id, None)
            device.behind.pop(thread.id, None)

    def skip(self, thread: Thread, user: User, first: int, last: int) -> None:
        """Pass over, for a user's devices, what was never his to get."""
        for device in user.devices:
            if (feed := device.feeds.get(thread.id)) is not None:
                feed.acked.include(first, last)
                feed.sent = max(feed.sent, feed.sent if feed.behind else last)
