"""Windows, counts and checks of plain MQTT load, without a socket."""

from __future__ import annotations

import pytest

from mesimqtt.bench.flow import FanInSubscriber, FanOutFlow, Flow, Publisher, Subscriber
from mesimqtt.bench.lockstep import LockStepFlow, LockStepPublisher, LockStepSubscriber
from mesimqtt.bench.mixed import MixedRing, MixedSubscriber
from mesimqtt.bench.wire import Ring, packets, publish
from unit.bench.fakes import FakeRelay


class Pair:
    """A publisher and a subscriber with a fake broker in between."""

    def __init__(
        self, *, qos: int, window: int, relay: FakeRelay | None = None, chop: int = 0, is_mixed: bool = False
    ) -> None:
        self.ready: list[Flow] = []
        kind = LockStepFlow if window == 1 and qos < 2 else Flow
        ring = (MixedRing if is_mixed else Ring)("b/u/1", qos=qos, count=max(8, 2 * window))
        self.flow = kind(ring, window=window, ready=self.ready, samples=[])
        self.publisher, self.subscriber = Publisher(self.flow), Subscriber(self.flow)
        if isinstance(self.flow, LockStepFlow):
            self.publisher, self.subscriber = LockStepPublisher(self.flow), LockStepSubscriber(self.flow)
        elif isinstance(ring, MixedRing):
            self.subscriber = MixedSubscriber(self.flow, ring)
        self.relay = relay or FakeRelay()
        self.chop = chop
        self.unread: list[bytes] = []
        self.most_in_flight = 0
        self.flow.write = lambda data: self.unread.append(bytes(data))

    def run(self, messages: int) -> None:
        """Send until `messages` are on their way, and let all of them arrive."""
        self.flow.queue()
        while self.ready or self.unread:
            for flow in list(self.ready):
                flow.is_queued = False
                frames = flow.take()
                if frames is not None:
                    flow.write(frames)
            self.ready.clear()
            self.most_in_flight = max(self.most_in_flight, self.flow.sent - self.flow.done)
            self.flow.is_sending = self.flow.sent < messages
            written, self.unread = b"".join(self.unread), []
            self.deliver(written)

    def deliver(self, written: bytes) -> None:
        answers, arrived = self.relay.published(written)
        for part in self.parts(arrived):
            acknowledged = bytes(self.subscriber.receive(part))
            self.subscriber.receive(self.relay.received(acknowledged))
        for part in self.parts(answers):
            self.unread.append(bytes(self.publisher.receive(part)))
        self.unread = [data for data in self.unread if data]

    def parts(self, data: bytes) -> list[bytes]:
        size = self.chop or len(data) or 1
        return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("window", [1, 20])
def test_every_message_is_counted_once(qos: int, window: int) -> None:
    """What a right broker relays is counted at both ends, and the window is kept."""
    pair = Pair(qos=qos, window=window)
    pair.run(101)

    flow = pair.flow
    assert flow.sent >= 101
    assert flow.sent == pair.subscriber.count == flow.delivered
    assert (flow.sent if qos else 0) == flow.acknowledged
    assert (0, 0, 0, 0) == (flow.lost, flow.duplicates, flow.misordered, flow.strange)
    assert window == pair.most_in_flight


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("chop", [3, 7, 271, 500])
def test_reads_may_be_cut_anywhere(qos: int, chop: int) -> None:
    """Where a read ends has no influence on the counts."""
    pair = Pair(qos=qos, window=10, chop=chop)
    pair.run(60)

    assert pair.flow.sent == pair.subscriber.count
    assert 0 == pair.flow.lost + pair.flow.duplicates + pair.flow.strange


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("chop", [0, 3, 100])
def test_messages_without_a_pattern(qos: int, chop: int) -> None:
    """Loss and repeats are noticed among messages of many sizes and topics too."""
    relay = FakeRelay(lose=frozenset({13}), double=frozenset({30}))
    pair = Pair(qos=qos, window=10, chop=chop, is_mixed=True, relay=relay)
    pair.run(60)

    assert (1, 1, 0) == (pair.flow.lost, pair.flow.duplicates, pair.flow.strange)
    assert pair.flow.sent == pair.subscriber.count


@pytest.mark.parametrize("qos", [0, 1])
def test_a_lost_message_is_noticed(qos: int) -> None:
    """A gap is counted as lost, and the load goes on behind it."""
    pair = Pair(qos=qos, window=10, relay=FakeRelay(lose=frozenset({13, 30})))
    pair.run(60)

    assert 2 == pair.flow.lost
    assert 0 == pair.flow.duplicates


