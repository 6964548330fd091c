"""Both ends of the messaging load, without a socket."""

from __future__ import annotations

import pytest

from mesimqtt.bench.chat import Chat, Receiver, Sender
from mesimqtt.bench.figures import Figures
from mesimqtt.bench.loop import BenchError
from mesimqtt.bench.messaging import counted
from mesimqtt.bench.wire import packets, publish, publish_parts
from unit.bench.fakes import FakeMessaging


class Road:
    """Sender, fake server and receiver, joined."""

    def __init__(self, chop: int = 0) -> None:
        self.server = FakeMessaging()
        self.ready: list[Chat] = []
        self.chat = Chat("a0", "b0", tag="0badcafe", ready=self.ready)
        self.sender, self.receiver = Sender(self.chat), Receiver(self.chat)
        self.chop = chop

    def send(self, count: int) -> None:
        """Let `count` messages go all the way."""
        to_sender, to_receiver = self.server.published(self.chat.publish(count, 0.0))
        self.read(self.sender, to_sender)
        acknowledged = self.read(self.receiver, to_receiver)
        self.read(self.sender, self.server.received(acknowledged))

    def read(self, end: Sender | Receiver, data: bytes) -> bytes:
        size = self.chop or len(data) or 1
        written = b"".join(bytes(end.receive(data[at : at + size])) for at in range(0, len(data), size))
        if end is self.sender:
            self.server.published(written)
        return written

    @property
    def counts(self) -> tuple[int, int, int, int]:
        chat = self.chat
        return chat.acknowledged, chat.committed, chat.received, chat.delivered


@pytest.mark.parametrize("chop", [0, 1, 17, 300])
def test_both_ends_count(chop: int) -> None:
    """PUBACK, SENT, the message and DELIVERED are counted once for each message, wherever reads are cut."""
    road = Road(chop)
    road.send(30)
    road.send(12)

    assert (42, 42, 42, 42) == road.counts
    assert (0, 0, 0, 0) == (road.chat.duplicates, road.chat.misordered, road.chat.repeats, road.chat.strange)
    assert 84 == road.server.acknowledged_by_sender
    assert 42 == len(road.chat.latencies)
    assert [road.chat] == road.ready


def test_what_is_published() -> None:
    """Each message is a PUBLISH at QoS 1 to the contract's topic, with its own cid and 256 bytes."""
    chat = Chat("a0", "b0", tag="0badcafe", ready=[])
    data = chat.publish(2, 0.0)
    found = [publish_parts(data, part) for part in packets(data)]

    assert [b"m/a0/out/u/b0/0badcafe-0000000", b"m/a0/out/u/b0/0badcafe-0000001"] == [one[0] for one in found]
    assert [b"\x00\x01", b"\x00\x02"] == [one[1] for one in found]
    assert {256} == {len(one[2]) for one in found}


def test_a_lost_message_shows_at_the_receiver() -> None:
    """A message that was acknowledged and never came is lost, whatever the statuses say."""
    road = Road()
    road.server.lost = frozenset({3})
    road.send(10)

    assert (10, 10, 9, 9) == road.counts
    assert 1 == counted(Figures(rate=1.0), [road.chat], 0).lost


def test_a_doubled_message_shows_at_the_receiver() -> None:
    """A message that comes twice under two packet ids is a duplicate; its second DELIVERED is a repeat."""
    road = Road()
    road.server.doubled = frozenset({3})
    road.send(10)

    assert (10, 10, 10, 10) == road.counts
    assert 1 == road.chat.duplicates
    assert 1 == road.chat.repeats


def test_a_refusal_ends_the_measurement() -> None:
    """A status that is neither SENT nor DELIVERED is told with its cid."""
    road = Road()
    road.server.refused = frozenset({0})
    road.send(2)

    with pytest.raises(BenchError, match=r"0badcafe-0000000: status 0x8d"):
        counted(Figures(rate=1.0), [road.chat], 0)


def test_a_status_in_another_spelling() -> None:
    """A status with other keys or spaces is understood too, only more slowly."""
    road = Road()
    road.chat.publish(1, 0.0)
    payload = b'{"status": 1, "cid": "0badcafe-0000000", "counts": {"read": 0}}'
    reply = road.sender.receive(publish("m/a0/in/status/0badcafe-0000000", payload, 1, 9))

    assert 1 == road.chat.committed
    assert b"\x40\x02\x00\x09" == bytes(reply)


def test_what_does_not_belong_here() -> None:
    """Whatever is not of this run is acknowledged, and counted as unexpected."""
    road = Road()
    road.sender.receive(publish("m/a0/in/session", b'{"event":"x"}', 1, 1))
    road.receiver.receive(publish("m/b0/in/u/eve/0123456789abcdef/seq=1", b"hello", 1, 1))

    assert 2 == road.chat.strange


def test_a_garbled_message_is_not_counted() -> None:
    """A message whose payload differs from what was sent does not count as received."""
    road = Road()
    _, to_receiver = road.server.published(road.chat.publish(1, 0.0))
    road.receiver.receive(to_receiver[:-1] + b"y")

    assert 0 == road.chat.received
    assert 1 == road.chat.strange


def test_packet_ids_go_round() -> None:
    """After 60 000 messages packet ids begin again, and acknowledgements are still followed."""
    road = Road()
    road.chat.publish(59_995, 0.0)
    road.chat.acknowledged = road.chat.received = 59_995
    road.server.count = 59_995
    road.send(10)

    assert 60_005 == road.chat.acknowledged == road.chat.received
    assert 0 == road.chat.misordered + road.chat.strange
