"""Both ends of the load, sans I/O: bytes in, answers out, every message checked and counted."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.wire import (
    ACK_SIZE,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Part,
    Ring,
    answers,
    mark_of,
    next_packet,
    packets,
    publish_parts,
    run_length,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Answer = bytes | bytearray
Sample = tuple[float, int]  # seconds, and how many messages they stand for


class Flow:
    """One publisher's messages. Each takes a slot of the window until it is acknowledged and delivered.

    Latency: each burst (what one write carried) counts with the time from that write until its last message
    was read, for all of its messages; so the figure errs upwards, never downwards.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        window: int,
        ready: list[Flow],
        samples: list[Sample],
        limit: int | None = None,
        is_delivered: bool = True,
    ) -> None:
        self.ring = ring
        self.window = window
        self.sent = 0
        self.acknowledged = 0
        self.delivered = 0
        self.lost = 0
        self.duplicates = 0
        self.misordered = 0
        self.strange = 0
        self.is_sending = True
        self.is_queued = False
        self.began = 0.0
        self.write: Callable[[memoryview], None] = _write_nothing
        self._limit = limit
        self._is_delivered = is_delivered
        self._ready = ready
        self.samples = samples
        self.bursts: deque[tuple[int, float, int]] = deque()

    @property
    def done(self) -> int:
        """Count the messages that have left the window."""
        if not self._is_delivered:
            return self.acknowledged
        return min(self.acknowledged, self.delivered) if self.ring.qos else self.delivered

    def take(self) -> memoryview | None:
        """Return the frames that fill the window, and count them as sent; None if there are none."""
        if not self.is_sending:
            return None
        sent = self.sent
        count = self.window - sent + self.done
        if self._limit is not None:
            count = min(count, self._limit - sent, self.ring.count - sent % self.ring.count)
        if count <= 0:
            return None
        self.sent = sent + count
        self.began = perf_counter()
        self.bursts.append((self.sent, self.began, count))
        return self.ring.frames(sent % self.ring.count, count)

    def advance(self, before: int, after: int) -> None:
        """Note that a subscriber's count went from `before` to `after`."""
        if before < after:
            self._reach(after)
            self.queue()

    def acknowledge(self, count: int) -> None:
        """Note `count` acknowledgements."""
        self.acknowledged += count
        self.queue()

    def queue(self) -> None:
        """Have the window looked at when the present events are through."""
        if not self.is_queued:
            self.is_queued = True
            self._ready.append(self)

    def _reach(self, delivered: int) -> None:
        self.delivered = delivered
        bursts = self.bursts
        if bursts and bursts[0][0] <= delivered:
            now = perf_counter()
            while bursts and bursts[0][0] <= delivered:
                _, began, count = bursts.popleft()
                self.samples.append((now - began, count))


def _write_nothing(_data: memoryview) -> None:
    """Stand in until the flow has a connection."""


class FanOutFlow(Flow):
    """A flow with many subscribers: a message is delivered when the last of them has it."""

    def __init__(self, ring: Ring, *, window: int, ready: list[Flow], samples: list[Sample], subscribers: int) -> None:
        super().__init__(ring, window=window, ready=ready, samples=samples)
        self._standing: dict[int, int] = {0: subscribers}

    def advance(self, before: int, after: int) -> None:
        """Move one subscriber from `before` to `after`; the slowest one decides."""
        if before == after:
            return
        standing = self._standing
        standing[after] = standing.get(after, 0) + 1
        left = standing[before] - 1
        if left:
            standing[before] = left
            return
        del standing[before]
        if before == self.delivered:
            self._reach(min(standing))
            self.queue()


