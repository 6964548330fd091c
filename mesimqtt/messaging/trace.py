"""Where a message is and how it got there: every status it ever had, and how far each device is (`mesimqtt trace`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.status import TITLES
from mesimqtt.messaging.devices import is_in_flight_to
from mesimqtt.store import devices as device_rows
from mesimqtt.store import statuses as status_rows

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Lane, Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread, User
    from mesimqtt.store.devices import DeviceRow

MEMBERS_MAX = 100  # of a group, whose devices one trace looks at


class Tracer:
    """Reads for operators: who may call it knows everything anyway."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def trace(self, message: Message, sender: User, *, after: str = "") -> dict[str, Any]:
        """Return the steps of a message in their order and the devices it is for; of a group, members after `after`."""
        thread = self._hub.directory.thread_of(message.conversation)
        found: dict[str, Any] = {"device": message.device, "params": message.params, "flags": message.flags}
        found["steps"] = [self._step(row) for row in status_rows.steps_of(self._hub.store.read, message)]
        found["devices"], found["next"] = [], None
        if thread is None:
            return found
        members = self._recipients(thread, sender)
        page = [user for user in members if user.address > after][:MEMBERS_MAX]
        for user in page:
            lane = self._hub.directory.lane(thread, user)
            found["devices"] += self._devices(user, thread, lane, message)
        if page and page[-1] is not members[-1]:
            found["next"] = page[-1].address
        return found

    def _recipients(self, thread: Thread, sender: User) -> list[User]:
        if thread.group is None:
            return [thread.peer(sender)]
        users = (self._hub.directory.user_by_id(number) for number in thread.group.members)
        return sorted((user for user in users if user and user is not sender), key=lambda user: user.address)

    def _step(self, row: status_rows.StatusRow) -> dict[str, Any]:
        peer = self._hub.directory.party(row.recipient_id) if row.recipient_id else None
        found: dict[str, Any] = {"ts": row.ts, "status": row.status, "name": TITLES[row.status]}
        if peer is not None:
            found["peer"] = peer.address
        if row.device:
            found["device"] = row.device
        if row.reason:
            found["reason"] = row.reason
        return found

    def _devices(self, user: User, thread: Thread, lane: Lane | None, message: Message) -> list[dict[str, Any]]:
        kept = device_rows.of_user(self._hub.store.read, user.id)
        found = []
        for row in kept:
            state = self._state(user, row, thread, lane, message)
            is_online = any(device.row_id == row.id for device in user.devices)
            found.append({
                "user": user.address, "device": row.client_id, "online": is_online, "seen_at": row.seen_at,
                "state": state,
            })  # fmt: skip
        if not kept:
            found.append({"user": user.address, "device": None, "online": bool(user.devices), "state": "no-device"})
        return found

    def _state(self, user: User, row: DeviceRow, thread: Thread, lane: Lane | None, message: Message) -> str:
        """Return how far one device is: the first of these that holds."""
        seq = message.seq
        if lane is None or not lane.covers(seq):
            return "not-a-member-then"
        device = next((each for each in user.devices if each.row_id == row.id), None)
        feed = device.feeds.get(thread.id) if device is not None else None
        acked = feed.acked if feed is not None else device_rows.cursor(self._hub.store.read, row.id, thread.id)
        if seq in acked:
            return "acknowledged"
        if device is None:
            return "waits-for-its-return"
        if is_in_flight_to(device, message):
            return "in-flight"
        if feed is None:
            return "not-selected"
        return "behind" if feed.behind else "waits-for-room"
