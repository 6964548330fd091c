"""Load without a pattern: payloads of 64 to 448 bytes on five topics, to a wildcard subscription.

Uniform frames let a broker, and this generator, treat a burst as one block. What devices send is not uniform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.bench.flow import Answer, Subscriber
from mesimqtt.bench.wire import ACK_SIZE, PUBACK, Ring, answers, marked_payload, next_packet, publish

if TYPE_CHECKING:
    from mesimqtt.bench.flow import Flow

TOPICS = ("temperature", "door", "power/in", "power/out", "log")
_SMALLEST, _SPAN = 64, 385  # 256 bytes on average, as in the uniform load


def mixed_filter(topic: str) -> str:
    """Return the filter that takes all messages of a mixed ring at `topic`."""
    return f"{topic}/#"


class MixedRing(Ring):
    """A ring whose frames differ in topic and size. QoS 0 or 1."""

    def __init__(self, topic: str, *, qos: int, count: int, publisher: int = 0) -> None:
        super().__init__(topic, qos=qos, count=count, publisher=publisher)
        self.size = 0  # there is no such thing
        frames, self.fronts, self.backs = [], [], []
        for index in range(count):
            payload = marked_payload(publisher, index, _SMALLEST + index * 37 % _SPAN)
            frame = publish(f"{topic}/{TOPICS[index % len(TOPICS)]}", payload, qos, index + 1)
            frames.append(frame)
            self.fronts.append(frame[: len(frame) - len(payload) - (2 if qos else 0)])
            self.backs.append(payload)
        self.wire = memoryview(b"".join(frames) * 2)
        self._starts = [0]
        for frame in frames * 2:
            self._starts.append(self._starts[-1] + len(frame))

    def frames(self, index: int, count: int) -> memoryview:
        """Return `count` frames from `index` on, `index` within the ring."""
        return self.wire[self._starts[index] : self._starts[index + count]]


class MixedSubscriber(Subscriber):
    """Receive a flow of a mixed ring: each message is compared by itself."""

    def __init__(self, flow: Flow, ring: MixedRing) -> None:
        super().__init__(flow)
        self._ring = ring
        self._gap = 2 if ring.qos else 0

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        data = self.rest + data if self.rest else data
        ring, gap, fronts, backs = self._ring, self._gap, self._ring.fronts, self._ring.backs
        place, end, before, identifiers, odd = 0, len(data), self.count, bytearray(), bytearray()
        count = before
        while end - place >= ACK_SIZE:
            index = count % ring.count
            front, back = fronts[index], backs[index]
            body = place + len(front) + gap
            if data.startswith(front, place) and data.startswith(back, body):
                identifiers += data[body - gap : body]
                count += 1
                place = body + len(back)
                continue
            part = next_packet(data, place)
            if part is None:
                break
            self.count = count
            self.flow.advance(before, count)
            self.take_one(data, part, odd)
            before = count = self.count
            place = part.end
        self.rest = data[place:]
        self.count = count
        self.flow.advance(before, count)
        return answers(PUBACK, identifiers[0::2], identifiers[1::2]) + odd
