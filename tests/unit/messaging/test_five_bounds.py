"""A client's own bounds: Receive Maximum and Maximum Packet Size of MQTT 5.0 (contract section 3)."""

from __future__ import annotations

import random

import pytest

from mesimqtt.testing import wire5
from unit.messaging import five
from unit.messaging.world import seq_of

_KINDS = ("message", "status", "free 1", "free 2", "group")


@pytest.mark.parametrize("most", [1, 2, 3, 10, 64, 100])
def test_no_more_than_receive_maximum_is_in_flight(world, most):
    """Messages wait for room and come in order; statuses go before them, and the window opens with each PUBACK."""
    alice, bob = world.connect("alice"), five.listener(world, "bob", receive_maximum=most)
    bob.auto_ack = False
    for number in range(150):
        alice.publish(f"u/bob/{number}", str(number))
    in_flight = len(bob.unacked)
    seen = []
    while found := bob.received("u/"):
        seen += [message.payload.decode() for message in found]
        bob.ack(*found)

    assert 1 <= in_flight <= min(most, 64)
    assert [str(number) for number in range(150)] == seen


@pytest.mark.parametrize("most", [4, 10, 64])
def test_messages_leave_room_for_a_status(world, most):
    """Who handles a message may wait for the status of his answer in it; with 1 to 3 there is none to spare."""
    alice, bob = world.connect("alice"), five.listener(world, "bob", receive_maximum=most)
    bob.auto_ack = False
    for number in range(100):
        alice.publish(f"u/bob/{number}")
    bob.publish("u/alice/answer")

    assert [1] == [status["status"] for status in bob.statuses()]


class Traffic:
    """All that may come to bob, in any mixture, and a bob who acknowledges it late and in any order."""

    def __init__(self, world, bob, rng: random.Random) -> None:
        self.world = world
        self.alice = world.connect("alice", "source")
        self.bob = bob
        self.rng = rng
        self.sent = dict.fromkeys(_KINDS, 0)
        self.got: list[wire5.Packet] = []
        self.waiting: list[wire5.Packet] = []

    def send(self, number: int) -> None:
        kind = self.rng.choice(_KINDS)
        self.sent[kind] += 1
        if kind == "status":
            self.bob.publish(f"u/nobody/{number}", qos=0)
        elif kind.startswith("free"):
            self.alice.publish(f"free/{kind[-1]}", str(number), qos=int(kind[-1]))
        else:
            self.alice.publish(f"u/bob/{number}" if kind == "message" else f"g/team/{number}", kind)
        self.collect()

    def collect(self) -> None:
        found, self.bob.inbox = self.bob.inbox, []
        releases = [packet for packet in self.bob.other if packet.kind == "PUBREL"]
        self.bob.other = [packet for packet in self.bob.other if packet.kind != "PUBREL"]
        self.got += found
        self.waiting += [packet for packet in (*found, *releases) if packet.packet_id]

    def answer(self, count: int) -> None:
        self.rng.shuffle(self.waiting)
        for _ in range(min(count, len(self.waiting))):
            self.bob.ack(self.waiting.pop())
            self.collect()

    def arrived(self) -> dict[str, int]:
        marks = {
            "message": "/in/u/",
            "group": "/in/g/",
            "status": "/in/status/",
            "free 1": "free/1",
            "free 2": "free/2",
        }
        return {kind: sum(marks[kind] in packet.topic for packet in self.got) for kind in _KINDS}


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("most", [1, 2, 10])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_at_once_it_never_sticks(world, most, clean, seed):
    """Messages, statuses and free topics of QoS 1 and 2 share Receive Maximum; in the end everything has arrived."""
    world.group("team", "alice", "bob")
    bob = five.listener(world, "bob", receive_maximum=most, clean=clean, expiry=0 if clean else 3600)
    bob.subscribe("free/#", qos=2)
    bob.auto_ack = False
    rng = random.Random(seed)
    traffic = Traffic(world, bob, rng)
    for number in range(120):
        traffic.send(number)
        traffic.answer(rng.randrange(3))
        if rng.random() < 0.1:
            world.advance(1)
            traffic.collect()
    while traffic.waiting:
        traffic.answer(1)
    world.advance(1)
    traffic.collect()

    assert [] == traffic.waiting
    assert traffic.sent == traffic.arrived()