class Subscriber:
    """Receive one flow, answer it, and hold every byte against what was sent."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.count = 0
        self.rest = b""
        self._offset = 0
        self._is_stream = flow.ring.qos == 0 and flow.ring.size > 0

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        if self._is_stream:
            return self._receive_stream(data)
        data = self.rest + data if self.rest else data
        place, end = 0, len(data)
        reply = bytearray()
        while end - place >= ACK_SIZE:
            taken = self._take_run(data, place, reply)
            if not taken:
                part = next_packet(data, place)
                if part is None:
                    break
                self.take_one(data, part, reply)
                taken = part.end - place
            place += taken
        self.rest = data[place:]
        return reply

    def _receive_stream(self, data: bytes) -> Answer:
        """Compare without framing: at QoS 0 what arrives is what was sent, to the byte."""
        ring, offset = self.flow.ring, self._offset
        if not ring.blank.startswith(data, offset):
            self._is_stream = False
            return self.receive(ring.blank[offset - offset % ring.size : offset] + data)
        after = offset + len(data)
        before_count = self.count
        self.count = before_count + after // ring.size - offset // ring.size
        self._offset = after % (ring.size * ring.count)
        self.flow.advance(before_count, self.count)
        return b""

    def _take_run(self, data: bytes, place: int, reply: bytearray) -> int:
        """Take packets of one kind in bulk; return their bytes, 0 if they are not what was expected."""
        head = data[place]
        if head == self.flow.ring.head:
            return self._take_messages(data, place, reply)
        if head == PUBREL and self.flow.ring.qos == 2:
            count = run_length(data, place, ACK_SIZE)
            block = data[place : place + count * ACK_SIZE]
            reply += answers(PUBCOMP, block[2::4], block[3::4])
            return len(block)
        return 0

    def _take_messages(self, data: bytes, place: int, reply: bytearray) -> int:
        ring = self.flow.ring
        count = run_length(data, place, ring.size)
        if not count:
            return 0
        block = bytearray(data[place : place + count * ring.size])
        if ring.qos:
            high, low = block[ring.id_at :: ring.size], block[ring.id_at + 1 :: ring.size]
            block[ring.id_at :: ring.size] = block[ring.id_at + 1 :: ring.size] = bytes(count)
        if not self._count_block(block, count):
            return 0
        if ring.qos:
            reply += answers(PUBACK if ring.qos == 1 else PUBREC, high, low)
        return len(block)

    def _count_block(self, block: bytearray, count: int) -> bool:
        """Hold `count` frames against the ring; count them if they are the next ones."""
        ring, before = self.flow.ring, self.count
        if not ring.blank.startswith(block, before % ring.count * ring.size):
            return False
        self.count = before + count
        self.flow.advance(before, self.count)
        return True

    def take_one(self, data: bytes, part: Part, reply: bytearray) -> None:
        """Judge a packet that was not the expected one."""
        if part.head >> 4 != 3:
            self.flow.strange += 1
            return
        _, identifier, payload = publish_parts(data, part)
        if identifier:
            reply += answers(PUBACK if part.head & 6 == 2 else PUBREC, identifier[:1], identifier[1:])
        mark = mark_of(payload.removeprefix(self.flow.ring.properties))
        if mark is None:
            self.flow.strange += 1
        else:
            self._judge(*mark)

    def _judge(self, _publisher: int, index: int) -> None:
        self.count = judge(self.flow, self.count, index)


def judge(flow: Flow, count: int, index: int) -> int:
    """Count a frame that may be ahead (something was lost) or behind (it came twice); return the new count."""
    ahead = (index - count) % flow.ring.count
    if ahead >= flow.ring.count - flow.ring.count // 2:
        flow.duplicates += 1
        return count
    flow.lost += ahead
    flow.advance(count, count + ahead + 1)
    return count + ahead + 1


class FanInSubscriber(Subscriber):
    """Receive the flows of many publishers on one connection; each keeps its own order."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        super().__init__(flows[0])
        self._flows = flows
        self._counts = [0] * len(flows)
        self._is_stream = False

    def _count_block(self, block: bytearray, count: int) -> bool:
        ring = self.flow.ring
        publishers = bytes(block[ring.publisher_at + 1 :: ring.size])
        frames = bytes(block)
        place = 0
        while place < count:
            publisher = publishers[place]
            rest = publishers[place:]
            together = len(rest) - len(rest.lstrip(rest[:1]))
            part = frames[place * ring.size : (place + together) * ring.size]
            if not self._count_part(publisher, part, together):
                for one in packets(part):
                    self.take_one(part, one, bytearray())  # the caller answers the whole block
            place += together
        return True

    def _count_part(self, publisher: int, part: bytes, together: int) -> bool:
        if publisher >= len(self._flows):
            return False
        flow, before = self._flows[publisher], self._counts[publisher]
        if not flow.ring.blank.startswith(part, before % flow.ring.count * flow.ring.size):
            return False
        self._counts[publisher] = before + together
        self.count += together
        flow.advance(before, before + together)
        return True

    def _judge(self, publisher: int, index: int) -> None:
        if publisher >= len(self._flows):
            self.flow.strange += 1
            return
        before = self._counts[publisher]
        self._counts[publisher] = judge(self._flows[publisher], before, index)
        self.count += self._counts[publisher] - before


class Publisher:
    """Take the acknowledgements of one flow and answer those that QoS 2 wants answered."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._rest = b""
        self._received = 0

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        data = self._rest + data if self._rest else data
        place, end = 0, len(data)
        reply: Answer = b""
        while end - place >= ACK_SIZE:
            head = data[place]
            count = run_length(data, place, ACK_SIZE)
            block = data[place : place + count * ACK_SIZE]
            if (head == PUBACK and self.flow.ring.qos == 1) or (head == PUBCOMP and self.flow.ring.qos == 2):
                self._expect(head, block, self.flow.acknowledged)
                self.flow.acknowledge(count)
            elif head == PUBREC and self.flow.ring.qos == 2:
                self._expect(head, block, self._received)
                self._received += count
                reply = reply + answers(PUBREL, block[2::4], block[3::4])
            else:
                part = next_packet(data, place)
                if part is None:
                    break
                self.flow.strange += 1
                place = part.end
                continue
            place += len(block)
        self._rest = data[place:]
        return reply

    def _expect(self, head: int, block: bytes, done: int) -> None:
        """Hold acknowledgements against the order that [MQTT-4.6.0-2] and [MQTT-4.6.0-3] demand."""
        ring = self.flow.ring
        if not ring.acks(head).startswith(block, done % ring.count * ACK_SIZE):
            self.flow.misordered += 1
