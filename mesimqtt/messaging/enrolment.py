"""Devices and their rows: the first subscription makes a cursor, the 21st device displaces one (contract section 1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesimqtt.domain.ids import first_mid_at
from mesimqtt.messaging.devices import CEILING_STEP, Device, ReadMark
from mesimqtt.store import devices as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.receipts import Receipts


class Enrolment:
    """Gives devices their rows, their reserved packet ids and the news about themselves."""

    def __init__(self, hub: Hub, receipts: Receipts, *, started_mid: int) -> None:
        self._hub = hub
        self._receipts = receipts
        self._started_mid = started_mid
        self._last_id = rows.last_id(hub.store.read)
        self.knows_sent: Callable[[int], bool] = _nothing_is_known  # whether it is in memory what a device was sent
        self._made: dict[tuple[int, str], int] = {}  # rows that are not committed yet: (user, client id) -> device

    def reselect(self, device: Device) -> bool:
        """Select again what a persistent session had selected [MQTT-3.1.2-4]; False if there is nothing."""
        if device.session.clean:
            return False
        row = rows.find(self._hub.store.read, device.user.id, device.client_id)
        if not device.connection.session_present:  # a new session: the filters of one before it are not its own
            number = row.id if row is not None else self._made.get((device.user.id, device.client_id))
            if number is not None:
                self._hub.committer.row(rows.FORGET_FILTERS, number)
            return False
        if row is not None:
            device.select_kept(row.filters)
        if device.filters:
            self.enrol(device)
        return bool(device.filters)

    def enrol(self, device: Device) -> None:
        """Find or make the device's row. It joins the commit that the SUBACK waits for."""
        connection = device.connection
        if connection.client_id_assigned:
            return
        if device.row_id:
            self._receipts.touch(device)
            return
        row = rows.find(self._hub.store.read, device.user.id, device.client_id)
        if row is None and (device.user.id, device.client_id) in self._made:
            self._begin(device, self._made[device.user.id, device.client_id])
        elif row is None:
            self._create(device)
        else:
            self._resume(device, row)

    def _create(self, device: Device) -> None:
        hub, user = self._hub, device.user
        self._displace(user)
        self._last_id += 1
        self._begin(device, self._last_id)
        key = (user.id, device.client_id)
        self._made[key] = device.row_id

        def committed(ok: bool) -> None:
            if ok:
                self._made.pop(key, None)
            else:  # the row stays in the batch
                hub.committer.batch.after.append(committed)

        hub.committer.batch.after.append(committed)
        hub.committer.row(
            rows.INSERT, device.row_id, user.id, device.client_id, device.ceiling, user.change, user.read_change, 0,
            device.packet_max, "{}", hub.now_ms(),
        )  # fmt: skip
        hub.committer.row(rows.COPY_CURSORS, device.row_id, user.id)

    def _begin(self, device: Device, row_id: int) -> None:
        device.row_id = row_id
        device.ceiling = device.session.packet_counter + CEILING_STEP
        device.status_acked = device.status_sent = device.user.change
        device.read_change = device.user.read_change
        self._receipts.touch(device)

    def _resume(self, device: Device, row: rows.DeviceRow) -> None:
        session = device.session
        device.row_id = row.id
        left = self._receipts.left.get(row.id)
        status_change, read_change = (left.status_acked, left.read_change) if left is not None else (0, 0)
        device.status_acked = device.status_sent = min(max(row.status_change, status_change), device.user.change)
        device.wants_status = bool(row.wants_status)
        device.read_change = max(row.read_change, read_change)
        device.status_behind = device.wants_status and device.status_sent < device.user.change
        if left is not None:
            device.had_in_flight, device.sent_before_mid = left.in_flight, left.sent_before_mid
        elif row.online:
            # The server went down under it, or knows no more what it was sent: all that was there may have been.
            left_mid = 0 if self.knows_sent(row.id) else first_mid_at(row.seen_at + 1)
            device.had_in_flight, device.sent_before_mid = True, max(self._started_mid, left_mid)
        # Contract section 3: packet ids go on above what may have been used before a restart.
        session.packet_counter = max(session.packet_counter, row.ceiling if not session.packet_counter else 0)
        device.ceiling = max(row.ceiling, session.packet_counter + CEILING_STEP)
        self._receipts.touch(device)

    def reserve(self, device: Device, resume: Callable[[Device], None]) -> None:
        """Reserve the next packet ids in good time; `resume` goes on with a device that had to wait for them."""
        if device.is_reserving or not device.row_id:
            return
        if device.session.packet_counter > device.ceiling - CEILING_STEP // 2:
            committer, ceiling = self._hub.committer, device.session.packet_counter + CEILING_STEP
            device.is_reserving = True

            def reserved(ok: bool) -> None:
                device.is_reserving = False
                if ok:
                    device.ceiling = max(device.ceiling, ceiling)
                if device in device.user.devices:
                    resume(device)

            committer.row(rows.RAISE_CEILING, ceiling, device.row_id)
            committer.batch.after.append(reserved)
            committer.wake()

    def follow(self, device: Device) -> None:
        """Begin a device's status number at its first subscription to statuses; give it news it missed."""
        if not device.wants_status and device.status_route()[0] >= 0:
            device.wants_status = True
            device.status_acked = device.status_sent = device.user.change
            self._receipts.touch(device)
        self._read_marks(device)

    def _read_marks(self, device: Device) -> None:
        """Give a returning device the newest read mark of each conversation that its user made elsewhere."""
        if device.qos_of("read") < 0 or device.read_change >= device.user.read_change or not device.row_id:
            return
        directory = self._hub.directory
        after = max(device.read_change, device.read_told)
        for kind, a, b, payload, change in rows.read_marks(self._hub.store.read, device.user.id, after):
            if kind:
                group = directory.room(a)
                level = f"g/{group.level}" if group else None
            else:
                peer = directory.party(b if a == device.user.id else a)
                level = f"u/{peer.level}" if peer else None
            if level is not None and not self._hub.tell(device, f"read/{level}", payload.encode(), ReadMark(change)):
                return  # the next subscription goes on from here
            device.read_told = change

    def _displace(self, user: User) -> None:
        known = rows.of_user(self._hub.store.read, user.id)
        bound = user.policy.devices_max or self._hub.settings.messaging.devices_max
        online = {device.row_id: device for device in user.devices}
        longest_unseen = sorted(known, key=lambda row: row.id in online)  # stable: who is online comes last
        for row in longest_unseen[: max(0, len(known) + 1 - bound)]:
            if row.id in online:
                online[row.id].row_id = 0  # goes on live, without a cursor
            self._hub.committer.row(rows.DELETE_CURSORS, row.id)
            self._hub.committer.row(rows.DELETE, row.id)
            self.news(user, {"event": "device-dropped", "device": row.client_id})

    def news(self, user: User, news: dict[str, object]) -> None:
        """Tell a user's online devices something on `in/session`; never stored."""
        for device in user.devices:
            self.tell(device, news)

    def closing(self, hints: Mapping[Connection, float]) -> None:
        """Tell devices that the server stops, and in how many seconds each is to come back."""
        for connection, retry_after in hints.items():
            if isinstance(connection.claim_state, Device):
                self.tell(connection.claim_state, {"event": "closing", "retry_after": retry_after})

    def tell(self, device: Device, news: dict[str, object]) -> None:
        """Tell one device something about its session."""
        payload = json.dumps(news, ensure_ascii=False, separators=(",", ":")).encode()
        self._hub.tell(device, "session", payload)


def _nothing_is_known(_row_id: int) -> bool:
    """Know of nothing that was sent: messaging before it is wired."""
    return False