def wire_size(message: wire5.Packet) -> int:
    values = {}
    for name, value in message.properties:
        values.setdefault(name, []).append(value)
    return len(wire5.publish(message.topic, message.payload, qos=message.qos, packet_id=message.packet_id, **values))


@pytest.mark.parametrize(
    "values", [{}, {"message_expiry_interval": 60}, {"user": [("k", "v" * 150)]}, {"content_type": "c" * 99}]
)
def test_what_is_larger_than_maximum_packet_size_is_passed_over(world, values):
    """Its topic and properties count; to the byte: what just fits comes, one more is 0x80 `too-large-for-device`."""
    alice = five.listener(world, "alice")
    probe = five.listener(world, "carol", identifier=7)
    alice.publish("u/carol/0", b"", **values)
    overhead = wire_size(probe.received("u/")[0]) - len("carol") + len("bob")
    size = overhead + 200 + (1 if overhead + 200 > 129 > overhead else 0)  # its length takes one more byte then
    bob = five.listener(world, "bob", identifier=7, maximum_packet_size=size)
    for cid, more in (("1", 0), ("2", 1), ("3", 0)):
        alice.publish(f"u/bob/{cid}", b"x" * (200 + more), **values)

    assert [1, 3] == [int(message.user_property[0][1]) for message in bob.received("u/")]
    assert size == bob.largest
    (failed,) = [status for status in alice.statuses() if status["status"] >= 0x80]
    assert ("2", 0x80, "too-large-for-device") == (failed["cid"], failed["status"], failed["reason"])


def test_another_device_may_take_what_one_does_not(world):
    """It has a verdict only once every device with a cursor has passed it over."""
    alice = five.listener(world, "alice")
    small, large = five.listener(world, "bob", maximum_packet_size=200), five.listener(world, "bob", "laptop")
    alice.publish("u/bob/1", b"x" * 300)
    alice.publish("u/bob/2", b"x")

    assert ["2"] == [message.user_property[0][1] for message in small.received("u/")]
    assert ["1", "2"] == [message.user_property[0][1] for message in large.received("u/")]
    assert {("1", 1), ("1", 2), ("2", 1), ("2", 2)} == set(alice.steps())


def test_statuses_and_news_that_do_not_fit_are_left_out(world):
    """The client's number moves on; what fits comes after it."""
    alice = five.listener(world, "alice", maximum_packet_size=150)
    alice.publish("u/bob/" + "1" * 64)
    alice.publish("u/bob/2")
    alice.publish("u/nobody/" + "3" * 64)

    assert [] == [status for status in alice.statuses() if status["cid"] != "2"]
    assert not alice.is_closed


def test_the_smaller_of_the_client_s_and_the_token_s_bound_holds(world):
    """A short token of 128 bytes with a client that would take more, and the other way round."""
    alice = world.connect("alice")
    token = world.do("token_issue", addresses=["bob"], ttl=1200, short=True, packet=128)["tokens"][0]["token"]
    first = five.listener(world, "bob", "a", token=token, maximum_packet_size=1000)
    second = five.listener(world, "bob", "b", token=token, maximum_packet_size=80)
    for size in (1, 50, 200):
        alice.publish("u/bob", b"x" * size)

    assert [1, 50] == [len(message.payload) for message in first.received("u/")]
    assert [1] == [len(message.payload) for message in second.received("u/")]


def test_an_old_client_has_the_bound_of_its_token_alone(world):
    """3.1.1 knows no other."""
    alice = world.connect("alice")
    token = world.do("token_issue", addresses=["bob"], ttl=1200, short=True, packet=128)["tokens"][0]["token"]
    bob = world.listener("bob", token=token)
    alice.publish("u/bob", b"x" * 200)
    alice.publish("u/bob", b"y")

    assert [2] == [seq_of(message) for message in bob.received("u/")]
