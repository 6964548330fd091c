"""Deliveries of a clean session at QoS 1 and 2: packet ids, the in-flight window, the bounded queue.

A clean session ends with its connection, so nothing of it is ever sent again: an id is all that is
remembered of a message in flight. Messages come in runs of equal-sized packets, and their ids are
written with strided slices: a run costs a few operations in C, whatever its length.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine.letter import Letter, encode
from mesimqtt.engine.packets import U16

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.session import Session

_IDS_FROM = 1  # in a clean session: weak clients take one above 32 767 for a negative number
_IDS_FROM_KEPT = 32_768  # in a kept one, where those below belong to queue numbers
_IDS = 32_768
_HIGH = bytes(number >> 8 for number in range(_IDS_FROM, _IDS_FROM + _IDS))
_LOW = bytes(number & 255 for number in range(_IDS_FROM, _IDS_FROM + _IDS))


NO_BLOCK = b"\0"  # properties that are empty


class Run(NamedTuple):
    """Equal-sized PUBLISH packets of one topic: `many` of `step` bytes, packet ids at `offset`.

    They have the layout of one protocol version; in 5.0 the same `block` of properties stands before each payload.
    """

    data: bytes | bytearray
    step: int
    offset: int
    many: int
    qos: int
    block: bytes = NO_BLOCK


class Window:
    """What is in flight to a clean session, and what waits for its turn."""

    __slots__ = ("ids", "messages", "queue", "released", "shared", "size", "unreceived")

    def __init__(self) -> None:
        self.ids: set[int] = set()  # QoS 1, PUBACK awaited
        self.unreceived: set[int] = set()  # QoS 2, PUBREC awaited
        self.released: set[int] = set()  # QoS 2, PUBCOMP awaited
        self.queue: deque[Run | Letter] = deque()
        self.shared: dict[int, Letter] | None = None  # QoS 1 of shared subscriptions, for another member
        self.messages = 0
        self.size = 0

    @property
    def in_flight(self) -> int:
        """Return how many messages the client has not acknowledged."""
        return len(self.ids) + len(self.unreceived) + len(self.released)

    def settle(self, ids: Iterable[int]) -> None:
        """Forget letters of shared subscriptions that were acknowledged."""
        if self.shared:
            for packet_id in ids:
                self.shared.pop(packet_id, None)

    def left(self) -> list[Letter]:
        """Return what another member of a shared subscription is to get when this session ends.

        [MQTT 5.0, section 4.8.2]: QoS 1 that was not acknowledged; of QoS 2 only what was never sent.
        """
        unsent = [item for item in self.queue if isinstance(item, Letter) and item.is_shared]
        return [*(self.shared or {}).values(), *unsent]


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
    left = connection.inflight_max - len(window.ids)
    if window.unreceived or window.released:
        left -= len(window.unreceived) + len(window.released)
    if run.many <= left:
        _transmit(connection, session, window, run)
        return
    if left > 0:
        run, rest = _split(run, left)
        _transmit(connection, session, window, run)
        run = rest
    _hold(connection, window, run)


def send_single(session: Session, head: bytes, payload: bytes) -> None:
    """Deliver one QoS 1 message: `head` up to its topic, then the packet id, then `payload`."""
    connection, window = session.connection, session.window
    if connection is None:
        return
    if window is not None and not window.queue and not window.unreceived and not connection.congested:
        ids, counter = window.ids, session.packet_counter
        packet_id = _IDS_FROM + (counter & (_IDS - 1))
        if (
            len(ids) < connection.inflight_max
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
    send_run(session, Run(packet, len(packet), len(head), 1, 1))


def send_letter(session: Session, letter: Letter) -> None:
    """Deliver one message to a clean session, or at QoS 0 to any, now or when there is room."""
    connection = session.connection
    if connection is None:
        return
    if not letter.qos:
        if connection.congested:
            connection.hold(letter, 1, letter.size)
        elif packet := encode(connection, letter, 0):
            connection.send(packet)
            connection.engine.counters.messages_out += 1
        return
    window = session.window
    if window is None:
        window = session.window = Window()
    if connection.congested or window.queue or room(connection, window) <= 0:
        _hold(connection, window, letter)
    else:
        _transmit_letter(connection, session, window, letter)


def room(connection: Connection, window: Window) -> int:
    """Return how many more messages may be in flight [MQTT-3.3.4-9]."""
    left = connection.inflight_max - window.in_flight
    return left - len(connection.claimed) if connection.counts_all else left


def advance(session: Session) -> None:
    """Send what waits, as far as the window is open again."""
    window, connection = session.window, session.connection
    if window is None or connection is None or not window.queue or connection.congested:
        return
    queue = window.queue
    left = room(connection, window)
    while queue and left > 0:
        item = queue.popleft()
        if isinstance(item, Letter):
            _count(connection, window, -1, -item.size)
            left -= _transmit_letter(connection, session, window, item)
            continue
        run = item
        if run.many > left:
            run, rest = _split(run, left)
            queue.appendleft(rest)
        _count(connection, window, -run.many, -len(run.data))
        left -= run.many
        _transmit(connection, session, window, run)


def _transmit_letter(connection: Connection, session: Session, window: Window, letter: Letter) -> bool:
    """Send a letter under the next packet id; False if it expired, or is too large for this client."""
    packet_id = free_id(session, connection)
    packet = encode(connection, letter, packet_id)
    if not packet:
        return False
    (window.ids if letter.qos == 1 else window.unreceived).add(packet_id)
    if letter.is_shared and letter.qos == 1:
        if window.shared is None:
            window.shared = {}
        window.shared[packet_id] = letter
    connection.send(packet)
    connection.engine.counters.messages_out += 1
    return True


def _count(connection: Connection, window: Window, messages: int, size: int) -> None:
    window.messages += messages
    window.size += size
    connection.engine.held_bytes += size


def _split(run: Run, count: int) -> tuple[Run, Run]:
    data, step, offset, total, qos, block = run
    cut = count * step
    return Run(data[:cut], step, offset, count, qos, block), Run(data[cut:], step, offset, total - count, qos, block)


def _hold(connection: Connection, window: Window, item: Run | Letter) -> None:
    engine = connection.engine
    limits = engine.limits
    many, step = (1, item.size) if isinstance(item, Letter) else (item.many, item.step)
    space = min(
        limits.queue_messages_max - window.messages,
        (limits.queue_bytes_max - window.size) // step,
        (limits.queue_bytes_total - engine.held_bytes) // step,
    )
    if space < many:
        engine.counters.dropped += many - max(space, 0)
        if space <= 0:
            return
        if not isinstance(item, Letter):
            item, many = _split(item, space)[0], space
    window.queue.append(item)
    _count(connection, window, many, many * step)


def _transmit(connection: Connection, session: Session, window: Window, run: Run) -> None:
    data, step, offset, count, qos, _ = run
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
    """Return the session's next packet id that nothing in flight uses, and count past it."""
    counter = session.packet_counter
    window, claimed = session.window, connection.claimed
    first = _IDS_FROM if session.clean else _IDS_FROM_KEPT
    while True:
        packet_id = first + (counter & (_IDS - 1))
        counter += 1
        if packet_id in claimed:
            continue
        if window is not None and (
            packet_id in window.ids or packet_id in window.unreceived or packet_id in window.released
        ):
            continue
        session.packet_counter = counter
        return packet_id
