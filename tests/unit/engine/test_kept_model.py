"""Kept sessions against a model: whatever is lost, fails or restarts, QoS 1 arrives, and QoS 2 arrives once.

Both clients behave as section 4.3 tells them to and remember their side of each exchange. At any point a
commit may succeed or fail, a connection may be lost, the server may crash and forget what was not committed.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from unit.engine.both_ends import Message, Network, ack, connect, publish, subscribe
from unit.engine.fake_keeper import FakeKeeper


class Publisher:
    """Publishes from a kept session and resends on reconnect what was not acknowledged [MQTT-4.4.0-1]."""

    def __init__(self, network):
        self.network = network
        self.client = None
        self.unacknowledged: dict[int, bytes] = {}  # packet id -> PUBLISH
        self.unreleased: list[int] = []  # PUBREC came, PUBCOMP did not
        self.next_id = 0

    def come(self):
        self.client = self.network.client()
        again = [bytes([data[0] | 8]) + data[1:] for data in self.unacknowledged.values()]
        self.take(self.client.send(connect("publisher", clean=False)))
        for packet in again + [ack("PUBREL", number) for number in self.unreleased]:
            self.take(self.client.send(packet))

    def written(self, payload, qos):
        """Return a packet that is to be sent; nothing where its id is in use."""
        self.next_id = self.next_id % 20 + 1
        if self.next_id in self.unacknowledged or self.next_id in self.unreleased:
            return b""
        self.unacknowledged[self.next_id] = publish("t", payload, qos=qos, packet_id=self.next_id)
        return self.unacknowledged[self.next_id]

    def send(self, packets):
        self.take(self.client.send(*packets))

    def take(self, packets):
        for kind, number, *_ in packets:
            if kind == "PUBACK":
                self.unacknowledged.pop(number, None)
            elif kind == "PUBREC":
                if self.unacknowledged.pop(number, None):
                    self.unreleased.append(number)
                self.take(self.client.send(ack("PUBREL", number)))
            elif kind == "PUBCOMP" and number in self.unreleased:
                self.unreleased.remove(number)


class Subscriber:
    """Receives on a kept session; acknowledges when told to; hands QoS 2 to its application once (method A)."""

    def __init__(self, network):
        self.network = network
        self.client = None
        self.application: list[bytes] = []
        self.answers: list[bytes] = []
        self.received: set[int] = set()

    def come(self):
        self.answers = []
        self.client = self.network.client()
        self.take(self.client.send(connect("subscriber", clean=False)))

    def acknowledge(self, count, at_once):
        """Send answers, so many of them in one segment."""
        for _ in range(0, min(count, len(self.answers)), at_once):
            some, self.answers = self.answers[:at_once], self.answers[at_once:]
            self.take(self.client.send(*some))

    def take(self, packets):
        for packet in packets:
            if isinstance(packet, Message):
                if packet.qos == 1:
                    self.application.append(packet.payload)
                elif packet.packet_id not in self.received:
                    self.application.append(packet.payload)
                    self.received.add(packet.packet_id)
                self.answers.append(ack("PUBACK" if packet.qos == 1 else "PUBREC", packet.packet_id))
            elif packet[0] == "PUBREL":
                self.received.discard(packet[1])
                self.answers.append(ack("PUBCOMP", packet[1]))


class KeptSessions(RuleBasedStateMachine):
    """One publisher, one subscriber, one store, and everything that can go wrong between them."""

    def __init__(self):
        super().__init__()
        self.network = Network(keeper=FakeKeeper(), inflight_max=4)
        self.publisher, self.subscriber = Publisher(self.network), Subscriber(self.network)
        self.subscriber.come()
        self.subscriber.client.send(subscribe(("t", 2)))
        self.network.keeper.commit()
        self.publisher.come()
        self.look()
        self.published: list[tuple[bytes, int]] = []

    def look(self):
        for side in (self.publisher, self.subscriber):
            side.take(side.client.received())
            if side.client.connection.closing:
                side.come()

    @rule(count=st.integers(1, 12), qos=st.integers(1, 2), is_run=st.booleans())
    def publish(self, count, qos, is_run):
        packets = []
        for _ in range(count):
            payload = b"%03d" % len(self.published)
            if packet := self.publisher.written(payload, qos):
                self.published.append((payload, qos))
                packets.append(packet)
        for some in [packets] if is_run else [[each] for each in packets]:
            self.publisher.send(some)
        self.look()

    @rule(count=st.integers(1, 8), at_once=st.integers(1, 8))
    def acknowledge(self, count, at_once):
        self.subscriber.acknowledge(count, at_once)
        self.look()

    @rule(ok=st.booleans() | st.just(value=True))
    def commit(self, ok):
        self.network.keeper.commit(ok=ok)
        self.look()

    @rule(who=st.sampled_from(["publisher", "subscriber"]))
    def lose(self, who):
        side = getattr(self, who)
        side.client.lose()
        side.come()
        self.look()

    @rule(who=st.sampled_from(["publisher", "subscriber"]))
    def take_over(self, who):
        getattr(self, who).come()
        self.look()

    @rule()
    def crash(self):
        self.network.restart()
        self.subscriber.come()
        self.publisher.come()
        self.look()

    @invariant()
    def qos_2_is_never_doubled(self):
        seen = [payload for payload in self.subscriber.application if (payload, 2) in self.published]

        assert len(seen) == len(set(seen))

    @invariant()
    def memory_is_bounded(self):
        session = self.network.engine.sessions["open", "subscriber"]

        assert len(session.inflight) <= 4
        assert len(session.incoming or ()) == 0

    def teardown(self):
        quiet = False
        for _ in range(200):
            before = (len(self.subscriber.application), len(self.subscriber.answers), len(self.network.keeper.waiting))
            self.commit(ok=True)
            self.acknowledge(100, 100)
            quiet = before == (len(self.subscriber.application), 0, 0)
            if quiet:
                break

        assert quiet
        assert {} == self.publisher.unacknowledged
        assert [] == self.publisher.unreleased
        assert {payload for payload, _ in self.published} == set(self.subscriber.application)
        assert {} == self.network.keeper.sessions[1]["queue"]


TestKeptSessions = KeptSessions.TestCase
TestKeptSessions.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
