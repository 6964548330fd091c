"""Statuses to the sender: live steps, refusals, and what a returning device has missed (contract section 4)."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import TYPE_CHECKING

from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.messages import GROUP, Message, Step
from mesimqtt.domain.status import TITLES, Status, status_payload
from mesimqtt.messaging.devices import NO_ROOM, UNSTORED, WRITTEN
from mesimqtt.messaging.model import NOBODY, Names
from mesimqtt.messaging.properties5 import STORE, Refused, refused
from mesimqtt.messaging.waiting import LOW_WATER, OUTBOX_MAX
from mesimqtt.store import messages as rows
from mesimqtt.store import scheduled
from mesimqtt.store import statuses as status_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.messaging.devices import Device, Extra
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, Thread, User
    from mesimqtt.store.scheduled import Row
    from mesimqtt.store.statuses import StatusRow

_KINDS = (int, str, str, int, str)  # of a StatusRow from its time on
_place = attrgetter("change", "mid")  # by which a page goes on where there was no more room
NEWEST = 2**63 - 1  # no change number is higher


class Statuses:
    """Tells senders what became of their messages."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._observed = hub.observers.status
        self._summaries: dict[tuple[int, int], Message] = {}
        self.watched: dict[
            tuple[int, str], Callable[[int, bytes], None]
        ] = {}  # (sender, cid) -> who waits for a verdict

    def sent(self, sender: User, names: bytes, message: Message | Row, change: int) -> None:
        """Tell SENT of one committed message; `names` is `"peer":…` or `"group":…`."""
        if not sender.devices and not self.watched and not self._observed:
            sender.change = max(sender.change, change)
            return
        cid = message.cid.encode()
        payload = b'{"cid":"%b","mid":"%016x",%b,"status":1,"name":"sent","ts":%d}' % (
            cid, message.mid, names, message.ts,
        )  # fmt: skip
        if self.watched:
            self._answer(sender, message.cid, 1, payload)
        if self._observed:
            self._hub.observers.told(sender, payload)
        self._push(sender, cid, message.mid, 1, payload, change)

    def emit(self, step: Step) -> None:
        """Tell a committed step to the sender, if he is online."""
        observed = self._observed
        directory = self._hub.directory
        sender = directory.user_by_id(step.sender_id) if observed else directory.known_user(step.sender_id)
        if sender is None:
            return
        sender.change = max(sender.change, step.change)
        if not sender.devices and not observed:
            return
        thread = self._hub.directory.thread_of(step.conversation)
        if thread is None:
            return
        if thread.group is not None and self._is_summed_up(thread.group, step):
            for message in step.messages:
                self._summaries[thread.id, message.seq] = message
            return
        middle, tail = self._frame(thread, step)
        for message in step.messages:
            cid = message.cid.encode()
            payload = b'{"cid":"%b","mid":"%016x"%b%b' % (cid, message.mid, middle, tail)
            if observed:
                self._hub.observers.told(sender, payload)
            self._push(sender, cid, message.mid, step.status, payload, step.change)

    def _is_summed_up(self, group: Group, step: Step) -> bool:
        """Tell whether a step is told with others as counts; work has one recipient, who is always named."""
        is_large = len(group.members) - 1 > self._hub.settings.messaging.group_status_max
        return is_large and not step.messages[0].kind

    def refuse(
        self,
        sender: User,
        cid: str | None,
        code: Status,
        names: Names = NOBODY,
        *,
        mid: int = 0,
        reason: str | None = None,
        limit: int | None = None,
        rule: str | None = None,
        retry_after: int | None = None,
        is_topic: bool = False,
    ) -> Refused:
        """Tell a refusal to the sender's online devices, at once; it is not stored. Return what 5.0 says of it.

        `is_topic`: the topic is no such one.
        """
        name = format_mid(mid or self._hub.mids.draw())
        payload = status_payload(
            cid or name,
            name,
            code,
            self._hub.now_ms(),
            peer=names.peer,
            group=names.group,
            reason=reason,
            limit=limit,
            rule=rule,
            retry_after=retry_after,
        )
        self._hub.count(f"refused.{TITLES[code]}")
        self.tell(sender, cid or name, code, payload)
        if code == Status.FAILED and reason == "store":
            return STORE
        return refused(code, reason or rule or "", is_topic=is_topic)

    def tell(self, sender: User, cid: str, code: int, payload: bytes) -> None:
        """Give a status that is not stored to the sender's online devices."""
        if self.watched:
            self._answer(sender, cid, code, payload)
        if self._observed:
            self._hub.observers.told(sender, payload)
        for device in sender.devices:
            self._tell_one(device, cid, code, payload)

    def _tell_one(self, device: Device, cid: str, code: int, payload: bytes) -> None:
        qos, prefix, is_number, extra = device.status_route()
        if qos >= 0:
            topic, body = prefix + cid.encode(), b"%d" % code if is_number else payload
            if device.fits(topic, body, extra) and not self._hub.hand_over(device, topic, body, qos, UNSTORED, extra):
                self._hub.count("status.untold")  # to who asks so much more than he listens

    def _answer(self, sender: User, cid: str, code: int, payload: bytes) -> None:
        watcher = self.watched.pop((sender.id, cid), None)
        if watcher is not None:
            watcher(code, payload)

    def repeat(self, sender: User, mid: int) -> None:
        """Tell the current statuses of a message again: its sender sent it again."""
        connection = self._hub.store.read
        for row in statuses_of(connection, mid):
            payload = self.row_payload(row)
            if payload is None:
                continue
            if self.watched:
                self._answer(sender, row.cid, row.status, payload)
            for device in sender.devices:
                # Who is catching up gets it in its turn: told now, an older one of a page on its way might follow it.
                # So does everybody what is committed and about to be told: with it come the steps before.
                if row.change <= (device.status_sent if device.status_behind else sender.change):
                    self._tell_one(device, row.cid, row.status, payload)

    def row_payload(self, row: StatusRow) -> bytes | None:
        """Return the JSON of a stored status, equal byte for byte to what was sent when it was new.

        None: it is nobody's, or damage has made something of it that is none; the ones behind it are told all the same.
        """
        directory = self._hub.directory
        if not row.cid or row.status not in TITLES or (*map(type, row[7:]),) != _KINDS:
            return None
        if row.kind == GROUP:
            group = directory.room(row.a)
            member = directory.party(row.recipient_id) if row.recipient_id else None
            if group is None or (row.recipient_id and member is None):
                return None
            names = Names(member.address if member else None, group.address)
        else:
            peer = directory.party(row.recipient_id)
            if peer is None:
                return None
            names = Names(peer.address)
        return status_payload(
            row.cid,
            format_mid(row.mid),
            row.status,
            row.ts,
            peer=names.peer,
            group=names.group,
            device=row.device or None,
            reason=row.reason or None,
        )

    def catch_up(self, device: Device) -> None:
        """Read on from the store what a device has not been told, as much as there is room for, once half is free."""
        user, hub = device.user, self._hub
        if device.status_loading or not device.wants_status or device.status_route()[0] < 0:
            return
        if len(device.express) > LOW_WATER:
            return
        limit = OUTBOX_MAX - len(device.express) + max(0, device.window - len(device.connection.claimed))
        since = hub.now_ms() - hub.settings.messaging.status_kept_s * 1000
        after, known = device.status_sent, user.change
        device.status_loading = True

        def read(connection: sqlite3.Connection) -> list[StatusRow]:
            found = status_rows.statuses_since(connection, user.id, after, since, limit)
            upto = found[-1].change if found else NEWEST
            return sorted(
                [*found, *scheduled.statuses_since(connection, user.id, after, since, upto, limit)], key=_place
            )

        def done(found: list[StatusRow]) -> None:
            device.status_loading = False
            if device not in user.devices:
                return
            if found:
                if self._tell_page(device, found):
                    self.catch_up(device)
                return
            device.status_caught = device.status_sent = max(after, known)
            device.status_behind = user.change > device.status_sent
            if device.status_behind:
                self.catch_up(device)

        hub.store.read_later(read, done)

    def told(self, sender_id: int, row: StatusRow) -> None:
        """Tell a status that was committed on its own to the sender, if he is online."""
        sender, payload = self._hub.directory.known_user(sender_id), self.row_payload(row)
        if sender is not None and payload is not None:
            self._push(sender, row.cid.encode(), row.mid, row.status, payload, row.change)

    def _tell_page(self, device: Device, found: list[StatusRow]) -> bool:
        """Hand over one page; False when the device has no room for all of it, or has let statuses go meanwhile."""
        qos, prefix, is_number, extra = device.status_route()
        if qos < 0:
            return False
        for row in found:
            is_told = row.change == device.status_partial[0] and row.mid <= device.status_partial[1]
            payload = None if is_told else self.row_payload(row)
            if payload is not None:
                topic, body = prefix + row.cid.encode(), b"%d" % row.status if is_number else payload
                is_fit = device.fits(topic, body, extra)
                if is_fit and not self._hand_over(device, topic, body, qos, row.change, extra):
                    self._stop_at(device, row.change, row.mid)
                    return False
            device.status_sent = max(device.status_sent, row.change)
        return True

    @staticmethod
    def _stop_at(device: Device, change: int, mid: int) -> None:
        """Note that there was no room for this status: the store is read again from here."""
        device.status_behind = True
        device.status_sent = change - 1
        device.status_partial = (change, mid - 1)

    def _hand_over(self, device: Device, topic: bytes, body: bytes, qos: int, change: int, extra: Extra) -> bool:
        result = device.push(topic, body, qos, change, extra)
        if result == NO_ROOM:
            return False
        device.expect_status(change)
        if result == WRITTEN and not qos:
            self._hub.acked(device, [change])
        return True

    def _push(self, sender: User, cid: bytes, mid: int, code: int, payload: bytes, change: int) -> None:
        sender.change = max(sender.change, change)
        for device in sender.devices:
            if device.status_behind or not device.wants_status or change <= device.status_caught:
                continue  # told in its turn, never, or already: the store was read after the commit and before this
            qos, prefix, is_number, extra = device.status_route()
            if qos < 0:
                device.status_behind = True  # until a filter selects them again
                continue
            topic = prefix + cid
            body = b"%d" % code if is_number else payload
            if device.packet_max and not device.fits(topic, body, extra):
                device.status_sent = max(device.status_sent, change)
            elif not self._hand_over(device, topic, body, qos, change, extra):
                self._stop_at(device, change, mid)

    def _frame(self, thread: Thread, step: Step) -> tuple[bytes, bytes]:
        """Return what the JSON of a step has after the mid; the same text as `row_payload`, without its look-ups."""
        recipient = self._hub.directory.party(step.recipient_id)
        middle = f',"peer":{recipient.json}' if recipient is not None else ""
        if thread.group is not None:
            middle += f',"group":{thread.group.json}'
        tail = f',"status":{int(step.status)},"name":"{TITLES[step.status]}","ts":{step.ts}'
        if step.device:
            tail += f',"device":{_text(step.device)}'
        if step.reason:
            tail += f',"reason":{_text(step.reason)}'
        return middle.encode(), tail.encode() + b"}"

    def summarise(self) -> None:
        """Tell, once a second, how far the messages of large groups have come."""
        pending, self._summaries = self._summaries, {}
        for message in pending.values():
            thread = self._hub.directory.thread_of(message.conversation)
            sender = self._hub.directory.known_user(message.sender_id)
            if thread is None or thread.group is None or sender is None or not sender.devices:
                continue
            counts = {"delivered": 0, "read": 0}
            newest = 0
            code = Status.SENT
            for row in status_rows.statuses_of(self._hub.store.read, message):
                newest = max(newest, row.ts)
                if row.status in (Status.DELIVERED, Status.READ):
                    counts["delivered"] += 1
                    code = max(code, Status(row.status))
                if row.status == Status.READ:
                    counts["read"] += 1
                if row.status in (Status.DELETED, Status.WIPED):
                    code = max(code, Status(row.status))
            payload = status_payload(
                message.cid, format_mid(message.mid), code, newest, group=thread.group.address, counts=counts
            )
            self.tell(sender, message.cid, code, payload)


def statuses_of(connection: sqlite3.Connection, mid: int) -> list[StatusRow]:
    """Return the newest status for each recipient of a message, sent or scheduled."""
    message = rows.by_mid(connection, mid)
    if message is not None:
        return status_rows.statuses_of(connection, message)
    waiting = scheduled.find(connection, mid)
    return scheduled.statuses_of(connection, waiting) if waiting is not None else []


def _text(value: str) -> str:
    return (
        f'"{value}"' if value.isalnum() or value.replace("-", "").isalnum() else json.dumps(value, ensure_ascii=False)
    )
