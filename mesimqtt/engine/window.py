"""Deliveries of a clean session at QoS 1 and 2: packet ids, the in-flight window, the bounded queue.

A clean session ends with its connection, so nothing of it is ever sent again: an id is all that is
remembered of a message in flight. Messages come in runs of equal-sized packets, and their ids are
written with strided slices: a run costs a few operations in C, whatever its length.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine.packets import U16

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.session import Session

_IDS_FROM = 32_768  # ids below belong to kept queue numbers
_IDS = 32_768
_HIGH = bytes(number >> 8 for number in range(_IDS_FROM, _IDS_FROM + _IDS))
_LOW = bytes(number & 255 for number in range(_IDS_FROM, _IDS_FROM + _IDS))


class Run(NamedTuple):
    """Equal-sized PUBLISH packets of one topic: `many` of `step` bytes, packet ids at `offset`."""

    data: bytes | bytearray
    step: int
    offset: int
    many: int
    qos: int


class Window:
    """What is in flight to a clean session, and what waits for its turn."""

    __slots__ = ("ids", "messages", "queue", "released", "size", "unreceived")

    def __init__(self) -> None:
        self.ids: set[int] = set()  # QoS 1, PUBACK awaited
        self.unreceived: set[int] = set()  # QoS 2, PUBREC awaited
        self.released: set[int] = set()  # QoS 2, PUBCOMP awaited
        self.queue: deque[Run] = deque()
        self.messages = 0
        self.size = 0


def send_run(session: Session, run: Run) -> None:
    """Deliver a run, or what of it the window and the queue take."""
    connection = session.connection
    if connection is None:
        return
    window = session.window
    if window is None:
        window = session.window = Window()
    if connection.congested or window.queue:
        _hold(connection, window, run)
        return
    room = connection.inflight_max - len(window.ids)
    if window.unreceived or window.released:
        room -= len(window.unreceived) + len(window.released)
    if run.many <= room:
        _transmit(connection, session, window, run)
        return
    if room > 0:
        run, rest = _split(run, room)
        _transmit(connection, session, window, run)
        run = rest
    _hold(connection, window, run)


def send_single(session: Session, head: bytes, payload: bytes, qos: int) -> None:
    """Deliver one message: `head` up to its topic, then the packet id, then `payload`."""
    connection, window = session.connection, session.window
    if connection is None:
        return
    if window is not None and not window.queue and not window.unreceived and not connection.congested:
        ids, counter = window.ids, session.packet_counter
        packet_id = _IDS_FROM + (counter & (_IDS - 1))
        if (
            qos == 1
            and len(ids) < connection.inflight_max
            and packet_id not in ids
            and not window.released
            and packet_id not in connection.claimed
        ):
            session.packet_counter = counter + 1
            ids.add(packet_id)
            out = connection.out
            if not out:
                connection.engine.mark(connection)
            out += (head, U16[packet_id], payload)
            connection.engine.counters.messages_out += 1
            return
    packet = b"".join((head, b"\0\0", payload))
    send_run(session, Run(packet, len(packet), len(head), 1, qos))


def advance(session: Session) -> None:
    """Send what waits, as far as the window is open again."""
    window, connection = session.window, session.connection
    if window is None or connection is None or not window.queue or connection.congested:
        return
    queue = window.queue
    room = connection.inflight_max - len(window.ids) - len(window.unreceived) - len(window.released)
    while queue and room > 0:
        run = queue.popleft()
        if run.many > room:
            run, rest = _split(run, room)
            queue.appendleft(rest)
        window.messages -= run.many
        window.size -= len(run.data)
        connection.engine.held_bytes -= len(run.data)
        room -= run.many
        _transmit(connection, session, window, run)


def _split(run: Run, count: int) -> tuple[Run, Run]:
    data, step, offset, total, qos = run
    cut = count * step
    return Run(data[:cut], step, offset, count, qos), Run(data[cut:], step, offset, total - count, qos)


def _hold(connection: Connection, window: Window, run: Run) -> None:
    engine = connection.engine
    limits = engine.limits
    room = min(
        limits.queue_messages_max - window.messages,
        (limits.queue_bytes_max - window.size) // run.step,
        (limits.queue_bytes_total - engine.held_bytes) // run.step,
    )
    if room < run.many:
        engine.counters.dropped += run.many - max(room, 0)
        if room <= 0:
            return
        run = _split(run, room)[0]
    window.queue.append(run)
    window.messages += run.many
    window.size += len(run.data)
    engine.held_bytes += len(run.data)


def _transmit(connection: Connection, session: Session, window: Window, run: Run) -> None:
    data, step, offset, count, qos = run
    counter = session.packet_counter
    base = counter & (_IDS - 1)
    pending = window.ids if qos == 1 else window.unreceived
    in_use = bool(window.ids or window.unreceived or window.released or connection.claimed)
    out = connection.out
    if not out:
        connection.engine.mark(connection)
    engine = connection.engine
    engine.counters.messages_out += count
    if count == 1:
        packet_id = free_id(session, connection) if in_use else base + _IDS_FROM
        session.packet_counter = counter + 1 if not in_use else session.packet_counter
        pending.add(packet_id)
        out += (data[:offset], U16[packet_id], data[offset + 2 :])
        return
    ids = range(base + _IDS_FROM, base + _IDS_FROM + count)
    if base + count > _IDS or (in_use and not _is_free(ids, window, connection)):
        ids_list = []
        for _ in range(count):
            packet_id = free_id(session, connection)
            pending.add(packet_id)
            ids_list.append(packet_id)
        high, low = bytes(i >> 8 for i in ids_list), bytes(i & 255 for i in ids_list)
    else:
        session.packet_counter = counter + count
        pending.update(ids)
        high, low = _HIGH[base : base + count], _LOW[base : base + count]
    packets = bytearray(data)
    packets[offset::step] = high
    packets[offset + 1 :: step] = low
    out.append(packets)


def _is_free(ids: range, window: Window, connection: Connection) -> bool:
    return (
        window.ids.isdisjoint(ids)
        and (not window.unreceived or window.unreceived.isdisjoint(ids))
        and (not window.released or window.released.isdisjoint(ids))
        and (not connection.claimed or connection.claimed.keys().isdisjoint(ids))
    )


def free_id(session: Session, connection: Connection) -> int:
    """Return the next packet id from 32768 up that nothing in flight uses, and count past it."""
    counter = session.packet_counter
    window, claimed = session.window, connection.claimed
    while True:
        packet_id = _IDS_FROM + (counter & (_IDS - 1))
        counter += 1
        if packet_id in claimed:
            continue
        if window is not None and (
            packet_id in window.ids or packet_id in window.unreceived or packet_id in window.released
        ):
            continue
        session.packet_counter = counter
        return packet_id
