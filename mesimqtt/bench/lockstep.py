"""Both ends of a flow whose window is 1: nothing to batch, so the usual case is one comparison and one send."""

from __future__ import annotations

from time import perf_counter

from mesimqtt.bench.flow import Answer, Flow, Publisher, Subscriber
from mesimqtt.bench.wire import ACK_SIZE, PUBACK


class LockStepFlow(Flow):
    """A flow with one message on the road, QoS 0 or 1."""

    def take(self) -> memoryview | None:
        """Return the first frame; the general road comes here too. `began` alone tells the latency."""
        frames = super().take()
        self.bursts.clear()
        return frames

    def send_next(self, now: float) -> None:
        """Send one frame at once, when the only one in flight is through."""
        if self.is_sending:
            frame = self.ring.frames(self.sent % self.ring.count, 1)
            self.sent += 1
            self.began = now
            self.write(frame)


class LockStepSubscriber(Subscriber):
    """Receive a lock-step flow. Whatever is not the expected frame by itself takes the general road."""

    def __init__(self, flow: LockStepFlow) -> None:
        super().__init__(flow)
        ring = flow.ring
        self._step = flow
        self._is_stream = False
        self._frames = [ring.blank[at : at + ring.size] for at in range(0, ring.count * ring.size, ring.size)]
        self._is_acknowledged = ring.qos == 1

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        flow, count = self._step, self.count
        expected = self._frames[count % len(self._frames)]
        reply = b""
        if self._is_acknowledged:
            at = flow.ring.id_at
            if len(data) != len(expected) or data[:at] != expected[:at] or not data.endswith(expected[at + 2 :]):
                return super().receive(data)
            reply = b"\x40\x02" + data[at : at + 2]
        elif data != expected:
            return super().receive(data)
        now = perf_counter()
        flow.samples.append((now - flow.began, 1))
        self.count = flow.delivered = count + 1
        if not self._is_acknowledged or flow.acknowledged > count:
            flow.send_next(now)
        return reply


class LockStepPublisher(Publisher):
    """Take the acknowledgements of a lock-step flow."""

    def __init__(self, flow: LockStepFlow) -> None:
        super().__init__(flow)
        self._step = flow
        acks = flow.ring.acks(PUBACK)
        self._acks = [acks[at : at + ACK_SIZE] for at in range(0, flow.ring.count * ACK_SIZE, ACK_SIZE)]

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        flow = self._step
        done = flow.acknowledged
        if flow.ring.qos != 1 or data != self._acks[done % len(self._acks)]:
            return super().receive(data)
        flow.acknowledged = done + 1
        if flow.delivered > done:
            flow.send_next(perf_counter())
        return b""