@pytest.mark.parametrize("qos", [0, 1])
def test_a_doubled_message_is_noticed(qos: int) -> None:
    """A message that comes twice is counted as such, and not as one more."""
    pair = Pair(qos=qos, window=10, relay=FakeRelay(double=frozenset({13, 30})))
    pair.run(60)

    assert 2 == pair.flow.duplicates
    assert pair.flow.sent == pair.subscriber.count


def test_altered_bytes_are_noticed() -> None:
    """A payload that differs in one byte is not taken for the message that was sent."""
    pair = Pair(qos=0, window=1)
    frames = pair.flow.take()
    assert frames is not None
    garbled = bytearray(frames)
    garbled[-1] ^= 1
    pair.subscriber.receive(bytes(garbled))

    assert 1 == pair.flow.strange
    assert 0 == pair.subscriber.count


def test_acknowledgements_out_of_order_are_noticed() -> None:
    """A PUBACK that is not the next one is counted as out of order."""
    pair = Pair(qos=1, window=4)
    pair.flow.take()
    pair.publisher.receive(b"\x40\x02\x00\x02\x40\x02\x00\x01")

    assert 1 == pair.flow.misordered
    assert 2 == pair.flow.acknowledged


def test_a_repeated_message_with_dup_is_acknowledged_again() -> None:
    """A redelivery is counted as a duplicate and still answered, or the broker would repeat it for ever."""
    pair = Pair(qos=1, window=2)
    frames = pair.flow.take()
    assert frames is not None
    first = bytes(frames)[: pair.flow.ring.size]
    pair.subscriber.receive(first)
    reply = pair.subscriber.receive(b"\x3a" + first[1:])

    assert b"\x40\x02\x00\x01" == bytes(reply)
    assert 1 == pair.flow.duplicates


def test_latency_is_that_of_the_last_message_of_a_burst() -> None:
    """A burst yields its sample when its last message is there, weighted by its size."""
    pair = Pair(qos=0, window=5)
    frames = pair.flow.take()
    assert frames is not None
    size = pair.flow.ring.size
    pair.subscriber.receive(bytes(frames)[: 4 * size])
    assert [] == pair.flow.samples
    pair.subscriber.receive(bytes(frames)[4 * size :])

    assert [5] == [count for _, count in pair.flow.samples]


def test_fan_out_waits_for_the_slowest() -> None:
    """A message of a fan-out leaves the window when the last subscriber has it."""
    ready: list[Flow] = []
    flow = FanOutFlow(Ring("b/all", qos=0, count=8), window=4, ready=ready, samples=[], subscribers=2)
    quick, slow = Subscriber(flow), Subscriber(flow)
    frames = flow.take()
    assert frames is not None
    quick.receive(bytes(frames))
    assert 0 == flow.delivered
    slow.receive(bytes(frames)[: 3 * flow.ring.size])

    assert 3 == flow.delivered
    assert [flow] == ready


def test_fan_in_keeps_publishers_apart() -> None:
    """Messages of several publishers on one connection are counted for each, in any mixture."""
    flows = [
        Flow(Ring("b/all", qos=1, count=8, publisher=number), window=4, ready=[], samples=[]) for number in range(3)
    ]
    sent = [bytes(flow.take() or b"") for flow in flows]
    size = flows[0].ring.size
    mixture = sent[0][: 2 * size] + sent[2][:size] + sent[1] + sent[2][size:] + sent[0][2 * size :]
    subscriber = FanInSubscriber(flows)
    reply = subscriber.receive(mixture)

    assert [4, 4, 4] == [flow.delivered for flow in flows]
    assert 12 == subscriber.count
    assert 12 == len(list(packets(bytes(reply))))


def test_fan_in_notices_loss_and_repeats() -> None:
    """A gap and a repeat are charged to the publisher whose they are."""
    flows = [
        Flow(Ring("b/all", qos=0, count=8, publisher=number), window=4, ready=[], samples=[]) for number in range(2)
    ]
    sent = [bytes(flow.take() or b"") for flow in flows]
    size = flows[0].ring.size
    FanInSubscriber(flows).receive(sent[0][:size] + sent[0][2 * size :] + sent[1] + sent[1][:size])

    assert [(1, 0), (0, 1)] == [(flow.lost, flow.duplicates) for flow in flows]


def test_what_is_not_ours_is_told() -> None:
    """A message that no publisher of the load has sent is counted as unexpected."""
    pair = Pair(qos=0, window=2)
    pair.subscriber.receive(publish("elsewhere", b"hello", 0, 0))

    assert 1 == pair.flow.strange
