"""Both ends of a flow whose window is 1: nothing to batch, so the usual case is one comparison."""

from __future__ import annotations

from time import perf_counter

from mesimqtt.bench.flow import Answer, Flow, Publisher, Subscriber
from mesimqtt.bench.wire import ACK_SIZE, PUBACK


class LockStepSubscriber(Subscriber):
    """Receive a flow whose window is 1, QoS 0 or 1.

    Whatever is not the expected frame by itself takes the general road.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        ring = flow.ring
        self._is_stream = False
        self._frames = [ring.blank[at : at + ring.size] for at in range(0, ring.count * ring.size, ring.size)]
        self._is_acknowledged = ring.qos == 1

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        flow, ring, count = self.flow, self.flow.ring, self.count
        expected = self._frames[count % ring.count]
        reply = b""
        if self._is_acknowledged:
            at = ring.id_at
            if len(data) != ring.size or data[:at] != expected[:at] or not data.endswith(expected[at + 2 :]):
                return super().receive(data)
            reply = b"\x40\x02" + data[at : at + 2]
        elif data != expected:
            return super().receive(data)
        self.count = count + 1
        now = perf_counter()
        flow.deliver_one(now)
        if not self._is_acknowledged or flow.acknowledged > count:
            flow.send_next(now)
        return reply


class LockStepPublisher(Publisher):
    """Take the acknowledgements of a flow whose window is 1, QoS 1."""

    def receive(self, data: bytes) -> Answer:
        """Take what was read; return what is to be written."""
        flow = self.flow
        at = flow.acknowledged % flow.ring.count * ACK_SIZE
        if flow.ring.qos != 1 or data != flow.ring.acks(PUBACK)[at : at + ACK_SIZE]:
            return super().receive(data)
        flow.acknowledged += 1
        if flow.delivered >= flow.acknowledged:
            flow.send_next(perf_counter())
        return b""
