"""Deliveries of a kept session at QoS 1 and 2: the store is the queue, memory a bounded window of it.

A message has a dense number `n` per session and the packet id `n % 32767 + 1`, so that it carries
its original id after a reconnect or a restart [MQTT-4.4.0-1]. Numbers up to `loaded` are or were in
memory, those up to `committed` may be sent, those up to `sent` were sent before (DUP).
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from mesimqtt.engine import codes
from mesimqtt.engine.letter import encode
from mesimqtt.engine.packets import PUBLISH, PUBREL, U16, MalformedError, ack, encode_length, publish_head
from mesimqtt.engine.session import RELEASED, Queued
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.letter import Letter
    from mesimqtt.engine.session import Session

_IDS = 32_767
_PAGE = 256
_PENDING_MAX = 1024  # messages of one session in memory that are neither sent nor left to the store


class KeptQueue:
    """The window of memory on one session's queue; a new one for each connection."""

    __slots__ = ("begun", "committed", "inflight", "loaded", "paging", "queue", "sent", "size", "stored")

    def __init__(self, *, committed: int, sent: int, stored: int, begun: int = 0) -> None:
        self.begun = begun  # up to here it was sent since the process began: that does not expire any more
        self.committed = committed
        self.sent = sent
        self.stored = stored
        self.loaded = 0
        self.paging = False
        self.queue: deque[Queued] = deque()
        self.size = 0
        self.inflight: dict[int, Queued] = {}


def attach(engine: Engine, session: Session) -> None:
    """Begin (again) with the oldest unacknowledged message, for a connection that just came."""
    if session.kept is None and session.next_n == 1:
        return
    session.kept = _renewed(session)
    pump(engine, session)


def detach(session: Session) -> None:
    """Leave everything to the store until the next connection."""
    if session.kept is not None:
        session.kept = _renewed(session)


def _renewed(session: Session) -> KeptQueue:
    before = session.kept
    if before is None:  # whether it was sent before a restart nobody knows: DUP says "might be"
        return KeptQueue(committed=session.next_n - 1, sent=session.next_n - 1, stored=0)
    return KeptQueue(committed=before.committed, sent=before.sent, stored=before.stored, begun=before.begun)


def enqueue(engine: Engine, session: Session, *letters: Letter) -> None:
    """Give messages to the keeper; they are delivered after the commit."""
    kept = session.kept
    if kept is None:
        kept = session.kept = _renewed(session)
    room = max(engine.limits.queue_messages_max - kept.stored, 0)
    if len(letters) > room:
        engine.counters.dropped += len(letters) - room
        letters = letters[:room]
    if not letters:
        return
    first = session.next_n
    session.next_n = first + len(letters)
    engine.keeper.enqueue(session, first, *letters)
    kept.stored += len(letters)
    if session.connection is not None:
        for n, letter in enumerate(letters, first):
            if kept.loaded != n - 1 or not _has_room(engine, kept):
                break
            kept.queue.append(Queued(n, letter))
            kept.size += letter.size
            kept.loaded = n
    engine.open_batch().stored(session, session.next_n - 1)


def _has_room(engine: Engine, kept: KeptQueue) -> bool:
    return len(kept.queue) < _PENDING_MAX and kept.size < engine.limits.unwritten_max


def committed(engine: Engine, session: Session, n: int, *, ok: bool) -> None:
    """Take the outcome of the commit that held the messages up to number `n`."""
    kept = session.kept
    if kept is None:
        return
    if not ok:
        left = [item for item in kept.queue if not kept.committed < item.n <= n]
        kept.stored -= max(n - kept.committed, 0)
        kept.queue = deque(left)
        kept.size = sum(item.letter.size for item in left)
    kept.committed = max(kept.committed, n)
    pump(engine, session)


def pump(engine: Engine, session: Session) -> None:
    """Send what is committed, as far as the in-flight window and the reader allow."""
    kept, connection = session.kept, session.connection
    if kept is None or connection is None or connection.congested:
        return
    queue, inflight = kept.queue, kept.inflight
    room = connection.inflight_max - len(inflight)
    if connection.counts_all:
        room -= len(connection.claimed)
    while queue and room > 0 and queue[0].n <= kept.committed:
        item = queue[0]
        if connection.is_plain and not item.released and not item.letter.expires_at:
            sent = _send_plain(connection, kept, room)
            if not sent:  # a message 32 767 before is still not acknowledged
                return
            room -= sent
            continue
        packet_id = item.n % _IDS + 1
        if packet_id in inflight:
            return
        queue.popleft()
        kept.size -= item.letter.size
        if _send(connection, kept, item, packet_id):
            inflight[packet_id] = item
            room -= 1
        else:
            _forget(engine, session, kept, item.n)
    if kept.loaded < kept.committed and not kept.paging and len(queue) < _PAGE // 2:
        kept.paging = True
        done = partial(_paged, engine, session, kept, kept.committed)
        engine.keeper.page(session, kept.loaded, _PAGE, done)


def _send_plain(connection: Connection, kept: KeptQueue, room: int) -> int:
    """Send what comes first in the queue, as far as it goes out as it is; return how many messages that were.

    All in one pass, and equal heads are made once: a message at a time costs 1.2 µs more.
    """
    queue, inflight, sent_before, upto = kept.queue, kept.inflight, kept.sent, kept.committed
    is_five = connection.five is not None
    head, block, last_topic, last_kind = b"", b"", b"", (0, 0)
    chunks: list[bytes | bytearray] = []
    size = last = 0
    count = 0
    while queue and count < room:
        item = queue[0]
        n, letter, released = item
        topic, payload, qos, retain, properties, expires_at, _, _ = letter
        packet_id = n % _IDS + 1
        if n > upto or released or expires_at or packet_id in inflight:
            break
        if is_five:
            block = encode_length(len(properties)) + properties
        kind = (
            PUBLISH | (8 if n <= sent_before else 0) | qos << 1 | retain,
            len(block) + len(payload),
        )  # [MQTT-3.3.1-1]
        if kind != last_kind or topic != last_topic:
            head, last_kind, last_topic = publish_head(kind[0], topic, kind[1]), kind, topic
        chunks += (head, U16[packet_id], block, payload)
        inflight[packet_id] = item
        queue.popleft()
        size += letter.size
        last = n
        count += 1
    if chunks:
        if not connection.out:
            connection.engine.mark(connection)
        connection.out += chunks
        connection.engine.counters.messages_out += count
        kept.size -= size
        kept.sent, kept.begun = max(sent_before, last), max(kept.begun, last)
    return count


def _send(connection: Connection, kept: KeptQueue, item: Queued, packet_id: int) -> bool:
    """Send what is due; False if the message has expired, or this client takes none of its size."""
    if item.released:
        connection.send(ack(PUBREL, packet_id))
        return True
    is_dup = item.n <= kept.sent  # [MQTT-3.3.1-1]
    packet = encode(connection, item.letter, packet_id, dup=is_dup, is_begun=item.n <= kept.begun)
    if not packet:
        return False
    connection.send(packet)
    connection.engine.counters.messages_out += 1
    kept.sent = max(kept.sent, item.n)
    kept.begun = max(kept.begun, item.n)
    return True


def _paged(engine: Engine, session: Session, kept: KeptQueue, upto: int, items: list[Queued]) -> None:
    """Take a page that was read when everything up to number `upto` was committed."""
    connection = session.connection
    if session.kept is not kept or connection is None:
        return
    allowed: dict[bytes, bool] = {}
    for item in items:  # permissions may have changed since these were queued
        topic = item.letter.topic
        if not item.released and topic not in allowed:
            decision = engine.gate.decide(connection, Action.RECEIVE, topic.decode())
            if decision is None:
                connection.wait(lambda _now: _paged(engine, session, kept, upto, items))
                return
            allowed[topic] = decision.allow
    for item in items:
        if item.released or allowed[item.letter.topic]:
            kept.queue.append(item)
            kept.size += item.letter.size
        else:
            _forget(engine, session, kept, item.n)
    kept.paging = False
    last = items[-1].n if items else 0
    kept.loaded = max(kept.loaded, last, upto if len(items) < _PAGE else 0)
    pump(engine, session)
    engine.settle()


def _forget(engine: Engine, session: Session, kept: KeptQueue, *numbers: int) -> None:
    for first, last in _runs(numbers):
        engine.keeper.dequeue(session, first, last)
    kept.stored = max(kept.stored - len(numbers), 0)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of numbers, none of which comes twice; mostly it is one run [MQTT-4.6.0-2]."""
    if not numbers:
        return []
    ordered = sorted(numbers)
    if ordered[-1] - ordered[0] == len(ordered) - 1:
        return [(ordered[0], ordered[-1])]
    ends = [n for n, following in pairwise(ordered) if following != n + 1]
    starts = [following for n, following in pairwise(ordered) if following != n + 1]
    return list(zip([ordered[0], *starts], [*ends, ordered[-1]], strict=True))


def wrong_kind() -> MalformedError:
    """Return what an acknowledgement is that the message under its id does not have.

    [MQTT 3.1.1, MQTT-4.8.0-1] [MQTT 5.0, section 4.13.1]
    """
    return MalformedError("an acknowledgement of another kind than its message has", codes.PROTOCOL_ERROR)


def acked(engine: Engine, session: Session, ids: list[int]) -> None:
    """Take PUBACKs; `pump` follows. Raises MalformedError for one of a message of QoS 2."""
    kept = session.kept
    if kept is None:
        return
    inflight = kept.inflight
    done = []
    try:
        for packet_id in ids:
            item = inflight.get(packet_id)
            if item is None:
                continue
            if item.letter.qos != 1:
                raise wrong_kind()
            del inflight[packet_id]
            done.append(item.n)
    finally:  # what came before one that is wrong counts
        _forget(engine, session, kept, *done)


def received(engine: Engine, session: Session, ids: list[int]) -> set[int]:
    """Take PUBRECs; return those with which something is in flight. Their PUBRELs wait for the commit.

    Raises MalformedError for one of a message of QoS 1.
    """
    kept = session.kept
    known: set[int] = set()
    if kept is None:
        return known
    fresh = []
    try:
        for packet_id in ids:
            item = kept.inflight.get(packet_id)
            if item is None:
                continue
            if item.letter.qos != 2:
                raise wrong_kind()
            known.add(packet_id)
            if not item.released:
                kept.inflight[packet_id] = Queued(item.n, RELEASED, released=True)
                fresh.append(item.n)
    finally:
        for first, last in _runs(fresh):
            engine.keeper.released(session, first, last)
    return known


def rejected(engine: Engine, session: Session, packet_id: int) -> None:
    """Take a PUBREC of 5.0 that ends the exchange; `pump` follows. Raises MalformedError for a message of QoS 1."""
    kept = session.kept
    item = kept.inflight.get(packet_id) if kept is not None else None
    if kept is None or item is None or item.released:
        return
    if item.letter.qos != 2:
        raise wrong_kind()
    del kept.inflight[packet_id]
    _forget(engine, session, kept, item.n)


def completed(engine: Engine, session: Session, ids: list[int]) -> None:
    """Take PUBCOMPs; `pump` follows. Raises MalformedError for one that comes before PUBREL."""
    kept = session.kept
    if kept is None:
        return
    done = []
    try:
        for packet_id in ids:
            item = kept.inflight.get(packet_id)
            if item is None:
                continue
            if not item.released:
                raise wrong_kind()
            del kept.inflight[packet_id]
            done.append(item.n)
    finally:
        _forget(engine, session, kept, *done)
